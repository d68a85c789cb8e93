"""Adding to what is stored, and taking from it: events become rollups, and dead letters where a meter cannot count them."""

from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.batches import Batch
from sidemeter_control.metering.counting import Missed, Readers, count, with_days
from sidemeter_control.metering.events import Data, Event, json_of
from sidemeter_control.metering.meters import Reader
from sidemeter_control.metering.rollups import DAY_US, EMPTY, HOUR_US, Bucket, Rollup, merge, merged, minus
from sidemeter_control.metering.windows import Interval, Span
from sidemeter_control.store import changes, dead_letters, events, rollups
from sidemeter_control.store.dead_letters import DeadLetter

__all__ = ["add_to_totals", "fold_in", "take_out"]


async def add_to_totals(
    conn: AsyncConnection,
    counting: Readers,
    new: Sequence[Event],
    now_us: int,
    *,
    data: Sequence[Data] | None = None,
    batch: Batch | None = None,
) -> None:
    """Count events that these meters have not counted yet. `data` is theirs where it is parsed, `batch` brought them."""
    missed = await fold_in(conn, counting, new, data)
    await dead_letters.add(conn, [_letter(each, now_us, batch) for each in missed])


async def fold_in(
    conn: AsyncConnection, counting: Readers, new: Sequence[Event], data: Sequence[Data] | None = None
) -> list[Missed]:
    """Add what the events come to for these meters; answers which of them which meter cannot count."""
    changes.note(conn, subjects={event.subject for event in new})
    counted = count(counting, new, data)
    await rollups.add(conn, with_days(counted.hours))
    return counted.missed


async def take_out(conn: AsyncConnection, counted_by: Iterable[Reader], event: Event) -> None:
    """Take an event from the totals of meters that counted it, as it counted.

    Nearly always by subtraction. Where an extreme or a last value goes, the hour is folded anew from its other events as
    they are now, and the day from its hours.
    """
    changes.note(conn, subjects=[event.subject])
    for reader in counted_by:
        for hour, part in count({event.type: [reader]}, [event]).hours.items():
            day = hour._replace(grain_s=86400, bucket_us=hour.bucket_us - hour.bucket_us % DAY_US)
            known = await rollups.get(conn, [hour, day])
            left_hour, left_day = minus(known[hour], part), minus(known[day], part)
            if left_hour is None:
                left_hour = await _others(conn, reader, hour, event)
            if left_day is None:
                left_day = merge(left_hour, await _other_hours(conn, reader, day, hour))
            await rollups.leave(conn, {hour: left_hour, day: left_day})


async def _others(conn: AsyncConnection, reader: Reader, hour: Bucket, without: Event) -> Rollup:
    """What the events of a bucket add up to without that one, of those that the meter has counted."""
    interval = Interval(hour.bucket_us, hour.bucket_us + HOUR_US)
    parts = []
    async for some in events.within(conn, interval, [without.type], [hour.subject], reader.meter.progress):
        others = [event for event in some if (event.source, event.id) != (without.source, without.id)]
        parts.append(count({without.type: [reader]}, others).hours.get(hour, EMPTY))
    return merged(parts)


async def _other_hours(conn: AsyncConnection, reader: Reader, day: Bucket, without: Bucket) -> Rollup:
    span = Span(3600, day.bucket_us, day.bucket_us + DAY_US)
    found = await rollups.read(conn, [reader.meter], [span], [day.subject])
    return merged(rollup for bucket, rollup in found if bucket.group == day.group and bucket != without)


def _letter(missed: Missed, now_us: int, batch: Batch | None) -> DeadLetter:
    raw = json_of(missed.event)
    return DeadLetter.of(missed.code, missed.reason, raw, now_us, batch, missed=(missed.meter, missed.event))
