"""Adding to what is stored: events that are new become rollups, and dead letters where a meter cannot count them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.batches import Batch
from sidemeter_control.metering.counting import Missed, Readers, count, with_days
from sidemeter_control.metering.events import Data, Event, json_of
from sidemeter_control.metering.rollups import EMPTY, merge
from sidemeter_control.store import dead_letters, rollups
from sidemeter_control.store.dead_letters import DeadLetter

__all__ = ["add_to_totals", "fold_in"]


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
    counted = count(counting, new, data)
    added = with_days(counted.hours)
    known = await rollups.get(conn, added)
    await rollups.put(conn, {bucket: merge(known.get(bucket, EMPTY), rollup) for bucket, rollup in added.items()})
    return counted.missed


def _letter(missed: Missed, now_us: int, batch: Batch | None) -> DeadLetter:
    raw = json_of(missed.event)
    return DeadLetter.of(missed.code, missed.reason, raw, now_us, batch, meter_key=missed.meter.key)
