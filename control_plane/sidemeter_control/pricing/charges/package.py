"""PACKAGE: whole packages of units."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.convert import divided
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.spec import Rounding
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Package"]


@dataclass(frozen=True, slots=True)
class Package:
    """`package_price` for each package of `package_size` units, started ones rounded; nothing used is no package."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    package_price: Decimal
    package_size: Decimal
    package_rounding: Rounding = Rounding.UP

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for no package."""
        packages = divided(max(used.quantity, Decimal(0)), self.package_size, self.package_rounding)
        if not packages:
            return ()
        text = words.packages(packages, self.package_size, self.package_price)
        amount = packages * self.package_price
        return (PriceLine(text, amount, quantity=packages, unit_price=self.package_price),)
