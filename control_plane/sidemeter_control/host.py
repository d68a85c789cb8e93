"""What the host says of a directory: its file system, its room, how soon it syncs, and who has locked a file."""

import os
import re
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Final

__all__ = ["IN_MEMORY", "NETWORK", "file_system", "free_bytes", "is_locked", "open_to_others", "sync_s"]

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs"}
)

_PROBES: Final = 20
_PROBED_WITHIN_S: Final = 3.0
_BLOCK: Final = bytes(4096)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def file_system(path: Path, mounts: Iterable[str] | None = None) -> str:
    """The kind of the file system that `path` is on, as `mount` names it; "unknown" where the system does not tell.

    >>> file_system(Path("/var/lib/x"), ["21 1 8:1 / / rw - ext4 /dev/sda1 rw", "30 21 0:5 / /var/lib rw - nfs4 host:/ rw"])
    'nfs4'
    """
    found, kind = "", "unknown"
    for line in _mounts() if mounts is None else mounts:
        before, _, after = line.partition(" - ")
        point = _ESCAPED.sub(lambda each: chr(int(each[1], 8)), before.split(" ")[4])
        if len(point) >= len(found) and path.is_relative_to(point):
            found, kind = point, after.split(" ")[0]
    return kind


def _mounts() -> list[str]:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def free_bytes(directory: Path) -> int:
    """What whoever asks may still write there. Raises OSError."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def sync_s(directory: Path) -> float:
    """How long a write of 4 KiB takes to be on the disk, in seconds: the median of some. Raises OSError."""
    probe = directory / f".doctor-{os.getpid()}"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    took_s: list[float] = []
    began_s = time.monotonic()
    try:
        while len(took_s) < _PROBES and time.monotonic() - began_s < _PROBED_WITHIN_S:
            before_s = time.monotonic()
            os.pwrite(descriptor, _BLOCK, 0)
            os.fsync(descriptor)
            took_s.append(time.monotonic() - before_s)
    finally:
        os.close(descriptor)
        probe.unlink()
    return median(took_s)


def is_locked(path: Path, locks: Iterable[str] | None = None) -> bool:
    """Whether a process has the file locked; to try the lock would keep out one that starts just then."""
    try:
        inode = path.stat().st_ino
    except OSError:
        return False
    return any(_is_flock_of(line.split(), inode) for line in (_locks() if locks is None else locks))


def _is_flock_of(fields: list[str], inode: int) -> bool:
    return len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}")


def _locks() -> list[str]:
    try:
        return Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def open_to_others(path: Path) -> bool:
    """Whether any other user may read or write what is there."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
