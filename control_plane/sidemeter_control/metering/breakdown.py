"""What was used, in the parts that some prices ask for: by dimension, interval or outcome, or event by event in order."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import usage
from sidemeter_control.metering.events import Event, parse_data
from sidemeter_control.metering.meters import Meter, Reader, Uncountable, band_of, from_nano, values_of
from sidemeter_control.metering.outcomes import (
    Mention,
    OutcomeReader,
    OutcomeRule,
    State,
    Thing,
    settled,
    sort,
    state_of,
)
from sidemeter_control.metering.rollups import EMPTY, Rollup, merge, value
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store import events, outcomes, rollups

__all__ = [
    "Settled",
    "Values",
    "amounts",
    "by_band",
    "by_dimensions",
    "by_slice",
    "counted",
    "over",
    "rows_of_slices",
    "settled_within",
]

MANY = 5_000

Values: TypeAlias = tuple[str | None, ...]
"""What each of some dimensions is."""


async def by_dimensions(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], interval: Interval, keys: Sequence[str]
) -> list[tuple[Mapping[str, str | None], Decimal]]:
    """The quantity of each group of those dimensions that had events, of those subjects together."""
    rows = await usage.rows(
        conn,
        meter,
        subjects=dict.fromkeys(subjects),
        from_us=interval.from_us,
        to_us=interval.to_us,
        group_by=keys,
    )
    return [(row.dimensions, row.value or Decimal(0)) for row in rows]


async def over(conn: AsyncConnection, meter: Meter, subjects: Sequence[str], intervals: Sequence[Interval]) -> Decimal:
    """The quantity of all the intervals together, which are in order and share no instant."""
    total = (await usage.totals(conn, [meter], intervals, subjects)).get(meter.id, EMPTY)
    return value(meter.aggregation, total) or Decimal(0)


async def by_band(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], interval: Interval
) -> dict[int, tuple[int, Decimal]]:
    """How many events have values in each band between the meter's breaks, and what these add up to.

    Band 0 is below the first break, band n from the n-th break on.
    """
    totals: dict[int, Rollup] = {}
    async for bucket, rollup in usage.parts(conn, [meter], [interval], subjects):
        band = band_of(bucket.group)
        totals[band] = merge(totals.get(band, EMPTY), rollup)
    return {band: (total.events, from_nano(total.sum or 0)) for band, total in totals.items()}


async def rows_of_slices(  # noqa: PLR0917 -- whose, when, and how it is told apart
    conn: AsyncConnection,
    meter: Meter,
    subjects: Sequence[str],
    interval: Interval,
    keys: Sequence[str],
    wanted: Collection[Values],
    more: Sequence[str] = (),
) -> dict[Values, list[usage.UsageRow]]:
    """The usage of each of the wanted slices that had any, told apart by `more` dimensions. A slice is the values of `keys`."""
    rows = await usage.rows(
        conn,
        meter,
        subjects=dict.fromkeys(subjects),
        from_us=interval.from_us,
        to_us=interval.to_us,
        group_by=(*keys, *(key for key in more if key not in keys)),
        filters={key: {each[index] or "" for each in wanted} for index, key in enumerate(keys)},
    )
    found: defaultdict[Values, list[usage.UsageRow]] = defaultdict(list)
    for row in rows:
        found[tuple(row.dimensions[key] for key in keys)].append(row)
    return {values: found[values] for values in wanted if values in found}


async def by_slice(  # noqa: PLR0917 -- whose, when, and how it is told apart
    conn: AsyncConnection,
    meter: Meter,
    subjects: Sequence[str],
    cut: Sequence[Interval],
    keys: Sequence[str],
    wanted: Collection[Values],
) -> dict[Values, dict[tuple[int, int], Rollup]]:
    """What the meter adds up to in each of the wanted slices, by the index of the interval and the band between the
    meter's breaks (0 where it has none). A slice is the values of the dimensions `keys`; the intervals are in order.
    """
    starts = [each.from_us for each in cut]
    found: dict[Values, dict[tuple[int, int], Rollup]] = {values: {} for values in wanted}
    async for bucket, rollup in usage.parts(conn, [meter], cut, subjects):
        of = values_of(meter, bucket.group)
        totals = found.get(tuple(of[key] for key in keys))
        if totals is not None:
            place = bisect_right(starts, bucket.bucket_us) - 1, band_of(bucket.group) if meter.breaks else 0
            totals[place] = merge(totals.get(place, EMPTY), rollup)
    return found


async def amounts(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], interval: Interval, first: int = MANY
) -> AsyncIterator[Sequence[Decimal]]:
    """The value of every event that a SUM meter counts, in order of time (then source and id); of `first` events at first.

    Whoever has seen enough may leave it: nothing is open between two parts.
    """
    reader, size, last = Reader(meter), min(first, MANY), None
    while True:
        some = await events.in_order(conn, interval, meter.event_type, subjects, limit=size, after=last)
        yield [from_nano(nano) for _, nano in counted(reader, some)]
        if len(some) < size:
            return
        size, last = MANY, some[-1]


def counted(reader: Reader, some: Iterable[Event]) -> list[tuple[Event, int]]:
    """The events that a meter counts, each with what it gives in nano-units (0 for COUNT)."""
    found = []
    for event in some:
        try:
            read = reader.read(parse_data(event.data), event.time_us, event.source, event.id)
        except Uncountable:
            continue
        if read is not None and isinstance(read[1], int):
            found.append((event, read[1]))
    return found


@dataclass(frozen=True, slots=True)
class Settled:
    """How much of what was used is settled, in the meter's unit."""

    confirmed: Decimal
    reversed: Decimal


async def settled_within(
    conn: AsyncConnection, rule: OutcomeRule, subjects: Sequence[str], interval: Interval
) -> Settled:
    """What those subjects used in the interval and is settled by now, however much later the outcome came.

    Nothing is kept for a rule without a number: then the events answer, one by one.
    """
    if not rule.id:
        return _added_up(await _from_events(conn, rule, subjects, interval))
    covered = await usage.covering(conn, [interval], subjects)
    found: list[tuple[str, int]] = []
    for bucket, rollup in await rollups.read(conn, [rule.settled], covered.buckets, subjects):
        found.append((state_of(bucket.group), rollup.sum or 0))
    for edge in covered.edges:
        used = await _mentioned(conn, rule, subjects, edge, [rule.meter.event_type])
        found += _within(edge, rule, used, await outcomes.mentions(conn, used))
    return _added_up(found)


async def _from_events(
    conn: AsyncConnection, rule: OutcomeRule, subjects: Sequence[str], interval: Interval
) -> list[tuple[str, int]]:
    until = Interval(interval.from_us, interval.to_us + rule.window_us)
    known = await _mentioned(conn, rule, subjects, until, rule.types)
    return _within(interval, rule, known, known)


async def _mentioned(
    conn: AsyncConnection, rule: OutcomeRule, subjects: Sequence[str], interval: Interval, types: Sequence[str]
) -> dict[Thing, set[Mention]]:
    """What events of those types in the interval say of things."""
    reader = OutcomeReader(rule)
    found: defaultdict[Thing, set[Mention]] = defaultdict(set)
    async for some in events.within(conn, interval, types, subjects):
        read = sort({type_: [reader] for type_ in types}, ((each, parse_data(each.data)) for each in some))
        for thing, mentions in read.items():
            found[thing] |= mentions
    return found


def _within(
    interval: Interval, rule: OutcomeRule, things: Iterable[Thing], known: Mapping[Thing, AbstractSet[Mention]]
) -> list[tuple[str, int]]:
    """Each settled use of those things in the interval: the state it came to, and its quantity."""
    return [
        (state, use.nano)
        for thing in things
        for use, state in settled(known[thing], rule.window_us)
        if interval.from_us <= use.time_us < interval.to_us
    ]


def _added_up(found: Iterable[tuple[str, int]]) -> Settled:
    nanos: defaultdict[str, int] = defaultdict(int)
    for state, nano in found:
        nanos[state] += nano
    return Settled(from_nano(nanos[State.CONFIRMED.value]), from_nano(nanos[State.REVERSED.value]))
