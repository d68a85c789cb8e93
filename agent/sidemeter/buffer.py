"""The buffer: what holds every event until it is counted. The agent's only SQL; every method is one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import aiosqlite
import msgspec

from sidemeter.batches import Batch, Row
from sidemeter.clock import Clock
from sidemeter.database import PAGE_BYTES, Connect, Database
from sidemeter.errors import StorageRefused
from sidemeter.events import decode
from sidemeter.limits import Limit, Subjects
from sidemeter.losses import Loss
from sidemeter.volume import Volume

__all__ = ["Buffer", "CallerId", "Identity", "Standing", "StoredLimit"]

CallerId = tuple[int, str, str]
"""The row number, source and id of an event whose id came from its caller."""

StoredLimit = tuple[Limit, int, int]
"""A limit, when it was learned (`as_of_us`), and the last row that its total holds."""

HELD_S: Final = 600.0
HELD_BYTES: Final = 64 << 20
"""How far beyond the keep rule rows stay that a known total does not hold yet, since a restart counts them anew. A limit
that was taken away never holds them, hence the bounds."""

_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE caller_ids (seq INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (source, id)) STRICT;
CREATE TABLE batches (
    last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, epoch INTEGER NOT NULL, batch_no INTEGER NOT NULL,
    events INTEGER NOT NULL, size INTEGER NOT NULL, prev_digest BLOB NOT NULL, digest BLOB NOT NULL, settled_at_s REAL,
    UNIQUE (epoch, batch_no)) STRICT;
CREATE INDEX unsettled ON batches (last_seq) WHERE settled_at_s IS NULL;
CREATE TABLE refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE limits (
    id TEXT PRIMARY KEY, body BLOB NOT NULL, as_of_us INTEGER NOT NULL, counted_seq INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX counted ON limits (counted_seq);
CREATE TABLE subjects (subject TEXT PRIMARY KEY, limit_ids BLOB NOT NULL) WITHOUT ROWID, STRICT;
"""
_LOSSES: Final = "CREATE TABLE losses (id TEXT NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;"
_BATCH: Final = "epoch, batch_no, first_seq, last_seq, events, size, prev_digest, digest"


class Identity(NamedTuple):
    """Who this agent is to the control plane: no epoch before the first answer to the hello with `hello_id`.

    `last_epoch` is this epoch, or else the last one that this buffer's batches were numbered in. `generation` is the
    copy of the control plane's database that was heard of last, `nonce` what the next sync brings.
    """

    agent_id: str
    hello_id: str
    epoch: int | None
    last_epoch: int | None
    generation: str | None
    nonce: bytes | None


class Standing(NamedTuple):
    """What a sync in `epoch` was answered, to be kept with the limits that it brought."""

    epoch: int
    generation: str
    nonce: bytes | None


class Buffer:
    """The open buffer of one data directory, locked against every other agent.

    `sealed_seq` is the last row that belongs to a batch; the rows after it, `waiting_events` of `waiting_bytes`, wait
    for one. `unsent_events` of `unsent_bytes` are these and those of every batch not settled; the oldest of them
    happened at `oldest_us`. `lost_events` were declared lost since the start, as far as the number is known;
    `open_losses` declarations have not reached the control plane.
    """

    def __init__(self, volume: Volume, clock: Clock, connect: Connect) -> None:
        self._volume = volume
        self._database = Database(volume, clock, connect, self._opened)
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self._lifetime_s = 0.0
        self.next_seq = 1
        self.sealed_seq = 0
        self.waiting_events = 0
        self.waiting_bytes = 0
        self.unsent_events = 0
        self.unsent_bytes = 0
        self.settled_bytes = 0
        self.refused_events = 0
        self.lost_events = 0
        self.open_losses = 0
        self.oldest_us: int | None = None

    @classmethod
    async def open(
        cls, directory: Path, clock: Clock, connect: Connect = aiosqlite.connect, volume: Volume | None = None
    ) -> Self:
        """Open the buffer of `directory`, made if it is missing.

        Raises DirectoryInUse while another agent has it open, StorageRefused when the disk does not take it.
        """
        self = cls(volume or Volume(directory), clock, connect)
        await self._database.open()
        try:
            await self._database.transact(self._load)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Wait for the transaction under way, then close the file and release the directory."""
        await self._database.close()

    @property
    def size_bytes(self) -> int:
        """What the buffer takes on disk."""
        return self._database.size_bytes

    @property
    def disk_refusing(self) -> bool:
        """Whether the disk is too full to record what does not fit into the file as it is."""
        return self._database.refusing is not None

    @property
    def ballast_bytes(self) -> int:
        """What is set aside of the disk for everything but recording."""
        return self._volume.ballast_bytes if self._volume.has_ballast else 0

    async def tend(self) -> None:
        """What has to be looked at now and then: whether a full disk has room again."""
        await self._database.tend()

    @property
    def lifetime_s(self) -> float:
        """How long this buffer's agents have run, all together: the age of rows, by no wall clock."""
        return self._lifetime_s + self._clock.monotonic_s() - self._started_s

    # Recording

    async def append(self, rows: Sequence[Row], caller_ids: Sequence[CallerId]) -> set[int]:
        """Make rows durable, all or none; returns the numbers of those left out, whose caller's id is there already.

        Raises StorageRefused when the disk takes none of them. A commit that fails is neither: the file is opened anew,
        and what is found in it is the answer.
        """
        size = sum(len(body) for _, body in rows) + sum(len(source) + len(name) for _, source, name in caller_ids)

        async def work(conn: aiosqlite.Connection) -> set[int]:
            await self._admit(conn, size)
            known = await self._claim(conn, caller_ids) if caller_ids else set()
            fresh = [row for row in rows if row[0] not in known] if known else rows
            await conn.executemany("INSERT INTO events VALUES (?, ?)", fresh)
            return known

        async def found(conn: aiosqlite.Connection) -> set[int] | None:
            first, last = rows[0][0], rows[-1][0]
            stored = await conn.execute_fetchall("SELECT seq FROM events WHERE seq BETWEEN ? AND ?", (first, last))
            return {seq for seq, _ in rows} - {seq for (seq,) in stored} if stored else None

        def then(known: set[int]) -> None:
            if self.oldest_us is None:
                self.oldest_us = next((decode(body).time_us for seq, body in rows if seq not in known), None)
            sizes = [len(body) for seq, body in rows if seq not in known]
            self._add(len(sizes), sum(sizes), waiting=1, unsent=1)

        return await self._database.transact(work, then, found, recording=True)

    async def _admit(self, conn: aiosqlite.Connection, size: int) -> None:
        """Refuse rows that a full disk has no room for, and those that would fill it so far that nothing else works.

        The file never shrinks: what went out of it left room in it. A transaction takes its room twice, in the log and
        in the file, so one that the ballast could not carry over must find that room.
        """
        directory, most = self._volume.directory, self._volume.ballast_bytes // 8
        if self._database.refusing is not None:
            ((free_pages,),) = await conn.execute_fetchall("PRAGMA freelist_count")
            if size > most or free_pages * PAGE_BYTES < 2 * size + 16 * PAGE_BYTES:
                raise StorageRefused(f"the disk of {directory} is full: {self._database.refusing}")
        elif size > most and self._volume.free_bytes() < 3 * size:
            raise StorageRefused(f"the disk of {directory} is too full for {size >> 20} MiB at once")

    @staticmethod
    async def _claim(conn: aiosqlite.Connection, caller_ids: Sequence[CallerId]) -> set[int]:
        claimed = await conn.execute_fetchall(
            "INSERT INTO caller_ids (seq, source, id)"
            " SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true"
            " ON CONFLICT (source, id) DO NOTHING RETURNING seq",
            (msgspec.json.encode(caller_ids).decode(),),
        )
        return {seq for seq, _, _ in caller_ids}.difference(seq for (seq,) in claimed)

    async def holds(self, source: str, event_id: str) -> bool:
        """Whether an event with this id of a caller is durable here."""

        async def work(conn: aiosqlite.Connection) -> bool:
            sql = "SELECT 1 FROM caller_ids WHERE source = ? AND id = ?"
            return bool(await conn.execute_fetchall(sql, (source, event_id)))

        return await self._database.transact(work)

    async def rows(self, after_seq: int, before_seq: int, count: int) -> list[Row]:
        """Up to `count` rows between two row numbers, both excluded, oldest first."""

        async def work(conn: aiosqlite.Connection) -> list[Row]:
            sql = "SELECT seq, body FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?"
            return [(seq, body) for seq, body in await conn.execute_fetchall(sql, (after_seq, before_seq, count))]

        return await self._database.transact(work)

    # Forwarding

    async def last_batch(self) -> tuple[Batch | None, bool]:
        """The batch to go on from, and whether it still has to be settled: the oldest unsettled one, else the last."""

        async def work(conn: aiosqlite.Connection) -> tuple[Batch | None, bool]:
            unsettled = await _batch(conn, "WHERE settled_at_s IS NULL ORDER BY last_seq LIMIT 1")
            return (unsettled, True) if unsettled else (await _batch(conn, "ORDER BY last_seq DESC LIMIT 1"), False)

        return await self._database.transact(work)

    async def seal(self, batch: Batch) -> None:
        """Keep a batch, before it is sent for the first time."""

        async def work(conn: aiosqlite.Connection) -> None:
            await _add_batch(conn, batch)

        def then(_: None) -> None:
            self.sealed_seq = batch.last_seq
            self._add(batch.events, batch.size, waiting=-1)

        await self._database.transact(work, then)

    async def settle(self, batch: Batch) -> None:
        """The control plane has counted this batch: its rows stay only by the keep rule."""

        async def work(conn: aiosqlite.Connection) -> tuple[bool, int | None]:
            updated = await conn.execute(
                "UPDATE batches SET settled_at_s = ? WHERE last_seq = ? AND epoch = ? AND settled_at_s IS NULL",
                (self.lifetime_s, batch.last_seq, batch.epoch),
            )
            await conn.execute("REPLACE INTO meta VALUES ('lifetime_s', ?)", (self.lifetime_s,))
            return updated.rowcount == 1, await _oldest_us(conn)

        def then(outcome: tuple[bool, int | None]) -> None:
            settled, self.oldest_us = outcome
            if settled:  # not so when its epoch was given up meanwhile: then its rows wait for another batch
                self._add(batch.events, batch.size, unsent=-1)
                self.settled_bytes += batch.size

        await self._database.transact(work, then)

    async def resend_from(self, epoch: int, batch_no: int) -> bool:
        """Take back that batches from `batch_no` on are settled. False, and nothing done, when one is gone already."""

        async def work(conn: aiosqlite.Connection) -> bool:
            if await _batch(conn, "WHERE epoch = ? AND batch_no = ?", epoch, batch_no) is None:
                return False
            sql = "UPDATE batches SET settled_at_s = NULL WHERE epoch = ? AND batch_no >= ?"
            await conn.execute(sql, (epoch, batch_no))
            await self._count(conn)
            return True

        return await self._database.transact(work)

    async def unseal(self, batch: Batch) -> None:
        """Dissolve a batch that was not stored, and what was built on it: the rows wait for new ones."""

        async def work(conn: aiosqlite.Connection) -> None:
            await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND epoch = ?", (batch.last_seq, batch.epoch))
            await self._count(conn)

        await self._database.transact(work)

    async def seal_letter(self, letter: Batch, reason: str) -> None:
        """Put in the place of a refused batch, and of what was built on it, one that carries its event as a letter."""

        async def work(conn: aiosqlite.Connection) -> None:
            await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND epoch = ?", (letter.last_seq, letter.epoch))
            await _add_batch(conn, letter)
            await _put(conn, letter=reason)
            await self._count(conn)

        await self._database.transact(work)

    async def letter_reason(self) -> str:
        """Why the event of the last letter was refused."""
        return str((await self._database.transact(_meta)).get("letter", ""))

    async def set_aside(self, batch: Batch, reason: str) -> None:
        """Keep the only event of a batch apart, for ever, with the reason why it can never be taken."""

        async def work(conn: aiosqlite.Connection) -> None:
            await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND epoch = ?", (batch.last_seq, batch.epoch))
            sql = "INSERT INTO refused SELECT seq, body, ? FROM events WHERE seq = ?"
            await conn.execute(sql, (reason, batch.last_seq))
            await conn.execute("DELETE FROM events WHERE seq = ?", (batch.last_seq,))
            await self._count(conn)

        await self._database.transact(work)

    # Identity

    async def identity(self, agent_id: str, hello_id: str, boot_id: str) -> Identity:
        """Who this agent is; a new directory becomes `agent_id`, with `hello_id` to be sent.

        In another run of the machine, or with another file under the name of this one, the buffer may be a copy whose
        original lives: then the epoch is given up, so that no two ever number batches in one.
        """
        found = {"boot_id": boot_id, "file": self._volume.file_id(self._database.path)}

        async def work(conn: aiosqlite.Connection) -> Identity:
            meta = await _meta(conn)
            if "agent_id" not in meta:
                await _put(conn, agent_id=agent_id, hello_id=hello_id)
            elif any(meta.get(name) != value for name, value in found.items()):
                await self._give_up(conn, hello_id, everything=False)
            await _put(conn, **found)
            return _identity(await _meta(conn))

        return await self._database.transact(work)

    async def set_epoch(self, epoch: int, generation: str) -> Identity:
        """Keep the epoch that the control plane answered to the hello.

        What stands numbered in this or a later one was so by another database: it is sent again.
        """

        async def work(conn: aiosqlite.Connection) -> Identity:
            if (await _meta(conn)).get("epoch") != epoch:
                await conn.execute("DELETE FROM batches WHERE epoch >= ?", (epoch,))
                await self._count(conn)
            await _put(conn, epoch=epoch, last_epoch=epoch, generation=generation)
            return _identity(await _meta(conn))

        return await self._database.transact(work)

    async def start_over(self, hello_id: str, *, everything: bool, agent_id: str | None = None) -> Identity:
        """Give up the epoch: dissolve every unsettled batch (with `everything`, the settled ones that are kept too).

        With an `agent_id`, become another agent.
        """

        async def work(conn: aiosqlite.Connection) -> Identity:
            await self._give_up(conn, hello_id, everything=everything)
            await conn.execute("DELETE FROM meta WHERE key = 'generation'")
            if agent_id is not None:
                await _put(conn, agent_id=agent_id)
            return _identity(await _meta(conn))

        return await self._database.transact(work)

    async def batch_nos(self, epoch: int) -> tuple[int, int]:
        """The last batch of that epoch that the control plane counted, and the last one that is sealed; 0: none."""

        async def work(conn: aiosqlite.Connection) -> tuple[int, int]:
            last = "SELECT coalesce(max(batch_no), 0) FROM batches WHERE epoch = ?"
            sql = f"SELECT ({last} AND settled_at_s IS NOT NULL), ({last})"
            ((settled, sealed),) = await conn.execute_fetchall(sql, (epoch, epoch))
            return settled, sealed

        return await self._database.transact(work)

    async def _give_up(self, conn: aiosqlite.Connection, hello_id: str, *, everything: bool) -> None:
        await conn.execute("DELETE FROM batches WHERE settled_at_s IS NULL OR ?", (everything,))
        await conn.execute("DELETE FROM meta WHERE key IN ('epoch', 'nonce')")
        await _put(conn, hello_id=hello_id)
        await self._count(conn)

    async def purge(self, *, keep_s: float, keep_bytes: int) -> bool:
        """Delete the oldest settled batch if the keep rule lets it go; whether it did. The last batch always stays.

        One with rows that some known total does not hold yet may stay `HELD_S` longer, and take `HELD_BYTES` more.
        """
        if not self.settled_bytes:
            return False

        async def work(conn: aiosqlite.Connection) -> int:
            oldest = await conn.execute_fetchall(
                "SELECT last_seq, size, settled_at_s, last_seq > (SELECT min(counted_seq) FROM limits) FROM batches"
                " WHERE last_seq < (SELECT max(last_seq) FROM batches) ORDER BY last_seq LIMIT 1"
            )
            for last_seq, size, settled_at_s, held in oldest:
                too_many = self.settled_bytes > keep_bytes + (HELD_BYTES if held else 0)
                oldest_s = self.lifetime_s - keep_s - (HELD_S if held else 0.0)
                if settled_at_s is not None and (too_many or settled_at_s < oldest_s):
                    for table, key in (("events", "seq"), ("caller_ids", "seq"), ("batches", "last_seq")):
                        await conn.execute(f"DELETE FROM {table} WHERE {key} <= ?", (last_seq,))  # noqa: S608 -- constants
                    return int(size)
            return 0

        def then(purged: int) -> None:
            self.settled_bytes -= purged

        return await self._database.transact(work, then) > 0

    # Losses

    async def declare(self, loss: Loss) -> None:
        """Keep a loss until the control plane has stored it. One with the same id is there already: then nothing."""

        async def work(conn: aiosqlite.Connection) -> bool:
            sql = "INSERT OR IGNORE INTO losses (id, body) VALUES (?, ?)"
            return (await conn.execute(sql, (loss.id, msgspec.msgpack.encode(loss)))).rowcount == 1

        def then(new: bool) -> None:
            if new:
                self.lost_events += loss.events or 0
                self.open_losses += 1

        await self._database.transact(work, then)

    async def losses(self) -> list[Loss]:
        """The losses that the control plane has not stored yet, as far as anyone knows; oldest first."""

        async def work(conn: aiosqlite.Connection) -> list[Loss]:
            decode_loss = msgspec.msgpack.Decoder(Loss).decode
            return [
                decode_loss(body) for (body,) in await conn.execute_fetchall("SELECT body FROM losses ORDER BY rowid")
            ]

        return await self._database.transact(work)

    async def declared(self, ids: Sequence[str]) -> None:
        """The control plane has stored these losses: they are no longer kept here."""

        async def work(conn: aiosqlite.Connection) -> int:
            await conn.executemany("DELETE FROM losses WHERE id = ?", [(each,) for each in ids])
            ((left,),) = await conn.execute_fetchall("SELECT count(*) FROM losses")
            return int(left)

        def then(left: int) -> None:
            self.open_losses = left

        await self._database.transact(work, then)

    # Limits

    async def counted_seq(self, epoch: int, batch_no: int) -> int:
        """The last row that is counted when the control plane has counted `epoch` up to `batch_no`; 0: none."""

        async def work(conn: aiosqlite.Connection) -> int:
            ((seq,),) = await conn.execute_fetchall(
                "SELECT coalesce(max(last_seq), 0) FROM batches"
                " WHERE (epoch = ? AND batch_no <= ?) OR (epoch < ? AND settled_at_s IS NOT NULL)",
                (epoch, batch_no, epoch),
            )
            return int(seq)

        return await self._database.transact(work)

    async def keep_limits(
        self, subjects: Subjects, limits: Iterable[StoredLimit], standing: Standing | None = None
    ) -> Identity | None:
        """Keep what was learned, for a restart without the control plane; and `standing`, while its epoch lasts.

        Returns who this agent is then; None while it is nobody yet.
        """

        async def work(conn: aiosqlite.Connection) -> Identity | None:
            encode = msgspec.msgpack.encode
            asked = [(subject, encode(ids)) for subject, ids in subjects.items()]
            learned = [(limit.id, encode(limit), as_of_us, seq) for limit, as_of_us, seq in limits]
            await conn.executemany("REPLACE INTO subjects VALUES (?, ?)", asked)
            await conn.executemany("REPLACE INTO limits VALUES (?, ?, ?, ?)", learned)
            meta = await _meta(conn)
            if standing is not None and meta.get("epoch") == standing.epoch:
                kept = {"generation": standing.generation, "nonce": standing.nonce}
                await _put(conn, **kept)
                meta |= kept
            return _identity(meta) if "agent_id" in meta else None

        return await self._database.transact(work)

    async def kept_limits(self) -> tuple[Mapping[str, tuple[str, ...]], list[StoredLimit]]:
        """Everything that `keep_limits` kept."""

        async def work(conn: aiosqlite.Connection) -> tuple[Mapping[str, tuple[str, ...]], list[StoredLimit]]:
            ids = msgspec.msgpack.Decoder(tuple[str, ...]).decode
            limit = msgspec.msgpack.Decoder(Limit).decode
            subjects = await conn.execute_fetchall("SELECT subject, limit_ids FROM subjects")
            limits = await conn.execute_fetchall("SELECT body, as_of_us, counted_seq FROM limits")
            return (
                {subject: ids(encoded) for subject, encoded in subjects},
                [(limit(body), as_of_us, seq) for body, as_of_us, seq in limits],
            )

        return await self._database.transact(work)

    # Inside

    async def _opened(self, conn: aiosqlite.Connection) -> None:
        ((version,),) = await conn.execute_fetchall("PRAGMA user_version")
        if version == 0:
            await conn.executescript(f"BEGIN; {_SCHEMA} {_LOSSES} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version == 1:
            await conn.executescript(f"BEGIN; {_LOSSES} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise StorageRefused(f"the buffer has form {version}; this agent reads form {_VERSION}")
        await self._count(conn)

    async def _load(self, conn: aiosqlite.Connection) -> None:
        ((last_seq,),) = await conn.execute_fetchall(
            "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM refused), 0),"
            " coalesce((SELECT max(last_seq) FROM batches), 0), coalesce((SELECT max(counted_seq) FROM limits), 0))"
        )
        self.next_seq = last_seq + 1
        for (lifetime_s,) in await conn.execute_fetchall("SELECT value FROM meta WHERE key = 'lifetime_s'"):
            self._lifetime_s = lifetime_s

    async def _count(self, conn: aiosqlite.Connection) -> None:
        ((self.sealed_seq,),) = await conn.execute_fetchall("SELECT coalesce(max(last_seq), 0) FROM batches")
        ((self.waiting_events, self.waiting_bytes),) = await conn.execute_fetchall(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM events WHERE seq > ?", (self.sealed_seq,)
        )
        ((sealed_events, sealed_bytes, self.settled_bytes),) = await conn.execute_fetchall(
            "SELECT coalesce(sum(events) FILTER (WHERE settled_at_s IS NULL), 0),"
            " coalesce(sum(size) FILTER (WHERE settled_at_s IS NULL), 0),"
            " coalesce(sum(size) FILTER (WHERE settled_at_s IS NOT NULL), 0) FROM batches"
        )
        self.unsent_events = self.waiting_events + sealed_events
        self.unsent_bytes = self.waiting_bytes + sealed_bytes
        self.oldest_us = await _oldest_us(conn)
        ((self.refused_events,),) = await conn.execute_fetchall("SELECT count(*) FROM refused")
        ((self.open_losses,),) = await conn.execute_fetchall("SELECT count(*) FROM losses")

    def _add(self, events: int, size: int, *, waiting: int = 0, unsent: int = 0) -> None:
        self.waiting_events += waiting * events
        self.waiting_bytes += waiting * size
        self.unsent_events += unsent * events
        self.unsent_bytes += unsent * size


async def _batch(conn: aiosqlite.Connection, which: str, *values: object) -> Batch | None:
    rows = await conn.execute_fetchall(f"SELECT {_BATCH} FROM batches {which}", values)  # noqa: S608 -- constants
    for row in rows:
        return Batch(*row)
    return None


async def _add_batch(conn: aiosqlite.Connection, batch: Batch) -> None:
    values = msgspec.structs.astuple(batch)
    await conn.execute(f"INSERT INTO batches ({_BATCH}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608 -- a constant


async def _oldest_us(conn: aiosqlite.Connection) -> int | None:
    rows = await conn.execute_fetchall(
        "SELECT body FROM events WHERE seq >= coalesce("
        "(SELECT min(first_seq) FROM batches WHERE settled_at_s IS NULL),"
        "(SELECT max(last_seq) + 1 FROM batches), 0) ORDER BY seq LIMIT 1"
    )
    return next((decode(body).time_us for (body,) in rows), None)


async def _meta(conn: aiosqlite.Connection) -> dict[str, Any]:
    return {key: value for key, value in await conn.execute_fetchall("SELECT key, value FROM meta")}  # noqa: C416 -- rows are not pairs to a type checker


async def _put(conn: aiosqlite.Connection, **values: object) -> None:
    given = [(key, value) for key, value in values.items() if value is not None]
    await conn.executemany("REPLACE INTO meta VALUES (?, ?)", given)


def _identity(meta: dict[str, Any]) -> Identity:
    return Identity(
        meta["agent_id"],
        meta["hello_id"],
        meta.get("epoch"),
        meta.get("last_epoch", meta.get("epoch")),
        meta.get("generation"),
        meta.get("nonce"),
    )
