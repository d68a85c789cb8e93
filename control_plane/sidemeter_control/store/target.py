"""A database on a server that another is moved to: refused to everybody else from its first table on, until all of it is there."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

import asyncpg
from sqlalchemy import Integer, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import DatabaseUnfit, StoreUnavailable
from sidemeter_control.store.contents import CORRECTED, Row, columns_of
from sidemeter_control.store.files import Report
from sidemeter_control.store.postgres import TABLES, PostgresDatabase
from sidemeter_control.store.schema import UNFINISHED, newest, upgrade
from sidemeter_control.store.tables import metadata

__all__ = ["Target"]

_FETCHED: Final = 500  # rows, of 64 KiB at most, but for a dead letter's


class Target(PostgresDatabase):
    """A database that is empty, or holds a part of a move that did not end; DatabaseUnfit for any other."""

    _is_whole = False

    async def prepare(self, report: Report, *, replace: bool) -> None:
        """Make its tables, empty, and see that nobody starts on them. `replace`: in the place of what did not end."""
        async with self.write() as conn:
            tables = (await conn.scalars(text(TABLES))).all()
            if tables and not replace:
                raise DatabaseUnfit(
                    self.name, "holds a part of a move that did not end; with --replace it is emptied first"
                )
            for table in tables:
                await conn.exec_driver_sql(f'DROP TABLE "{table}" CASCADE')
            await _make_schema(conn)
            await conn.run_sync(upgrade, report)
            await conn.exec_driver_sql(f"TRUNCATE {_all_tables()}")
            await _call_it(conn, UNFINISHED)

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Add those rows."""
        async with self.write() as conn:
            with _translated(table.name):
                await (await _driver(conn)).copy_records_to_table(
                    table.name, records=rows, columns=[column.name for column in table.c]
                )

    async def rows(self, table: Table, *, after: int | None = None) -> AsyncIterator[list[Row]]:
        """All rows of a table; `after`: of events, only those that arrived after that one."""
        wanted = f"SELECT {columns_of(table)} FROM {table.name}"  # noqa: S608 -- a name of ours
        asked = (wanted,) if after is None else (f"{wanted} WHERE seq > $1", after)
        async for some in self._stretches(table.name, *asked):
            yield some

    async def corrected(self) -> list[Row]:
        """See CORRECTED."""
        return [row async for some in self._stretches("corrections", CORRECTED) for row in some]

    async def go_on_numbering(self) -> None:
        """Let what numbers rows by itself go on above the rows that are there; and let the planner know of them."""
        async with self.write() as conn:
            for table in metadata.sorted_tables:
                for column in table.primary_key:
                    if isinstance(column.type, Integer):
                        await conn.exec_driver_sql(
                            f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'),"  # noqa: S608
                            f' (SELECT max("{column.name}") FROM {table.name}))'
                        )
            await conn.exec_driver_sql(f"ANALYZE {_all_tables()}")

    async def finish(self) -> None:
        """Let control planes start on it: all of it is there. Said twice, it is the same."""
        self._is_whole = True
        async with self.write() as conn:
            await _call_it(conn, newest())

    async def _is_ours(self, raw: asyncpg.Connection) -> bool:
        """Not while it is moved to."""
        tables = {table for (table,) in await raw.fetch(TABLES)}
        expected = {UNFINISHED, newest()} if self._is_whole else {UNFINISHED}
        if tables and not (
            "alembic_version" in tables and await raw.fetchval("SELECT version_num FROM alembic_version") in expected
        ):
            raise DatabaseUnfit(self.name, "must be empty: another database, or DROP SCHEMA … CASCADE in this one")
        return False

    async def _stretches(self, name: str, statement: str, *arguments: object) -> AsyncIterator[list[Row]]:
        async with self.read() as conn:
            await conn.exec_driver_sql("SELECT 1")  # begins the transaction, which a cursor needs
            with _translated(name):
                found = await (await _driver(conn)).cursor(statement, *arguments)
                while some := await found.fetch(_FETCHED):
                    yield [tuple(row) for row in some]


async def _make_schema(conn: AsyncConnection) -> None:
    """Where a search path names one that is not there yet."""
    if await conn.scalar(text("SELECT current_schema()")) is None:
        path = str(await conn.scalar(text("SHOW search_path")))
        name = next(each.strip().strip('"') for each in path.split(",") if "$" not in each)
        await conn.exec_driver_sql(f'CREATE SCHEMA "{name}"')


async def _call_it(conn: AsyncConnection, revision: str) -> None:
    await conn.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


async def _driver(conn: AsyncConnection) -> asyncpg.Connection:
    return cast("asyncpg.Connection", (await conn.get_raw_connection()).driver_connection)


def _all_tables() -> str:
    return ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TypeError, OverflowError) as exc:
        raise StoreUnavailable(f"{name}: {exc}") from exc
