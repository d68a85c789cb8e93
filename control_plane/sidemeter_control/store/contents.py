"""Every row of every table of a database file, as a server takes it: a stretch at a time, whoever writes to the file."""

import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

from sqlalchemy import Boolean, Column, Engine, StaticPool, Table, Text, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.store.snapshot import SqliteSnapshot
from sidemeter_control.store.sql import without_nul
from sidemeter_control.store.tables import ExactDecimal, events, outcome_mentions, rollup_values

__all__ = ["CORRECTED", "MAX_COPIED_BYTES", "MAX_COPIED_ROWS", "File", "Row", "columns_of"]

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
"""The values of a table's columns, in their order."""

MAX_COPIED_ROWS: Final = 5_000
MAX_COPIED_BYTES: Final = 8 * 1024 * 1024
"""Of texts and bytes that are copied at once; a single row may be more."""

CORRECTED: Final = """
SELECT e.seq, e.source, e.id, e.type, e.subject, e.time_us, e.received_at_us, e.data, c.kind, c.data
FROM corrections AS c JOIN events AS e ON e.seq = c.event_seq
WHERE NOT EXISTS (
    SELECT 1 FROM corrections AS later
    WHERE later.subject = c.subject AND later.event_seq = c.event_seq AND later.number > c.number
)
"""
"""Every corrected event, a row of `events`, with the kind and the data of its last correction."""

# What the store itself keeps without NUL where the database cannot hold it, and gives back with it.
_WITHOUT_NUL = frozenset({rollup_values.c.value, outcome_mentions.c.thing})


class File:
    """The file at `path`, open to be read: nothing is written to it, and no log is held up. StoreUnavailable when it cannot be
    read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with self._asked():
            self._sqlite = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        self._engine: Engine = create_engine("sqlite+pysqlite://", creator=lambda: self._sqlite, poolclass=StaticPool)
        self._threads = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._engine.dispose()
        self._sqlite.close()

    def revision(self) -> str | None:
        """The version of its schema; None: it has none."""
        with self._asked():
            if self._one("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'") == 0:
                return None
            return str(self._one("SELECT version_num FROM alembic_version"))

    def last_event(self) -> int:
        """The number of the event that arrived last."""
        with self._asked():
            return int(self._one("SELECT max(seq) FROM events") or 0)

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        with self._asked():
            return int(self._one(f"SELECT count(*) FROM {table.name}"))  # noqa: S608 -- a name of ours

    def events_after(self, seq: int) -> list[Row]:
        """The next stretch of events, in the order in which they arrived. Between two stretches nothing is held."""
        wanted = f"SELECT {columns_of(events)} FROM events WHERE seq > ? ORDER BY seq"  # noqa: S608 -- its columns
        with self._asked(), closing(self._sqlite.execute(wanted, (seq,))) as found:
            return next(_stretches(found, events), [])

    def rows(self, table: Table) -> Iterator[list[Row]]:
        """All rows of a table."""
        wanted = f"SELECT {columns_of(table)} FROM {table.name}"  # noqa: S608 -- a name of ours
        with self._asked(), closing(self._sqlite.execute(wanted)) as found:
            yield from _stretches(found, table)

    def corrected(self) -> Sequence[Row]:
        """See CORRECTED."""
        with self._asked():
            return self._sqlite.execute(CORRECTED).fetchall()

    async def ask(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """What a store function answers, given the connection."""
        with self._asked(), self._engine.connect() as connection:
            return await SqliteSnapshot(connection, self._threads).ask(question)

    def _one(self, statement: str) -> Any:
        return self._sqlite.execute(statement).fetchone()[0]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, DBAPIError) as exc:
            raise StoreUnavailable(f"{self._path}: {exc}") from exc


def columns_of(table: Table) -> str:
    """Their names, as a statement lists them."""
    return ", ".join(f'"{column.name}"' for column in table.c)


def _stretches(found: Iterable[Row], table: Table) -> Iterator[list[Row]]:
    makers = [_maker(column) for column in table.c]
    stretch: list[Row] = []
    size = 0
    for row in found:
        stretch.append(
            tuple([value if value is None else make(value) for make, value in zip(makers, row, strict=True)])
        )
        size += sum([len(value) for value in row if isinstance(value, str | bytes)])
        if len(stretch) >= MAX_COPIED_ROWS or size >= MAX_COPIED_BYTES:
            yield stretch
            stretch, size = [], 0
    if stretch:
        yield stretch


def _maker(column: Column[Any]) -> Callable[[Any], Any]:
    """What makes of a value of that column in the file the one that a server has there."""
    if isinstance(column.type, ExactDecimal):
        return Decimal
    if isinstance(column.type, Boolean):
        return bool
    if column in _WITHOUT_NUL:
        return without_nul
    return _shown if isinstance(column.type, Text) else _itself


def _shown(text: str) -> str:
    """A reason that somebody wrote may have NUL in it on SQLite; no text has on PostgreSQL.

    >>> _shown("a typo"), _shown("a\\0b")
    ('a typo', 'a␀b')
    """
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


def _itself(value: T) -> T:
    return value
