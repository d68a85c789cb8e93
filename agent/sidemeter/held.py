"""What the buffer keeps of leases: their names, for the cell knows only digests, and reservations. Each function is part
of a transaction."""

from collections.abc import Iterable
from typing import NamedTuple

import aiosqlite
import msgspec

from sidemeter.leases import Key
from sidemeter.schema import sum_of

__all__ = ["KeptHold", "Named", "add_hold", "end_holds", "holds", "name", "names", "unname"]

Named = tuple[Key, str]
"""A lease, and the hello of the holder that had it last: this agent's present one, or one of before."""


class KeptHold(NamedTuple):
    """A reservation: what it holds of which lease, its deadline in milliseconds, and its event as it was reserved for."""

    id: str
    parts: tuple[tuple[Key, int], ...]
    deadline_ms: int
    event: bytes


async def name(conn: aiosqlite.Connection, holder: str, keys: Iterable[Key]) -> None:
    """Keep the names of leases that a holder has. What others had of earlier periods is forgotten."""
    rows = [(*key, holder) for key in keys]
    await conn.executemany("REPLACE INTO leases VALUES (?, ?, ?, ?)", [(*row, sum_of(*row)) for row in rows])
    await conn.executemany("DELETE FROM leases WHERE limit_id = ? AND period < ? AND holder <> ?", rows)


async def unname(conn: aiosqlite.Connection, keys: Iterable[Key]) -> None:
    """Forget leases of periods that are over."""
    await conn.executemany("DELETE FROM leases WHERE limit_id = ? AND period = ?", list(keys))


async def names(conn: aiosqlite.Connection) -> list[Named] | None:
    """Every lease that is kept; None when a name does not prove itself, so that it is not known whose counts there are."""
    found: list[Named] = []
    for limit, period, holder, crc in await conn.execute_fetchall("SELECT limit_id, period, holder, crc FROM leases"):
        if sum_of(limit, period, holder) != crc:
            return None
        found.append(((limit, period), holder))
    return found


async def add_hold(conn: aiosqlite.Connection, hold: KeptHold) -> None:
    """Keep a reservation until its end; one with the same id is the same, with another deadline."""
    body = msgspec.msgpack.encode((hold.parts, hold.deadline_ms, hold.event))
    await conn.execute("REPLACE INTO holds VALUES (?, ?, ?)", (hold.id, body, sum_of(hold.id, body)))


async def end_holds(conn: aiosqlite.Connection, hold_ids: Iterable[str]) -> None:
    """These reservations have their end."""
    await conn.executemany("DELETE FROM holds WHERE id = ?", [(each,) for each in hold_ids])


async def holds(conn: aiosqlite.Connection) -> list[KeptHold]:
    """The reservations that are kept and prove themselves; what another held is charged."""
    decode = msgspec.msgpack.Decoder(tuple[tuple[tuple[Key, int], ...], int, bytes]).decode
    rows = await conn.execute_fetchall("SELECT id, body, crc FROM holds")
    return [KeptHold(hold_id, *decode(body)) for hold_id, body, crc in rows if sum_of(hold_id, body) == crc]
