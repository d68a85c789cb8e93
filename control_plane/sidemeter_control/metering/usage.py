"""What was used: a meter's quantity over any interval, exact at both ends, from rollups and the events at the edges."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.counting import count, readers
from sidemeter_control.metering.events import FIRST_US, Event
from sidemeter_control.metering.meters import Aggregation, Meter
from sidemeter_control.metering.rollups import EMPTY, HOUR_US, Bucket, Held, Rollup, merge, value
from sidemeter_control.metering.windows import Interval, Span, Window, cover, windows
from sidemeter_control.store import customers, events, rollups

__all__ = [
    "MAX_ROWS",
    "Covered",
    "Quantity",
    "UsageRow",
    "covering",
    "parts",
    "quantities",
    "quantity",
    "rows",
    "running",
    "series",
    "totals",
]

# An answer is built in memory; one of this size takes about 30 MB.
MAX_ROWS = 50_000
# An interval has two edges. Where there are more, as with half-hour time zones, a look at each does not pay.
LONE_EDGES = 2

_Group: TypeAlias = tuple[str | None, ...]
_Place: TypeAlias = tuple[int, str | None, _Group]
"""A window by its index, a customer, a group."""

_group = msgspec.json.Decoder(list[str | None]).decode


@dataclass(frozen=True, slots=True)
class Quantity:
    """A meter's quantity, None when its aggregation has none of no events; and of how many events it is."""

    value: Decimal | None
    events: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A meter's quantity in one window, of one customer (None: of subjects that are nobody's) and one group."""

    window_start_us: int
    window_end_us: int
    customer: str | None
    dimensions: dict[str, str | None]
    value: Decimal | None
    events: int


async def quantity(conn: AsyncConnection, meter: Meter, subjects: Sequence[str], from_us: int, to_us: int) -> Quantity:
    """The meter's quantity of those subjects together, of events with `from_us <= time < to_us`."""
    return (await quantities(conn, [meter], subjects, from_us, to_us))[0]


async def quantities(
    conn: AsyncConnection, meters: Sequence[Meter], subjects: Sequence[str], from_us: int, to_us: int
) -> list[Quantity]:
    """The quantity of each of the meters, as `quantity` gives it, for the price of one."""
    total = await totals(conn, meters, [Interval(from_us, to_us)], subjects)
    weighted = [meter for meter in meters if meter.aggregation is Aggregation.TIME_WEIGHTED]
    before = await totals(conn, weighted, [Interval(FIRST_US, from_us)], subjects) if weighted else {}
    found = [(meter, total.get(meter.id, EMPTY), before.get(meter.id, EMPTY).sum or 0) for meter in meters]
    return [
        Quantity(value(meter.aggregation, rollup, meter.percentile, Held(from_us, to_us, running)), rollup.events)
        for meter, rollup, running in found
    ]


async def totals(
    conn: AsyncConnection, meters: Sequence[Meter], cut: Sequence[Interval], subjects: Sequence[str]
) -> dict[int, Rollup]:
    """What each meter adds up to over all the intervals together, which are in order; by the meter's number."""
    covered = await covering(conn, [each for each in cut if each.from_us < each.to_us], subjects)
    total = await rollups.totals(conn, meters, covered.buckets, subjects)
    async for bucket, rollup in _at_edges(conn, meters, covered.edges, subjects):
        total[bucket.meter_id] = merge(total.get(bucket.meter_id, EMPTY), rollup)
    return total


async def series(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], cut: Sequence[Interval]
) -> list[Quantity]:
    """The meter's quantity in each of the intervals, which follow each other in time.

    By one question for all of them, unless it is a mean over time.
    """
    if meter.aggregation is Aggregation.TIME_WEIGHTED:
        return [await quantity(conn, meter, subjects, *each) for each in cut]
    return [_quantity(meter, each) for each in await _in_each(conn, meter, subjects, cut)]


async def running(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], cut: Sequence[Interval]
) -> list[Quantity]:
    """The meter's quantity in each of the intervals and those before it together, asked as `series` does."""
    if meter.aggregation is Aggregation.TIME_WEIGHTED:
        return [await quantity(conn, meter, subjects, cut[0].from_us, each.to_us) for each in cut]
    return [_quantity(meter, each) for each in accumulate(await _in_each(conn, meter, subjects, cut), merge)]


async def _in_each(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], cut: Sequence[Interval]
) -> list[Rollup]:
    starts = [each.from_us for each in cut]
    totals = [EMPTY] * len(cut)
    async for bucket, rollup in parts(conn, [meter], cut, subjects):
        place = bisect_right(starts, bucket.bucket_us) - 1
        totals[place] = merge(totals[place], rollup)
    return totals


def _quantity(meter: Meter, rollup: Rollup) -> Quantity:
    return Quantity(value(meter.aggregation, rollup, meter.percentile), rollup.events)


async def rows(
    conn: AsyncConnection,
    meter: Meter,
    *,
    subjects: Mapping[str, str | None] | None,
    from_us: int,
    to_us: int,
    window: Literal["HOUR", "DAY", "WEEK", "MONTH"] | None = None,
    time_zone: str = "UTC",
    group_by: Sequence[str] = (),
    filters: Mapping[str, AbstractSet[str]] | None = None,
) -> list[UsageRow]:
    """One row per window, customer and group, in that order; what had no events has no row.

    Of TIME_WEIGHTED, what had no events has a row while the running total is not 0.

    `subjects` maps each subject to its customer's key; None takes every subject there is. `filters` keeps the groups
    whose dimension has one of the values. InvalidInput for a dimension the meter has not, too many windows or rows.
    """
    cut = windows(Interval(from_us, to_us), None if window is None else Window(window), time_zone)
    pick = _picker(meter, group_by, filters or {})
    if meter.aggregation is Aggregation.TIME_WEIGHTED and cut:
        found = await _by_customer(conn, meter, [Interval(FIRST_US, from_us), *cut], subjects, pick)
        counted = _running(found, len(cut))
    else:
        counted = {
            place: (rollup, 0) for place, rollup in (await _by_customer(conn, meter, cut, subjects, pick)).items()
        }
    if len(counted) > MAX_ROWS:
        raise InvalidInput("usage", f"has more than {MAX_ROWS} rows, which are allowed: narrow it")
    return [
        UsageRow(
            *cut[index],
            customer,
            dict(zip(group_by, group, strict=True)),
            value(meter.aggregation, rollup, meter.percentile, Held(*cut[index], before)),
            rollup.events,
        )
        for (index, customer, group), (rollup, before) in sorted(counted.items(), key=_order)
    ]


async def _by_customer(
    conn: AsyncConnection,
    meter: Meter,
    cut: Sequence[Interval],
    subjects: Mapping[str, str | None] | None,
    pick: Callable[[str], _Group | None],
) -> dict[_Place, Rollup]:
    """What the meter adds up to, of each interval, customer and group that has anything."""
    starts = [each.from_us for each in cut]
    totals: dict[tuple[int, str, _Group], Rollup] = {}
    async for bucket, rollup in parts(conn, [meter], cut, None if subjects is None else list(subjects)):
        group = pick(bucket.group)
        if group is not None:
            place = (bisect_right(starts, bucket.bucket_us) - 1, bucket.subject, group)
            totals[place] = merge(totals.get(place, EMPTY), rollup)
    if subjects is None:
        subjects = await customers.owners(conn, {subject for _, subject, _ in totals})
    by_customer: dict[_Place, Rollup] = {}
    for (index, subject, group), rollup in totals.items():
        row = (index, subjects.get(subject), group)
        by_customer[row] = merge(by_customer.get(row, EMPTY), rollup)
    return by_customer


def _running(found: Mapping[_Place, Rollup], count: int) -> dict[_Place, tuple[Rollup, int]]:
    """Every window that has events or a running total, with what that was before it. Of `found`, the first interval is
    all that was before the windows, which are `count`."""
    by_whom: defaultdict[tuple[str | None, _Group], dict[int, Rollup]] = defaultdict(dict)
    for (index, customer, group), rollup in found.items():
        by_whom[customer, group][index] = rollup
    running: dict[_Place, tuple[Rollup, int]] = {}
    for whose, rollups_of in by_whom.items():
        total = rollups_of.get(0, EMPTY).sum or 0
        for index in range(count):
            rollup = rollups_of.get(index + 1, EMPTY)
            if rollup.events or total:
                running[index, *whose] = rollup, total
            total += rollup.sum or 0
        if len(running) > MAX_ROWS:
            break
    return running


async def parts(
    conn: AsyncConnection, meters: Sequence[Meter], cut: Sequence[Interval], subjects: Sequence[str] | None
) -> AsyncIterator[tuple[Bucket, Rollup]]:
    """What fills the intervals, each event in exactly one part. A part of an edge begins with its edge."""
    covered = await covering(conn, cut, subjects)
    begins = {span.from_us: edge.from_us for edge, span in covered.lone.items()}
    for bucket, rollup in await rollups.read(conn, meters, covered.buckets, subjects):
        edge_us = begins.get(bucket.bucket_us) if bucket.grain_s == 3600 else None
        yield bucket if edge_us is None else bucket._replace(bucket_us=edge_us), rollup
    async for part in _at_edges(conn, meters, covered.edges, subjects):
        yield part


@dataclass(frozen=True, slots=True)
class Covered:
    """What fills intervals: whole buckets, those of edges that are alone in their hour, events at the other edges."""

    spans: tuple[Span, ...]
    lone: Mapping[Interval, Span]
    edges: Sequence[Interval]

    @property
    def buckets(self) -> tuple[Span, ...]:
        """All that rollups answer."""
        return *self.spans, *self.lone.values()


async def covering(conn: AsyncConnection, cut: Sequence[Interval], subjects: Sequence[str] | None) -> Covered:
    """The rollups of an edge's hour are the edge where nothing is beside it: mostly so at a beginning, and now."""
    covered = cover(cut)
    if not covered.edges or len(covered.edges) > LONE_EDGES:
        return Covered(covered.spans, {}, covered.edges)
    hours = {
        edge: Span(3600, hour_us := edge.from_us - edge.from_us % HOUR_US, hour_us + HOUR_US) for edge in covered.edges
    }
    beside = [
        (edge, each)
        for edge, hour in hours.items()
        for each in (Interval(hour.from_us, edge.from_us), Interval(edge.to_us, hour.to_us))
        if each.from_us < each.to_us
    ]
    found = await events.any_within(conn, [each for _, each in beside], subjects)
    shared = {edge for (edge, _), any_ in zip(beside, found, strict=True) if any_}
    lone = {edge: hour for edge, hour in hours.items() if edge not in shared}
    return Covered(covered.spans, lone, [edge for edge in covered.edges if edge in shared])


async def _at_edges(
    conn: AsyncConnection, meters: Sequence[Meter], edges: Sequence[Interval], subjects: Sequence[str] | None
) -> AsyncIterator[tuple[Bucket, Rollup]]:
    """What the events within the edges add up to; edges that meet are read as one."""
    types = [meter.event_type for meter in meters]
    starts = [edge.from_us for edge in edges]
    for run in _joined(edges):
        async for some in events.within(conn, run, types, subjects):
            by_edge: defaultdict[int, list[Event]] = defaultdict(list)
            for event in some:
                by_edge[starts[bisect_right(starts, event.time_us) - 1]].append(event)
            for start, found in by_edge.items():
                for bucket, rollup in count(readers(meters), found).hours.items():
                    yield bucket._replace(bucket_us=start), rollup


def _joined(edges: Iterable[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for edge in edges:
        if joined and joined[-1].to_us == edge.from_us:
            joined[-1] = Interval(joined[-1].from_us, edge.to_us)
        else:
            joined.append(edge)
    return joined


def _picker(
    meter: Meter, group_by: Sequence[str], filters: Mapping[str, AbstractSet[str]]
) -> Callable[[str], _Group | None]:
    """Takes a rollup's group to its part that is asked for; None when a filter keeps it out."""
    known = {dimension.key: index for index, dimension in enumerate(meter.dimensions)}
    for field, keys in (("groupBy", group_by), ("filter", filters)):
        for key in keys:
            if key not in known:
                raise InvalidInput(field, f"{key!r} is not a dimension of meter {meter.key!r}")
    picked = [known[key] for key in group_by]
    kept = [(known[key], wanted) for key, wanted in filters.items()]

    @cache
    def pick(group: str) -> _Group | None:
        values = _group(group)
        if any(values[index] not in wanted for index, wanted in kept):
            return None
        return tuple(values[index] for index in picked)

    return pick


def _order(row: tuple[_Place, Any]) -> Any:
    (index, customer, group), _ = row
    return index, customer is None, customer or "", [(text is None, text or "") for text in group]
