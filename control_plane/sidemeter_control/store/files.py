"""The database as a file: whether it is ours and sound, a copy of it while it is written to, another in its place.

Nothing here deletes what it did not make. Every change of a name is one step of a sequence that can end anywhere: a
start after it goes on from there (see `finish`).
"""

import fcntl
import logging
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from sidemeter_control.errors import DatabaseUnfit, StoreUnavailable
from sidemeter_control.store.archived import EVERY, ArchiveFile
from sidemeter_control.store.schema import revisions

__all__ = [
    "CHECKED_AT_START_BYTES",
    "FREE_BYTES",
    "Contents",
    "LogIndex",
    "Report",
    "archive",
    "check",
    "check_at_start",
    "copy",
    "finish",
    "is_held",
    "leftovers",
    "lock",
    "private",
    "put_in_place",
    "revision",
    "sync_directory",
]

Report = Callable[[str, int, int], None]
"""Takes the step under way, how much of it is done, and how much there is."""

CHECKED_AT_START_BYTES: Final = 256 * 1024 * 1024
"""A larger file is not read through at every start, which would take longer than a second; backups are, always."""

FREE_BYTES: Final = 64 * 1024 * 1024
"""What a copy leaves free on the disk that it shares with the database: a full one would stop ingest."""

_MAGIC = b"SQLite format 3\0"
_PAGES = 1000
_CHUNK = 1024 * 1024
# In the header of an SQLite file: the user version, which holds the checksum of a backup, and the application's id.
_CHECKSUM, _APPLICATION = 60, 68
_BACKUP = b"SMCP"
_NO_MARKS = bytes(4), bytes(4)  # of a database file that somebody copied by hand
_COMPANIONS = ("", "-wal", "-shm")
_INDEX_BYTES = 256 * 1024
"""The index of a log of 130 MB, which is checkpointed eight times before it is that long."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database file holds. `revision`: its schema's; `received_at_us`: when its last event came; `archive`: the files
    beside it that it needs."""

    revision: str
    generation: str
    events: int
    received_at_us: int | None
    size: int
    archive: tuple[ArchiveFile, ...] = ()


class LogIndex:
    """The room on the disk for the index of the write-ahead log, which SQLite has in memory that is mapped to a file.

    SQLite takes room for each page of that memory, but only one block of it. Where blocks are smaller than pages, as on
    small disks, the first store into the others takes theirs, and if the disk is full by then, it ends the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = f"{path}-shm"
        self._held: int | None = None

    def take(self) -> None:
        """Take all the room at once. For every new writer: the file goes with the last connection, and another comes."""
        try:
            if self._held is not None and os.path.samestat(os.fstat(self._held), os.stat(self._path)):  # noqa: PTH116
                return
            self.close()
            self._held = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            os.posix_fallocate(self._held, 0, _INDEX_BYTES)
        except OSError as exc:
            _log.warning(
                "%s: no room for the whole index of the log, a full disk may end the process: %s", self._path, exc
            )

    def close(self) -> None:
        """Once SQLite has closed the file, or it is gone: this lets go of every lock that the process has on it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def lock(path: Path) -> int:
    """Make the directory, and hold the lock beside the file; StoreUnavailable when another process holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror}; the control plane must be able to write there") from exc
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(held)
        raise StoreUnavailable(f"{path}: another process has the database open") from exc
    return held


def is_held(path: Path) -> bool:
    """Whether another process has the database open."""
    try:
        beside = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror}") from exc
    try:
        fcntl.flock(beside, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(beside)
    return False


def check_at_start(path: Path) -> None:
    """DatabaseUnfit, naming the file and the way out, unless it is a sound database of ours, or empty.

    For the holder of the lock, before anything else opens the file.
    """
    try:
        with _as_unfit(path), _opened(path, "rw") as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                return
            _check_schema(path, connection)
            if path.stat().st_size <= CHECKED_AT_START_BYTES:
                _check_pages(path, connection)
    except DatabaseUnfit as exc:
        raise DatabaseUnfit(path, f"{exc.rule}; put a backup in its place: sidemeter-control restore FILE") from exc


def check(path: Path, report: Report) -> Contents:
    """What a backup, or any closed database file of ours, holds; DatabaseUnfit when it is not sound in every page."""
    if not path.is_file():
        raise DatabaseUnfit(path, "there is no such file")
    size = path.stat().st_size
    with _as_unfit(path):
        with path.open("rb") as file:
            header = file.read(100)
        if not header.startswith(_MAGIC):
            raise DatabaseUnfit(path, "is no database")
        marks = header[_APPLICATION : _APPLICATION + 4], header[_CHECKSUM : _CHECKSUM + 4]
        if marks != _NO_MARKS and marks != (_BACKUP, _checksum(path, report)):
            raise DatabaseUnfit(path, "is damaged: its bytes are not those that were written")
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise DatabaseUnfit(path, f"is only a part: {log.name} beside it holds the rest, so it is no backup")
        with _opened(path, "ro&immutable=1") as connection:  # leaves no companions beside it
            revision = _check_schema(path, connection)
            report("checking every page", 0, 1)
            _check_pages(path, connection)
            report("checking every page", 1, 1)
            (generation,) = connection.execute("SELECT generation FROM state").fetchone()
            events, received_at_us = connection.execute("SELECT count(*), max(received_at_us) FROM events").fetchone()
            archive = _archive(connection)
    return Contents(revision, generation, events, received_at_us, size, archive)


def copy(source: Path, target: Path, report: Report) -> None:
    """Copy the database as it is at this instant into `target`, new or empty, while others read and write it.

    StoreUnavailable when there is no room, or the source cannot be read; `target` is then gone again. The copy carries
    a checksum, and is durable when this returns. What `report` raises ends it.
    """
    try:
        _check_room(target.parent, source.stat().st_size)
        private(target).close()
        with _opened(source, "ro") as read, _opened(target, "rw") as written:
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot is taken here
            read.backup(
                written,
                pages=_PAGES,
                progress=lambda _, left, pages: report("copying", pages - left, pages),
                sleep=0.05,
            )
            read.execute("ROLLBACK")
            written.execute("PRAGMA journal_mode = DELETE").close()  # one file, complete in itself
        _mark(target, _BACKUP, _checksum(target, report))
        _sync(target)
    except BaseException as exc:
        target.unlink(missing_ok=True)
        if isinstance(exc, sqlite3.Error | OSError):
            raise StoreUnavailable(f"the copy failed: {exc}") from exc
        raise


def put_in_place(source: Path, path: Path, generation: str, stamp: str, report: Report) -> Path | None:
    """Put a checked backup in the place of the database at `path`, as `generation`, for the holder of the lock.

    What was there is moved aside, to the file answered (None: nothing was). `stamp` tells it from others moved aside.
    """
    _check_room(path.parent, source.stat().st_size)
    stamp = _unused(path, stamp)
    fresh = Path(f"{path}.restoring")
    fresh.unlink(missing_ok=True)
    _copy_bytes(source, fresh, report)
    with _as_unfit(source):
        _mark(fresh, *_NO_MARKS)
        with _opened(fresh, "rw") as connection:
            connection.execute("PRAGMA journal_mode = DELETE").close()
            connection.execute("UPDATE state SET generation = ?", (generation,)).close()
    _sync(fresh)
    fresh.rename(f"{path}.restored-{stamp}")  # from here on it is done, whatever happens: see `finish`
    sync_directory(path.parent)
    return finish(path)


def finish(path: Path) -> Path | None:
    """End what `put_in_place` began, should it have been cut short, and clear away copies that nobody finished.

    Answers what the database that was there is called now, None where nothing was moved.
    """
    for left in (*path.parent.glob(f"{_escaped(path.name)}.copy-*"), Path(f"{path}.restoring")):
        left.unlink(missing_ok=True)
    aside = None
    for restored in sorted(path.parent.glob(f"{_escaped(path.name)}.restored-*")):
        aside = Path(f"{path}.aside-{restored.name.rpartition('.restored-')[2]}")
        for companion in _COMPANIONS:
            with suppress(FileNotFoundError):
                Path(f"{path}{companion}").rename(f"{aside}{companion}")
        # Its log must be gone for good first: SQLite would write that into the new file.
        sync_directory(path.parent)
        restored.rename(path)
        sync_directory(path.parent)
    return aside if aside is not None and aside.exists() else None


def revision(path: Path) -> str:
    """The version of the schema of a database that nobody has open; DatabaseUnfit when it is not one of ours."""
    with _as_unfit(path), _opened(path, "ro&immutable=1") as connection:  # leaves no companions beside it
        return _check_schema(path, connection)


def archive(path: Path, *, running: bool) -> tuple[ArchiveFile, ...]:
    """The files of archived events that a database of ours needs; DatabaseUnfit when it is none."""
    with _as_unfit(path), _opened(path, "ro" if running else "ro&immutable=1") as connection:
        return _archive(connection)


def _archive(connection: sqlite3.Connection) -> tuple[ArchiveFile, ...]:
    known = "SELECT count(*) FROM sqlite_master WHERE name = 'archive_files'"
    if connection.execute(known).fetchone() == (0,):
        return ()
    return tuple(ArchiveFile(*row) for row in connection.execute(f"{EVERY} ORDER BY number"))


def leftovers(path: Path) -> list[Path]:
    """What restores and copies left beside the database, cut short or moved aside."""
    name = _escaped(path.name)
    return [
        each for kind in ("copy-*", "restoring", "restored-*", "aside-*") for each in path.parent.glob(f"{name}.{kind}")
    ]


def sync_directory(directory: Path) -> None:
    """Make the names in it durable."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _escaped(name: str) -> str:
    return "".join(f"[{each}]" if each in "*?[" else each for each in name)


def _unused(path: Path, stamp: str) -> str:
    """The stamp, or one with a number, under which nothing lies aside yet."""
    number, unused = 1, stamp
    while any(Path(f"{path}.aside-{unused}{companion}").exists() for companion in _COMPANIONS):
        number += 1
        unused = f"{stamp}-{number}"
    return unused


def _check_room(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size + FREE_BYTES:
        raise StoreUnavailable(f"{directory}: {free} bytes are free, and a copy needs {size + FREE_BYTES}")


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection of its own. One that only reads neither checkpoints nor recovers a log."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


@contextmanager
def _as_unfit(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        if "not a database" in str(exc):
            raise DatabaseUnfit(path, "is no database") from exc
        if "readonly" in str(exc) or "unable to open" in str(exc):
            raise DatabaseUnfit(path, f"cannot be opened: {exc}") from exc
        raise DatabaseUnfit(path, f"is damaged: {exc}") from exc
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror}") from exc


def _check_schema(path: Path, connection: sqlite3.Connection) -> str:
    """The version of its schema; DatabaseUnfit unless it is one of ours."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"alembic_version", "state", "events", "rollups", "agent_epochs"} <= tables:
        raise DatabaseUnfit(path, "is a database of something else")
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    revision = str(found[0]) if found else "none"
    if revision not in revisions():
        raise DatabaseUnfit(path, f"was made by a newer version, with schema {revision}: start that version")
    return revision


def _check_pages(path: Path, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DatabaseUnfit(path, f"is damaged: {' '.join(found.split())}")


def _copy_bytes(source: Path, target: Path, report: Report) -> None:
    size = source.stat().st_size
    with source.open("rb") as read, private(target) as written:
        while chunk := read.read(_CHUNK):
            written.write(chunk)
            report("copying", written.tell(), size)


def private(path: Path) -> BinaryIO:
    """The file, open to be written; made where it is missing, for its owner alone."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


def _checksum(path: Path, report: Report) -> bytes:
    """The CRC-32 of the file, its own place taken as zero."""
    size, crc = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if file.tell() == len(chunk):
                chunk = (
                    chunk[:_CHECKSUM]
                    + bytes(4)
                    + chunk[_CHECKSUM + 4 : _APPLICATION]
                    + _BACKUP
                    + chunk[_APPLICATION + 4 :]
                )
            crc = zlib.crc32(chunk, crc)
            report("adding up", file.tell(), size)
    return crc.to_bytes(4)


def _mark(path: Path, application: bytes, checksum: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(_CHECKSUM)
        file.write(checksum)
        file.seek(_APPLICATION)
        file.write(application)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
