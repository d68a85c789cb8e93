"""Archiving in tests: all of it at once, of any database."""

from pathlib import Path

from fakes import ManualClock

from sidemeter_control.metering import months
from sidemeter_control.metering.archiving import Archived, archive
from sidemeter_control.metering.unarchived import SIZES, Sizes
from sidemeter_control.store import archived
from sidemeter_control.store.archived import ArchiveFile
from sidemeter_control.store.database import Database

__all__ = ["archive_all", "files_of", "path_of"]


async def archive_all(
    database: Database, clock: ManualClock, *, before_us: int | None = None, sizes: Sizes = SIZES
) -> Archived:
    """Archive what is due before that instant, by default before the month of now; answers what it came to."""
    before_us = months.begin(clock.now_us()) if before_us is None else before_us
    steps = [each async for each in archive(database, clock, before_us, "key_1", counts=True, sizes=sizes)]
    return steps[-1] if steps else Archived()


async def files_of(database: Database) -> list[ArchiveFile]:
    async with database.read() as conn:
        return await archived.every(conn)


def path_of(database: Database, file: ArchiveFile) -> Path:
    return database.archive.find(file)
