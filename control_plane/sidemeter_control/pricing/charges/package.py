"""PACKAGE: whole packages of units."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.spec import Rounding
from sidemeter_control.pricing.words import Words

__all__ = ["Package"]


@dataclass(frozen=True, slots=True)
class Package:
    """`package_price` for each package of `package_size` units, started ones rounded; nothing used is no package."""

    metered: ClassVar[bool] = True
    package_price: Decimal
    package_size: Decimal
    package_rounding: Rounding = Rounding.UP

    def lines(self, quantity: Decimal, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for no package."""
        packages = self._packages(quantity)
        if not packages:
            return ()
        text = words.packages(packages, self.package_size, self.package_price)
        amount = packages * self.package_price
        return (PriceLine(text, amount, quantity=packages, unit_price=self.package_price),)

    def _packages(self, quantity: Decimal) -> Decimal:
        whole, rest = divmod(max(quantity, Decimal(0)), self.package_size)
        match self.package_rounding:
            case Rounding.UP:
                return whole + (rest > 0)
            case Rounding.DOWN:
                return whole
            case Rounding.HALF_UP:
                return whole + (2 * rest >= self.package_size)
