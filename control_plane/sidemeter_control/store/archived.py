"""Which events are in files of the archive, and in which: what the database knows of them, and how events get there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.events import FIRST_US
from sidemeter_control.store.sql import Sql, on_postgres
from sidemeter_control.store.tables import archive_files, archived_months

__all__ = [
    "EVERY",
    "SIGN",
    "ArchiveFile",
    "Known",
    "Place",
    "add",
    "count",
    "days_of",
    "detach",
    "detached",
    "earliest",
    "every",
    "forget",
    "get",
    "is_archived",
    "known",
    "last_number",
    "mark_of",
    "months",
    "of_numbers",
    "place_of",
    "rows",
    "scanned",
    "unattached",
    "unfinished",
]

Row = tuple[Any, ...]

SIGN: Final = "@"
"""What the data of an archived event begins with, and no JSON object does."""

_DAY_US: Final = 86_400_000_000
_COLUMNS: Final = "seq, source, id, type, subject, time_us, received_at_us, data"
_LEFT: Final = "(data IS NULL OR substr(data, 1, 1) <> '@')"

_NEXT = Sql(f"""
SELECT {_COLUMNS} FROM events
WHERE time_us >= ? AND time_us < ? AND (time_us > ? OR seq > ?) AND seq > ? AND seq <= ? AND {_LEFT}
ORDER BY time_us, seq LIMIT ?
""")  # noqa: S608 -- names of ours
_COUNT = Sql(f"SELECT count(*) FROM events WHERE time_us >= ? AND time_us < ? AND seq > ? AND seq <= ? AND {_LEFT}")  # noqa: S608
_EARLIEST = Sql("SELECT min(time_us) FROM events WHERE time_us >= ? AND time_us < ?")
# The plus keeps it from walking all of the index of times.
_DAYS = Sql("SELECT DISTINCT (time_us - ?) / ? FROM events WHERE seq > ? AND seq <= ? AND +time_us < ?")
_ROWS = Sql(
    f"SELECT {_COLUMNS} FROM events WHERE seq IN (SELECT value FROM json_each(?))",  # noqa: S608
    postgres=f"SELECT {_COLUMNS} FROM events WHERE seq = ANY (ARRAY(SELECT json_array_elements_text(?)::bigint))",  # noqa: S608
)
_DETACH = "UPDATE events SET data = ? WHERE seq = ?"
_DETACH_ALL = """
UPDATE events SET data = moved.mark FROM unnest($1::text[], $2::bigint[]) AS moved(mark, seq) WHERE events.seq = moved.seq
"""
_ATTACHED = Sql("SELECT count(*) FROM events WHERE seq >= ? AND seq <= ? AND substr(data, 1, ?) = ?")


class Place(NamedTuple):
    """Where an event's data is: the number of a file, and the row in it."""

    file: int
    row: int


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file of events of one month: as the table `archive_files` says. Instants are microseconds since 1970, ends inclusive."""

    number: int
    id: str
    name: str
    directory: str
    month_us: int
    from_us: int
    to_us: int
    first_seq: int
    last_seq: int
    events: int
    group_events: int
    data_bytes: int
    size_bytes: int
    digest: bytes
    written_at_us: int
    detached_at_us: int | None = None


EVERY: Final = f"SELECT {', '.join(each.name for each in fields(ArchiveFile))} FROM archive_files"  # noqa: S608
"""Rows that `ArchiveFile` takes."""


@dataclass(frozen=True, slots=True)
class Known:
    """What all files of the archive come to: bytes of `data` as they were in the database, and of the files."""

    files: int
    events: int
    data_bytes: int
    size_bytes: int


def is_archived(data: str | None) -> bool:
    """Whether an event's `data`, as it stands in the table, says that the event is in a file."""
    return data is not None and data.startswith(SIGN)


def mark_of(file: int, row: int, data: str | None) -> str:
    """What stands in the place of an event's data once it is in the file.

    >>> mark_of(7, 41, "{}"), mark_of(7, 42, None)
    ('@7:41', '@')
    """
    return SIGN if data is None else f"{SIGN}{file}:{row}"


def place_of(mark: str) -> Place | None:
    """Where the data is; None: the event has none.

    >>> place_of("@7:41"), place_of("@")
    (Place(file=7, row=41), None)
    """
    if mark == SIGN:
        return None
    file, _, row = mark[1:].partition(":")
    return Place(int(file), int(row))


async def add(conn: AsyncConnection, file: ArchiveFile) -> None:
    """Write that the file is there."""
    await conn.execute(insert(archive_files).values(**asdict(file)))


async def get(conn: AsyncConnection, numbers: Sequence[int]) -> dict[int, ArchiveFile]:
    """The files of those numbers; one that is not known is absent."""
    found = await conn.execute(select(archive_files).where(archive_files.c.number.in_(numbers)))
    return {row.number: ArchiveFile(*row) for row in found}


async def every(conn: AsyncConnection) -> list[ArchiveFile]:
    """All files, in the order in which they were written."""
    return [ArchiveFile(*row) for row in await conn.execute(select(archive_files).order_by(archive_files.c.number))]


async def known(conn: AsyncConnection) -> Known:
    """What all files come to."""
    columns = archive_files.c.events, archive_files.c.data_bytes, archive_files.c.size_bytes
    found = await conn.execute(select(func.count(), *(func.coalesce(func.sum(each), 0) for each in columns)))
    return Known(*map(int, found.one()))


async def last_number(conn: AsyncConnection) -> int:
    """That of the file that was written down last; 0: there is none."""
    return int((await conn.execute(select(func.max(archive_files.c.number)))).scalar() or 0)


async def unfinished(conn: AsyncConnection) -> ArchiveFile | None:
    """The first file whose events are not all out of the table."""
    wanted = select(archive_files).where(archive_files.c.detached_at_us.is_(None))
    row = (await conn.execute(wanted.order_by(archive_files.c.number).limit(1))).first()
    return None if row is None else ArchiveFile(*row)


async def detached(conn: AsyncConnection, file: ArchiveFile, at_us: int) -> bool:
    """Write that all events of a file are out of the table; whether nobody had."""
    wanted = update(archive_files).where(archive_files.c.number == file.number, archive_files.c.id == file.id)
    done = await conn.execute(wanted.where(archive_files.c.detached_at_us.is_(None)).values(detached_at_us=at_us))
    return done.rowcount == 1


async def unattached(conn: AsyncConnection, file: ArchiveFile) -> bool:
    """Whether no event is looked for in the file."""
    sign = f"{SIGN}{file.number}:"
    asked = file.first_seq, file.last_seq, len(sign), sign
    return int((await conn.exec_driver_sql(_ATTACHED.of(conn), asked)).one()[0]) == 0


async def forget(conn: AsyncConnection, file: ArchiveFile) -> None:
    """A file that no event is looked for in is none of the archive."""
    await conn.execute(delete(archive_files).where(archive_files.c.number == file.number))


async def months(conn: AsyncConnection) -> dict[int, int]:
    """Each month that was gone through, and up to which number of an event."""
    return {row.month_us: row.scanned_seq for row in await conn.execute(select(archived_months))}


async def scanned(conn: AsyncConnection, month_us: Sequence[int], upto: int) -> None:
    """Write that every event of those months up to that number is in a file."""
    await conn.execute(delete(archived_months).where(archived_months.c.month_us.in_(month_us)))
    await conn.execute(insert(archived_months), [{"month_us": each, "scanned_seq": upto} for each in month_us])


async def earliest(conn: AsyncConnection, from_us: int, before_us: int) -> int | None:
    """The time of the first event within."""
    (found,) = (await conn.exec_driver_sql(_EARLIEST.of(conn), (from_us, before_us))).one()
    return None if found is None else int(found)


async def days_of(conn: AsyncConnection, after: int, upto: int, before_us: int) -> list[int]:
    """The days, by an instant of each, of events that arrived within and have their time before."""
    found = await conn.exec_driver_sql(_DAYS.of(conn), (FIRST_US, _DAY_US, after, upto, before_us))
    return [FIRST_US + int(day) * _DAY_US for (day,) in found]


async def rows(
    conn: AsyncConnection, within: tuple[int, int], after: tuple[int, int], numbers: tuple[int, int], limit: int
) -> list[Row]:
    """The next events of an interval that are in no file, by time and number, after that place; of numbers above the first and
    up to the second."""
    asked = max(within[0], after[0]), within[1], *after, *numbers, limit
    return [tuple(row) for row in await conn.exec_driver_sql(_NEXT.of(conn), asked)]


async def count(conn: AsyncConnection, within: tuple[int, int], numbers: tuple[int, int]) -> int:
    """How many these are in all."""
    return int((await conn.exec_driver_sql(_COUNT.of(conn), (*within, *numbers))).one()[0])


async def detach(conn: AsyncConnection, moved: Sequence[tuple[int, str]]) -> None:
    """Let marks take the place of the data of events, each given by its number."""
    if on_postgres(conn):
        numbers, marks = map(list, zip(*moved, strict=True))
        await conn.exec_driver_sql(_DETACH_ALL, (marks, numbers))
    else:
        await conn.exec_driver_sql(_DETACH, [(mark, seq) for seq, mark in moved])


async def of_numbers(conn: AsyncConnection, numbers: Sequence[int]) -> dict[int, Row]:
    """Events as they stand in the table, by their numbers."""
    asked = msgspec.json.encode([str(each) for each in numbers] if on_postgres(conn) else numbers).decode()
    return {row[0]: tuple(row) for row in await conn.exec_driver_sql(_ROWS.of(conn), (asked,))}
