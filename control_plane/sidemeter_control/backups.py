"""Backups: one file that holds all a control plane knows at an instant, made while it runs; and the way back from it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import msgspec

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, InvalidInput, StoreUnavailable
from sidemeter_control.settings import is_postgres
from sidemeter_control.store import files
from sidemeter_control.store.archive import Archive
from sidemeter_control.store.database import OWN_TOOLS, Database
from sidemeter_control.store.files import Contents, Report
from sidemeter_control.store.sqlite import archive_beside, sqlite_path

__all__ = ["ANSWERS_WITHIN_S", "Restored", "fetch", "lost", "restore", "take"]

ANSWERS_WITHIN_S: Final = 3600.0
"""How long a control plane may take to copy its database before the first byte of the copy comes."""
_GOES_ON_WITHIN_S: Final = 60.0

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that is now the database. `aside` is the file that was there before, None where there was none."""

    contents: Contents
    generation: str
    aside: Path | None


async def take(url: str, target: Path, report: Report, *, replace: bool = False) -> Contents:
    """Back up the database at `url`, of a control plane that is stopped, to `target`; answers what the backup holds.

    Conflict when `target` is there and is not to be replaced, or the database is on a server; StoreUnavailable when a control
    plane is running, or there is no room.
    """
    _refuse_server(url)
    with _written(target, replace=replace) as part:
        database = await Database.open(url)
        try:
            await database.copy_to(part, report)
        finally:
            await database.close()
        return files.check(part, report)


def fetch(url: str, key: str, target: Path, report: Report, *, replace: bool = False) -> Contents:
    """Back up the running control plane at `url`, asked with an ADMIN key; else as `take`."""
    timeout = httpx.Timeout(_GOES_ON_WITHIN_S, read=ANSWERS_WITHIN_S)
    with _written(target, replace=replace) as part:
        try:
            with httpx.stream(
                "GET", f"{url}/v1/backup", headers={"Authorization": f"Bearer {key}"}, timeout=timeout
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise StoreUnavailable(f"{url}: answered {answer.status_code}{_reason(answer.read())}")
                size = int(answer.headers.get("content-length", 0))
                with part.open("wb") as file:
                    for chunk in answer.iter_bytes(_CHUNK):
                        file.write(chunk)
                        report("fetching", file.tell(), size)
                    file.flush()
                    os.fsync(file.fileno())
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise StoreUnavailable(f"{url}: {type(exc).__name__} {exc}") from exc
        return files.check(part, report)


def restore(url: str, source: Path, clock: Clock, report: Report) -> Restored:
    """Make the backup `source` the database at `url`, as a new generation; what was there is moved aside.

    DatabaseUnfit, naming `source`, when it is damaged, of something else or of a newer version: then nothing changed.
    StoreUnavailable when a control plane is running, or there is no room; Conflict when the database is on a server.
    """
    _refuse_server(url)
    path = sqlite_path(url)
    contents = files.check(source, report)
    if path.exists() and path.samefile(source):
        raise InvalidInput("FILE", "must not be the database itself")
    held = files.lock(path)
    try:
        files.finish(path)
        generation = clock.new_id("gen")
        stamp = datetime.fromtimestamp(clock.now_us() // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = files.put_in_place(source, path, generation, stamp, report)
    finally:
        os.close(held)
    return Restored(contents, generation, aside)


def lost(url: str, directory: str | None, contents: Contents) -> list[str]:
    """What is wrong with each file of archived events that the database needs, where it is looked for."""
    found = Archive(Path(directory) if directory else archive_beside(sqlite_path(url))).lost(contents.archive)
    return [str(each) for each in found]


def _refuse_server(url: str) -> None:
    if is_postgres(url):
        raise Conflict(OWN_TOOLS)


@contextmanager
def _written(target: Path, *, replace: bool) -> Iterator[Path]:
    """An empty file beside `target` to write to; it takes the name when the block ends well, and is gone when not."""
    part = target.with_name(f"{target.name}.part")
    try:
        with files.private(part) as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"{target}: another backup is being written there") from None
            try:
                _refuse_to_replace(target, replace)
                held.truncate(0)  # one that was cut short lies there
                yield part
                _refuse_to_replace(target, replace)
                part.rename(target)
                files.sync_directory(target.parent)
            finally:
                part.unlink(missing_ok=True)
    except OSError as exc:
        raise StoreUnavailable(f"{target}: {exc.strerror or exc}") from exc


def _refuse_to_replace(target: Path, replace: bool) -> None:
    if target.exists() and not replace:
        raise Conflict(f"{target}: is there already")


def _reason(body: bytes) -> str:
    try:
        return f": {msgspec.json.decode(body, type=dict[str, object]).get('detail', '')}"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
