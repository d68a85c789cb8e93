"""Tiers: ranges of a quantity with a price each, in ascending order, the last one open."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.parameters import not_negative, positive
from sidemeter_control.pricing.charges.spec import TierSpec
from sidemeter_control.pricing.words import Words

__all__ = ["MAX_TIERS", "Tier", "at_or_below_zero", "read_tiers"]

MAX_TIERS = 100
"""More than any price list has; each tier is a line of every price."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to` (None: all above), `unit_price` each, `flat_fee` for reaching it."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal

    def reaches(self, quantity: Decimal) -> bool:
        """Whether a quantity ends in this tier or a lower one."""
        return self.up_to is None or quantity <= self.up_to


def read_tiers(path: str, specs: Sequence[TierSpec]) -> tuple[Tier, ...]:
    """The tiers, checked; InvalidInput names the tier and its field."""
    if not 1 <= len(specs) <= MAX_TIERS:
        raise InvalidInput(path, f"must have 1 to {MAX_TIERS} tiers")
    tiers = tuple(_read_tier(f"{path}[{index}]", spec) for index, spec in enumerate(specs))
    for index, (lower, upper) in enumerate(pairwise(tiers)):
        if lower.up_to is None:
            raise InvalidInput(f"{path}[{index}].upTo", "must be given on every tier but the last")
        if upper.up_to is not None and upper.up_to <= lower.up_to:
            raise InvalidInput(f"{path}[{index + 1}].upTo", "must rise from tier to tier")
    if tiers[-1].up_to is not None:
        raise InvalidInput(f"{path}[{len(tiers) - 1}].upTo", "must be absent: the last tier is open")
    return tiers


def _read_tier(path: str, spec: TierSpec) -> Tier:
    if spec.unit_price is None and spec.flat_fee is None:
        raise InvalidInput(path, "must have a unitPrice, a flatFee or both")
    return Tier(
        None if spec.up_to is None else positive(f"{path}.upTo", spec.up_to),
        not_negative(f"{path}.unitPrice", spec.unit_price or Decimal(0)),
        not_negative(f"{path}.flatFee", spec.flat_fee or Decimal(0)),
    )


def at_or_below_zero(first: Tier, quantity: Decimal, flat_fee_due: bool, words: Words) -> tuple[PriceLine, ...]:
    """What a quantity of zero or less owes: units at the first tier's price, its flat fee only if due at zero."""
    flat_fee = first.flat_fee if flat_fee_due else Decimal(0)
    if not quantity and not flat_fee:
        return ()
    text = words.slice(1, quantity, first.unit_price, flat_fee)
    return (PriceLine(text, quantity * first.unit_price + flat_fee, 1, quantity, first.unit_price, flat_fee),)
