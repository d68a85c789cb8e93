"""VOLUME: the whole quantity at the price of the tier it falls in."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.tiers import Tier, at_or_below_zero
from sidemeter_control.pricing.words import Words

__all__ = ["Volume"]


@dataclass(frozen=True, slots=True)
class Volume:
    """All units at one price, plus the flat fee of that tier: the amount can fall where a tier begins."""

    metered: ClassVar[bool] = True
    tiers: tuple[Tier, ...]
    charge_flat_fee_at_zero: bool = False

    def lines(self, quantity: Decimal, words: Words) -> tuple[PriceLine, ...]:
        """One line; none for nothing."""
        if quantity <= 0:
            return at_or_below_zero(self.tiers[0], quantity, self.charge_flat_fee_at_zero, words)
        number, tier = next((n, each) for n, each in enumerate(self.tiers, 1) if each.reaches(quantity))
        text = words.whole(quantity, tier.unit_price, tier.flat_fee)
        amount = quantity * tier.unit_price + tier.flat_fee
        return (PriceLine(text, amount, number, quantity, tier.unit_price, tier.flat_fee),)
