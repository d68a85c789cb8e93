"""The database as one file: one connection writes, a pool of connections reads snapshots beside it.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint at once. So the writer is a
pool of one, readers may only query, and a lock file keeps every other process out.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sidemeter_control.errors import SettingsError, StoreUnavailable
from sidemeter_control.store import files
from sidemeter_control.store.archive import OPTION, Archive
from sidemeter_control.store.database import MAX_WAIT_S, READERS, Database, named, translated
from sidemeter_control.store.driving import ASYNC_SQLITE, COMPILED, SQLITE
from sidemeter_control.store.rollups import exact_sum
from sidemeter_control.store.snapshot import Snapshot, SqliteSnapshot
from sidemeter_control.store.witness import Witness

__all__ = ["SqliteDatabase", "archive_beside", "sqlite_path"]

_log = logging.getLogger(__name__)

# FULL: only then does a commit survive a power cut in WAL mode (P1). The cache is 64 MiB; 4,000 pages are 16 MiB of log
# between checkpoints, so that a batch of 5,000 events does not pay for one each time. What a savepoint may have to undo
# stays in memory: SQLite would write it to /var/tmp, a disk that nobody watches, for every batch.
_WRITER = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA user_version",  # the first look at the file makes the index of its log
)
_CONNECT: dict[str, Any] = {"isolation_level": None, "timeout": MAX_WAIT_S, "cached_statements": 512}
_READER = ("PRAGMA query_only = ON", "PRAGMA cache_size = -32768")


class SqliteDatabase(Database):
    """See `Database`. `witness` is the file beside it that is no part of it."""

    def __init__(self, path: Path, lock: int, max_wait_s: float, archive: Path) -> None:
        known = dict(COMPILED) | {OPTION: Archive(archive)}
        writer = _engine(path, "BEGIN IMMEDIATE", _WRITER, max_wait_s, known, connections=1)
        super().__init__(str(path), writer, Witness(Path(f"{path}.holders")), known[OPTION])
        self._path = path
        self._max_wait_s = max_wait_s
        self._index = files.LogIndex(path)
        event.listen(self._writer.sync_engine, "connect", lambda *_: self._index.take())
        self._reader = _engine(path, "BEGIN", _READER, max_wait_s, known, connections=READERS)
        self._snapshots = _sync_engine(path, known)
        self._threads = ThreadPoolExecutor(READERS, "sidemeter-reader")
        self._turns = asyncio.Semaphore(READERS)
        self._idle: list[Connection] = []
        self._lock = lock

    @classmethod
    async def at(cls, url: str, max_wait_s: float = MAX_WAIT_S, *, archive: str | None = None) -> Self:
        """Open the database at `url`, making its file (0600) and directory where they are missing.

        SettingsError when the URL is not one, StoreUnavailable when another process has the database open or the
        directory cannot be written, DatabaseUnfit when there is something else than a sound database of this version.
        """
        path = sqlite_path(url)
        lock = files.lock(path)
        try:
            _prepare(path)
        except BaseException:
            os.close(lock)
            raise
        database = cls(path, lock, max_wait_s, Path(archive) if archive else archive_beside(path))
        try:
            with named(database.name):
                async with database.write():
                    return database  # the writer comes first: it alone recovers the log that a crash left
        except BaseException:
            await database.close()
            raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One snapshot of the database: every query in the block sees the same state."""
        with translated():
            async with self._reader.connect() as conn:
                await conn.begin()
                yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """As `read`, for many statements: each question to the snapshot is answered as a whole.

        The connection that was used last is used first: it remembers most.
        """
        with translated():
            await self._turn()
            try:
                connection = self._idle.pop() if self._idle else self._snapshots.connect()
                raw: Any = connection.connection.driver_connection
                try:
                    raw.execute("BEGIN").close()
                    yield SqliteSnapshot(connection, self._threads)
                    if connection.in_transaction():  # a statement of SQLAlchemy's own took the transaction for its
                        connection.rollback()
                    else:
                        raw.rollback()
                except BaseException:
                    connection.close()
                    raise
                self._idle.append(connection)
            finally:
                self._turns.release()

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(self._max_wait_s):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise StoreUnavailable("no turn came in time") from exc

    async def copy_to(self, target: Path, report: files.Report) -> None:
        """Copy all that is committed now into the new file `target`; reading and writing go on. See `files.copy`."""
        cancelled = False

        def reported(step: str, done: int, total: int) -> None:
            if cancelled:
                raise asyncio.CancelledError
            report(step, done, total)

        copying = asyncio.get_running_loop().run_in_executor(None, files.copy, self._path, target, reported)
        try:
            await asyncio.wait([copying])
        except asyncio.CancelledError:
            cancelled = True
            await asyncio.wait([copying])
            if copying.exception() is None:  # it was whole before it heard of it
                target.unlink()  # noqa: ASYNC240 -- one entry of a directory
            raise
        copying.result()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def close(self) -> None:
        """Close every connection, readers first: the last one out checkpoints, and that is the writer's part."""
        self._threads.shutdown()
        while self._idle:
            self._idle.pop().close()
        await self._reader.dispose()
        await self._writer.dispose()
        self._index.close()
        os.close(self._lock)


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///PATH` URL (`sqlite:////PATH` is absolute), else SettingsError.

    >>> sqlite_path("sqlite:////var/lib/sidemeter/control.db")
    PosixPath('/var/lib/sidemeter/control.db')
    """
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.endswith("/") or "?" in path or "\0" in path:
        raise SettingsError("database", "must be sqlite:///PATH, or sqlite:////PATH for an absolute path")
    return Path(path)


def _prepare(path: Path) -> None:
    """End a restore that was cut short, make the file where there is none, and see that it is fit to be opened."""
    aside = files.finish(path)
    if aside is not None:
        _log.warning("a restore is ended now; the database that was there before is %s", aside)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror}; the control plane must be able to write it") from exc
    files.check_at_start(path)


def archive_beside(path: Path) -> Path:
    """Where the archive of that database is unless a setting says so."""
    return Path(f"{path}.archive")


def _engine(
    path: Path, begin: str, pragmas: tuple[str, ...], max_wait_s: float, known: Mapping[str, Any], *, connections: int
) -> AsyncEngine:
    engine = create_async_engine(
        URL.create(ASYNC_SQLITE, database=str(path)),
        connect_args=_CONNECT,
        execution_options=known,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=max_wait_s,
        pool_reset_on_return=None,  # every transaction here ends before its connection returns
    )
    _set_up(engine.sync_engine, pragmas)

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _sync_engine(path: Path, known: Mapping[str, Any]) -> Engine:
    engine = create_engine(
        URL.create(SQLITE, database=str(path)),
        connect_args=_CONNECT | {"check_same_thread": False},
        execution_options=known,
        poolclass=NullPool,
    )
    _set_up(engine, _READER)
    return engine


def _set_up(engine: Engine, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        connection.create_function("exact_sum", 2, exact_sum, deterministic=True)
        for pragma in pragmas:
            connection.execute(pragma).close()
