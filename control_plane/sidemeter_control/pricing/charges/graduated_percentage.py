"""GRADUATED_PERCENTAGE: each slice of an amount at the rate of its own tier."""

from dataclasses import dataclass
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.tiers import Tier, at_or_below_zero, slices
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["GraduatedPercentage"]


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """GRADUATED with rates: what is counted is money, and a tier's unit price of 0.025 is its 2.5 %."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    tiers: tuple[Tier, ...]
    charge_flat_fee_at_zero: bool = False

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line per tier that is reached."""
        if used.quantity <= 0:
            return at_or_below_zero(self.tiers[0], used.quantity, self.charge_flat_fee_at_zero, words.rated_slice)
        return tuple(
            PriceLine(
                words.rated_slice(number, part, tier.unit_price, tier.flat_fee),
                part * tier.unit_price + tier.flat_fee,
                number,
                part,
                tier.unit_price,
                tier.flat_fee,
            )
            for number, tier, part in slices(self.tiers, used.quantity)
        )
