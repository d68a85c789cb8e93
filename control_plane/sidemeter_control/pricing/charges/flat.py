"""FLAT: a recurring fee."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Flat"]


@dataclass(frozen=True, slots=True)
class Flat:
    """`amount` once per billing period, whatever was used: a fee, or a credit when negative.

    `in_advance` says at which end of the period it is invoiced.
    """

    metered: ClassVar[bool] = False
    needs: ClassVar[Needs] = Needs.QUANTITY
    amount: Decimal
    in_advance: bool = False

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:  # noqa: ARG002 -- it is flat
        """One line, the fee."""
        return (PriceLine(words.fee(self.amount), self.amount, flat_fee=self.amount),)
