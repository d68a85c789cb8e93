"""What of the buffer is known to be counted, under which name and in which copy of the control plane's database.

Each function is part of a transaction.
"""

from typing import Final

import aiosqlite
import msgspec

from sidemeter import kept
from sidemeter.batches import Batch, Counted
from sidemeter.figures import batch_where

__all__ = ["begin_epoch", "forget", "go_on_from", "is_another", "is_in", "newest", "rename"]

_BEFORE: Final = "counted_before"


async def newest(conn: aiosqlite.Connection) -> Counted | None:
    """The last batch that is known to be counted; None when there is none."""
    batch, meta = await _last_settled(conn), await kept.meta(conn)
    if batch is None and _BEFORE in meta:
        return msgspec.msgpack.decode(meta[_BEFORE], type=Counted)
    name = "former_agent_id" if batch is not None and batch.epoch <= meta.get("former_epoch", 0) else "agent_id"
    if batch is None or not meta.keys() >= {name, "counted_in"}:
        return None
    return Counted(meta[name], batch.epoch, batch.batch_no, batch.digest, meta["counted_in"])


async def go_on_from(conn: aiosqlite.Connection, counted: Counted | None) -> None:
    """A database that is begun anew: `counted` is what the one before it knew."""
    if counted is not None:
        await kept.put(conn, counted_in=counted.generation, **{_BEFORE: msgspec.msgpack.encode(counted)})


async def forget(conn: aiosqlite.Connection) -> None:
    """Nothing is known to be counted any more."""
    await conn.execute("DELETE FROM meta WHERE key = ?", (_BEFORE,))


async def is_in(conn: aiosqlite.Connection, generation: str) -> bool:
    """Whether that copy of the control plane's database has all that is settled here, given that it has this epoch's.

    Not so when batches of other epochs were counted in another copy, which may have been newer.
    """
    meta = await kept.meta(conn)
    if meta.get("counted_in", generation) == generation:
        return True
    sql = "SELECT 1 FROM batches WHERE settled_at_s IS NOT NULL AND epoch IS NOT ? LIMIT 1"
    return not await conn.execute_fetchall(sql, (meta.get("epoch"),))


async def is_another(conn: aiosqlite.Connection, generation: str) -> bool:
    """Whether that copy of the control plane's database is another than the one that was heard of last."""
    return bool((await kept.meta(conn)).get("counted_in", generation) != generation)


async def begin_epoch(conn: aiosqlite.Connection, epoch: int, generation: str) -> bool:
    """Number batches in this epoch from here on; whether it is another one than before.

    What stands numbered in it or a later one was so by another database: it is sent again.
    """
    meta = await kept.meta(conn)
    await kept.put(conn, epoch=epoch, last_epoch=epoch, generation=generation, counted_in=generation)
    if meta.get("epoch") == epoch:
        return False
    from_epoch = epoch if epoch > meta.get("former_epoch", 0) else 0
    await conn.execute("DELETE FROM batches WHERE epoch >= ?", (from_epoch,))
    return True


async def rename(conn: aiosqlite.Connection, agent_id: str) -> None:
    """Become another agent, and remember whose the settled batches are: epochs of the new name are higher."""
    batch, meta = await _last_settled(conn), await kept.meta(conn)
    if batch is not None and batch.epoch > meta.get("former_epoch", 0):
        await kept.put(conn, former_agent_id=meta.get("agent_id"), former_epoch=batch.epoch)
    await kept.put(conn, agent_id=agent_id)


async def _last_settled(conn: aiosqlite.Connection) -> Batch | None:
    return await batch_where(conn, "WHERE settled_at_s IS NOT NULL ORDER BY last_seq DESC LIMIT 1")
