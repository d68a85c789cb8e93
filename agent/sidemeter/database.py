"""One SQLite file that one process writes: its connection, and transactions that end one way or the other."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite

from sidemeter.clock import Clock
from sidemeter.errors import StorageRefused
from sidemeter.volume import Volume

__all__ = ["PAGE_BYTES", "WAL_PAGES", "Connect", "Database", "Work"]

T = TypeVar("T")

Connect = Callable[[Path], aiosqlite.Connection]
Work = Callable[[aiosqlite.Connection], Awaitable[T]]
"""What one transaction does; it never commits."""

_LOOK_AGAIN_S: Final = 0.2

PAGE_BYTES: Final = 4096
"""SQLite's default, which every buffer is made with."""

WAL_PAGES: Final = 4096
"""Pages in the write-ahead log before a commit also moves them into the file, and waits for that. SQLite's own
1,000 are reached 20 times a second by arrays of events, and each makes the callers wait 3 to 20 ms."""


class Database:
    """The file `buffer.sqlite3` of a volume, locked and open from `open` to `close`. `opened` prepares it each time
    that it is opened.

    Every transaction runs in a task of its own: a caller that is cancelled can neither stop it half-way nor leave it
    open, and whoever comes next waits for its end.
    """

    def __init__(self, volume: Volume, clock: Clock, connect: Connect, opened: Work[None]) -> None:
        self.path = volume.directory / "buffer.sqlite3"
        self._volume = volume
        self._clock = clock
        self._connect = connect
        self._opened = opened
        self._turn = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Lock the directory, made if it is missing, and open the file.

        Raises DirectoryInUse while another agent has it open, StorageRefused when the disk does not take it.
        """
        try:
            await self._volume.lock()
        except OSError as exc:
            raise StorageRefused(f"the data directory cannot be used: {exc}") from exc
        try:
            await self._open()
        except BaseException as exc:
            self._volume.release()
            if isinstance(exc, sqlite3.Error | OSError):
                raise _refused(exc) from exc
            raise

    async def close(self) -> None:
        """Wait for the transaction under way, then close the file and release the directory."""
        self._closing = True
        async with self._turn:
            try:
                await self._conn.close()
            finally:
                self._volume.release()

    @property
    def size_bytes(self) -> int:
        """What the file takes on disk, its write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def transact(
        self, work: Work[T], then: Callable[[T], None] | None = None, found: Work[T | None] | None = None
    ) -> T:
        """Run `work` and commit; then `then`, before anyone else's turn. Raises StorageRefused: nothing was kept.

        A commit that fails is neither kept nor lost: the file is opened anew, and what `found` finds of the
        transaction is the result (P15); None means nothing.
        """
        return await asyncio.shield(asyncio.create_task(self._transact(work, then, found)))

    async def _transact(self, work: Work[T], then: Callable[[T], None] | None, found: Work[T | None] | None) -> T:
        async with self._turn:
            try:
                result = await work(self._conn)
            except BaseException as exc:
                await self._roll_back()
                if isinstance(exc, sqlite3.Error):
                    raise _refused(exc) from exc
                raise
            try:
                await self._conn.commit()
            except sqlite3.Error as exc:
                outcome = await self._look(found)
                if outcome is None:
                    raise _refused(exc) from exc
                return outcome
            if then:
                then(result)
            return result

    async def _roll_back(self) -> None:
        try:
            await self._conn.rollback()
        except sqlite3.Error:
            await self._look(None)

    async def _look(self, found: Work[T | None] | None) -> T | None:
        """Open the file anew and look, as often as it takes: until then nobody knows, so nobody is answered."""
        while True:
            try:
                await self._conn.close()
                await self._open()
                return await found(self._conn) if found else None
            except (sqlite3.Error, OSError) as exc:
                if self._closing:
                    raise _refused(exc) from exc
                await self._clock.sleep(_LOOK_AGAIN_S)

    async def _open(self) -> None:
        self._conn = conn = self._connect(self.path)
        try:
            await conn
            await conn.execute("PRAGMA journal_mode = WAL")
            await conn.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged rows in a power cut
            await conn.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            await self._opened(conn)
            await self._volume.sync()
        except BaseException:
            await conn.close()
            raise


def _refused(exc: Exception) -> StorageRefused:
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    return StorageRefused(f"the buffer takes nothing now: {exc} ({name})")
