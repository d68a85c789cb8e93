"""VOLUME: the whole quantity at the price of the tier it falls in."""

from dataclasses import dataclass
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.tiers import Tier, at_or_below_zero, reached
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Volume"]


@dataclass(frozen=True, slots=True)
class Volume:
    """All units at one price, plus the flat fee of that tier: the amount can fall where a tier begins."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    tiers: tuple[Tier, ...]
    charge_flat_fee_at_zero: bool = False

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for nothing."""
        quantity = used.quantity
        if quantity <= 0:
            return at_or_below_zero(self.tiers[0], quantity, self.charge_flat_fee_at_zero, words.slice)
        number, tier = reached(self.tiers, quantity)
        text = words.whole(quantity, tier.unit_price, tier.flat_fee)
        amount = quantity * tier.unit_price + tier.flat_fee
        return (PriceLine(text, amount, number, quantity, tier.unit_price, tier.flat_fee),)
