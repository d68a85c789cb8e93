"""The archive: a directory of files that hold what events of old months say, read wherever those events are.

The table `events` keeps each event's number, source, id, type, subject and time, so that it is known for ever, found by
subject and time, and corrected as any other; of its data it keeps only the place in a file (`archived.py`). Whatever reads
events gets their data through here, or hears which file is missing.
"""

import dataclasses
import hashlib
import os
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import ArchiveUnavailable
from sidemeter_control.metering.events import Event
from sidemeter_control.store import archived
from sidemeter_control.store.archived import ArchiveFile, Place
from sidemeter_control.store.snapshot import worked

if TYPE_CHECKING:
    from sidemeter_control.store.events import StoredEvent

__all__ = [
    "FILES",
    "MAX_GROUPS",
    "NOT_INSTALLED",
    "OPTION",
    "Archive",
    "archive_of",
    "digest_of",
    "strangers",
    "with_data",
]

MAX_GROUPS: Final = 32
"""Groups of rows kept unpacked, some 2 MiB each: a page and the next, a fill's next events, are mostly in the same ones."""

OPTION: Final = "archive"
"""Under which name connections have their archive."""

FILES: Final = "events-*.parquet"
"""What the names of files of events are like."""

NOT_INSTALLED: Final = "pip install 'sidemeter[archive]'"


Said = TypeVar("Said", bound="Event | StoredEvent")


class Archive:
    """The files in `directory`, or where each was written if it is not there. At most `max_groups` are kept unpacked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.max_groups = MAX_GROUPS
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._sound: dict[str, tuple[int, ...]] = {}
        self._lock = Lock()

    def find(self, file: ArchiveFile) -> Path:
        """Where the file is. ArchiveUnavailable when it is nowhere, or has not the length that was written."""
        wanted = self.directory / file.name
        for path in (wanted, Path(file.directory) / file.name):
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise ArchiveUnavailable(path, f"cannot be read: {exc.strerror}") from exc
            if size != file.size_bytes:
                raise ArchiveUnavailable(path, f"has {size} bytes, and {file.size_bytes} were written")
            return path
        raise ArchiveUnavailable(wanted, f"there is no such file, which holds {file.events} archived events")

    def lost(self, files: Sequence[ArchiveFile]) -> list[ArchiveUnavailable]:
        """Those of the files that are not where they are looked for, or not as long as what was written."""
        found = []
        for file in files:
            try:
                self.find(file)
            except ArchiveUnavailable as exc:
                found.append(exc)
        return found

    def check(self, path: Path, file: ArchiveFile) -> None:
        """See once that every byte is as it was written, again once the file is another. ArchiveUnavailable when not."""
        try:
            seen = path.stat()
            known = seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size
            if self._sound.get(file.id) != known:
                if digest_of(path) != file.digest:
                    raise ArchiveUnavailable(path, "is damaged, or another: its bytes are not those that were written")
                self._sound[file.id] = known
        except OSError as exc:
            raise ArchiveUnavailable(path, f"cannot be read: {exc.strerror}") from exc

    def read(self, wanted: Mapping[ArchiveFile, Sequence[int]]) -> dict[Place, tuple[str, str, str | None]]:
        """Source, id and data of the rows of those files. ArchiveUnavailable, naming the file that is missing or damaged."""
        found: dict[Place, tuple[str, str, str | None]] = {}
        for file, rows in wanted.items():
            by_group: defaultdict[int, list[int]] = defaultdict(list)
            for row in rows:
                by_group[row // file.group_events].append(row)
            for number, some in by_group.items():
                said = self._data(file, number, [row % file.group_events for row in some])
                found |= {Place(file.number, row): each for row, each in zip(some, said, strict=True)}
        return found

    def _data(self, file: ArchiveFile, number: int, places: Sequence[int]) -> list[tuple[str, str, str | None]]:
        try:
            from sidemeter_control.store import parquet  # noqa: PLC0415 -- an extra, and large
        except ModuleNotFoundError as exc:
            raise ArchiveUnavailable(
                file.name, f"archived events are read with {exc.name}, which is not installed", NOT_INSTALLED
            ) from exc
        with self._lock:
            group = self._groups.pop((file.id, number), None)
            if group is None:
                path = self.find(file)
                self.check(path, file)
                try:
                    group = parquet.group_of(path, file.id, file.events, number)
                except parquet.Problem as exc:
                    raise ArchiveUnavailable(path, str(exc)) from exc
            self._groups[file.id, number] = group
            while len(self._groups) > self.max_groups:
                self._groups.popitem(last=False)
        return parquet.data_of(group, places)


def digest_of(path: Path) -> bytes:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def strangers(directory: Path, names: frozenset[str]) -> list[Path]:
    """Files of events in the directory that have none of those names."""
    return sorted(each for each in directory.glob(FILES) if each.name not in names)


def archive_of(conn: AsyncConnection) -> Archive:
    """The archive of the database that the connection is to."""
    options = {} if conn.sync_connection is None else conn.sync_connection.get_execution_options()
    found = options.get(OPTION)
    return found if isinstance(found, Archive) else Archive(Path(os.devnull) / "archive")


async def with_data(conn: AsyncConnection, some: Sequence[Said]) -> list[Said]:
    """The same events, with what they say: of those that are in the archive it is read there. ArchiveUnavailable."""
    marked = [(index, event.data) for index, event in enumerate(some) if event.data and event.data[0] == archived.SIGN]
    if not marked:
        return list(some)
    wanted = {index: archived.place_of(mark) for index, mark in marked}
    found = await _read(conn, {place for place in wanted.values() if place is not None})
    told = list(some)
    for index, place in wanted.items():
        event = some[index]
        source, id_, data = (event.source, event.id, None) if place is None else found[place]
        if (source, id_) != (event.source, event.id):
            raise ArchiveUnavailable(
                f"file {place and place.file}", f"holds another event than {event.source}/{event.id}"
            )
        told[index] = _saying(event, data)
    return told


async def _read(conn: AsyncConnection, places: set[Place]) -> dict[Place, tuple[str, str, str | None]]:
    if not places:
        return {}
    by_file: defaultdict[int, list[int]] = defaultdict(list)
    for file, row in sorted(places):
        by_file[file].append(row)
    files = await archived.get(conn, list(by_file))
    for number in by_file.keys() - files.keys():
        raise ArchiveUnavailable(
            f"file {number} of the archive", "the database does not know of it", "restore a backup"
        )
    archive = archive_of(conn)
    return await worked(conn, lambda: archive.read({files[number]: rows for number, rows in by_file.items()}))


def _saying(event: Said, data: str | None) -> Said:
    if isinstance(event, Event):
        return msgspec.structs.replace(event, data=data)
    return dataclasses.replace(event, data=data)
