"""What the buffer keeps beside the rows: who the agent is, losses, limits. Each function is part of a transaction."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiosqlite
import msgspec

from sidemeter.batches import checksum
from sidemeter.limits import Limit, Subjects
from sidemeter.losses import Loss
from sidemeter.schema import sum_of

__all__ = ["Identity", "LossCounts", "Standing", "StoredLimit"]

log = logging.getLogger(__name__)

MAX_TOLD: Final = 1000
"""Losses that the control plane has stored, kept for one that is restored. More than one in an agent's life is rare."""

StoredLimit = tuple[Limit, int, int]
"""A limit, when it was learned (`as_of_us`), and the last row that its total holds."""


class Identity(NamedTuple):
    """Who this agent is to the control plane: no epoch before the first answer to the hello with `hello_id`.

    `last_epoch` is this epoch, or else the last one that this buffer's batches were numbered in. `generation` is the
    copy of the control plane's database that was heard of last, `nonce` what the next sync brings, `steps` how
    far this database had come (`sidemeter.holder.Standing`).
    """

    agent_id: str
    hello_id: str
    epoch: int | None
    last_epoch: int | None
    generation: str | None
    nonce: bytes | None
    steps: int = 0


class LossCounts(NamedTuple):
    """How many losses are kept, and how many of them the control plane is to be told."""

    kept: int = 0
    open: int = 0


class Standing(NamedTuple):
    """What a sync in `epoch` was answered, to be kept with the limits that it brought."""

    epoch: int
    generation: str
    nonce: bytes | None
    hello_id: str


async def put(conn: aiosqlite.Connection, **values: Any) -> None:
    """Keep values by name; None is passed over."""
    rows = [(key, value, sum_of(key, value)) for key, value in values.items() if value is not None]
    await conn.executemany("REPLACE INTO meta VALUES (?, ?, ?)", rows)


async def meta(conn: aiosqlite.Connection) -> dict[str, Any]:
    """The values kept by name, those that prove themselves."""
    rows = await conn.execute_fetchall("SELECT key, value, crc FROM meta")
    found = {}
    for key, value, crc in rows:
        if sum_of(key, value) == crc:
            found[key] = value
        else:
            log.error("what the buffer keeps as %r is damaged, and is taken for missing", key)
    return found


async def identity(conn: aiosqlite.Connection) -> Identity | None:
    """Who this agent is; None while it is nobody yet."""
    known = await meta(conn)
    if not known.keys() >= {"agent_id", "hello_id"}:
        return None
    return Identity(
        known["agent_id"],
        known["hello_id"],
        known.get("epoch"),
        known.get("last_epoch", known.get("epoch")),
        known.get("generation"),
        known.get("nonce"),
        known.get("steps", 0),
    )


async def keep_standing(conn: aiosqlite.Connection, standing: Standing) -> bool:
    """Keep what a sync was answered, if the epoch is still that one; whether it is."""
    known = await meta(conn)
    if (known.get("epoch"), known.get("hello_id")) != (standing.epoch, standing.hello_id):
        return False
    await put(conn, generation=standing.generation, counted_in=standing.generation, nonce=standing.nonce)
    return True


async def add_losses(conn: aiosqlite.Connection, losses: Iterable[Loss]) -> list[Loss]:
    """Keep losses, open unless the control plane has the events; those that were not there yet and are open."""
    new = []
    for loss in losses:
        body = msgspec.msgpack.encode(loss)
        row = (loss.id, body, checksum(0, body))
        if (await conn.execute("INSERT OR IGNORE INTO losses VALUES (?, ?, ?)", row)).rowcount == 1:
            new.append(loss)
    counted_in = (await meta(conn)).get("counted_in", "")
    await _put_to_rest(conn, [loss.id for loss in new if loss.counted_in == counted_in])
    return [loss for loss in new if loss.counted_in != counted_in]


async def open_losses(conn: aiosqlite.Connection) -> list[Loss]:
    """The losses that the control plane is to be told, and that prove themselves, oldest first."""
    sql = "SELECT CAST(body AS BLOB), crc FROM losses WHERE id NOT IN (SELECT id FROM told) ORDER BY rowid"
    return _whole(await conn.execute_fetchall(sql))


async def count_losses(conn: aiosqlite.Connection) -> LossCounts:
    """How many losses are kept, and how many of them are open."""
    sql = "SELECT count(*), count(*) - (SELECT count(*) FROM told) FROM losses"
    ((kept, still_open),) = await conn.execute_fetchall(sql)
    return LossCounts(kept, still_open)


async def put_to_rest(conn: aiosqlite.Connection, ids: Sequence[str]) -> LossCounts:
    """The control plane was told these: they stay for one that is restored, the newest `MAX_TOLD`. What is left."""
    await _put_to_rest(conn, ids)
    return await count_losses(conn)


async def open_again(conn: aiosqlite.Connection, *, counted: bool) -> list[Loss]:
    """The control plane may not know any more what it was told; with `counted`, nor have what it counted. What is open now."""
    sql = "SELECT CAST(body AS BLOB), crc FROM losses WHERE id IN (SELECT id FROM told) ORDER BY rowid"
    opened = [loss for loss in _whole(await conn.execute_fetchall(sql)) if counted or loss.counted_in is None]
    await conn.executemany("DELETE FROM told WHERE id = ?", [(loss.id,) for loss in opened])
    return opened


async def _put_to_rest(conn: aiosqlite.Connection, ids: Iterable[str]) -> None:
    sql = "INSERT OR IGNORE INTO told SELECT id FROM losses WHERE id = ?"
    await conn.executemany(sql, [(each,) for each in ids])
    sql = "DELETE FROM losses WHERE id IN (SELECT id FROM losses JOIN told USING (id) ORDER BY losses.rowid DESC LIMIT -1 OFFSET ?)"
    await conn.execute(sql, (MAX_TOLD,))
    await conn.execute("DELETE FROM told WHERE id NOT IN (SELECT id FROM losses)")


def _whole(rows: Iterable[Any]) -> list[Loss]:
    return [msgspec.msgpack.decode(body, type=Loss) for body, crc in rows if checksum(0, body) == crc]


async def keep_limits(conn: aiosqlite.Connection, subjects: Subjects, limits: Iterable[StoredLimit]) -> None:
    """Keep what was learned."""
    encode = msgspec.msgpack.encode
    asked = [(subject, encode(ids)) for subject, ids in subjects.items()]
    learned = [(limit.id, encode(limit), as_of_us, seq) for limit, as_of_us, seq in limits]
    await conn.executemany("REPLACE INTO subjects VALUES (?, ?, ?)", [(*row, sum_of(*row)) for row in asked])
    await conn.executemany("REPLACE INTO limits VALUES (?, ?, ?, ?, ?)", [(*row, sum_of(*row)) for row in learned])


async def kept_limits(conn: aiosqlite.Connection) -> tuple[Mapping[str, tuple[str, ...]], list[StoredLimit]]:
    """Everything that `keep_limits` kept; without subjects of which something does not prove itself."""
    ids = msgspec.msgpack.Decoder(tuple[str, ...]).decode
    limit = msgspec.msgpack.Decoder(Limit).decode
    kept = _proven(await conn.execute_fetchall("SELECT id, body, as_of_us, counted_seq, crc FROM limits"))
    limits = [(limit(body), as_of_us, seq) for _, body, as_of_us, seq in kept]
    known = {each.id for each, _, _ in limits}
    asked = _proven(await conn.execute_fetchall("SELECT subject, limit_ids, crc FROM subjects"))
    subjects = {subject: ids(encoded) for subject, encoded in asked}
    return {subject: each for subject, each in subjects.items() if known.issuperset(each)}, limits


def _proven(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row) for *row, crc in rows if sum_of(*row) == crc]
