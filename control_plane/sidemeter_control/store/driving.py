"""How statements come to be compiled, and reach the driver: SQLAlchemy's dialects, where those cost more than they must.

What one dialect has compiled, every other of its class takes as it is: a database has an engine that writes and one that
reads, and each would compile every statement for itself.
"""

import re
import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import aiosqlite
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    AsyncAdapt_asyncpg_cursor,
    AsyncAdapt_asyncpg_dbapi,
    PGDialect_asyncpg,
)
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

__all__ = ["ASYNC_SQLITE", "COMPILED", "POSTGRES", "SQLITE"]

_STATEMENTS: Final = 1000
"""More than there are: some 400, for a writer and for readers."""

COMPILED: Final[Mapping[str, Any]] = {"compiled_cache": LRUCache(_STATEMENTS)}
"""Options of an engine of the dialects below."""

ASYNC_SQLITE: Final = "sqlite+turns"
SQLITE: Final = "sqlite+alike"
POSTGRES: Final = "postgresql+alike"


class _Alike:
    """Dialects of one class, on servers of one version, compile alike."""

    server_version_info: Any = None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.server_version_info == self.server_version_info

    def __hash__(self) -> int:
        return hash(type(self))


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    """A statement, its rows and its end in one turn of the connection's thread.

    SQLAlchemy takes one for each of them and for the cursor before, and a turn costs more than most statements do.
    """

    __slots__ = ("_description", "_lastrowid", "_rowcount")
    _awaitable_cursor_close = False

    def __init__(self, adapt_connection: AsyncAdapt_dbapi_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection: Any = adapt_connection._connection  # noqa: SLF001 -- as the class above does
        self._cursor: Any = None
        self._rows = deque()
        self._description: Any = None
        self._rowcount = -1
        self._lastrowid: int | None = None

    @property
    def description(self) -> Any:
        """See PEP 249."""
        return self._description

    @property
    def rowcount(self) -> int:
        """See PEP 249."""
        return self._rowcount

    @property
    def lastrowid(self) -> Any:
        """See PEP 249."""
        return self._lastrowid

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._ask(_one, operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._ask(_many, operation, seq_of_parameters)

    async def _ask(self, ask: Any, operation: str, parameters: Any) -> None:
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001 -- as the class above does
            connection = self._connection
            answer = await connection._execute(ask, connection._conn, operation, parameters)  # noqa: SLF001 -- public methods take one turn each
        rows, self._description, self._rowcount, self._lastrowid = answer
        self._rows = deque(rows)


_Answer = tuple[Sequence[Any], Any, int, int | None]


def _one(connection: sqlite3.Connection, statement: str, parameters: Any) -> _Answer:
    with closing(connection.execute(statement, parameters)) as cursor:
        return cursor.fetchall(), cursor.description, cursor.rowcount, cursor.lastrowid


def _many(connection: sqlite3.Connection, statement: str, parameters: Any) -> _Answer:
    with closing(connection.executemany(statement, parameters)) as cursor:
        return (), cursor.description, cursor.rowcount, cursor.lastrowid


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _Cursor


class _Driver(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *args: Any, **options: Any) -> _Connection:
        return _Connection(self, super().connect(*args, **options).driver_connection)


class _AsyncSqlite(_Alike, SQLiteDialect_aiosqlite):
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> _Driver:
        return _Driver(aiosqlite, sqlite3)


class _Sqlite(_Alike, SQLiteDialect_pysqlite):
    supports_statement_cache = True


_COPY = re.compile(r"COPY (?P<table>\w+) \((?P<columns>\w+(, \w+)*)\) FROM STDIN")


class _PostgresCursor(AsyncAdapt_asyncpg_cursor):
    """Takes `COPY table (columns) FROM STDIN` with many rows as well: PostgreSQL's own way to be given them, which SQLAlchemy
    does not know."""

    __slots__ = ()

    async def _executemany(self, operation: str, seq_of_parameters: Any) -> Any:
        copied = _COPY.fullmatch(operation)
        if copied is None:
            plain: Any = super()._executemany
            return await plain(operation, seq_of_parameters)
        adapted: Any = self._adapt_connection
        async with adapted._execute_mutex:  # noqa: SLF001 -- as the class above does
            if adapted._transaction is None:  # noqa: SLF001
                await adapted._start_transaction()  # noqa: SLF001
            raw: Any = self._connection
            try:
                await raw.copy_records_to_table(
                    copied["table"], records=seq_of_parameters, columns=copied["columns"].split(", ")
                )
            except Exception as error:  # noqa: BLE001 -- becomes SQLAlchemy's, as the class above does
                adapted._handle_exception(error)  # noqa: SLF001
        self._rowcount = len(seq_of_parameters)
        return None


class _PostgresConnection(AsyncAdapt_asyncpg_connection):
    __slots__ = ()
    _cursor_cls = _PostgresCursor


class _PostgresDriver(AsyncAdapt_asyncpg_dbapi):
    def connect(self, *args: Any, **options: Any) -> Any:
        adapted: Any = super()
        raw = adapted.connect(*args, **options).driver_connection
        made: Any = _PostgresConnection
        return made(self, raw, prepared_statement_cache_size=options["prepared_statement_cache_size"])


class _Postgres(_Alike, PGDialect_asyncpg):
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        driver: Any = _PostgresDriver
        return driver(__import__("asyncpg"))


registry.register(ASYNC_SQLITE.replace("+", "."), __name__, _AsyncSqlite.__name__)
registry.register(SQLITE.replace("+", "."), __name__, _Sqlite.__name__)
registry.register(POSTGRES.replace("+", "."), __name__, _Postgres.__name__)
