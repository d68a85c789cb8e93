"""The database under watch, with its figures: opened, given up when it is not what it must be, and begun anew.

Every row carries a checksum, and the mark says from outside how many there must be. A database that does not hold that is
moved aside; a new one takes its place at once, and what can be read of the old one comes back later.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import aiosqlite

from sidemeter import counted, kept
from sidemeter.batches import Counted, checksum
from sidemeter.clock import Clock
from sidemeter.damaged import Damage, Damaged
from sidemeter.database import Connect, Database
from sidemeter.errors import StorageRefused
from sidemeter.figures import Figures, figures
from sidemeter.kept import LossCounts
from sidemeter.losses import Loss
from sidemeter.rows import check_refused
from sidemeter.volume import Volume
from sidemeter.watch import Watch

__all__ = ["Ledger"]


class Ledger:
    """The open database of one data directory, locked against every other agent.

    `sealed_seq` is the last row that belongs to a batch; the rows after it, `waiting_events` of `waiting_bytes`, wait
    for one. `unsent_events` of `unsent_bytes` are these and those of every batch not settled; the oldest of them
    happened at `oldest_us`. The database has taken so many `steps` (`sidemeter.holder.Standing`). `lost_events` were
    declared lost since the start, as far as the number is known.
    """

    def __init__(self, volume: Volume, clock: Clock, connect: Connect) -> None:
        self._volume = volume
        self._clock = clock
        path = volume.directory / "buffer.sqlite3"
        self._watch = Watch(path, clock)
        self._database = Database(path, volume, clock, connect, self)
        self._salvage = asyncio.Event()
        self._started_s = clock.monotonic_s()
        self._lifetime_s: float | None = None
        self._committed = 0
        self._settled_seq = 0
        self._kept_events = 0
        self._kept_from_seq = 0
        self._counted: Counted | None = None
        self._proven_refused = 0
        self._losses = LossCounts()
        self.next_seq = 1
        self.sealed_seq = 0
        self.waiting_events = 0
        self.waiting_bytes = 0
        self.unsent_events = 0
        self.unsent_bytes = 0
        self.settled_bytes = 0
        self.refused_events = 0
        self.lost_events = 0
        self.oldest_us: int | None = None
        self.steps = 0

    @classmethod
    async def open(
        cls, directory: Path, clock: Clock, connect: Connect = aiosqlite.connect, volume: Volume | None = None
    ) -> Self:
        """Open the buffer of `directory`, made if it is missing.

        Raises DirectoryInUse while another agent has it open, StorageRefused when the disk does not take it, or a newer
        agent made it.
        """
        self = cls(volume or Volume(directory), clock, connect)
        await self._database.open()
        self.next_seq = self._watch.last_seq + 1
        return self

    @property
    def doubt(self) -> str | None:
        """Why nobody knows what the file holds, and nothing can be recorded; None when that is not so."""
        return self._database.doubt

    def when_in_doubt(self, tell: Callable[[], None]) -> None:
        """Call `tell` each time that `doubt` begins."""
        self._database.on_doubt = tell

    def look_no_more(self) -> None:
        """What is recorded while the file cannot be opened shall not be waited for: it ends with InDoubt."""
        self._database.look_no_more()

    async def close(self) -> None:
        """Wait for the transaction under way, then close the file and release the directory."""
        await self._database.close()

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._volume.directory

    @property
    def file_id(self) -> str:
        """What this database is called: one that is begun anew has another name."""
        return self._watch.facts.file_id if self._watch.facts is not None else ""

    @property
    def size_bytes(self) -> int:
        """What the buffer takes on disk."""
        return self._database.size_bytes

    @property
    def disk_refusing(self) -> bool:
        """Whether the disk is too full to record what does not fit into the file as it is, or the directory is gone."""
        return self._database.refusing is not None or self._database.displaced is not None

    @property
    def ballast_bytes(self) -> int:
        """What is set aside of the disk for everything but recording."""
        return self._volume.ballast_bytes if self._volume.has_ballast else 0

    async def tend(self) -> None:
        """What has to be looked at now and then: whether a full disk has room again; and the mark goes to the disk."""
        await self._database.tend()
        await self._sync_mark()

    @property
    def lifetime_s(self) -> float:
        """How long this buffer's agents have run, all together: the age of rows, by no wall clock."""
        return (self._lifetime_s or 0.0) + self._clock.monotonic_s() - self._started_s

    # Damage

    @property
    def open_losses(self) -> int:
        """How many declarations have not reached the control plane."""
        return self._losses.open

    @property
    def rebuilds(self) -> int:
        """How many databases were given up since the start."""
        return self._watch.rebuilds

    @property
    def salvaging(self) -> bool:
        """Whether rows of a damaged database are still being read back: what is here is not all there is."""
        return bool(self._watch.pending)

    async def damage(self) -> Damage:
        """A damaged database to be read back; waits until there is one."""
        while not self._watch.pending:
            self._salvage.clear()
            await self._salvage.wait()
        return self._watch.pending[0]

    async def keep(self, refused: Sequence[tuple[int, bytes, str]], losses: Sequence[Loss]) -> None:
        """Keep what a damaged database had beside its events."""

        async def work(conn: aiosqlite.Connection) -> Figures:
            rows = [(seq, body, reason, checksum(seq, body)) for seq, body, reason in refused]
            await conn.executemany("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?)", rows)
            await kept.add_losses(conn, losses)
            return await self._recounted(conn)

        await self._database.transact(work, self._apply)

    async def salvaged(self, damage: Damage) -> None:
        """All that could be read of it is here, and what could not is declared."""
        await asyncio.to_thread(self._watch.finish, damage)

    # For the database: what happens around its transactions

    def before(self) -> None:
        """See `Watch.before`."""
        self._watch.before()

    async def opened(self, conn: aiosqlite.Connection) -> None:
        """Take the figures of the file, once it is seen to be sound."""
        found, settled = await self._watch.opened(conn)
        self._committed = settled + found.unsent_events
        lost = await check_refused(conn, self._clock.now_us())
        if lost:  # before they go: the mark never says more than is there
            found = found._replace(proven_refused=found.proven_refused - len(lost))
            self._apply(found)
        await conn.commit()
        self.lost_events += len(lost)
        self._apply(found._replace(losses=LossCounts(*(each + len(lost) for each in found.losses))))
        if self.salvaging:
            self._salvage.set()
        said = await kept.meta(conn)
        self.steps = said.get("steps", 0)
        if self._lifetime_s is None:
            self._lifetime_s = said.get("lifetime_s", 0.0)

    def give_up_file(self, damage: Damaged) -> None:
        """See `Watch.give_up`."""
        self._watch.give_up(damage)

    def make_way(self, *, foreign: bool, own_mark: bool) -> None:
        """See `Watch.make_way`."""
        self._watch.make_way(foreign=foreign, own_mark=own_mark)

    def forget(self) -> None:
        """See `Watch.forget`."""
        self._watch.forget()

    def closed(self) -> None:
        """See `Watch.close`."""
        self._watch.close(clean=True)

    # Inside

    @property
    def _settled(self) -> int:
        return self._committed - self.unsent_events

    async def _recounted(self, conn: aiosqlite.Connection) -> Figures:
        """The figures after a change of what is settled; no row came."""
        found = (await figures(conn))._replace(counted=await counted.newest(conn))
        await kept.put(conn, settled_rows=self._committed - found.unsent_events)
        return found

    def _apply(self, found: Figures | None) -> None:
        if found is None:
            return
        self.sealed_seq = found.sealed_seq
        self._settled_seq = found.settled_seq
        self.waiting_events = found.waiting_events
        self.waiting_bytes = found.waiting_bytes
        self.unsent_events = found.unsent_events
        self.unsent_bytes = found.unsent_bytes
        self.settled_bytes = found.settled_bytes
        self._kept_events = found.kept_events
        self._kept_from_seq = found.kept_from_seq
        self._counted = found.counted
        self._proven_refused = found.proven_refused
        self._losses = found.losses
        self.refused_events = found.refused_events
        self.oldest_us = found.oldest_us
        self._note()

    def _note(self, last_seq: int = 0, losses: LossCounts | None = None) -> None:
        counts = self._losses if losses is None else losses
        self._watch.note(
            last_seq,
            self._committed,
            self._settled,
            self._settled_seq,
            counts.open,
            kept=self._kept_events,
            kept_from_seq=self._kept_from_seq,
            counted=self._counted,
            refused=self._proven_refused,
            losses=counts.kept,
        )

    async def _sync_mark(self) -> None:
        try:
            await asyncio.to_thread(self._watch.sync)
        except OSError as exc:
            raise StorageRefused(f"the mark cannot be synced: {exc}") from exc

    def _add(self, events: int, size: int, *, waiting: int = 0, unsent: int = 0) -> None:
        self.waiting_events += waiting * events
        self.waiting_bytes += waiting * size
        self.unsent_events += unsent * events
        self.unsent_bytes += unsent * size
