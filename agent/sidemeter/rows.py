"""The rows of the buffer: read with their checksums, taken out when they do not match, claimed by their callers' ids.

Each function is part of a transaction.
"""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Final

import aiosqlite
import msgspec

from sidemeter import kept
from sidemeter.batches import Row, checksum
from sidemeter.damaged import Damaged
from sidemeter.events import decode
from sidemeter.losses import NO_MATCH, Loss

__all__ = ["CallerId", "add", "check_refused", "claim", "holds", "read", "take_out"]

log = logging.getLogger(__name__)

CallerId = tuple[int, str, str]
"""The row number, source and id of an event whose id came from its caller."""

MOST_BAD_ROWS: Final = 8
"""So many rows of one read that do not match are taken out one by one; more, and the file itself is not to be trusted."""


async def add(conn: aiosqlite.Connection, rows: Sequence[Row]) -> None:
    """Put rows in, each with its checksum."""
    try:
        await conn.executemany(
            "INSERT INTO events VALUES (?, ?, ?)", [(seq, body, checksum(seq, body)) for seq, body in rows]
        )
    except sqlite3.IntegrityError as exc:  # no number is given twice
        raise Damaged(f"it has rows from {rows[0][0]} on that were never put in") from exc


async def claim(conn: aiosqlite.Connection, caller_ids: Sequence[CallerId]) -> set[int]:
    """Take ids for rows that are about to be put in; the numbers of those whose id another row has."""
    claimed = await conn.execute_fetchall(
        "INSERT INTO caller_ids (seq, source, id)"
        " SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true"
        " ON CONFLICT (source, id) DO NOTHING RETURNING seq",
        (msgspec.json.encode(caller_ids).decode(),),
    )
    new = {seq for (seq,) in claimed}
    if len(new) == len(caller_ids):
        return set()
    known = set()
    for seq, source, name in caller_ids:
        if seq not in new:
            if await _holder(conn, source, name, new) is not None:
                known.add(seq)
            else:  # what has the id is no row with it: without a first copy there is no duplicate
                await conn.execute("DELETE FROM caller_ids WHERE source = ? AND id = ?", (source, name))
                await conn.execute("INSERT INTO caller_ids VALUES (?, ?, ?)", (seq, source, name))
                new.add(seq)
    return known


async def holds(conn: aiosqlite.Connection, source: str, event_id: str) -> bool:
    """Whether an event with this id of a caller is here."""
    return await _holder(conn, source, event_id, set()) is not None


async def _holder(conn: aiosqlite.Connection, source: str, event_id: str, claimed: set[int]) -> int | None:
    """The row that has an id: one of `claimed`, or one whose event, as its bytes show, is called so."""
    sql = (
        "SELECT seq, CAST(coalesce(events.body, refused.body, '') AS BLOB), coalesce(events.crc, refused.crc)"
        " FROM caller_ids LEFT JOIN events USING (seq) LEFT JOIN refused USING (seq) WHERE source = ? AND id = ?"
    )
    for seq, body, crc in await conn.execute_fetchall(sql, (source, event_id)):
        if seq in claimed:
            return int(seq)
        if checksum(seq, body) == crc:
            event = decode(body)
            if (event.source, event.id) == (source, event_id):
                return int(seq)
    return None


async def read(
    conn: aiosqlite.Connection, after_seq: int, before_seq: int, count: int, settled_seq: int
) -> tuple[list[Row], list[int]]:
    """Up to `count` rows between two row numbers that match their checksums, and the numbers of those that do not.

    Settled rows that do not match are passed over: what has to be sent of them was. Raises Damaged for too many.
    """
    sql = "SELECT seq, CAST(body AS BLOB), crc FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?"
    while True:
        found = list(await conn.execute_fetchall(sql, (after_seq, before_seq, count)))
        good = [(seq, body) for seq, body, crc in found if body is not None and checksum(seq, body) == crc]
        if len(good) == len(found):
            return good, []
        whole = {seq for seq, _ in good}
        bad = [seq for seq, _, _ in found if seq not in whole]
        if len(bad) > MOST_BAD_ROWS:
            raise Damaged(f"{len(bad)} of its rows from {bad[0]} on do not match their checksums")
        lost = [seq for seq in bad if seq > settled_seq]
        if good or lost:
            return good, lost
        after_seq = bad[-1]


async def check_refused(conn: aiosqlite.Connection, now_us: int) -> list[Loss]:
    """Declare those of the events kept apart that do not match any more: their bytes are all that there is of them."""
    sql = "SELECT seq, CAST(body AS BLOB), crc FROM refused WHERE reason <> ?"
    found = await conn.execute_fetchall(sql, (NO_MATCH,))
    bad = [seq for seq, body, crc in found if body is None or checksum(seq, body) != crc]
    await conn.executemany("UPDATE refused SET reason = ? WHERE seq = ?", [(NO_MATCH, seq) for seq in bad])
    file_id = (await kept.meta(conn)).get("file_id")
    return await kept.add_losses(conn, [Loss(f"{file_id}-{seq}", seq, seq, 1, NO_MATCH, now_us) for seq in bad])


async def take_out(conn: aiosqlite.Connection, bad: Sequence[int], now_us: int) -> list[Loss]:
    """Keep rows that do not match apart, with their bytes, and declare each; their batches are dissolved."""
    file_id = (await kept.meta(conn)).get("file_id")
    losses = []
    for seq in bad:
        log.error("row %d of the buffer does not match its checksum: it is kept apart, and declared lost", seq)
        await conn.execute(
            "INSERT OR REPLACE INTO refused SELECT seq, CAST(coalesce(body, '') AS BLOB), ?,"
            " CAST(coalesce(crc, 0) AS INTEGER) FROM events WHERE seq = ?",
            (NO_MATCH, seq),
        )
        await conn.execute("DELETE FROM events WHERE seq = ?", (seq,))
        await conn.execute("DELETE FROM caller_ids WHERE seq = ?", (seq,))
        await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND settled_at_s IS NULL", (seq,))
        losses.append(Loss(f"{file_id}-{seq}", seq, seq, 1, NO_MATCH, now_us))
    return await kept.add_losses(conn, losses)
