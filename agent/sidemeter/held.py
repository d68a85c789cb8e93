"""What the buffer keeps of leases: their names, for the cell knows only digests, and reservations. Each function is part
of a transaction."""

from collections.abc import Iterable, Sequence

import aiosqlite
import msgspec

from sidemeter.leases import Kept, Key
from sidemeter.schema import sum_of

__all__ = ["Named", "add_hold", "end_hold", "holds", "name", "names", "unname"]

Named = tuple[Key, str]
"""A lease, and the hello of the holder that had it last: this agent's present one, or one of before."""


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


async def add_hold(conn: aiosqlite.Connection, hold: Kept) -> None:
    """Keep a reservation until its end; one with the same id is the same, with a later deadline."""
    hold_id, parts, deadline_ms = hold
    body = msgspec.msgpack.encode((parts, deadline_ms))
    await conn.execute("REPLACE INTO holds VALUES (?, ?, ?)", (hold_id, body, sum_of(hold_id, body)))


async def end_hold(conn: aiosqlite.Connection, hold_id: str) -> None:
    """A reservation has its end."""
    await conn.execute("DELETE FROM holds WHERE id = ?", (hold_id,))


async def holds(conn: aiosqlite.Connection) -> Sequence[Kept]:
    """The reservations that are kept and prove themselves; what another held is charged."""
    decode = msgspec.msgpack.Decoder(tuple[tuple[tuple[Key, int], ...], int]).decode
    rows = await conn.execute_fetchall("SELECT id, body, crc FROM holds")
    return [(hold_id, *decode(body)) for hold_id, body, crc in rows if sum_of(hold_id, body) == crc]
