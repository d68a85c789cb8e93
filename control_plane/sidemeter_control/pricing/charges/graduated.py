"""GRADUATED: each slice of a quantity at the price of its own tier."""

from dataclasses import dataclass
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.tiers import Tier, at_or_below_zero, slices
from sidemeter_control.pricing.charges.used import Needs, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Graduated"]


@dataclass(frozen=True, slots=True)
class Graduated:
    """A tier's flat fee is owed as soon as any fraction of a unit falls in it."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.QUANTITY
    tiers: tuple[Tier, ...]
    charge_flat_fee_at_zero: bool = False

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line per tier that is reached."""
        if used.quantity <= 0:
            return at_or_below_zero(self.tiers[0], used.quantity, self.charge_flat_fee_at_zero, words.slice)
        return tuple(
            PriceLine(
                words.slice(number, part, tier.unit_price, tier.flat_fee),
                part * tier.unit_price + tier.flat_fee,
                number,
                part,
                tier.unit_price,
                tier.flat_fee,
            )
            for number, tier, part in slices(self.tiers, used.quantity)
        )
