"""Recoveries: what a database that found itself an older copy waits for, until everything granted is known again."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.recovery import Recovery
from sidemeter_control.store.tables import recoveries, recovery_awaited

__all__ = ["UnderWay", "began_in", "begin", "change", "current", "end"]


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A recovery that has not ended, by the generation that began with it."""

    generation: str
    began_at_us: int
    recovery: Recovery


async def current(conn: AsyncConnection) -> UnderWay | None:
    """The recovery that is under way."""
    row = (await conn.execute(select(recoveries).where(recoveries.c.ended_at_us.is_(None)))).one_or_none()
    if row is None:
        return None
    wanted = select(recovery_awaited.c.agent_id, recovery_awaited.c.hello_id)
    found = await conn.execute(wanted.where(recovery_awaited.c.generation == row.generation))
    awaited = frozenset((each.agent_id, each.hello_id) for each in found)
    return UnderWay(row.generation, row.began_at_us, Recovery(row.through, awaited, row.holders))


async def began_in(conn: AsyncConnection, generation: str) -> bool:
    """Whether a recovery has begun in that generation, also one that has ended."""
    found = await conn.execute(select(recoveries.c.generation).where(recoveries.c.generation == generation))
    return found.first() is not None


async def begin(conn: AsyncConnection, generation: str, recovery: Recovery, now_us: int) -> None:
    """Write that a recovery begins with that generation; one that was under way goes on in it."""
    await _close(conn, now_us)
    values = {"generation": generation, "through": recovery.through, "holders": recovery.holders}
    await conn.execute(insert(recoveries).values(values | {"began_at_us": now_us}))
    await _await(conn, generation, recovery)


async def change(conn: AsyncConnection, under_way: UnderWay, recovery: Recovery) -> None:
    """Write what has become of the recovery under way."""
    generation = under_way.generation
    await conn.execute(
        update(recoveries)
        .where(recoveries.c.generation == generation)
        .values(through=recovery.through, holders=recovery.holders)
    )
    if recovery.awaited != under_way.recovery.awaited:
        await conn.execute(delete(recovery_awaited).where(recovery_awaited.c.generation == generation))
        await _await(conn, generation, recovery)


async def end(conn: AsyncConnection, now_us: int) -> None:
    """Write that the recovery under way is over."""
    await _close(conn, now_us)


async def _close(conn: AsyncConnection, now_us: int) -> None:
    await conn.execute(delete(recovery_awaited))
    await conn.execute(update(recoveries).where(recoveries.c.ended_at_us.is_(None)).values(ended_at_us=now_us))


async def _await(conn: AsyncConnection, generation: str, recovery: Recovery) -> None:
    rows = [
        {"generation": generation, "agent_id": agent_id, "hello_id": hello_id}
        for agent_id, hello_id in sorted(recovery.awaited)
    ]
    if rows:
        await conn.execute(insert(recovery_awaited), rows)
