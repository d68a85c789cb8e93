"""Rollups: what a meter adds up to for one subject, one bucket of time and one group. Pure rules, no I/O.

Folding and merging are exact, and give the same result in any order and any grouping.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from itertools import accumulate
from typing import Any, NamedTuple

from sidemeter_control.metering.meters import Aggregation, from_nano

__all__ = [
    "DAY_US",
    "EMPTY",
    "HOUR_US",
    "Bucket",
    "Held",
    "Last",
    "Rollup",
    "fold",
    "merge",
    "merged",
    "minus",
    "value",
]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

AVERAGE_PLACES = 18  # and those of a mean over time


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
    """What events add up to, in nano-units; only what the meter's aggregation needs is there.

    `values` says how many events had each value: the text of UNIQUE_COUNT, for PERCENTILE that of the nano-units.
    `moment` is the sum of value times `time_us`.
    """

    events: int
    sum: int | None = None
    min: int | None = None
    max: int | None = None
    last: Last | None = None
    values: Mapping[str, int] | None = None
    moment: int | None = None


EMPTY = Rollup(0)


class Held(NamedTuple):
    """For how long a running total is asked for, and what it was at the beginning of that, in nano-units."""

    from_us: int
    to_us: int
    before: int


_NEVER = Held(0, 0, 0)


def fold(aggregation: Aggregation, readings: Sequence[Any]) -> Rollup:  # noqa: PLR0911 -- one per aggregation
    """What these readings of one meter (see `meters.Reading`), at least one, add up to.

    >>> fold(Aggregation.MAX, [3, 1])
    Rollup(events=2, sum=None, min=None, max=3, last=None, values=None, moment=None)
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
            return Rollup(count, values=dict(Counter(readings)))
        case Aggregation.PERCENTILE:
            return Rollup(count, values={str(nano): times for nano, times in Counter(readings).items()})
        case Aggregation.TIME_WEIGHTED:
            return Rollup(count, sum=sum(nano for nano, _ in readings), moment=sum(moment for _, moment in readings))


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
        None if one.values is other.values is None else _together(one.values, other.values),
        None if one.moment is None or other.moment is None else one.moment + other.moment,
    )


def _together(one: Mapping[str, int] | None, other: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """One without values has them elsewhere, to be added to there."""
    if one is None or other is None:
        return other if one is None else one
    both = dict(one)
    for text, times in other.items():
        both[text] = both.get(text, 0) + times
    return both


def minus(whole: Rollup, part: Rollup) -> Rollup | None:
    """What is left without some of the events. None: an extreme or the last value went, and only those left can tell.

    The `values` that are left are what to add to those known: less than nothing of each that went.

    >>> minus(Rollup(3, sum=7), Rollup(1, sum=2)), minus(Rollup(3, max=7), Rollup(1, max=7))
    (Rollup(events=2, sum=5, min=None, max=None, last=None, values=None, moment=None), None)
    """
    if whole.events == part.events:
        return EMPTY
    taken = ((part.min, whole.min), (part.max, whole.max), (part.last, whole.last))
    if any(gone is not None and gone == held for gone, held in taken):
        return None
    return Rollup(
        whole.events - part.events,
        None if whole.sum is None or part.sum is None else whole.sum - part.sum,
        whole.min,
        whole.max,
        whole.last,
        None if part.values is None else {text: -times for text, times in part.values.items()},
        None if whole.moment is None or part.moment is None else whole.moment - part.moment,
    )


def merged(rollups: Iterable[Rollup]) -> Rollup:
    """What all of them add up to."""
    return reduce(merge, rollups, EMPTY)


def value(
    aggregation: Aggregation, rollup: Rollup, percentile: Decimal | None = None, held: Held = _NEVER
) -> Decimal | None:
    """The meter's quantity. Of no events COUNT, SUM and UNIQUE_COUNT are 0, TIME_WEIGHTED what it was before, others None.

    `percentile` is that of the meter; `held` is asked of TIME_WEIGHTED alone, and the rollup lies in it.

    >>> value(Aggregation.AVG, Rollup(3, sum=2_000_000_000))
    Decimal('0.666666666666666667')
    >>> value(Aggregation.PERCENTILE, Rollup(3, values={"1000000000": 2, "7000000000": 1}), Decimal(90))
    Decimal('7')
    >>> value(Aggregation.TIME_WEIGHTED, Rollup(1, sum=10**9, moment=75 * 10**9), held=Held(0, 100, 10**9))
    Decimal('1.25')
    """
    match aggregation:
        case Aggregation.COUNT:
            return Decimal(rollup.events)
        case Aggregation.UNIQUE_COUNT:
            return Decimal(len(rollup.values or ()))
        case Aggregation.AVG:
            return None if rollup.sum is None else _average(rollup.sum, rollup.events)
        case Aggregation.TIME_WEIGHTED:
            return _mean_over_time(rollup, held)
        case Aggregation.PERCENTILE:
            return None if not rollup.values or percentile is None else _at_rank(rollup.values, percentile)
        case Aggregation.SUM:
            nano: int | None = rollup.sum or 0
        case Aggregation.MIN:
            nano = rollup.min
        case Aggregation.MAX:
            nano = rollup.max
        case Aggregation.LATEST:
            nano = None if rollup.last is None else rollup.last.nano
    return None if nano is None else from_nano(nano)


def _mean_over_time(rollup: Rollup, held: Held) -> Decimal:
    """A value at an instant t holds from then on: it adds value * (to - t) to the integral."""
    length_us = held.to_us - held.from_us
    if length_us <= 0:
        return Decimal(0)
    integral = held.before * length_us + (rollup.sum or 0) * held.to_us - (rollup.moment or 0)
    return _average(integral, length_us)


def _at_rank(values: Mapping[str, int], percentile: Decimal) -> Decimal:
    """The nearest rank, counted from 1, is percentile * count / 100, rounded up."""
    part = Fraction(percentile) * sum(values.values()) / 100
    rank = -(-part.numerator // part.denominator)
    ordered = sorted((int(text), times) for text, times in values.items())
    ranks = accumulate(times for _, times in ordered)
    return from_nano(next(nano for (nano, _), last in zip(ordered, ranks, strict=True) if last >= rank))


def _average(total: int, count: int) -> Decimal:
    """Half away from zero at the 18th digit after the point."""
    scaled = abs(total) * 10 ** (AVERAGE_PLACES - 9)
    quotient = (2 * scaled + count) // (2 * count)
    text = f"{quotient:0{AVERAGE_PLACES + 1}d}"
    whole, fraction = text[:-AVERAGE_PLACES], text[-AVERAGE_PLACES:].rstrip("0")
    sign = "-" if total < 0 and quotient else ""
    return Decimal(f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}")
