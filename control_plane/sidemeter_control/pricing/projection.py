"""Projection: what will have been used, in the parts that a price needs, when so much more is expected of it.

What comes is taken to be like what there was of late: so much of each kind, in the same proportions.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from sidemeter_control.metering.meters import from_nano, nano_of
from sidemeter_control.money import exact
from sidemeter_control.pricing.charges import Charge, Outcome, Used, UsedLine
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.charges.used import Pieces, Tally

__all__ = ["is_told_apart", "projected"]


def is_told_apart(used: Used) -> bool:
    """Whether the price depends on more than the quantity, so that it matters what the rest will be like."""
    return used.pieces is not None or used.lines is not None


@exact
def projected(charge: Charge, so_far: Used, alike: Used, more: int, now_us: int) -> Used:
    """What was used `so_far` with `more` nano-units that are like what is in `alike`.

    >>> from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
    >>> calls = Charge.read("x", ChargeSpec(key="x", meter="m", model=PricingModel.PER_UNIT, unit_price=Decimal(1)))
    >>> projected(calls, Used.of(Decimal(2)), Used.of(Decimal(0)), 5 * 10**9, 0).quantity
    Decimal('7')
    """
    if more <= 0:
        return so_far
    if so_far.lines is not None:
        rest = _lines(alike.lines or so_far.lines, more, now_us)
        return Used.of_lines((*so_far.lines, *rest), so_far.time_zone)
    if so_far.pieces is not None and isinstance(charge.model, Percentage):
        return Used.of_pieces(so_far.pieces.plus(_pieces(charge.model, so_far.pieces, alike.pieces or Pieces(), more)))
    return replace(so_far, quantity=so_far.quantity + from_nano(more))


def _lines(like: Sequence[UsedLine], more: int, now_us: int) -> list[UsedLine]:
    """So much in the proportions of those lines; of nothing to go by, as something used now that stays."""
    weights = [max(0, nano_of(line.quantity)) for line in like]
    if not any(weights):
        return [UsedLine(from_nano(more), at_us=now_us, outcome=Outcome.CONFIRMED)]
    return [
        replace(line, quantity=from_nano(nano)) for line, nano in zip(like, _shared(more, weights), strict=True) if nano
    ]


def _pieces(model: Percentage, so_far: Pieces, like: Pieces, more: int) -> Pieces:
    """So much in events like those that were not free, less what is left of the allowance."""
    parts = [like.at_minimum, like.between, like.at_maximum]
    weights = [max(0, nano_of(part.amount)) for part in parts]
    if not any(weights):
        parts, weights = [Tally(), like.free if like.free.amount > 0 else Tally(1, from_nano(more)), Tally()], [0, 1, 0]
    events, amount = sum(part.events for part in parts), nano_of(sum((part.amount for part in parts), Decimal(0)))
    free = min(more, _free_left(model, so_far, amount, events))
    shared = _shared(more - free, weights)
    charged = (
        Tally(nano * part.events // nano_of(part.amount) if nano else 0, from_nano(nano))
        for part, nano in zip(parts, shared, strict=True)
    )
    return Pieces(Tally(free * events // amount, from_nano(free)), *charged)


def _free_left(model: Percentage, so_far: Pieces, amount: int, events: int) -> int:
    """What is still free, in nano-units: nothing once an event was charged."""
    if not model.has_allowance or any(part.events for part in (so_far.at_minimum, so_far.between, so_far.at_maximum)):
        return 0
    left = []
    if model.free_amount is not None:
        left.append(nano_of(model.free_amount - so_far.free.amount))
    if model.free_events is not None:
        left.append((model.free_events - so_far.free.events) * amount // max(1, events))
    return max(0, min(left))


def _shared(whole: int, weights: Sequence[int]) -> list[int]:
    """The whole in those proportions, to the last nano-unit: what is over goes to the largest."""
    total = sum(weights)
    parts = [whole * weight // total for weight in weights]
    parts[max(range(len(weights)), key=weights.__getitem__)] += whole - sum(parts)
    return parts
