"""PER_UNIT: quantity times price."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.words import Words

__all__ = ["PerUnit"]


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Every unit at `unit_price`; a negative quantity is a credit."""

    metered: ClassVar[bool] = True
    unit_price: Decimal

    def lines(self, quantity: Decimal, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for nothing."""
        if not quantity:
            return ()
        text = words.units(quantity, self.unit_price)
        return (PriceLine(text, quantity * self.unit_price, quantity=quantity, unit_price=self.unit_price),)
