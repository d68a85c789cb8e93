"""Archiving: events of months that are over go into files, and leave in the table what they are found and known by.

First a file is whole, on the disk, read back and written down; then its events give up their data, some at a time, each
compared with the file once more. A process that ends at any point loses and doubles nothing: what it wrote down goes on where
it was, what it did not is deleted, and the next one begins anew.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import ArchiveUnavailable, Conflict
from sidemeter_control.metering import months
from sidemeter_control.metering.unarchived import SIZES, Sizes, Unarchived
from sidemeter_control.store import archived, audit
from sidemeter_control.store.archived import ArchiveFile
from sidemeter_control.store.database import Database

if TYPE_CHECKING:
    from sidemeter_control.store.parquet import Draft, Row

__all__ = ["ARCHIVING", "Archived", "Archiving", "archive", "survey"]

ARCHIVING: Final = "archiving"
"""Who archives when a setting says so, in the audit log."""


@dataclass(slots=True)
class Archived:
    """How far it is. `data_bytes` have left the table, `marks_bytes` stand there in their place, `file_bytes` are in files."""

    files: int = 0
    events: int = 0
    data_bytes: int = 0
    mark_bytes: int = 0
    file_bytes: int = 0
    expected: int = 0
    names: list[Path] = field(default_factory=list)


async def archive(
    database: Database,
    clock: Clock,
    before_us: int,
    by: str,
    *,
    directory: Path | None = None,
    counts: bool = False,
    sizes: Sizes = SIZES,
) -> AsyncIterator[Archived]:
    """Archive every event that is in no file yet and has its time before `before_us`, where a month begins.

    A step at a time: a file, or a transaction. `directory`: where new files go, if not where the
    database's archive is. `counts`: `expected` is known before the first file is. Raises StoreUnavailable when the disk or the
    database does not take it, Conflict when another process archives meanwhile, ArchiveUnavailable for a file that was written
    down, and is not there or not what was written. Whoever calls it again goes on.
    """
    from sidemeter_control.store import archive_files  # noqa: PLC0415 -- brings an extra

    into = await asyncio.to_thread(archive_files.made, directory or database.archive.directory)
    so_far = Archived()
    async with database.read() as conn:
        names = frozenset(file.name for file in await archived.every(conn))
    await asyncio.to_thread(archive_files.clear_away, into, names)
    async for _ in _detach_all(database, clock, by, so_far, sizes):
        yield so_far
    due, writing = Unarchived(database, before_us, sizes), _Writing(database, clock, into)
    await due.begin()
    if counts:
        so_far.expected = so_far.events + await due.count()
    async for month_us, draft in due.drafts():
        if draft is None:
            await due.went_through([month_us])
            continue
        await writing.file(month_us, draft, due.number)
        yield so_far
        async for _ in _detach_all(database, clock, by, so_far, sizes):
            yield so_far
        due.number += 1
    await due.went_through(due.months_known)


async def survey(database: Database, before_us: int) -> AsyncIterator[Archived]:
    """What `archive` would come to; nothing is written, the files are made in memory."""
    so_far = Archived()
    due = Unarchived(database, before_us)
    await due.begin()
    so_far.expected = await due.count()
    yield so_far
    async for _, draft in due.drafts():
        if draft is None:
            continue
        packed = await asyncio.to_thread(draft.packed, "")
        so_far.files += 1
        so_far.events += draft.events
        so_far.data_bytes += draft.data_bytes
        so_far.mark_bytes += sum(
            len(archived.mark_of(due.number + so_far.files, row, "{}")) for row in range(draft.events)
        )
        so_far.file_bytes += len(packed.content)
        yield so_far


class Archiving:
    """What a loop does a step of at a time. `now`: what is to be archived by now begins before that instant."""

    def __init__(self, database: Database, clock: Clock, now: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._now = now
        self._steps: AsyncIterator[Archived] | None = None

    async def once(self) -> bool:
        """One step; whether there may be more."""
        if self._steps is None:
            self._steps = archive(self._database, self._clock, self._now(), ARCHIVING)
        steps, self._steps = self._steps, None
        try:
            await anext(steps)
        except StopAsyncIteration:
            return False
        self._steps = steps
        return True


async def _detach_all(database: Database, clock: Clock, by: str, so_far: Archived, sizes: Sizes) -> AsyncIterator[None]:
    """Let the events of files that are written down give up their data, until there are none whose events have not."""
    while True:
        async with database.read() as conn:
            file = await archived.unfinished(conn)
        if file is None:
            return
        async for detached in _detach(database, clock, by, file, sizes.detached):
            so_far.events += detached.events
            so_far.mark_bytes += detached.mark_bytes
            yield
        so_far.files += 1
        so_far.data_bytes += file.data_bytes
        so_far.file_bytes += file.size_bytes
        so_far.names.append(Path(file.directory) / file.name)


async def _detach(
    database: Database, clock: Clock, by: str, file: ArchiveFile, at_once: int
) -> AsyncIterator[Archived]:
    from sidemeter_control.store import archive_files, parquet  # noqa: PLC0415 -- an extra

    await asyncio.to_thread(archive_files.named, file)
    try:
        path = await asyncio.to_thread(database.archive.find, file)
    except ArchiveUnavailable:
        async with database.write() as conn:
            if not await archived.unattached(conn, file):
                raise
            # It was written down, and is not there, and no event needs it: of another time, or place.
            await archived.forget(conn, file)
        return
    await asyncio.to_thread(database.archive.check, path, file)
    whole = await asyncio.to_thread(archive_files.read_whole, path, file)
    order = await asyncio.to_thread(whole.by_number)
    for first in range(0, len(order), at_once):
        places = [place for _, place in order[first : first + at_once]]
        rows = await asyncio.to_thread(parquet.rows_of, whole, places)
        marks = [archived.mark_of(file.number, place, row[-1]) for place, row in zip(places, rows, strict=True)]
        async with database.write() as conn:
            await _give_up(conn, path, rows, marks)
        yield Archived(events=len(places), mark_bytes=sum(map(len, marks)))
    async with database.write() as conn:
        if await archived.detached(conn, file, clock.now_us()):
            said = {"events": file.events, "bytes": file.size_bytes, "sha256": file.digest.hex()}
            await audit.add(conn, clock.now_us(), by, "archiveEvents", f"file {file.name}", **said)


async def _give_up(conn: AsyncConnection, path: Path, rows: Sequence["Row"], marks: Sequence[str]) -> None:
    """Only what is in the file to the letter is taken out of the table."""
    stored = await archived.of_numbers(conn, [row[0] for row in rows])
    moved = []
    for row, mark in zip(rows, marks, strict=True):
        now = stored.get(row[0])
        if now == row:
            moved.append((row[0], mark))
        elif now != (*row[:-1], mark):
            raise ArchiveUnavailable(path, f"says otherwise than the database of event {row[1]}/{row[2]}")
    if moved:
        await archived.detach(conn, moved)


@dataclass(frozen=True, slots=True)
class _Writing:
    """What writes files, and writes down that they are there."""

    database: Database
    clock: Clock
    into: Path

    async def file(self, month_us: int, draft: "Draft", number: int) -> None:
        """Write the file of that number, unless another process wrote one since these events were read: Conflict."""
        from sidemeter_control.store import archive_files  # noqa: PLC0415 -- an extra

        id_ = self.clock.new_id("archive")
        name = f"events-{months.name(month_us)}-{number:06}-{id_[-8:]}.parquet"
        part = await asyncio.to_thread(archive_files.Part, self.into, name)
        try:
            packed = await asyncio.to_thread(draft.packed, id_)
            size_bytes, digest = await asyncio.to_thread(part.write, packed, id_, draft.events)
            file = ArchiveFile(
                number=number,
                id=id_,
                name=name,
                directory=str(self.into),
                month_us=month_us,
                **draft.ends(),
                events=draft.events,
                group_events=draft.group_events,
                data_bytes=draft.data_bytes,
                size_bytes=size_bytes,
                digest=digest,
                written_at_us=self.clock.now_us(),
            )
            await self._write_down(file)
            await asyncio.to_thread(archive_files.named, file)
        finally:
            part.close()

    async def _write_down(self, file: ArchiveFile) -> None:
        async with self.database.write() as conn:
            if await archived.last_number(conn) != file.number - 1:
                raise Conflict("another process archives meanwhile: what is left is its own to do")
            await archived.add(conn, file)
