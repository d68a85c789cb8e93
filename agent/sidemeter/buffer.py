"""The buffer: what holds every event until it is counted. Every method is one transaction.

`Ledger` opens the database and watches over it; the SQL of rows, figures and kept values has modules of its own.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import aiosqlite

from sidemeter import counted, held, kept
from sidemeter import rows as rows_of
from sidemeter.batches import Batch, Counted, Row
from sidemeter.damaged import Damaged
from sidemeter.database import PAGE_BYTES, Work
from sidemeter.errors import StorageRefused
from sidemeter.events import decode
from sidemeter.figures import Figures, add_batch, batch_where, figures, oldest_us
from sidemeter.held import KeptHold, Named
from sidemeter.kept import Identity, LossCounts, Standing, StoredLimit
from sidemeter.leases import Key
from sidemeter.ledger import Ledger
from sidemeter.limits import Subjects
from sidemeter.losses import Loss
from sidemeter.rows import CallerId

__all__ = ["Buffer", "CallerId", "Identity", "Standing", "StoredLimit"]

log = logging.getLogger(__name__)

HELD_S: Final = 600.0
HELD_BYTES: Final = 64 << 20
"""How far beyond the keep rule rows stay that a known total does not hold yet, since a restart counts them anew. A limit
that was taken away never holds them, hence the bounds."""

_VANISHED: Final = "rows that were counted and kept are gone from the buffer"


class Buffer(Ledger):
    """The open buffer of one data directory, locked against every other agent. `Ledger` tells what its figures mean."""

    # Recording

    async def append(self, rows: Sequence[Row], caller_ids: Sequence[CallerId], ended: Sequence[str] = ()) -> set[int]:
        """Make rows durable, all or none; returns the numbers of those left out, whose caller's id is there already.

        With them the reservations `ended` have their end.

        Raises StorageRefused when the disk takes none of them. A commit that fails is neither: the file is opened anew,
        and what is found in it is the answer.
        """
        size = sum(len(body) for _, body in rows) + sum(len(source) + len(name) for _, source, name in caller_ids)

        async def work(conn: aiosqlite.Connection) -> set[int]:
            await self._admit(conn, size)
            known = await rows_of.claim(conn, caller_ids) if caller_ids else set()
            await rows_of.add(conn, [row for row in rows if row[0] not in known] if known else rows)
            if ended:
                await self._end_holds(conn, ended)
            return known

        async def found(conn: aiosqlite.Connection) -> set[int] | None:
            first, last = rows[0][0], rows[-1][0]
            stored = await conn.execute_fetchall("SELECT seq FROM events WHERE seq BETWEEN ? AND ?", (first, last))
            return {seq for seq, _ in rows} - {seq for (seq,) in stored} if stored else None

        def then(known: set[int]) -> None:
            if self.oldest_us is None:
                self.oldest_us = next((decode(body).time_us for seq, body in rows if seq not in known), None)
            self.steps += len(ended)
            sizes = [len(body) for seq, body in rows if seq not in known]
            self._committed += len(sizes)
            self._add(len(sizes), sum(sizes), waiting=1, unsent=1)
            self._note(rows[-1][0])

        async def undo(conn: aiosqlite.Connection) -> None:
            for table in ("events", "caller_ids"):
                await conn.execute(f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?", (rows[0][0], rows[-1][0]))  # noqa: S608 -- constants

        return await self._database.transact(work, then, found, undo)

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

    async def holds(self, source: str, event_id: str) -> bool:
        """Whether an event with this id of a caller is durable here."""
        return await self._database.transact(lambda conn: rows_of.holds(conn, source, event_id))

    async def rows(self, after_seq: int, before_seq: int, count: int) -> list[Row]:
        """Up to `count` rows between two row numbers, both excluded, oldest first.

        Rows that do not match their checksum are not among them; those not yet settled are kept apart and declared lost.
        """

        async def work(conn: aiosqlite.Connection) -> tuple[list[Row], list[Loss]]:
            losses: list[Loss] = []
            while True:
                good, bad = await rows_of.read(conn, after_seq, before_seq, count, self._settled_seq)
                if not bad:
                    return good, losses
                losses += await rows_of.take_out(conn, bad, self._clock.now_us())
                self._apply(await self._recounted(conn))

        def then(outcome: tuple[list[Row], list[Loss]]) -> None:
            self.lost_events += len(outcome[1])

        return (await self._database.transact(work, then))[0]

    # Forwarding

    async def waiting_rows(self, count: int) -> list[Row]:
        """The oldest `count` of the rows that wait for a batch. Where there are fewer than are known, the file is given up."""
        expected = min(count, self.waiting_events)
        rows = await self.rows(self.sealed_seq, 1 << 62, count)
        if len(rows) < min(expected, self.waiting_events):
            await self.give_up(f"{self.waiting_events} rows wait in it, and {len(rows)} are found", overtaken=True)
        return rows

    async def sealed_rows(self, batch: Batch) -> list[Row] | None:
        """The rows of a batch that has to be sent again; None when rows of it had to be taken out, and it is dissolved."""
        rows = await self.rows(batch.first_seq - 1, batch.last_seq + 1, batch.events)
        return rows if self.sealed_seq >= batch.last_seq else None

    async def give_up(self, reason: str, *, overtaken: bool = False) -> None:
        """Move the database aside and go on with a new one. Always raises StorageRefused: what was asked for is not done.

        `overtaken` says that rows behind the ones that are missing may be settled already.
        """

        async def work(_: aiosqlite.Connection) -> None:
            raise Damaged(reason, overtaken=overtaken)

        await self._database.transact(work)

    async def last_batch(self) -> tuple[Batch | None, bool]:
        """The batch to go on from, and whether it still has to be settled: the oldest unsettled one, else the last."""

        async def work(conn: aiosqlite.Connection) -> tuple[Batch | None, bool]:
            unsettled = await batch_where(conn, "WHERE settled_at_s IS NULL ORDER BY last_seq LIMIT 1")
            return (
                (unsettled, True) if unsettled else (await batch_where(conn, "ORDER BY last_seq DESC LIMIT 1"), False)
            )

        return await self._database.transact(work)

    async def seal(self, batch: Batch, rebuilds: int | None = None) -> None:
        """Keep a batch, before it is sent for the first time.

        It was made of what was here after `rebuilds`; raises StorageRefused when that has gone meanwhile.
        """

        async def work(conn: aiosqlite.Connection) -> None:
            if rebuilds not in {None, self.rebuilds}:
                raise StorageRefused("the buffer was begun anew")
            await add_batch(conn, batch)
            await self._step(conn)

        def then(_: None) -> None:
            self._stepped()
            self.sealed_seq = batch.last_seq
            self._add(batch.events, batch.size, waiting=-1)

        await self._database.transact(work, then)

    async def settle(self, batch: Batch) -> None:
        """The control plane has counted this batch: its rows stay only by the keep rule."""

        async def work(conn: aiosqlite.Connection) -> tuple[Counted | None, bool, int | None]:
            updated = await conn.execute(
                "UPDATE batches SET settled_at_s = ? WHERE last_seq = ? AND epoch = ? AND settled_at_s IS NULL",
                (self.lifetime_s, batch.last_seq, batch.epoch),
            )
            settled = updated.rowcount == 1  # not so when its epoch was given up meanwhile: then its rows wait again
            if settled:
                await kept.put(conn, lifetime_s=self.lifetime_s, settled_rows=self._settled + batch.events)
            oldest = await oldest_us(conn, batch.last_seq if settled else self._settled_seq)
            return await counted.newest(conn) if settled else None, settled, oldest

        def then(outcome: tuple[Counted | None, bool, int | None]) -> None:
            newest, settled, self.oldest_us = outcome
            if settled:
                self._counted = newest
                self._settled_seq = batch.last_seq
                self._add(batch.events, batch.size, unsent=-1)
                self.settled_bytes += batch.size
                self._kept_events += batch.events
                self._kept_from_seq = self._kept_from_seq or batch.first_seq
                self._note()

        await self._database.transact(work, then)

    async def resend_from(self, epoch: int, batch_no: int) -> bool:
        """Take back that batches from `batch_no` on are settled. False, and nothing done, when one is gone already."""

        async def work(conn: aiosqlite.Connection) -> Figures | None:
            if await batch_where(conn, "WHERE epoch = ? AND batch_no = ?", epoch, batch_no) is None:
                return None
            sql = "UPDATE batches SET settled_at_s = NULL WHERE epoch = ? AND batch_no >= ?"
            await conn.execute(sql, (epoch, batch_no))
            await kept.open_again(conn, counted=False)
            return await self._recounted(conn)

        return await self._database.transact(work, self._apply) is not None

    async def unseal(self, batch: Batch) -> None:
        """Dissolve a batch that was not stored, and what was built on it: the rows wait for new ones."""

        async def work(conn: aiosqlite.Connection) -> Figures:
            await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND epoch = ?", (batch.last_seq, batch.epoch))
            return await self._recounted(conn)

        await self._database.transact(work, self._apply)

    async def seal_letter(self, letter: Batch, reason: str) -> None:
        """Put in the place of a refused batch, and of what was built on it, one that carries its event as a letter."""

        async def work(conn: aiosqlite.Connection) -> Figures:
            await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND epoch = ?", (letter.last_seq, letter.epoch))
            await add_batch(conn, letter)
            await kept.put(conn, letter=reason)
            return await self._recounted(conn)

        await self._database.transact(work, self._apply)

    async def letter_reason(self) -> str:
        """Why the event of the last letter was refused."""
        return str((await self._database.transact(kept.meta)).get("letter", ""))

    async def set_aside(self, batch: Batch, reason: str) -> None:
        """Keep the only event of a batch apart, for ever, with the reason why it can never be taken."""

        async def work(conn: aiosqlite.Connection) -> Figures:
            await conn.execute("DELETE FROM batches WHERE last_seq >= ? AND epoch = ?", (batch.last_seq, batch.epoch))
            sql = "INSERT OR REPLACE INTO refused SELECT seq, body, ?, crc FROM events WHERE seq = ?"
            await conn.execute(sql, (reason, batch.last_seq))
            await conn.execute("DELETE FROM events WHERE seq = ?", (batch.last_seq,))
            return await self._recounted(conn)

        await self._database.transact(work, self._apply)

    async def batch_nos(self, epoch: int) -> tuple[int, int]:
        """The last batch of that epoch that the control plane counted, and the last one that is sealed; 0: none."""

        async def work(conn: aiosqlite.Connection) -> tuple[int, int]:
            last = "SELECT coalesce(max(batch_no), 0) FROM batches WHERE epoch = ?"
            sql = f"SELECT ({last} AND settled_at_s IS NOT NULL), ({last})"
            ((settled, sealed),) = await conn.execute_fetchall(sql, (epoch, epoch))
            return settled, sealed

        return await self._database.transact(work)

    # Identity

    async def identity(self, agent_id: str, hello_id: str, boot_id: str) -> Identity:
        """Who this agent is; a new directory becomes `agent_id`, with `hello_id` to be sent.

        In another run of the machine, or with another file under the name of this one, the buffer may be a copy whose
        original lives: then the epoch is given up, so that no two ever number batches in one.
        """
        found = {"boot_id": boot_id, "file": self._volume.file_id(self._database.path)}

        async def work(conn: aiosqlite.Connection) -> Figures | None:
            known = await kept.meta(conn)
            await kept.put(conn, **found, agent_id=known.get("agent_id") or self._watch.agent_id or agent_id)
            if "hello_id" in known and all(known.get(name) == value for name, value in found.items()):
                return None
            await self._give_up_epoch(conn, hello_id, everything=False)
            return await self._recounted(conn)

        return await self._as(work)

    async def set_epoch(self, epoch: int, generation: str) -> Identity:
        """Keep the epoch that the control plane answered to the hello.

        What stands numbered in this or a later one was so by another database: it is sent again. Another copy of the
        database is told the losses again.
        """

        async def work(conn: aiosqlite.Connection) -> Figures | None:
            another = await counted.is_another(conn, generation)
            if another:
                await kept.open_again(conn, counted=True)
            if not await counted.begin_epoch(conn, epoch, generation) and not another:
                return None
            return await self._recounted(conn)

        return await self._as(work)

    async def start_over(self, hello_id: str, *, everything: bool, agent_id: str | None = None) -> Identity:
        """Give up the epoch: dissolve every unsettled batch (with `everything`, the settled ones that are kept too).

        With an `agent_id`, become another agent. What is lost of `everything` is open to be declared.
        """

        async def work(conn: aiosqlite.Connection) -> Figures:
            await self._give_up_epoch(conn, hello_id, everything=everything)
            await conn.execute("DELETE FROM meta WHERE key = 'generation'")
            if agent_id is not None:
                await counted.rename(conn, agent_id)
            lost[:] = await self._open_losses_again(conn) if everything else ()
            return await self._recounted(conn)

        lost: list[Loss] = []
        identity = await self._as(work)
        self.lost_events += sum(each.events or 0 for each in lost)
        return identity

    async def _open_losses_again(self, conn: aiosqlite.Connection) -> list[Loss]:
        """Every row is to be sent: tell what cannot be, whatever became of it. Those that were no losses until now."""
        opened = [loss for loss in await kept.open_again(conn, counted=True) if loss.counted_in is not None]
        missing = self._kept_events + self.unsent_events - (await figures(conn)).unsent_events
        if missing > 0:
            first, last = self._kept_from_seq, self._settled_seq
            log.error("%d events up to row %d were counted and kept, and are gone", missing, last)
            gone = Loss(f"{self.file_id}-{last}-gone", first, last, missing, _VANISHED, self._clock.now_us())
            opened += await kept.add_losses(conn, [gone])
        return opened

    async def counted(self) -> Counted | None:
        """The last batch that is known to be counted, and under which name; None when there is none."""
        return await self._database.transact(counted.newest)

    async def is_counted_in(self, generation: str) -> bool:
        """Whether that copy of the control plane's database has all that is settled here, given that it has this epoch's."""
        return await self._database.transact(lambda conn: counted.is_in(conn, generation))

    async def _give_up_epoch(self, conn: aiosqlite.Connection, hello_id: str, *, everything: bool) -> None:
        await conn.execute("DELETE FROM batches WHERE settled_at_s IS NULL OR ?", (everything,))
        await conn.execute("DELETE FROM meta WHERE key IN ('epoch', 'nonce')")
        if everything:
            await counted.forget(conn)
        await conn.execute("DELETE FROM holds")
        await kept.put(conn, hello_id=hello_id)

    async def _as(self, work: Work[Figures | None]) -> Identity:
        """Do what changes who this agent is, and tell. None is for figures that stay as they are."""

        async def named(conn: aiosqlite.Connection) -> tuple[Figures | None, Identity]:
            found, identity = await work(conn), await kept.identity(conn)
            if identity is None:  # a database that was begun anew since it was asked last
                raise StorageRefused("the buffer was begun anew")
            return found, identity

        def then(outcome: tuple[Figures | None, Identity]) -> None:
            self._watch.agent_id = outcome[1].agent_id
            self._apply(outcome[0])
            self._note()

        return (await self._database.transact(named, then))[1]

    async def purge(self, *, keep_s: float, keep_bytes: int) -> bool:
        """Delete the oldest settled batch if the keep rule lets it go; whether it did. The last batch always stays.

        One with rows that some known total does not hold yet may stay `HELD_S` longer, and take `HELD_BYTES` more.
        """
        if not self.settled_bytes:
            return False

        async def work(conn: aiosqlite.Connection) -> tuple[int, int, int] | None:
            oldest = await conn.execute_fetchall(
                "SELECT last_seq, events, size, settled_at_s, last_seq > (SELECT min(counted_seq) FROM limits)"
                " FROM batches WHERE last_seq < (SELECT max(last_seq) FROM batches) ORDER BY last_seq LIMIT 1"
            )
            for last_seq, events, size, settled_at_s, is_held in oldest:
                too_many = self.settled_bytes > keep_bytes + (HELD_BYTES if is_held else 0)
                oldest_s = self.lifetime_s - keep_s - (HELD_S if is_held else 0.0)
                if settled_at_s is not None and (too_many or settled_at_s < oldest_s):
                    for table, key in (("events", "seq"), ("caller_ids", "seq"), ("batches", "last_seq")):
                        await conn.execute(f"DELETE FROM {table} WHERE {key} <= ?", (last_seq,))  # noqa: S608 -- constants
                    return last_seq, events, size
            return None

        def then(purged: tuple[int, int, int] | None) -> None:
            if purged is not None:
                last_seq, events, size = purged
                self.settled_bytes -= size
                self._kept_events -= events
                self._kept_from_seq = last_seq + 1
                self._note()

        return await self._database.transact(work, then) is not None

    # Losses

    async def declare(self, loss: Loss) -> None:
        """Keep a loss, for the control plane to store. One with the same id is there already: then nothing."""

        async def work(conn: aiosqlite.Connection) -> tuple[list[Loss], LossCounts]:
            return await kept.add_losses(conn, [loss]), await kept.count_losses(conn)

        def then(outcome: tuple[list[Loss], LossCounts]) -> None:
            new, self._losses = outcome
            self.lost_events += sum(each.events or 0 for each in new)
            self._note()

        await self._database.transact(work, then)

    async def losses(self) -> list[Loss]:
        """The losses that the control plane has not stored yet, as far as anyone knows; oldest first."""
        return await self._database.transact(kept.open_losses)

    async def declared(self, ids: Sequence[str]) -> None:
        """The control plane has stored these losses: they are told again only to one that is restored."""

        async def work(conn: aiosqlite.Connection) -> LossCounts:
            left = await kept.put_to_rest(conn, ids)
            self._note(losses=left)
            await self._sync_mark()  # before they go: not even after a power cut may the mark say more than is there
            return left

        def then(left: LossCounts) -> None:
            self._losses = left
            self._note()

        await self._database.transact(work, then)

    # Limits

    async def counted_seq(self, epoch: int, batch_no: int) -> int:
        """The last row that is counted when the control plane has counted `epoch` up to `batch_no`; 0: none."""

        if self.salvaging:
            return 0  # rows that are not here again yet may be among them

        async def work(conn: aiosqlite.Connection) -> int:
            ((seq,),) = await conn.execute_fetchall(
                "SELECT coalesce(max(last_seq), 0) FROM batches"
                " WHERE (epoch = ? AND batch_no <= ?) OR (epoch < ? AND settled_at_s IS NOT NULL)",
                (epoch, batch_no, epoch),
            )
            return int(seq)

        return await self._database.transact(work)

    async def keep_limits(
        self,
        subjects: Subjects,
        limits: Iterable[StoredLimit],
        standing: Standing | None = None,
        named: Sequence[Key] = (),
        dropped: Sequence[Key] = (),
    ) -> Identity | None:
        """Keep what was learned, for a restart without the control plane; and `standing`, while its epoch lasts.

        `named` are leases that its holder has got, `dropped` those that it forgets. Returns who this agent is then; None
        while it is nobody yet.
        """
        learned = list(limits)
        steps = any(limit.prices for limit, _, _ in learned)  # what was debited for what is counted is given back then

        async def work(conn: aiosqlite.Connection) -> Identity | None:
            await kept.keep_limits(conn, subjects, learned)
            if steps:
                await self._step(conn)
            if standing is not None and await kept.keep_standing(conn, standing):
                await held.name(conn, standing.hello_id, named)
                await held.unname(conn, dropped)
            return await kept.identity(conn)

        return await self._database.transact(work, self._stepped if steps else None)

    async def kept_limits(self) -> tuple[Mapping[str, tuple[str, ...]], list[StoredLimit]]:
        """Everything that `keep_limits` kept."""
        return await self._database.transact(kept.kept_limits)

    # Leases

    async def lease_names(self) -> list[Named] | None:
        """Every lease that this buffer's holders have, and had; None when that is not known any more."""
        return await self._database.transact(held.names)

    async def kept_holds(self) -> list[KeptHold]:
        """The reservations of the present epoch that have no end yet."""
        return await self._database.transact(held.holds)

    async def keep_hold(self, hold: KeptHold) -> None:
        """Keep a reservation for a restart, or its new deadline."""
        await self._database.transact(lambda conn: held.add_hold(conn, hold))

    async def end_hold(self, hold_id: str) -> None:
        """A reservation has its end, and no event."""

        await self._database.transact(lambda conn: self._end_holds(conn, (hold_id,)), self._stepped)

    async def _end_holds(self, conn: aiosqlite.Connection, hold_ids: Sequence[str]) -> None:
        await held.end_holds(conn, hold_ids)
        await self._step(conn, len(hold_ids))

    async def _step(self, conn: aiosqlite.Connection, steps: int = 1) -> None:
        """What others will rely on: how often there was any tells an older copy of the database from this one."""
        await kept.put(conn, steps=self.steps + steps)

    def _stepped(self, _: object = None) -> None:
        self.steps += 1
