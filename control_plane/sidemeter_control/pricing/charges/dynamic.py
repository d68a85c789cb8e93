"""DYNAMIC: the price is in the event."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Dynamic"]


@dataclass(frozen=True, slots=True)
class Dynamic:
    """What a SUM meter counts is money in the plan's currency; it is owed times `multiplier`."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    multiplier: Decimal = Decimal(1)

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for nothing."""
        if not used.quantity:
            return ()
        text = words.dynamic(used.quantity, self.multiplier)
        amount = used.quantity * self.multiplier
        return (PriceLine(text, amount, quantity=used.quantity, unit_price=self.multiplier),)
