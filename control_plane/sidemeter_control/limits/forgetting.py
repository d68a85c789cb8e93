"""Forgetting: leases of periods that are long over, which nobody has anything left of, and what became of old webhooks."""

from sidemeter_control.clock import Clock
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.store import leases, webhooks
from sidemeter_control.store.database import Database

__all__ = ["MAX_DELIVERIES", "MAX_FORGOTTEN", "forget_deliveries_once", "forget_once"]

MAX_FORGOTTEN = 500
"""Pools in one transaction: with what twenty holders have of each, it keeps ingest waiting for some 20 ms."""

MAX_DELIVERIES = 100_000
"""The newest are kept to be looked at and sent again; some 100 MB. Those that are still to be sent always are."""

_DELIVERIES_AT_ONCE = 1_000


async def forget_once(database: Database, clock: Clock) -> bool:
    """Delete pools whose period ended more than a day ago; answers whether there may be more.

    A current holder that has something left is waited for: it is to be told that the period is over.
    """
    before_us = clock.now_us() - DAY_US
    async with database.read() as conn:
        if not await leases.over(conn, before_us, 1):
            return False
    async with database.write() as conn:
        over = await leases.over(conn, before_us, MAX_FORGOTTEN)
        await leases.drop(conn, over)
    return len(over) == MAX_FORGOTTEN


async def forget_deliveries_once(database: Database, *, keep: int = MAX_DELIVERIES) -> bool:
    """Delete deliveries that have ended, but for the newest; answers whether there may be more."""
    async with database.write() as conn:
        return await webhooks.forget(conn, keep, _DELIVERIES_AT_ONCE) == _DELIVERIES_AT_ONCE
