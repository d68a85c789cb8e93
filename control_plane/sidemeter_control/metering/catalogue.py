"""The catalogue of meters."""

from collections.abc import Callable, Collection
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import SystemClock
from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.metering.filling import MAX_FILLED, fill
from sidemeter_control.metering.meters import Meter, Progress
from sidemeter_control.store import audit, budgets, dead_letters, events, meters, state
from sidemeter_control.store.database import Database

__all__ = ["archive_meter", "create_meter", "split_meter", "update_meter"]

_new_id = SystemClock().new_id


async def create_meter(
    database: Database,
    meter: Meter,
    *,
    by: str = audit.OPERATOR,
    new_id: Callable[[str], str] = _new_id,
    at_once: int = MAX_FILLED,
) -> Meter:
    """Write a new meter; from here on it counts with the others. Conflict when its key is taken.

    It is filled from the events stored so far: from `at_once` of them here, else in the background (`filling.fill_once`). Until
    then it answers what it has counted, and its `progress` says how much of them that is.
    """
    async with database.write() as conn:
        if await meters.get(conn, [meter.key]):
            raise Conflict(f"there is a meter {meter.key!r} already")
        meter = await meters.add(conn, await _unfilled(conn, meter))
        meter = await fill(conn, meter, meter.created_at_us, new_id, at_once)
        await state.config_changed(conn)
        await audit.add(conn, meter.created_at_us, by, "createMeter", f"meter {meter.key}", **_said(meter))
    return meter


async def update_meter(
    database: Database,
    meter: Meter,
    *,
    by: str = audit.OPERATOR,
    new_id: Callable[[str], str] = _new_id,
    at_once: int = MAX_FILLED,
) -> Meter:
    """Give the meter of that key another definition; answers the meter as it is then.

    Until the new definition is filled from the stored events the old one goes on counting and answering, as in
    `create_meter`; then the new one takes its place, at once. A change that is still being filled is given up for this one.
    A name or a unit alone changes at once. NotFound when there is no meter of that key, Conflict when it is archived or a
    budget could not go on with what it would count.
    """
    now_us = meter.created_at_us
    async with database.write() as conn:
        known = (await meters.get(conn, [meter.key])).get(meter.key)
        if known is None:
            raise NotFound("meter", meter.key)
        if known.archived_at_us is not None:
            raise Conflict(f"meter {meter.key!r} is archived")
        await _check_budgets(conn, known, meter)
        pending = (await meters.changes(conn, [meter.key])).get(meter.key)
        meter = meter.split_at((pending or known).breaks)
        if pending is not None and not pending.counts_like(meter):
            await meters.drop_change(conn, pending)
            await dead_letters.leave_meter(conn, pending.id, now_us, by)
            pending = None
        if pending is None and not known.counts_like(meter):
            change = await meters.put_change(conn, await _unfilled(conn, meter), by)
            await fill(conn, change, now_us, new_id, at_once)
        await meters.rename(conn, meter)
        await state.config_changed(conn)
        await audit.add(conn, now_us, by, "updateMeter", f"meter {meter.key}", **_said(meter), before=_said(known))
        return (await meters.get(conn, [meter.key]))[meter.key]


async def split_meter(
    conn: AsyncConnection, meter: Meter, breaks: Collection[int], now_us: int, *, by: str, new_id: Callable[[str], str]
) -> None:
    """Tell the values of a meter apart at `breaks`, in nano-units, from when that is filled on; as a change of the meter."""
    pending = (await meters.changes(conn, [meter.key])).get(meter.key)
    latest = pending or meter
    wanted = latest.split_at(breaks)
    if wanted.breaks == latest.breaks:
        return
    if pending is not None:
        await meters.drop_change(conn, pending)
        await dead_letters.leave_meter(conn, pending.id, now_us, by)
    change = await meters.put_change(conn, await _unfilled(conn, wanted), by)
    await fill(conn, change, now_us, new_id)


async def archive_meter(database: Database, key: str, now_us: int, *, by: str = audit.OPERATOR) -> Meter:
    """Offer a meter no more. It goes on counting: plans that price it still owe the right amount.

    NotFound when there is none of that key; archiving again changes nothing.
    """
    async with database.write() as conn:
        known = (await meters.get(conn, [key])).get(key)
        if known is None:
            raise NotFound("meter", key)
        if known.archived_at_us is not None:
            return known
        await meters.archive(conn, key, now_us)
        await state.config_changed(conn)
        await audit.add(conn, now_us, by, "archiveMeter", f"meter {key}")
        return replace(known, archived_at_us=now_us)


async def _check_budgets(conn: AsyncConnection, known: Meter, meter: Meter) -> None:
    for budget in await budgets.of_meter(conn, meter.key):
        misfit = budget.misfit(meter)
        if misfit is not None:
            raise Conflict(f"budget {budget.key!r} caps meter {meter.key!r} and {misfit}: remove it first")
    lost = {each.key for each in known.dimensions} - {each.key for each in meter.dimensions}
    for budget in await budgets.sliced_by(conn, lost):
        raise Conflict(
            f"budget {budget.key!r} caps what is priced of a slice by the dimension it would lose: remove it first"
        )


async def _unfilled(conn: AsyncConnection, meter: Meter) -> Meter:
    return replace(meter, progress=Progress(0, await events.last_seq(conn)))


def _said(meter: Meter) -> dict[str, object]:
    return {
        "eventType": meter.event_type,
        "aggregation": meter.aggregation.value,
        "valueProperty": meter.value_property,
        "percentile": meter.percentile,
        "groupBy": meter.dimensions,
        "filters": meter.filters,
        "unit": meter.unit,
    }
