"""STAIRSTEP: one price for each step of a quantity."""

from dataclasses import dataclass
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.tiers import Tier, at_or_below_zero, reached, slices
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Stairstep"]


@dataclass(frozen=True, slots=True)
class Stairstep:
    """The price of the step that is reached or, `stairstep_cumulative`, of all steps up to it. Nothing is on no step."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    tiers: tuple[Tier, ...]
    stairstep_cumulative: bool = False
    charge_flat_fee_at_zero: bool = False

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line, or one per step."""
        quantity = used.quantity
        if quantity <= 0:
            due = self.charge_flat_fee_at_zero
            return at_or_below_zero(self.tiers[0], quantity, due, words.slice) if due else ()
        if self.stairstep_cumulative:
            return tuple(
                PriceLine(
                    words.slice(n, part, tier.unit_price, tier.flat_fee), tier.flat_fee, n, part, None, tier.flat_fee
                )
                for n, tier, part in slices(self.tiers, quantity)
            )
        number, tier = reached(self.tiers, quantity)
        text = words.whole(quantity, tier.unit_price, tier.flat_fee)
        return (PriceLine(text, tier.flat_fee, number, quantity, None, tier.flat_fee),)
