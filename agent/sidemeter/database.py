"""One SQLite file that one process writes: its connection, and transactions that end one way or the other."""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import aiosqlite

from sidemeter.clock import Clock
from sidemeter.damaged import Damaged
from sidemeter.errors import DirectoryInUse, InDoubt, StorageRefused
from sidemeter.verdicts import ERRORS, is_damage, is_damage_at_opening, is_not_kept, is_unreadable, name_of, refused
from sidemeter.volume import Volume, is_full

__all__ = ["PAGE_BYTES", "WAL_PAGES", "Connect", "Database", "Keeper", "Work"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Connect = Callable[[Path], aiosqlite.Connection]
Work = Callable[[aiosqlite.Connection], Awaitable[T]]
"""What one transaction does; it never commits."""

_LOOK_AGAIN_S: Final = 0.2

_MARK: Final = "mark"

PAGE_BYTES: Final = 4096
"""SQLite's default, which every buffer is made with."""

WAL_PAGES: Final = 4096
"""Pages in the write-ahead log before a commit also moves them into the file, and waits for that. SQLite's own
1,000 are reached 20 times a second by arrays of events, and each makes the callers wait 3 to 20 ms."""

SHORT_WAL_PAGES: Final = 256
"""As many while the disk is full: the room that the ballast left has to do for long."""

_AWAY: Final = (sqlite3.Error, OSError, DirectoryInUse, StorageRefused)
"""Why a directory that was taken away cannot be had again."""


class Keeper(Protocol):
    """Who knows what the file must hold."""

    def before(self) -> None:
        """Look at the file before it is opened. Blocks; raises Damaged, StorageRefused, OSError."""

    async def opened(self, conn: aiosqlite.Connection) -> None:
        """Prepare the file, and look what it holds. Raises Damaged, StorageRefused, sqlite3.Error."""

    def give_up_file(self, damage: Damaged) -> None:
        """Move the file aside, so that the next one opened is new. Blocks; raises OSError."""

    def make_way(self, *, foreign: bool, own_mark: bool) -> None:
        """Prepare the directory for a copy of the open file; what is there may be `foreign`. Blocks; raises OSError."""

    def forget(self) -> None:
        """Another process has the file. Blocks."""

    def closed(self) -> None:
        """The file is closed, and still locked. Blocks."""


class Database:
    """The file `path`, locked and open from `open` to `close`, under the eyes of its keeper.

    Every transaction runs in a task of its own: a caller that is cancelled can neither stop it half-way nor leave it
    open, and whoever comes next waits for its end.

    `doubt` says why nobody knows what the file holds: a commit failed, and the file does not open. `on_doubt` hears of it.
    `refusing` says why the disk has no room to record more. Then the ballast is gone, for all other transactions, until
    `tend` finds room for it. `displaced` says why the directory cannot be had again after somebody took it away: nothing
    is recorded, and what was goes on from the open file, until `tend` can write it there.
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
        self._locked_out = False
        self._opens = 0
        self.refusing: str | None = None
        self.displaced: str | None = None
        self.doubt: str | None = None
        self.on_doubt: Callable[[], None] = lambda: None

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
                raise refused(exc) from exc
            raise

    async def tend(self) -> None:
        """Come back to a directory that was taken away. Take the ballast, unless it is there: then recording begins again."""
        async with self._turn:
            if self._volume.is_displaced() or self._locked_out:
                await self._return()
            if self.displaced is not None:
                return
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

    def look_no_more(self) -> None:
        """A transaction in doubt shall end at its next failure to open the file, with InDoubt."""
        self._closing = True

    async def close(self) -> None:
        """Wait for the transaction under way, then close the file and release the directory."""
        self.look_no_more()
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
        undo: Work[None] | None = None,
    ) -> T:
        """Run `work` and commit; then `then`, before anyone else's turn. Raises StorageRefused: nothing was kept; and
        InDoubt after `look_no_more`.

        A commit that fails is neither kept nor lost: the file is opened anew, and what `found` finds of the
        transaction is the result (P15); None means nothing. What finds the disk full is tried once more with the room
        of the ballast, unless it records: that is what has an `undo`, which takes it back where it cannot stay. When the
        file turns out to be damaged, a new one takes its place; what records is done again there.
        """
        return await asyncio.shield(asyncio.create_task(self._transact(work, then, found, undo)))

    async def _transact(
        self,
        work: Work[T],
        then: Callable[[T], None] | None,
        found: Work[T | None] | None,
        undo: Work[None] | None,
    ) -> T:
        recording = undo is not None
        async with self._turn:
            if self._locked_out or (recording and self.displaced is not None):
                raise StorageRefused(f"the data directory was taken away: {self.displaced}")
            had_ballast = self._volume.has_ballast
            try:
                return await self._attempt(work, then, found, undo)
            except Damaged as exc:
                await self._rebuild(exc)
                if not recording:
                    raise StorageRefused(f"the buffer was damaged, and is begun anew: {exc}") from exc
            except StorageRefused:
                if recording or not had_ballast or self._volume.has_ballast:
                    raise
            try:
                return await self._attempt(work, then, found, undo)
            except Damaged as exc:
                raise refused(exc) from exc

    async def _attempt(
        self,
        work: Work[T],
        then: Callable[[T], None] | None,
        found: Work[T | None] | None,
        undo: Work[None] | None,
    ) -> T:
        conn = await self._opened_before()
        try:
            result = await work(conn)
        except BaseException as exc:
            await self._roll_back(conn)
            if isinstance(exc, ERRORS):
                raise await self._refusal(exc) from exc
            raise
        try:
            await conn.commit()
        except sqlite3.Error as exc:
            if is_not_kept(exc):
                await self._roll_back(conn)
                raise await self._refusal(exc) from exc
            refusal = await self._refusal(exc)
            outcome = await self._look(found)
            if outcome is None:
                raise refusal from exc
            return outcome
        opens = self._opens
        if self._volume.is_displaced() and self.displaced is None:
            await self._return(undo)
        if then and opens == self._opens and not self._locked_out:  # whoever opens the file counts what is in it
            then(result)
        return result

    # The directory is taken away

    async def _return(self, undo: Work[None] | None = None) -> None:
        """Come back to a directory that was taken away, or keep in mind why that cannot be. What was done then is undone.

        Raises StorageRefused when it is undone.
        """
        while True:
            try:
                await self._come_back()
            except _AWAY as exc:
                if self.displaced is None:
                    log.error("the data directory %s was taken away: %s", self._volume.directory, exc)  # noqa: TRY400 -- no fault of ours
                self.displaced = f"{type(exc).__name__} {exc}"
                self._locked_out = self._conn is None
            else:
                if self.displaced is not None:
                    log.warning("the data directory %s is back", self._volume.directory)
                self.displaced, self._locked_out = None, False
            if self.displaced is None or self._locked_out or undo is None or await self._is_undone(undo):
                break
            await self._clock.sleep(_LOOK_AGAIN_S)
        if undo is not None and self.displaced is not None and not self._locked_out:
            raise StorageRefused(f"the data directory was taken away: {self.displaced}")

    async def _is_undone(self, undo: Work[None]) -> bool:
        conn = await self._opened_before()
        try:
            await undo(conn)
            await conn.commit()
        except sqlite3.Error:
            await self._roll_back(conn)
            return False
        return True

    async def _come_back(self) -> None:
        """Write all that is in the open file to where the directory was, and go on there.

        Raises one of `_AWAY`; then the file is as open as it was, unless another agent has that very file.
        """
        own, own_log, own_mark = (self._volume.is_own(name) for name in (self.path.name, self._log.name, _MARK))
        try:
            await self._volume.lock_again()
        except DirectoryInUse:
            if own and own_log:
                await self._shut()
                await asyncio.to_thread(self._keeper.forget)
            raise
        if self._conn is None:
            await self._open_sound()
            return
        if own and own_log:
            await asyncio.to_thread(self._keeper.make_way, foreign=False, own_mark=own_mark)
            self._hold()
            return
        foreign = not (own or not self.path.exists()) or not (own_log or not self._log.exists())
        log.error("files of %s were taken away: all that is known is written there anew", self._volume.directory)
        if await self._copied(self._conn):
            await asyncio.to_thread(self._keeper.make_way, foreign=foreign, own_mark=own_mark)
            await asyncio.to_thread(self._put_copy)
        else:
            await asyncio.to_thread(self._keeper.make_way, foreign=False, own_mark=own_mark)
        with contextlib.suppress(sqlite3.Error):  # it is of no use any more
            await self._shut()
        await self._open_sound()

    async def _copied(self, conn: aiosqlite.Connection) -> bool:
        """Copy the open file into the directory. False if it cannot be read any more."""
        try:
            await asyncio.to_thread(self._copy.unlink, missing_ok=True)
            await conn.execute("VACUUM INTO ?", (str(self._copy),))
            await asyncio.to_thread(_sync, self._copy)
        except sqlite3.Error as exc:
            if not is_unreadable(exc):
                raise
            log.error("the open buffer cannot be read any more: %s", exc)  # noqa: TRY400 -- no fault of ours
            return False
        return True

    def _put_copy(self) -> None:
        """Give the copy the name of the file. The log has to go before: it would be read into it."""
        self._log.unlink(missing_ok=True)
        self._copy.replace(self.path)
        _sync(self.path.parent)

    @property
    def _copy(self) -> Path:
        return self.path.with_name(f"{self.path.name}.new")

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def _hold(self) -> None:
        self._volume.hold(self.path.name, self._log.name, _MARK)

    async def _opened_before(self) -> aiosqlite.Connection:
        """The connection; opened now if the file could not be replaced, or opened again, when that was needed."""
        if self._conn is None:
            try:
                await self._open_sound()
            except (sqlite3.Error, OSError) as exc:
                raise refused(exc) from exc
        if self._conn is None:
            raise StorageRefused("the buffer is closed")
        return self._conn

    async def _refusal(self, exc: Exception) -> StorageRefused:
        """What to tell of an error of the disk. If the disk is full, the ballast goes to make room for the rest.

        Raises Damaged for an error of the file.
        """
        if is_damage(exc):
            raise Damaged(f"{exc} ({name_of(exc)})") from exc
        said = await self._volume.probe()
        if name_of(exc) == "SQLITE_FULL" or (said is not None and is_full(said)):
            self._refuse(said or exc)
            await self._drop_ballast()
            await self._shorten_log()
        return refused(exc, said)

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
        try:
            while True:
                try:
                    return await self._look_once(found)
                except (*ERRORS, *_AWAY) as exc:
                    if is_damage(exc):
                        raise Damaged(f"{exc} ({name_of(exc)})") from exc
                    if self._closing:
                        raise (InDoubt(f"whether it is kept is not known: {exc}") if found else refused(exc)) from exc
                    if self.doubt is None:
                        log.warning("whether the last events are kept is not known until the file opens: %s", exc)
                        self.doubt = str(exc)
                        self.on_doubt()
                    await self._clock.sleep(_LOOK_AGAIN_S)
        finally:
            self.doubt = None

    async def _look_once(self, found: Work[T | None] | None) -> T | None:
        if self._conn is not None and self._volume.is_displaced():
            await self._come_back()
            conn = await self._opened_before()
        else:
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
            raise refused(exc) from exc

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
                raise refused(again) from again

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
            await conn.execute("PRAGMA locking_mode = EXCLUSIVE")  # its index in memory: mapped, a full disk ends us
            await conn.execute("PRAGMA journal_mode = WAL")
            await conn.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged rows in a power cut
            await conn.execute("PRAGMA temp_store = MEMORY")  # the disk of /tmp can be full as well
            await conn.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")
            await self._keeper.opened(conn)
            await self._volume.sync()
            if self.refusing is not None:
                await self._shorten_log()
            self._hold()
            self._opens += 1
        except Damaged:
            raise  # and stay open, see `_give_up`
        except ERRORS as exc:
            if is_damage_at_opening(exc):
                raise Damaged(f"it cannot be opened: {exc} ({name_of(exc)})") from exc
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
