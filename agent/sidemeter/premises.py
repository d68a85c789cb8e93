"""What an agent stands on, looked at from outside: its directory, the disk below it, and the memory for its leases."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from sidemeter import host
from sidemeter.cell import candidates
from sidemeter.settings import Settings
from sidemeter.volume import BALLAST_BYTES, SMALLEST_DISK_BYTES

__all__ = ["Finding", "Status", "directory", "memory"]

Status = Literal["ok", "warn", "fail"]

SYNC_WARN_MS: Final = 20
SYNC_FAIL_MS: Final = 500
"""Every caller of `record` waits for one commit."""

_SMALL_CELL: Final = 32 << 20
_MIB: Final = 1 << 20


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was looked at, how it is, and what to do unless that is ok."""

    check: str
    status: Status
    found: str
    advice: str = ""


def directory(settings: Settings) -> Iterator[Finding]:
    """The data directory, or where it will be made."""
    name, path = "data directory", settings.data_dir.absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        yield Finding(name, "fail", f"{there} is no directory", "set SIDEMETER_DATA_DIR to one")
        return
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(name, "fail", f"{there} cannot be written by this user", f"chown it to user {os.getuid()}")
        return
    yield Finding(name, "ok", f"{path}" if there == path else f"{path}; the agent will make it")
    if there == path and host.open_to_others(path):
        yield Finding("permissions", "warn", "other users may look into the directory", f"chmod 700 {path}")
    yield _kind(there.resolve())
    yield _room(there, settings)
    yield _syncs(there)
    yield from _leftovers(path)


def _kind(directory: Path) -> Finding:
    kind = host.file_system(directory)
    if kind in host.NETWORK:
        return Finding("file system", "fail", f"{kind}, over a network: a lock or a sync there is not to be relied on",
                       "put the data directory on a local disk")  # fmt: skip
    if kind in host.IN_MEMORY:
        return Finding("file system", "warn", f"{kind}: what is acknowledged is gone with the machine's power",
                       "put the data directory on a disk")  # fmt: skip
    if kind == "overlay":
        return Finding("file system", "warn", "overlay: what is acknowledged is gone with the container",
                       "mount a volume for the data directory")  # fmt: skip
    return Finding("file system", "ok", kind)


def _room(directory: Path, settings: Settings) -> Finding:
    free = host.free_bytes(directory)
    said, wanted = f"{free // _MIB:,} MiB free", settings.max_buffer_bytes + settings.keep_sent_bytes + BALLAST_BYTES
    if free < SMALLEST_DISK_BYTES:
        return Finding("disk space", "fail", said, "make room: nothing can be recorded")
    if free < wanted:
        return Finding("disk space", "warn", f"{said}; the settings allow the buffer {wanted // _MIB:,} MiB",
                       "make room, or lower max_buffer_bytes and keep_sent_bytes")  # fmt: skip
    return Finding("disk space", "ok", said)


def _syncs(directory: Path) -> Finding:
    try:
        took_ms = host.sync_s(directory) * 1000
    except OSError as exc:
        return Finding("disk sync", "fail", f"{exc.strerror}", "look at the disk: recording will be refused")
    said = f"4 KiB are on the disk after {took_ms:.2f} ms (median)"
    if took_ms < SYNC_WARN_MS:
        return Finding("disk sync", "ok", said)
    return Finding("disk sync", "warn" if took_ms < SYNC_FAIL_MS else "fail", said,
                   "every caller of record waits that long: use a faster disk, or record_nowait")  # fmt: skip


def _leftovers(directory: Path) -> Iterator[Finding]:
    aside = directory / "damaged"
    count = sum(1 for _ in aside.iterdir()) if aside.is_dir() else 0
    if count:
        yield Finding("leftovers", "warn", f"{count} damaged buffers in {aside}",
                      "the agent reads back what it can; then look at the disk that damaged them")  # fmt: skip
    else:
        yield Finding("leftovers", "ok", "none")


def memory(settings: Settings) -> Iterator[Finding]:
    """Where leases are kept over a kill."""
    name = "memory for leases"
    wanted = [settings.cell_dir] if settings.cell_dir is not None else candidates(os.environ.items())
    usable = [each for each in wanted if each.is_dir() and os.access(each, os.W_OK | os.X_OK)]
    if not usable:
        yield Finding(name, "warn", f"none of {', '.join(map(str, wanted))} can be written",
                      "set cell_dir to a tmpfs: without one, every restart waits for new leases")  # fmt: skip
        return
    path = usable[0]
    kind, free = host.file_system(path.resolve()), host.free_bytes(path)
    if kind not in host.IN_MEMORY:
        yield Finding(name, "fail", f"{path} is on {kind}, and has to be in memory: after a reboot it must be gone",
                      "set cell_dir to a tmpfs")  # fmt: skip
    elif free < _SMALL_CELL:
        yield Finding(name, "warn", f"{path} has {free // _MIB} MiB left",
                      "make room there: without it, leases are not spent")  # fmt: skip
    else:
        yield Finding(name, "ok", f"{path}, {kind}")
