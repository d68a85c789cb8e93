"""Rollups: what a meter adds up to for one subject, one bucket of time and one group. Pure rules, no I/O.

Folding and merging are exact, and give the same result in any order and any grouping.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any, NamedTuple

from sidemeter_control.metering.meters import Aggregation, from_nano

__all__ = ["DAY_US", "EMPTY", "HOUR_US", "Bucket", "Last", "Rollup", "fold", "merge", "merged", "value"]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

AVERAGE_PLACES = 18


class Bucket(NamedTuple):
    """Where a rollup belongs. `grain_s` is 3600 or 86400; `group` the JSON array of the dimensions' values."""

    subject: str
    meter_id: int
    grain_s: int
    bucket_us: int
    group: str


class Last(NamedTuple):
    """The last value by event time, source and id, and where it came from."""

    time_us: int
    source: str
    id: str
    nano: int


@dataclass(frozen=True, slots=True)
class Rollup:
    """What events add up to, in nano-units; only what the meter's aggregation needs is there."""

    events: int
    sum: int | None = None
    min: int | None = None
    max: int | None = None
    last: Last | None = None
    values: frozenset[str] = frozenset()


EMPTY = Rollup(0)


def fold(aggregation: Aggregation, readings: Sequence[Any]) -> Rollup:
    """What these readings of one meter (see `meters.Reading`), at least one, add up to.

    >>> fold(Aggregation.MAX, [3, 1])
    Rollup(events=2, sum=None, min=None, max=3, last=None, values=frozenset())
    """
    count = len(readings)
    match aggregation:
        case Aggregation.COUNT:
            return Rollup(count)
        case Aggregation.SUM | Aggregation.AVG:
            return Rollup(count, sum=sum(readings))
        case Aggregation.MIN:
            return Rollup(count, min=min(readings))
        case Aggregation.MAX:
            return Rollup(count, max=max(readings))
        case Aggregation.LATEST:
            return Rollup(count, last=Last(*max(readings)))
        case Aggregation.UNIQUE_COUNT:
            return Rollup(count, values=frozenset(readings))


def merge(one: Rollup, other: Rollup) -> Rollup:
    """What the events of both add up to, when they have none in common."""
    if not one.events:
        return other
    if not other.events:
        return one
    return Rollup(
        one.events + other.events,
        None if one.sum is None or other.sum is None else one.sum + other.sum,
        None if one.min is None or other.min is None else min(one.min, other.min),
        None if one.max is None or other.max is None else max(one.max, other.max),
        None if one.last is None or other.last is None else max(one.last, other.last),
        one.values | other.values,
    )


def merged(rollups: Iterable[Rollup]) -> Rollup:
    """What all of them add up to."""
    return reduce(merge, rollups, EMPTY)


def value(aggregation: Aggregation, rollup: Rollup) -> Decimal | None:
    """The meter's quantity. Of no events COUNT, SUM and UNIQUE_COUNT are 0, the others None.

    >>> value(Aggregation.AVG, Rollup(3, sum=2_000_000_000))
    Decimal('0.666666666666666667')
    """
    match aggregation:
        case Aggregation.COUNT:
            return Decimal(rollup.events)
        case Aggregation.UNIQUE_COUNT:
            return Decimal(len(rollup.values))
        case Aggregation.AVG:
            return None if rollup.sum is None else _average(rollup.sum, rollup.events)
        case Aggregation.SUM:
            nano: int | None = rollup.sum or 0
        case Aggregation.MIN:
            nano = rollup.min
        case Aggregation.MAX:
            nano = rollup.max
        case Aggregation.LATEST:
            nano = None if rollup.last is None else rollup.last.nano
    return None if nano is None else from_nano(nano)


def _average(total: int, count: int) -> Decimal:
    """Half away from zero at the 18th digit after the point."""
    scaled = abs(total) * 10 ** (AVERAGE_PLACES - 9)
    quotient = (2 * scaled + count) // (2 * count)
    text = f"{quotient:0{AVERAGE_PLACES + 1}d}"
    whole, fraction = text[:-AVERAGE_PLACES], text[-AVERAGE_PLACES:].rstrip("0")
    sign = "-" if total < 0 and quotient else ""
    return Decimal(f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}")
