"""A disk: one data directory, the files in it as a kill or a power cut would leave them, and SQLite as it fails.

The files are real ones in memory and SQLite is the real one, so the buffer, its lock and whatever repairs it run as
they are. What is simulated is when a call returns, whether it fails, and what is there after the end of a process.
"""

import asyncio
import errno
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sidemeter.volume import Volume

from .process import Process
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUFFER", "Connection", "Disk", "Image", "SimVolume", "Weather"]

BUFFER: Final = "buffer.sqlite3"
WAL: Final = BUFFER + "-wal"
_ROOMY: Final = 1 << 40
_LATE_S: Final = 0.01
_PAGE_BYTES: Final = 4096
_TAG: Final = re.compile(rb'"tag":"([^"]+)"')
_CHANGES: Final = ("INSERT", "REPLACE", "UPDATE", "DELETE", "BEGIN", "CREATE")


@dataclass(frozen=True, slots=True)
class Image:
    """The files of a directory by their names in it, without a process that uses them; the tags that they hold."""

    files: Mapping[str, bytes]
    held: frozenset[str]


def _flipped(content: bytearray, rng: random.Random) -> bytes:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _zeroed(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(0, len(content), _PAGE_BYTES)
    content[at : at + _PAGE_BYTES] = bytes(len(content[at : at + _PAGE_BYTES]))
    return content


_DAMAGES: "Final[Mapping[str, Callable[[bytearray, random.Random], bytes]]]" = {
    "bit flipped in": _flipped,
    "page zeroed in": _zeroed,
    "truncated": lambda content, rng: content[: rng.randrange(len(content))],
    "junk behind": lambda content, rng: content + rng.randbytes(_PAGE_BYTES),
}


@dataclass(slots=True)
class Weather:
    """How often what goes wrong at this disk does, for each call that it could happen to."""

    slow_call: float = 0.0
    slow_commit: float = 0.0
    failed_call: float = 0.0
    commit_fails_and_is_not_there: float = 0.0
    commit_fails_and_is_there: float = 0.0
    killed_at_commit: float = 0.0


class Disk:
    """The data directory `path`. `held` are the tags of the events that its buffer durably holds, `set_aside` of those
    that it keeps apart. `keeps_all` says that the keep rule of its agent lets nothing go. `gone` is called with the
    tags that are no longer held.
    """

    def __init__(self, world: World, path: Path, weather: Weather) -> None:
        self.world = world
        self.path = path
        self.name = path.name
        self.weather = weather
        self.held: frozenset[str] = frozenset()
        self.set_aside: frozenset[str] = frozenset()
        self.free_bytes = _ROOMY
        self.ballast_bytes = 0
        self.read_only = False
        self.failing = False
        self.hangs_until_s = 0.0
        self.trouble_until_s = -1.0
        self.keeps_all = False
        self.gone: Callable[[Disk, frozenset[str]], None] = lambda disk, tags: None
        self.tear: tuple[str, int] | None = None
        self._left: Image | None = None
        self._open: dict[sqlite3.Connection, Process] = {}
        self._volumes: list[SimVolume] = []
        self._tags: dict[bytes, str] = {}

    # What programs use

    def connect_for(self, process: Process) -> "Callable[[Path], Connection]":
        """What a process opens SQLite files with."""
        return lambda path: Connection(self, process, path)

    def volume_for(self, process: Process) -> "SimVolume":
        """The directory as a process uses it, until the process ends in whatever way."""
        volume = SimVolume(self, process)
        self._volumes.append(volume)
        return volume

    def opened(self, path: Path, process: Process) -> sqlite3.Connection:
        conn = sqlite3.connect(path)
        self._open[conn] = process
        return conn

    def closed(self, conn: sqlite3.Connection) -> None:
        conn.close()
        self._open.pop(conn, None)

    def committed(self, conn: sqlite3.Connection) -> None:
        """Look at what is durable now."""
        rows = conn.execute("SELECT body, 0 FROM events UNION ALL SELECT body, 1 FROM refused").fetchall()
        tags = self._tags
        for body, _ in rows:
            if body not in tags:
                found = _TAG.search(body)
                tags[body] = found[1].decode(errors="replace") if found else ""
        self.set_aside = frozenset(tags[body] for body, aside in rows if aside)
        self._hold(frozenset(tags[body] for body, _ in rows))

    def heal(self) -> None:
        """Space again, writable again, and it answers."""
        self.free_bytes, self.read_only, self.failing = _ROOMY - self.ballast_bytes, False, False
        self.trouble_until_s = max(self.trouble_until_s, self.world.now_s)

    def healthy_since(self, then_s: float) -> bool:
        """Whether every call since `then_s` returned in time and did what it was asked."""
        broken = self.read_only or self.failing or self.free_bytes < _ROOMY // 2
        return not broken and self.trouble_until_s < then_s

    def is_full(self) -> bool:
        """Whether not even the log can grow."""
        return self.free_bytes < 1 << 16

    async def take_time(self, process: Process, *, commits: bool = False) -> None:
        """Most calls return at once, a commit after a fsync, and any of them late when the disk hangs."""
        world = self.world
        if not process.alive:
            await process.stand_still()
        delay_s = 0.0
        if self.hangs_until_s > world.now_s:
            delay_s = self.hangs_until_s - world.now_s
        elif commits:
            slow = world.strikes("slow commit", self.weather.slow_commit, self.name)
            delay_s = world.rng.uniform(0.5, 15.0) if slow else world.rng.uniform(0.0001, 0.002)
        elif world.strikes("slow call", self.weather.slow_call, self.name):
            delay_s = world.rng.uniform(0.001, 0.5)
        if delay_s > _LATE_S:
            self.trouble_until_s = max(self.trouble_until_s, world.now_s + delay_s / process.rate)
        if delay_s:
            await asyncio.sleep(delay_s)

    def give(self, ballast_bytes: int) -> None:
        """Let the ballast have so many bytes, and no others."""
        self.free_bytes += self.ballast_bytes - ballast_bytes
        self.ballast_bytes = ballast_bytes

    # What happens to it

    def image(self) -> Image:
        """What a kill now would leave."""
        files = {
            str(file.relative_to(self.path)): file.read_bytes()
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }
        return Image(files, self.held)

    def cut(self) -> None:
        """The process ends now: remember what it leaves. `tear` shortens a file whose last write was under way."""
        left, tear = self.image(), self.tear
        if tear is not None:
            name, size = tear
            left = Image({**left.files, name: left.files[name][:size]}, left.held)
        self._left, self.tear = left, None

    def end(self, process: Process) -> None:
        """The process is gone: it holds no file any more, and what is there is what it left."""
        for conn in [conn for conn, owner in self._open.items() if owner is process]:
            self.closed(conn)
        for volume in self._volumes:
            if volume.process is process:
                volume.release()
        self._volumes = [volume for volume in self._volumes if volume.process is not process]
        if self._left is not None:
            self.put(self._left)
            self._left = None

    def put(self, image: Image) -> None:
        """Write files in place of those that are there. A file of the same name stays the same file (its inode)."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.path.rglob("*"), reverse=True):
            if file.is_dir():
                if not any(file.iterdir()):
                    file.rmdir()
            elif str(file.relative_to(self.path)) not in image.files:
                file.unlink()
        for name, content in image.files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("r+b" if file.exists() else "wb") as writing:
                writing.truncate(len(content))
                writing.write(content)
        self._hold(image.held)

    def replace(self, image: Image) -> None:
        """Remove the directory and put another with these files in its place."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.put(image)

    def damage(self) -> str | None:
        """Change one of the buffer's files, which nobody has open; what was done to which. None: there is none yet."""
        files = [file for name in (BUFFER, WAL) if (file := self.path / name).exists() and file.stat().st_size]
        if not files:
            return None
        rng = self.world.rng
        file, way = rng.choice(files), rng.choice(sorted(_DAMAGES))
        content = bytearray(file.read_bytes())
        file.write_bytes(_DAMAGES[way](content, rng))
        return f"{way} {file.name}"

    def _hold(self, held: frozenset[str]) -> None:
        before, self.held = self.held, held
        if before - held:
            self.gone(self, before - held)


class SimVolume(Volume):
    """The data directory apart from SQLite: as full, as read-only and as slow as the disk is."""

    def __init__(self, disk: Disk, process: Process) -> None:
        super().__init__(disk.path)
        self._disk = disk
        self.process = process

    def free_bytes(self) -> int:
        return self._disk.free_bytes

    def disk_bytes(self) -> int:
        return _ROOMY

    async def lock(self) -> None:
        self._refuse()
        await super().lock()

    async def sync(self) -> None:
        self._refuse()
        await super().sync()

    async def take_ballast(self) -> None:
        """Without its bytes: those of the real one would cost more than all the rest of a seed."""
        await self._disk.take_time(self.process)
        self._refuse()
        self.has_ballast = self._disk.ballast_bytes > 0
        if not self.has_ballast:
            if self._disk.free_bytes < self.ballast_bytes * 4 // 3:
                raise _os_error(errno.ENOSPC)
            self._disk.give(self.ballast_bytes)
            self.has_ballast = True

    async def drop_ballast(self) -> None:
        await self._disk.take_time(self.process)
        self._refuse()
        self._disk.give(0)
        self.has_ballast = False

    async def probe(self) -> OSError | None:
        await self._disk.take_time(self.process)
        try:
            self._refuse()
        except OSError as exc:
            return exc
        return _os_error(errno.ENOSPC) if self._disk.is_full() else None

    def _refuse(self) -> None:
        if self._disk.read_only:
            raise _os_error(errno.EROFS)
        if self._disk.failing:
            raise _os_error(errno.EIO)


class Connection:
    """What aiosqlite's connection is to the agent, on a disk of the simulation."""

    def __init__(self, disk: Disk, process: Process, path: Path) -> None:
        self._disk = disk
        self._process = process
        self._path = path
        self._world = disk.world
        self._raw: sqlite3.Connection | None = None

    def __await__(self) -> Any:
        return self._begin().__await__()

    async def _begin(self) -> "Connection":
        await self._disk.take_time(self._process)
        self._fail("failed open", changes=False)
        if self._disk.read_only and not self._path.exists():
            raise self._error("unable to open database file", "SQLITE_CANTOPEN")
        self._raw = self._disk.opened(self._path, self._process)
        return self

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        return await self._do(sql, lambda conn: conn.execute(sql, tuple(parameters)))

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> sqlite3.Cursor:
        return await self._do(sql, lambda conn: conn.executemany(sql, parameters))

    async def executescript(self, script: str) -> sqlite3.Cursor:
        """Also a commit, if the script says so."""
        cursor = await self._do(script, lambda conn: conn.executescript(script))
        self._note_durable()
        return cursor

    async def execute_fetchall(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        return await self._do(sql, lambda conn: conn.execute(sql, tuple(parameters)).fetchall())

    async def rollback(self) -> None:
        await self._disk.take_time(self._process)
        self._fail("failed rollback", changes=False)
        self._open_one().rollback()

    async def close(self) -> None:
        await self._disk.take_time(self._process)
        raw, self._raw = self._raw, None
        if raw is not None:
            self._disk.closed(raw)

    async def commit(self) -> None:
        raw = self._open_one()
        if not raw.in_transaction:
            return
        await self._disk.take_time(self._process, commits=True)
        self._fail("failed commit", changes=True)
        weather, strikes = self._disk.weather, self._world.strikes
        if strikes("commit fails, not there", weather.commit_fails_and_is_not_there, self._disk.name):
            raise self._error("disk I/O error", "SQLITE_IOERR_WRITE")
        if strikes("killed at commit", weather.killed_at_commit, self._disk.name):
            await self._die_at_commit(raw)
        raw.commit()
        self._note_durable()
        if strikes("commit fails, but is there", weather.commit_fails_and_is_there, self._disk.name):
            raise self._error("disk I/O error", "SQLITE_IOERR_FSYNC")
        await self._disk.take_time(self._process)

    async def _die_at_commit(self, raw: sqlite3.Connection) -> None:
        """Before it is there, half-way (a torn write at the end of the log), or after."""
        wal = self._path.with_name(self._path.name + "-wal")
        before = wal.stat().st_size if wal.exists() else 0
        when = self._world.rng.choice(("before", "torn", "after"))
        if when != "before":
            raw.commit()
        if when == "torn" and wal.stat().st_size > before:
            self._disk.tear = (wal.name, self._world.rng.randrange(before, wal.stat().st_size))
        elif when != "before":
            when = "after"
            self._note_durable()
        self._world.fault(f"killed {when} a commit", self._disk.name)
        self._process.kill()
        await self._process.stand_still()

    async def _do(self, sql: str, call: "Callable[[sqlite3.Connection], Any]") -> Any:
        await self._disk.take_time(self._process)
        self._fail("failed call", changes=sql.startswith(_CHANGES))
        return call(self._open_one())

    def _open_one(self) -> sqlite3.Connection:
        if self._raw is None:
            raise ValueError("no active connection")  # as aiosqlite says it
        return self._raw

    def _note_durable(self) -> None:
        if self._raw is not None and self._path.name == BUFFER and self._path.parent == self._disk.path:
            self._disk.committed(self._raw)

    def _fail(self, kind: str, *, changes: bool) -> None:
        disk = self._disk
        if disk.failing and not self._world.calm:
            raise self._error("disk I/O error", "SQLITE_IOERR")
        if changes and disk.read_only:
            raise self._error("attempt to write a readonly database", "SQLITE_READONLY")
        if kind == "failed commit" and disk.is_full():
            raise self._error("database or disk is full", "SQLITE_FULL")
        if self._world.strikes(kind, disk.weather.failed_call, disk.name):
            raise self._error("disk I/O error", "SQLITE_IOERR_READ")

    def _error(self, text: str, name: str) -> sqlite3.OperationalError:
        self._disk.trouble_until_s = self._world.now_s
        error = sqlite3.OperationalError(text)
        error.sqlite_errorname = name
        error.sqlite_errorcode = getattr(sqlite3, name, sqlite3.SQLITE_IOERR)
        return error


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
