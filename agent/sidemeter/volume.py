"""The data directory apart from what SQLite does in it: made, locked, synced, never quite full, and not another one.

What can wait for the disk runs on a thread of its own: a disk that hangs must not stop the event loop.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from sidemeter.errors import DirectoryInUse

__all__ = ["BALLAST_BYTES", "SMALLEST_DISK_BYTES", "Volume", "is_full"]

BALLAST_BYTES: Final = 24 << 20
"""What is set aside for forwarding and deleting, which write too: when the disk is full to the last byte, the file has to
take the write-ahead log once more, at most two thirds of this, and the rest is for what comes after."""

SMALLEST_DISK_BYTES: Final = 8 << 20
"""The ballast takes a quarter of a disk at most, and with less than 2 MiB of it not even one large array can be sent."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(exc: OSError) -> bool:
    """Whether the system says that there is no room, on the disk or in the quota."""
    return exc.errno in _FULL


class Volume:
    """The data directory of one agent, which holds its lock from `lock` to `release`.

    `ballast_bytes` is the size of its ballast, known from `lock` on. A test or a simulation puts one of its own in the
    place of this. Every method raises OSError for what the system refuses.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._prefix = f"{directory}/"
        self.ballast_bytes = BALLAST_BYTES
        self.has_ballast = False
        self._locked: int | None = None
        self._held: dict[str, tuple[int, int]] = {}

    async def lock(self) -> None:
        """Lock the directory, made if it is missing. Raises DirectoryInUse while another agent has it."""
        await asyncio.to_thread(self._lock)
        disk_bytes = self.disk_bytes()
        if disk_bytes < SMALLEST_DISK_BYTES:
            self.release()
            smallest, size = SMALLEST_DISK_BYTES >> 20, disk_bytes / (1 << 20)
            raise OSError(errno.ENOSPC, f"the disk has {size:.1f} MiB; an agent needs one of {smallest} MiB")
        self.ballast_bytes = min(BALLAST_BYTES, disk_bytes // 4)

    def release(self) -> None:
        """Let another agent have the directory. The ballast stays, for a start on a full disk."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    async def lock_again(self) -> None:
        """Lock the directory if what is there under its name is not what was locked. Raises as `lock` does."""
        if self.is_own(_LOCK):
            return
        held, self._locked = self._locked, None
        try:
            await self.lock()
        except BaseException:
            self._locked = held
            raise
        if held is not None:
            os.close(held)

    def hold(self, *names: str) -> None:
        """The files of these names, those that are there, must be the same ones from now on; the lock as well."""
        found = {name: self._identity(name) for name in (*names, _LOCK)}
        self._held = {name: identity for name, identity in found.items() if identity is not None}

    def is_own(self, name: str) -> bool:
        """Whether the file of that name is the one that is held."""
        return name in self._held and self._identity(name) == self._held[name]

    def is_displaced(self) -> bool:
        """Whether any of the held files is gone or another one, so that what is written to it may be lost."""
        return any(self._identity(name) != held for name, held in self._held.items())

    async def sync(self) -> None:
        """Return once the names in the directory are on disk."""
        await asyncio.to_thread(_sync, self.directory)

    def disk_bytes(self) -> int:
        """The size of the disk."""
        disk = os.statvfs(self.directory)
        return disk.f_blocks * disk.f_frsize or _UNBOUNDED

    def file_id(self, path: Path) -> str:
        """Which file it is: another one after the directory was copied, the same one after it was renamed."""
        found = path.stat()
        return f"{found.st_dev}:{found.st_ino}"

    def free_bytes(self) -> int:
        """What is free on the disk for whoever runs the agent."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize if disk.f_blocks else _UNBOUNDED

    async def take_ballast(self) -> None:
        """Set the ballast aside, unless it is. Raises OSError while there is not a third more than that free.

        Without the third, what is recorded next would take the room just found, again and again.
        """
        self.has_ballast = _allocated_bytes(self._ballast) >= self.ballast_bytes
        if not self.has_ballast:
            free_bytes, needed_bytes = self.free_bytes(), self.ballast_bytes * 4 // 3
            if free_bytes < needed_bytes:
                numbers = f"{free_bytes >> 20} MiB are free, {needed_bytes >> 20} MiB are needed"
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {numbers}")
            await asyncio.to_thread(_allocate, self._ballast, self.ballast_bytes)
            self.has_ballast = True

    async def drop_ballast(self) -> None:
        """Give the room of the ballast back to the disk."""
        await asyncio.to_thread(self._ballast.unlink, missing_ok=True)
        self.has_ballast = False

    async def probe(self) -> OSError | None:
        """What the system says to a small write that is synced: SQLite tells a full quota from a broken disk no more."""
        try:
            await asyncio.to_thread(_write, self.directory / "probe")
        except OSError as exc:
            return exc
        return None

    def _identity(self, name: str) -> tuple[int, int] | None:
        try:
            found = os.stat(f"{self._prefix}{name}")  # noqa: PTH116 -- after every commit, and in half the time
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def _ballast(self) -> Path:
        return self.directory / "ballast"

    def _lock(self) -> None:
        directory = self.directory
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            _sync(directory.parent)
        locked = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(locked)
            if not isinstance(exc, BlockingIOError):
                raise
            message = f"another agent uses the data directory {directory}: one agent, one directory"
            raise DirectoryInUse(message) from exc
        self._locked = locked
        found = os.fstat(locked)
        self._held[_LOCK] = found.st_dev, found.st_ino


_LOCK: Final = "lock"

_UNBOUNDED: Final = 1 << 62
"""A file system that names no size, as a tmpfs can, has no end that could be seen coming."""


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _allocated_bytes(path: Path) -> int:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return min(found.st_size, found.st_blocks * 512)


def _allocate(path: Path, size: int) -> None:
    """Make a file that owns `size` bytes of the disk, or none."""
    try:
        with path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                file.write(os.urandom(size))  # a file system that cannot allocate may well compress
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _write(path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            if file.write(bytes(4096)) < 4096:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):  # what matters is what the write said
            path.unlink(missing_ok=True)
