"""Grace: how long usage goes on after a HARD limit was reached, from the usage as it is counted now.

It begins with the event, by its own time, that reached the limit which is in force now: a late event may begin it in the
past, and an add-on that lifts the limit above what is used ends it. Exact for meters that only rise within a period.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import usage
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.metering.usage import Quantity
from sidemeter_control.metering.windows import Interval
from sidemeter_control.pricing.periods import Period

__all__ = ["Threshold", "reached_at", "was_reached_by"]

# Each of them cuts what the one before has found.
_PIECES_US = (1_000_000, 1_000, 1)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit of what a meter counts of those subjects within a period."""

    meter: Meter
    subjects: Sequence[str]
    period: Period
    limit: Decimal

    def is_reached_with(self, counted: Quantity) -> bool:
        """Whether so much is as much as the limit."""
        return (counted.value or Decimal(0)) >= self.limit


async def was_reached_by(conn: AsyncConnection, threshold: Threshold, at_us: int) -> bool:
    """Whether what was used up to that instant, and in it, is as much as the limit."""
    start_us = threshold.period.start_us
    if at_us < start_us:
        return False
    return threshold.is_reached_with(
        await usage.quantity(conn, threshold.meter, threshold.subjects, start_us, at_us + 1)
    )


async def reached_at(conn: AsyncConnection, threshold: Threshold) -> int:
    """The instant of the event with which the period's usage, which has reached the limit, did so.

    The hour is found by halving, which reads rollups; within it every event is read, but few times.
    """
    period = threshold.period
    if threshold.limit <= 0:
        return period.start_us
    low, high = period.start_us // HOUR_US, -(-period.end_us // HOUR_US)
    while high - low > 1:
        middle = (low + high) // 2
        if await was_reached_by(conn, threshold, middle * HOUR_US - 1):
            high = middle
        else:
            low = middle
    found = Period(low * HOUR_US, high * HOUR_US).clipped(period.start_us, period.end_us)
    for piece_us in _PIECES_US:
        found = await _piece(conn, threshold, found, piece_us)
    return found.start_us


async def _piece(conn: AsyncConnection, threshold: Threshold, within: Period, piece_us: int) -> Period:
    """The piece of `within` in which usage reaches the limit."""
    start_us = threshold.period.start_us
    before = [Interval(start_us, within.start_us)] if start_us < within.start_us else []
    starts = range(within.start_us, within.end_us, piece_us)
    pieces = [Interval(each, min(each + piece_us, within.end_us)) for each in starts]
    until = await usage.running(conn, threshold.meter, threshold.subjects, [*before, *pieces])
    for piece, so_far in zip(pieces, until[len(before) :], strict=True):
        if threshold.is_reached_with(so_far):
            return Period(*piece)
    return Period(*pieces[-1])
