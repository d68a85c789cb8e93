"""One SQLite file that one process writes: its connection, and transactions that end one way or the other."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import aiosqlite

from sidemeter.clock import Clock
from sidemeter.damaged import Damaged
from sidemeter.errors import StorageRefused
from sidemeter.volume import Volume, is_full

__all__ = ["PAGE_BYTES", "WAL_PAGES", "Connect", "Database", "Keeper", "Work"]

log = logging.getLogger(__name__)

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

SHORT_WAL_PAGES: Final = 256
"""As many while the disk is full: the room that the ballast left has to do for long."""

_NOT_KEPT: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE"})
"""Errors of a commit before its last page was written: only what comes after that leaves in doubt whether it is kept."""


_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
"""Errors that only the bytes of the file can bring. The primary code is the last byte of an extended one."""

_NOT_THE_FILE: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOLFS,
    }
)
"""Errors of the disk or the machine. While a file is opened, before anything is asked of it, all others are the file's."""


_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""The second comes when a damaged text is read, or stands in the message of an error."""


class Keeper(Protocol):
    """Who knows what the file must hold."""

    def before(self) -> None:
        """Look at the file before it is opened. Blocks; raises Damaged, StorageRefused, OSError."""

    async def opened(self, conn: aiosqlite.Connection) -> None:
        """Prepare the file, and look what it holds. Raises Damaged, StorageRefused, sqlite3.Error."""

    def give_up_file(self, damage: Damaged) -> None:
        """Move the file aside, so that the next one opened is new. Blocks; raises OSError."""

    def closed(self) -> None:
        """The file is closed, and still locked. Blocks."""


class Database:
    """The file `path`, locked and open from `open` to `close`, under the eyes of its keeper.

    Every transaction runs in a task of its own: a caller that is cancelled can neither stop it half-way nor leave it
    open, and whoever comes next waits for its end.

    `refusing` says why the disk has no room to record more. Then the ballast is gone, for all other transactions, until
    `tend` finds room for it.
    """

    def __init__(self, path: Path, volume: Volume, clock: Clock, connect: Connect, keeper: Keeper) -> None:
        self.path = path
        self._volume = volume
        self._clock = clock
        self._connect = connect
        self._keeper = keeper
        self._turn = asyncio.Lock()
        self._closing = False
        self._conn: aiosqlite.Connection | None = None
        self.refusing: str | None = None

    async def open(self) -> None:
        """Lock the directory, made if it is missing, and open the file.

        Raises DirectoryInUse while another agent has it open, StorageRefused when the disk does not take it.
        """
        try:
            await self._volume.lock()
        except OSError as exc:
            raise StorageRefused(f"the data directory cannot be used: {exc}") from exc
        try:
            await self._open_sound()
            await self.tend()
        except BaseException as exc:
            await self._shut()
            await asyncio.to_thread(self._keeper.closed)
            self._volume.release()
            if isinstance(exc, sqlite3.Error | OSError):
                raise _refused(exc) from exc
            raise

    async def tend(self) -> None:
        """Take the ballast, unless it is there: with it, recording begins again."""
        async with self._turn:
            try:
                await self._volume.take_ballast()
            except OSError as exc:
                self._refuse(exc)
                await self._shorten_log()
                return
            if self.refusing is not None:
                self.refusing = None
                log.warning("the disk of %s has room again: events are recorded", self._volume.directory)
                if self._conn is not None:
                    with contextlib.suppress(sqlite3.Error):  # it only saves time
                        await self._conn.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")

    async def close(self) -> None:
        """Wait for the transaction under way, then close the file and release the directory."""
        self._closing = True
        async with self._turn:
            try:
                await self._shut()
                await asyncio.to_thread(self._keeper.closed)
            finally:
                self._volume.release()

    @property
    def size_bytes(self) -> int:
        """What the file takes on disk, its write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def transact(
        self,
        work: Work[T],
        then: Callable[[T], None] | None = None,
        found: Work[T | None] | None = None,
        *,
        recording: bool = False,
    ) -> T:
        """Run `work` and commit; then `then`, before anyone else's turn. Raises StorageRefused: nothing was kept.

        A commit that fails is neither kept nor lost: the file is opened anew, and what `found` finds of the
        transaction is the result (P15); None means nothing. What finds the disk full is tried once more with the room
        of the ballast, unless it is `recording`. When the file turns out to be damaged, a new one takes its place; what
        is `recording` is done again there.
        """
        return await asyncio.shield(asyncio.create_task(self._transact(work, then, found, recording)))

    async def _transact(
        self, work: Work[T], then: Callable[[T], None] | None, found: Work[T | None] | None, recording: bool
    ) -> T:
        async with self._turn:
            had_ballast = self._volume.has_ballast
            try:
                return await self._attempt(work, then, found)
            except Damaged as exc:
                await self._rebuild(exc)
                if not recording:
                    raise StorageRefused(f"the buffer was damaged, and is begun anew: {exc}") from exc
            except StorageRefused:
                if recording or not had_ballast or self._volume.has_ballast:
                    raise
            try:
                return await self._attempt(work, then, found)
            except Damaged as exc:
                raise _refused(exc) from exc

    async def _attempt(self, work: Work[T], then: Callable[[T], None] | None, found: Work[T | None] | None) -> T:
        conn = await self._opened_before()
        try:
            result = await work(conn)
        except BaseException as exc:
            await self._roll_back(conn)
            if isinstance(exc, _ERRORS):
                raise await self._refusal(exc) from exc
            raise
        try:
            await conn.commit()
        except sqlite3.Error as exc:
            if _name(exc) in _NOT_KEPT:
                await self._roll_back(conn)
                raise await self._refusal(exc) from exc
            refusal = await self._refusal(exc)
            outcome = await self._look(found)
            if outcome is None:
                raise refusal from exc
            return outcome
        if then:
            then(result)
        return result

    async def _opened_before(self) -> aiosqlite.Connection:
        """The connection; opened now if the file could not be replaced, or opened again, when that was needed."""
        if self._conn is None:
            try:
                await self._open_sound()
            except (sqlite3.Error, OSError) as exc:
                raise _refused(exc) from exc
        if self._conn is None:
            raise StorageRefused("the buffer is closed")
        return self._conn

    async def _refusal(self, exc: Exception) -> StorageRefused:
        """What to tell of an error of the disk. If the disk is full, the ballast goes to make room for the rest.

        Raises Damaged for an error of the file.
        """
        if _is_damage(exc):
            raise Damaged(f"{exc} ({_name(exc)})") from exc
        said = await self._volume.probe()
        if _name(exc) == "SQLITE_FULL" or (said is not None and is_full(said)):
            self._refuse(said or exc)
            await self._drop_ballast()
            await self._shorten_log()
        return _refused(exc, said)

    def _refuse(self, exc: Exception) -> None:
        if self.refusing is None:
            log.warning("the disk of %s is full, no events are recorded: %s", self._volume.directory, exc)
        self.refusing = str(exc)

    async def _drop_ballast(self) -> None:
        try:
            await self._volume.drop_ballast()
        except OSError as exc:
            log.warning("the ballast cannot be removed: %s", exc)

    @property
    def _wal_pages(self) -> int:
        pages = self._volume.ballast_bytes * 2 // 3 // PAGE_BYTES
        return min(WAL_PAGES, pages) if self.refusing is None else SHORT_WAL_PAGES

    async def _shorten_log(self) -> None:
        if self._conn is None:
            return
        with contextlib.suppress(sqlite3.Error):  # whoever needs the room will see that it is not there
            await self._conn.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")
            await self._empty_log(self._conn)

    async def _empty_log(self, conn: aiosqlite.Connection) -> None:
        ((busy, _, _),) = await conn.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise sqlite3.OperationalError("the write-ahead log is in use")

    async def _roll_back(self, conn: aiosqlite.Connection) -> None:
        try:
            await conn.rollback()
        except sqlite3.Error:
            await self._look(None)

    async def _look(self, found: Work[T | None] | None) -> T | None:
        """Open the file anew and look, as often as it takes: until then nobody knows, so nobody is answered."""
        told = False
        while True:
            try:
                return await self._look_once(found)
            except (*_ERRORS, OSError) as exc:
                if _is_damage(exc):
                    raise Damaged(f"{exc} ({_name(exc)})") from exc
                if self._closing:
                    raise _refused(exc) from exc
                if not told:
                    log.warning("whether the last events are kept is not known until the file opens: %s", exc)
                    told = True
                await self._clock.sleep(_LOOK_AGAIN_S)

    async def _look_once(self, found: Work[T | None] | None) -> T | None:
        await self._shut()
        conn = await self._open_on_any_disk()
        outcome = await found(conn) if found else None
        if outcome is not None:
            await self._empty_log(conn)  # a sync that failed may leave in memory what a second one then passes over
        return outcome

    async def _rebuild(self, damage: Damaged) -> None:
        """Put a new file in the place of this one."""
        try:
            await self._give_up(damage)
            await self._open_sound()
        except (sqlite3.Error, OSError) as exc:
            raise _refused(exc) from exc

    async def _give_up(self, damage: Damaged) -> None:
        """Move the file aside while it is open: closing it first would change what salvage reads."""
        await asyncio.to_thread(self._keeper.give_up_file, damage)
        with contextlib.suppress(sqlite3.Error):  # it is moved as it was
            await self._shut()

    async def _open_sound(self) -> None:
        """Open the file, or a new one if it is not what it must be."""
        try:
            await self._open_on_any_disk()
        except Damaged as exc:
            await self._give_up(exc)
            try:
                await self._open_on_any_disk()
            except Damaged as again:
                raise _refused(again) from again

    async def _open_on_any_disk(self) -> aiosqlite.Connection:
        """Open the file, on a full disk with the room of the ballast."""
        try:
            return await self._open()
        except (sqlite3.Error, OSError) as exc:
            said = await self._volume.probe()
            if said is None or not is_full(said):
                raise
            self._refuse(exc)
            await self._drop_ballast()
            return await self._open()

    async def _open(self) -> aiosqlite.Connection:
        await asyncio.to_thread(self._keeper.before)
        self._conn = conn = self._connect(self.path)
        try:
            await conn
            await conn.execute("PRAGMA journal_mode = WAL")
            await conn.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged rows in a power cut
            await conn.execute("PRAGMA temp_store = MEMORY")  # the disk of /tmp can be full as well
            await conn.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")
            await self._keeper.opened(conn)
            await self._volume.sync()
            if self.refusing is not None:
                await self._shorten_log()
        except Damaged:
            raise  # and stay open, see `_give_up`
        except _ERRORS as exc:
            if _primary_code(exc) not in _NOT_THE_FILE:
                raise Damaged(f"it cannot be opened: {exc} ({_name(exc)})") from exc
            await self._shut()
            raise
        except BaseException:
            await self._shut()
            raise
        return conn

    async def _shut(self) -> None:
        if self._conn is not None:
            conn, self._conn = self._conn, None
            await conn.close()


def _is_damage(exc: Exception) -> bool:
    code = _primary_code(exc)
    return code in _DAMAGE or (code is None and "decode" in str(exc))


def _primary_code(exc: Exception) -> int | None:
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _name(exc: Exception) -> str:
    return getattr(exc, "sqlite_errorname", type(exc).__name__)


def _refused(exc: Exception, said: OSError | None = None) -> StorageRefused:
    why = f"; a write to the directory says: {said}" if said else ""
    return StorageRefused(f"the buffer takes nothing now: {exc} ({_name(exc)}){why}")
