"""Disks for tests that are small, or break: real ones, mounted for a block, which needs root and is skipped by name
elsewhere; and one whose commits fail."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiosqlite
import pytest

__all__ = ["doubtful", "ext4", "fill", "mounted", "needs", "remount", "tmpfs"]

MIB = 1 << 20


def doubtful(faults: list[str]) -> Callable[[Path], aiosqlite.Connection]:
    """What opens a file whose next commits fail by name from `faults`: "before" nothing is kept, "after" everything is."""

    class Doubtful(sqlite3.Connection):
        def commit(self) -> None:
            fault = faults.pop(0) if faults else ""
            if fault != "before":
                super().commit()
            if fault:
                raise sqlite3.OperationalError("disk I/O error")

    return lambda path: aiosqlite.connect(path, factory=Doubtful)


def needs(*tools: str) -> None:
    """Skip the test, saying which of the tools, or whether root, is missing here."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if os.geteuid() != 0:
        pytest.skip("needs root")


@contextmanager
def mounted(directory: Path, *arguments: str) -> Iterator[Path]:
    """`mount` with these arguments on `directory`, made if it is missing."""
    needs("mount", "umount")
    directory.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(directory)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a system that mounts {' '.join(arguments)}: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)  # also while a failed test still uses it


@contextmanager
def tmpfs(directory: Path, size_bytes: int, *options: str) -> Iterator[Path]:
    """A disk in memory of that size."""
    with mounted(directory, "-t", "tmpfs", "-o", ",".join([f"size={size_bytes}", *options]), "tmpfs") as disk:
        yield disk


@contextmanager
def ext4(directory: Path, size_bytes: int, *options: str) -> Iterator[Path]:
    """A file system on a block device of that size, which is a file beside `directory`."""
    needs("mkfs.ext4", "losetup")
    image = directory.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    with mounted(directory, "-t", "ext4", "-o", ",".join(["loop", *options]), str(image)) as disk:
        yield disk


def remount(directory: Path, option: str) -> None:
    """Change an option of a disk under whoever uses it, such as `ro` or `size=1000000`."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(directory)], check=True)


def fill(file: Path, leave_bytes: int = 0) -> None:
    """Take all the room of the file's disk but `leave_bytes`, as something else on the same disk would."""
    step = 64 * MIB
    with file.open("ab") as taken:
        while step >= 4096:
            disk = os.statvfs(file.parent)
            step = min(step, max(disk.f_bavail * disk.f_frsize - leave_bytes, 0))
            try:
                if step:
                    os.posix_fallocate(taken.fileno(), os.fstat(taken.fileno()).st_size, step)
            except OSError:
                step //= 2  # a file system needs some of what is free for itself
