"""Filling: meters that came later count what was stored before them, in order of arrival, a chunk in each transaction.

How far it is stands in the transaction that counts, so a process that ends at any point goes on where it was: every event
is counted once. Events that arrive meanwhile are counted as they arrive, and a correction changes what is counted already.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import ArchiveUnavailable
from sidemeter_control.metering.counting import count, readers
from sidemeter_control.metering.events import json_of, parse_data
from sidemeter_control.metering.meters import Meter, Progress
from sidemeter_control.metering.outcomes import outcome_readers
from sidemeter_control.metering.settling import settle
from sidemeter_control.metering.storing import all_that_can
from sidemeter_control.metering.totals import add_to_totals
from sidemeter_control.store import dead_letters, events, meters, outcomes, rollups, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import DeadLetter

__all__ = ["MAX_FILLED", "MAX_PASSED", "fill", "fill_once"]

_Step: TypeAlias = Callable[[AsyncConnection, int], Awaitable[bool]]
"""What does some of it in a transaction, at most so much; whether there was something to do."""

MAX_FILLED = 5_000
"""Events counted in one transaction: it keeps ingest waiting for some 100 ms."""

MAX_PASSED = 50_000
"""Events of any type that one transaction looks at; those of other types cost a microsecond each."""

MAX_DELETED = 2_000
"""Rollups that nobody reads any more, deleted in one transaction."""


async def fill_once(database: Database, clock: Clock, most: int = MAX_FILLED) -> bool:
    """Do one chunk of what is to be done: count for a meter, or delete rollups that nobody reads. False: all is done.

    A meter whose next events are in a file of the archive that is missing holds up no other: ArchiveUnavailable is raised once
    there is nothing else to do.
    """
    async with database.read() as conn:
        behind = [meter.id for meter in await meters.counting(conn) if not meter.progress.done]
        if not (behind or await outcomes.unfilled(conn) or await meters.retired(conn)):
            return False
    waits: ArchiveUnavailable | None = None
    fills: list[_Step] = [partial(_fill_some, meter_id, clock) for meter_id in behind]
    for step in (*fills, _settle_some, _delete_some):
        try:
            async with database.write() as conn:
                if await step(conn, most):
                    return True
        except ArchiveUnavailable as exc:
            waits = exc
    if waits is not None:
        raise waits
    return False


async def _fill_some(meter_id: int, clock: Clock, conn: AsyncConnection, most: int) -> bool:
    for meter in await meters.counting(conn):
        if meter.id == meter_id and not meter.progress.done:
            await fill(conn, meter, clock.now_us(), clock.new_id, most)
            return True
    return False


async def fill(
    conn: AsyncConnection, meter: Meter, now_us: int, new_id: Callable[[str], str], most: int = MAX_FILLED
) -> Meter:
    """Count the next `most` events for a meter or for a change of one; a change that is filled then takes its place.

    An event that makes this fail for a reason nobody foresaw becomes a dead letter of this meter, and the others count.
    """
    after, watermark = meter.progress.filled_seq, meter.progress.watermark_seq
    upto = min(after + MAX_PASSED, watermark)
    found = await events.of_type(conn, meter.event_type, after, upto, most)
    upto = found[-1][0] if len(found) == most else upto
    counting, some = readers([meter]), [event for _, event in found]

    async def add(part: Sequence[int]) -> None:
        await add_to_totals(conn, counting, [some[place] for place in part], now_us)

    def alone(place: int) -> None:
        count(counting, [some[place]])

    faults = await all_that_can(conn, range(len(some)), add, alone, new_id)
    letters = [
        DeadLetter.of(why.code, why.reason, json_of(some[place]), now_us, None, missed=(meter, some[place]))
        for place, why in faults.items()
    ]
    await dead_letters.add(conn, letters)
    meter = replace(meter, progress=Progress(upto, watermark))
    await meters.fill(conn, meter)
    change = (await meters.changes(conn, [meter.key])).get(meter.key)
    if change is not None and change.id == meter.id and meter.progress.done:
        await _take_place(conn, meter, now_us)
    return meter


async def _take_place(conn: AsyncConnection, change: Meter, now_us: int) -> None:
    """From here on the key stands for what the change counted. What the old definition could not count is of no use."""
    old, changed_by = await meters.switch(conn, change)
    await outcomes.renew_rules(conn, change, await events.last_seq(conn))
    await dead_letters.leave_meter(conn, old, now_us, changed_by)
    await state.config_changed(conn)


async def _delete_some(conn: AsyncConnection, _: int) -> bool:
    meter_id = await meters.retired(conn)
    if meter_id is None:
        return False
    # A number below zero is that of an outcome rule.
    mentions = await outcomes.drop_mentions(conn, -meter_id, MAX_DELETED) if meter_id < 0 else 0
    if not mentions and not await rollups.drop_some(conn, meter_id, MAX_DELETED):
        await meters.forget(conn, meter_id)
    return True


async def _settle_some(conn: AsyncConnection, most: int) -> bool:
    """Let the first rule that is behind read the next events, by their numbers."""
    meter_key = await outcomes.unfilled(conn)
    if meter_key is None:
        return False
    known = await outcomes.rules(conn, await meters.get(conn, [meter_key]))
    rule = next(each for each in known if not each.progress.done)
    after, watermark = rule.progress.filled_seq, rule.progress.watermark_seq
    upto = min(after + most, watermark)
    found = [event for type_ in rule.types for _, event in await events.of_type(conn, type_, after, upto, most)]
    await settle(conn, outcome_readers([rule]), ((event, parse_data(event.data)) for event in found))
    await outcomes.fill_rule(conn, replace(rule, progress=Progress(upto, watermark)))
    return True
