"""What a control plane stands on, looked at from outside: its database, the disk below it, and its address."""

import asyncio
import contextlib
import importlib.util
import os
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from sidemeter_control import host
from sidemeter_control.clock import Clock
from sidemeter_control.errors import ControlError, DatabaseUnfit, StoreUnavailable
from sidemeter_control.settings import Settings, host_and_port, is_postgres, without_password
from sidemeter_control.store import files
from sidemeter_control.store.archive import NOT_INSTALLED, Archive, strangers
from sidemeter_control.store.archived import ArchiveFile
from sidemeter_control.store.schema import newest
from sidemeter_control.store.sqlite import archive_beside, sqlite_path

if TYPE_CHECKING:
    from sidemeter_control.store.postgres import Sight

__all__ = ["Finding", "Status", "address", "database", "is_running"]

Status = Literal["ok", "warn", "fail"]

ROOM_WARN_BYTES: Final = 2 << 30
ROOM_FAIL_BYTES: Final = 64 << 20
"""Less, and the next commits will be refused."""

SYNC_WARN_MS: Final = 50
SYNC_FAIL_MS: Final = 1000
"""Every batch waits for one commit."""

_MIB: Final = 1 << 20


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was looked at, how it is, and what to do unless that is ok."""

    check: str
    status: Status
    found: str
    advice: str = ""


def is_running(settings: Settings, clock: Clock) -> bool:
    """Whether a control plane has the database open."""
    if is_postgres(settings.database):
        try:
            return _seen(settings, clock).open_in > 0
        except ControlError:
            return False  # what keeps it from being looked at is found below
    return host.is_locked(Path(f"{sqlite_path(settings.database)}.lock"))


def _seen(settings: Settings, clock: Clock) -> "Sight":
    from sidemeter_control.store import postgres  # noqa: PLC0415 -- an extra

    return asyncio.run(postgres.look(settings.database, clock))


def _server(settings: Settings, clock: Clock) -> Iterator[Finding]:
    name = without_password(settings.database)
    try:
        seen = _seen(settings, clock)
    except DatabaseUnfit as exc:
        yield Finding("database", "fail", str(exc), "set SIDEMETER_DATABASE to another, or mend that one")
        return
    except ControlError as exc:
        yield Finding(
            "database", "fail", str(exc), "is the server running, are name and password right, is the way open?"
        )
        return
    size = f"PostgreSQL {seen.version}, {seen.size_bytes // _MIB:,} MiB"
    if seen.open_in:
        state = "open in a control plane" if seen.open_in == 1 else f"open in {seen.open_in} control planes"
    elif seen.revision is None:
        state = "empty; serve will make its tables"
    elif seen.revision != newest():
        state = f"schema {seen.revision}; serve will bring it to {newest()}"
    else:
        state = f"schema {seen.revision}; no control plane runs on it"
    yield Finding("database", "ok", f"{name}, {size}, {state}")
    from sidemeter_control.store.postgres import archive_of  # noqa: PLC0415 -- an extra

    yield from _archive(settings, archive_of(settings.database), seen.archive)
    yield Finding("durability", "ok", "the server keeps what it commits: fsync, full_page_writes, synchronous_commit")
    if not seen.encrypted:
        advice = "add ?sslmode=verify-full to the URL"
        yield Finding("encryption", "warn", "all that is stored goes over the network as it is", advice)
    took_ms = seen.took_s * 1000
    said = f"it answers after {took_ms:.2f} ms"
    if took_ms < SYNC_WARN_MS:
        yield Finding("distance", "ok", said)
    else:
        yield Finding("distance", "warn", said, "let it be nearer: a batch asks it one thing after another")


def database(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """The file, or where it will be made, and the disk below it; or the database on a server."""
    if is_postgres(settings.database):
        yield from _server(settings, clock)
        return
    path = sqlite_path(settings.database).absolute()
    there = next(each for each in (path.parent, *path.parent.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        advice = f"let user {os.getuid()} write there, or set SIDEMETER_DATABASE to another place"
        yield Finding("database", "fail", f"{there} is no directory that this user can write", advice)
        return
    yield _file(path, running=is_running(settings, clock))
    if path.exists() and host.open_to_others(path):
        yield Finding("permissions", "warn", "other users may read all that is stored", f"chmod 600 {path}")
    with contextlib.suppress(DatabaseUnfit, StoreUnavailable):  # which is said above
        if path.exists():
            known = files.archive(path, running=is_running(settings, clock))
            yield from _archive(settings, archive_beside(path), known)
    yield _kind(there.resolve())
    yield _room(there)
    yield _syncs(there)
    yield _leftovers(path)


def _file(path: Path, *, running: bool) -> Finding:
    if not path.exists():
        return Finding("database", "ok", f"{path} is not there yet; serve will make it")
    size = f"{path.stat().st_size // _MIB:,} MiB"
    if running:
        return Finding("database", "ok", f"{path}, {size}, open in a control plane")
    try:
        revision = files.revision(path)
    except DatabaseUnfit as exc:
        return Finding("database", "fail", str(exc), "sidemeter-control restore FILE puts a backup in its place")
    if revision != newest():
        return Finding("database", "ok", f"{path}, {size}, schema {revision}; serve will bring it to {newest()}")
    return Finding("database", "ok", f"{path}, {size}, schema {revision}; no control plane runs on it")


def _archive(settings: Settings, beside: Path, known: Sequence[ArchiveFile]) -> Iterator[Finding]:
    """The files of archived events: whether each is where it is looked for, as long as it was, and can be read."""
    if not known and not settings.archive_after_days:
        return
    archive = Archive(Path(settings.archive_directory) if settings.archive_directory else beside)
    if importlib.util.find_spec("pyarrow") is None:
        yield Finding("archive", "fail", "archived events cannot be read: pyarrow is not installed", NOT_INSTALLED)
    lost = archive.lost(known)
    if lost:
        said = (
            f"{len(lost):,} of {len(known):,} files of archived events are missing or not what was written: {lost[0]}"
        )
        yield Finding("archive", "fail", said, "what needs their events is refused until they are there")
    else:
        events, size = sum(each.events for each in known), sum(each.size_bytes for each in known)
        yield Finding("archive", "ok", f"{events:,} events in {len(known):,} files, {size // _MIB:,} MiB")
    strange = strangers(archive.directory, frozenset(each.name for each in known))
    if strange:
        found = f"{len(strange):,} files in {archive.directory} are none of this database: {strange[0].name}"
        advice = "a backup that is older than they are was restored, or two databases share it: move them elsewhere"
        yield Finding("archive", "warn", found, advice)


def _kind(directory: Path) -> Finding:
    kind = host.file_system(directory)
    if kind in host.NETWORK:
        return Finding(
            "file system",
            "fail",
            f"{kind}, over a network: a lock or a sync there is not to be relied on",
            "put the database on a local disk",
        )
    if kind in host.IN_MEMORY or kind == "overlay":
        end = "the container" if kind == "overlay" else "the machine's power"
        return Finding("file system", "warn", f"{kind}: all that is stored is gone with {end}", "put it on a disk")
    return Finding("file system", "ok", kind)


def _room(directory: Path) -> Finding:
    free = host.free_bytes(directory)
    said = f"{free // _MIB:,} MiB free"
    if free < ROOM_FAIL_BYTES:
        return Finding("disk space", "fail", said, "make room: nothing more can be stored")
    if free < ROOM_WARN_BYTES:
        return Finding("disk space", "warn", said, "make room: agents keep what is not stored, as long as they can")
    return Finding("disk space", "ok", said)


def _syncs(directory: Path) -> Finding:
    try:
        took_ms = host.sync_s(directory) * 1000
    except OSError as exc:
        return Finding("disk sync", "fail", f"{exc.strerror}", "look at the disk: nothing can be stored")
    said = f"4 KiB are on the disk after {took_ms:.2f} ms (median)"
    if took_ms < SYNC_WARN_MS:
        return Finding("disk sync", "ok", said)
    return Finding("disk sync", "warn" if took_ms < SYNC_FAIL_MS else "fail", said, "use a faster disk")


def _leftovers(path: Path) -> Finding:
    left = sorted(each.name for each in files.leftovers(path))
    if not left:
        return Finding("leftovers", "ok", "none")
    shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    advice = "what a restore moved aside is yours to delete; serve ends or clears away the rest"
    return Finding("leftovers", "warn", f"{shown} beside the database", advice)


def address(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """Where it listens, or could."""
    name, port = host_and_port(settings.listen)
    if not ip_address(name).is_loopback:
        advice = "let a proxy with TLS stand before it, and firewall the port"
        yield Finding("address", "warn", f"{settings.listen}: keys go over the network as they are", advice)
    if running:
        yield Finding("address", "ok", settings.listen)
        return
    with socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((name, port))
        except OSError as exc:
            yield Finding("address", "fail", f"{settings.listen}: {exc.strerror}", "end what has it, or set another")
        else:
            yield Finding("address", "ok", f"{settings.listen} is free")
