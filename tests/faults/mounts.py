"""Small file systems of our own, to cut off, fill and forbid: mounted inside a block, gone after it."""

import ctypes
import errno
import fcntl
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fakes import eventually

__all__ = ["Disk", "ext4", "fill", "missing_tool", "scatter", "tmpfs"]

_TOOLS: Final = ("mount", "umount", "mkfs.ext4", "losetup")
_COMMAND_WITHIN_S: Final = 60.0
_FREED_WITHIN_S: Final = 60.0

_EXT4_IOC_SHUTDOWN: Final = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
_NOLOGFLUSH: Final = 2
"""Neither data nor journal is written any more, as when the power goes."""

_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNC_FILE_RANGE_WAIT_AFTER: Final = 4
_SCATTERED_BYTES: Final = 16384

_PIECE_BYTES: Final = 1 << 20


def missing_tool() -> str | None:
    """Why this cannot be done here."""
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} is not installed"
    if os.geteuid() != 0:
        return "mount is for root only"
    return None if Path("/dev/loop-control").exists() else "there are no loop devices"


class Disk:
    """A mounted file system. `root` is where it is mounted."""

    def __init__(self, root: Path, *mount: str) -> None:
        self.root = root
        self._mount = mount

    def mount(self) -> None:
        """Mount it; a journal is replayed."""
        _run("mount", *self._mount, str(self.root))

    def cut(self) -> None:
        """The power goes: from now on nothing reaches this ext4, and everything that was not synced is gone.

        No fsync may be under way: the kernel was seen to answer 7 of 80 of them with success, and their data were gone.
        """
        directory = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(directory)

    async def restore(self) -> None:
        """The power is back. Nothing may run on it. It is this file system mounted anew once nobody else has it mounted."""
        loop = self._device()
        _run("umount", str(self.root))
        await eventually(lambda: not _is_backed(loop, self.root), _FREED_WITHIN_S)
        self.mount()

    def forbid(self) -> None:
        """As after an error of this ext4: it is read-only until it is mounted again."""
        Path("/sys/fs/ext4", self._device(), "trigger_fs_error").write_text("1")

    def _device(self) -> str:
        return Path(_run("findmnt", "--noheadings", "--output", "SOURCE", str(self.root)).strip()).name


def _is_backed(loop: str, root: Path) -> bool:
    """Whether a loop device has the image of the disk there still: a namespace of mounts that somebody made holds it, too."""
    backing = Path("/sys/block", loop, "loop/backing_file")
    try:
        return backing.read_text().strip() == str(root.with_name("image"))
    except OSError:
        return False


@contextmanager
def ext4(directory: Path, size_mib: int) -> Iterator[Disk]:
    """An ext4 in the file `directory/image`, mounted on `directory/disk`, that turns read-only at an error."""
    image, root = directory / "image", directory / "disk"
    root.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", str(image))
    yield from _mounted(Disk(root, "-o", "loop,errors=remount-ro", str(image)))


@contextmanager
def tmpfs(directory: Path, size_mib: int) -> Iterator[Disk]:
    """A file system in memory, mounted on `directory/disk`."""
    root = directory / "disk"
    root.mkdir(parents=True)
    yield from _mounted(Disk(root, "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs"))


def _mounted(disk: Disk) -> Iterator[Disk]:
    disk.mount()
    try:
        yield disk
    finally:
        # Lazily: what a failed test left running keeps its open files, and the loop device goes with the last of them.
        _run("umount", "--lazy", str(disk.root))


def fill(directory: Path) -> Path:
    """Take all that is free on the file system of `directory`, to the last byte; the file that holds it."""
    filler = directory / "not-ours"
    with filler.open("ab", buffering=0) as file:
        size = _PIECE_BYTES
        while size:
            try:
                file.write(bytes(size))
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
                size //= 2
    return filler


def scatter(disk: Disk, rng: random.Random) -> None:
    """Let some of what is not synced reach the disk, here and there, as an operating system may at any time."""
    libc = ctypes.CDLL(None, use_errno=True)
    for path in disk.root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                for at in range(0, size, _SCATTERED_BYTES):
                    if rng.random() < 0.5:
                        flags = _SYNC_FILE_RANGE_WRITE | _SYNC_FILE_RANGE_WAIT_AFTER
                        arguments = ctypes.c_int64(at), ctypes.c_int64(_SCATTERED_BYTES), ctypes.c_uint(flags)
                        assert libc.sync_file_range(file.fileno(), *arguments) == 0, os.strerror(ctypes.get_errno())


def _run(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_WITHIN_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
