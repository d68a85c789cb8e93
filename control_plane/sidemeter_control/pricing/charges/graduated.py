"""GRADUATED: each slice of a quantity at the price of its own tier."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.tiers import Tier, at_or_below_zero
from sidemeter_control.pricing.words import Words

__all__ = ["Graduated"]


@dataclass(frozen=True, slots=True)
class Graduated:
    """A tier's flat fee is owed as soon as any fraction of a unit falls in it."""

    metered: ClassVar[bool] = True
    tiers: tuple[Tier, ...]
    charge_flat_fee_at_zero: bool = False

    def lines(self, quantity: Decimal, words: Words) -> tuple[PriceLine, ...]:
        """One line per tier that is reached."""
        if quantity <= 0:
            return at_or_below_zero(self.tiers[0], quantity, self.charge_flat_fee_at_zero, words)
        lines: list[PriceLine] = []
        floor = Decimal(0)
        for number, tier in enumerate(self.tiers, 1):
            part = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - floor
            text = words.slice(number, part, tier.unit_price, tier.flat_fee)
            amount = part * tier.unit_price + tier.flat_fee
            lines.append(PriceLine(text, amount, number, part, tier.unit_price, tier.flat_fee))
            if tier.reaches(quantity):
                break
            floor += part
        return tuple(lines)
