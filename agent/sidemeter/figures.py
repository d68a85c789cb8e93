"""What a buffer's database holds, in figures, and whether that is what it must hold. Reads only."""

from typing import Any, Final, NamedTuple

import aiosqlite
import msgspec

from sidemeter import kept
from sidemeter.batches import Batch, Counted, checksum
from sidemeter.damaged import Damaged
from sidemeter.events import decode
from sidemeter.kept import LossCounts
from sidemeter.losses import NO_MATCH
from sidemeter.mark import Facts
from sidemeter.schema import is_as_made, sum_of

__all__ = ["Figures", "add_batch", "audit", "batch_where", "figures"]

CHECKED_BYTES: Final = 64 << 20
"""A database up to this size is read through by SQLite's own check when it is opened: some 0.1 s. A larger one is
taken at its word until a figure, a checksum or SQLite says otherwise."""

BATCH: Final = "epoch, batch_no, first_seq, last_seq, events, size, prev_digest, digest"


class Figures(NamedTuple):
    """`Ledger` tells what each means; `settled_seq` is the last row of a settled batch, `last_seq` of any.

    `kept_events` rows are settled and not deleted yet, the oldest of them is `kept_from_seq`, and `counted` the last batch
    of them. `refused_events` are kept apart, `proven_refused` of them match their checksum; of `losses`, some
    are to be declared.
    """

    last_seq: int
    sealed_seq: int
    settled_seq: int
    waiting_events: int
    waiting_bytes: int
    unsent_events: int
    unsent_bytes: int
    settled_bytes: int
    kept_events: int
    kept_from_seq: int
    refused_events: int
    proven_refused: int
    losses: LossCounts
    oldest_us: int | None
    counted: Counted | None = None


async def figures(conn: aiosqlite.Connection) -> Figures:
    """The figures of the database, counted."""
    (
        (sealed_seq, settled_seq, sealed_events, sealed_bytes, settled_bytes, kept_events, kept_from),
    ) = await conn.execute_fetchall(
        "SELECT coalesce(max(last_seq), 0),"
        " coalesce(min(first_seq) FILTER (WHERE settled_at_s IS NULL) - 1, max(last_seq), 0),"
        " coalesce(sum(events) FILTER (WHERE settled_at_s IS NULL), 0),"
        " coalesce(sum(size) FILTER (WHERE settled_at_s IS NULL), 0),"
        " coalesce(sum(size) FILTER (WHERE settled_at_s IS NOT NULL), 0),"
        " coalesce(sum(events) FILTER (WHERE settled_at_s IS NOT NULL), 0), coalesce(min(first_seq), 0) FROM batches"
    )
    ((waiting_events, waiting_bytes),) = await conn.execute_fetchall(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM events WHERE seq > ?", (sealed_seq,)
    )
    ((last_seq, refused_events, proven_refused),) = await conn.execute_fetchall(
        "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM refused), 0),"
        " coalesce((SELECT max(counted_seq) FROM limits), 0)),"
        " (SELECT count(*) FROM refused), (SELECT count(*) FROM refused WHERE reason <> ?)",
        (NO_MATCH,),
    )
    return Figures(
        last_seq=max(last_seq, sealed_seq),
        sealed_seq=sealed_seq,
        settled_seq=settled_seq,
        waiting_events=waiting_events,
        waiting_bytes=waiting_bytes,
        unsent_events=waiting_events + sealed_events,
        unsent_bytes=waiting_bytes + sealed_bytes,
        settled_bytes=settled_bytes,
        kept_events=kept_events,
        kept_from_seq=kept_from,
        refused_events=refused_events,
        proven_refused=proven_refused,
        losses=await kept.count_losses(conn),
        oldest_us=await oldest_us(conn, settled_seq),
    )


async def oldest_us(conn: aiosqlite.Connection, settled_seq: int) -> int | None:
    """When the first event after row `settled_seq` happened; None when there is none, or it does not prove itself."""
    sql = "SELECT seq, CAST(body AS BLOB), crc FROM events WHERE seq > ? ORDER BY seq LIMIT 1"
    for seq, body, crc in await conn.execute_fetchall(sql, (settled_seq,)):
        return decode(body).time_us if checksum(seq, body) == crc else None
    return None


async def batch_where(conn: aiosqlite.Connection, which: str, *given: object) -> Batch | None:
    """The first batch of `which`. Raises Damaged when it does not prove itself."""
    for *row, crc in await conn.execute_fetchall(f"SELECT {BATCH}, crc FROM batches {which}", given):  # noqa: S608 -- constants
        return _proven(row, crc)
    return None


async def add_batch(conn: aiosqlite.Connection, batch: Batch) -> None:
    """Put a sealed batch in."""
    values = msgspec.structs.astuple(batch)
    sql = f"INSERT INTO batches ({BATCH}, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 -- a constant
    await conn.execute(sql, (*values, sum_of(*values)))


async def audit(conn: aiosqlite.Connection, found: Figures, facts: Facts | None) -> None:
    """Raise Damaged unless the database is as it was made, and holds what it says and what the mark says, or more."""
    if not await is_as_made(conn):
        raise Damaged("its tables are not those of a buffer")
    ((pages,),) = await conn.execute_fetchall("PRAGMA page_count")
    if pages * 4096 <= CHECKED_BYTES:
        ((verdict,),) = await conn.execute_fetchall("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise Damaged(f"SQLite finds: {verdict}")
    for *row, crc in await conn.execute_fetchall(f"SELECT {BATCH}, crc FROM batches"):  # noqa: S608 -- a constant
        _proven(row, crc)
    said = await kept.meta(conn)
    settled, file_id = said.get("settled_rows"), said.get("file_id")
    if settled is None or file_id is None:
        raise Damaged("it does not say which file it is, or how many of its rows are settled")
    sql = "SELECT count(*) FROM events WHERE seq > ? AND seq <= ?"
    ((sealed,),) = await conn.execute_fetchall(sql, (found.settled_seq, found.sealed_seq))
    there = sealed + found.waiting_events
    if there != found.unsent_events:
        raise Damaged(f"its batches have {found.unsent_events} rows to send, and {there} are there")
    if facts is None:
        return
    if file_id != facts.file_id:
        raise Damaged("it is not the file that was here before", same_file=False)
    for gone, what in (
        (facts.committed - settled - there, "rows"),
        (facts.refused - found.proven_refused, "events kept apart"),
        (facts.losses - found.losses.kept, "declarations of losses"),
        (facts.open_losses - found.losses.open, "losses that were not declared yet"),
    ):
        if gone > 0:
            raise Damaged(f"{gone} {what} are gone from it")


def _proven(row: list[Any], crc: int) -> Batch:
    if sum_of(*row) != crc:
        raise Damaged("a batch does not match its checksum")
    return Batch(*row)
