"""What was used, in the parts that some prices ask for: by dimension, by interval, or event by event in order."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import usage
from sidemeter_control.metering.events import Event, parse_data
from sidemeter_control.metering.meters import Meter, Reader, Uncountable, from_nano
from sidemeter_control.metering.rollups import EMPTY, Rollup, merge, value
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store import events

__all__ = ["amounts", "by_dimensions", "by_interval", "counted"]


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


async def by_interval(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], intervals: Sequence[Interval]
) -> list[Decimal]:
    """The quantity of each of the intervals, which are in order and share no instant."""
    starts = [each.from_us for each in intervals]
    totals: list[Rollup] = [EMPTY] * len(intervals)
    async for bucket, rollup in usage.parts(conn, [meter], intervals, subjects):
        place = bisect_right(starts, bucket.bucket_us) - 1
        totals[place] = merge(totals[place], rollup)
    return [value(meter.aggregation, total) or Decimal(0) for total in totals]


async def amounts(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], interval: Interval
) -> AsyncIterator[Sequence[Decimal]]:
    """The value of every event that a SUM meter counts, in order of time (then source and id), some thousand at a time."""
    reader = Reader(meter)
    async for some in events.in_order(conn, interval, [meter.event_type], subjects):
        yield [from_nano(nano) for _, nano in counted(reader, some)]


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
