"""The catalogue of meters."""

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.metering.counting import readers
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.totals import add_to_totals
from sidemeter_control.store import events, meters, state
from sidemeter_control.store.database import Database

__all__ = ["archive_meter", "create_meter"]


async def create_meter(database: Database, meter: Meter) -> Meter:
    """Write a new meter, filled from every event stored so far; from here on it counts with the others.

    All in one transaction, so that no event is missed or counted twice between the two. Conflict when its key is taken.
    """
    async with database.write() as conn:
        if await meters.get(conn, [meter.key]):
            raise Conflict(f"there is a meter {meter.key!r} already")
        meter = await meters.add(conn, meter)
        counting = readers([meter])
        async for some in events.of_type(conn, meter.event_type):
            await add_to_totals(conn, counting, some, meter.created_at_us)
        await state.config_changed(conn)
    return meter


async def archive_meter(database: Database, key: str, now_us: int) -> Meter:
    """Offer a meter no more. It goes on counting: plans that price it still owe the right amount.

    NotFound when there is none of that key; archiving again changes nothing.
    """
    async with database.write() as conn:
        await meters.archive(conn, key, now_us)
        found = (await meters.get(conn, [key])).get(key)
        if found is None:
            raise NotFound("meter", key)
        await state.config_changed(conn)
    return found
