"""The data directory apart from what SQLite does in it: made, locked, synced, measured.

What can wait for the disk runs on a thread of its own: a disk that hangs must not stop the event loop.
"""

import asyncio
import fcntl
import os
from pathlib import Path

from sidemeter.errors import DirectoryInUse

__all__ = ["Volume"]


class Volume:
    """The data directory of one agent, which holds its lock from `lock` to `release`.

    A test or a simulation puts one of its own in its place. Every method raises OSError for what the system refuses.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._locked: int | None = None

    async def lock(self) -> None:
        """Lock the directory, made if it is missing. Raises DirectoryInUse while another agent has it."""
        await asyncio.to_thread(self._lock)

    def release(self) -> None:
        """Let another agent have the directory."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    async def sync(self) -> None:
        """Return once the names in the directory are on disk."""
        await asyncio.to_thread(_sync, self.directory)

    def free_bytes(self) -> int:
        """What is free on the disk for whoever runs the agent."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize

    def _lock(self) -> None:
        directory = self.directory
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            _sync(directory.parent)
        locked = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(locked)
            if not isinstance(exc, BlockingIOError):
                raise
            message = f"another agent uses the data directory {directory}: one agent, one directory"
            raise DirectoryInUse(message) from exc
        self._locked = locked


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
