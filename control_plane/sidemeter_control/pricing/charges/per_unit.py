"""PER_UNIT: quantity times price."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["PerUnit"]


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Every unit at `unit_price`; a negative quantity is a credit."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    unit_price: Decimal

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for nothing."""
        quantity = used.quantity
        if not quantity:
            return ()
        text = words.units(quantity, self.unit_price)
        return (PriceLine(text, quantity * self.unit_price, quantity=quantity, unit_price=self.unit_price),)
