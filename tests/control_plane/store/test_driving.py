"""A statement reaches the database once compiled, and in one turn of the thread that has it."""

import logging
from pathlib import Path

import pytest
from planes import open_database
from sqlalchemy import literal, select
from sqlalchemy.engine.interfaces import CacheStats
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.store.database import Database, savepoint


async def known(conn: AsyncConnection, name: str) -> bool:
    """Whether the statement was compiled before."""
    found = await conn.execute(select(literal(1).label(name)))
    return found.context.cache_hit is CacheStats.CACHE_HIT


@pytest.mark.both_databases
async def test_what_is_compiled_for_one_connection_is_for_every_other(tmp_path: Path, kind: str) -> None:
    for at, expected in (("first", False), ("second", True)):
        directory = tmp_path / at
        directory.mkdir()
        async with open_database(directory) as database:
            async with database.write() as conn:
                assert await known(conn, f"asked_{kind}") is expected
            async with database.read() as conn:
                assert await known(conn, f"asked_{kind}")


async def test_a_statement_and_its_rows_take_one_turn_of_the_thread(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with database.write() as conn:
        with caplog.at_level(logging.DEBUG, "aiosqlite"):
            rows = (await conn.exec_driver_sql("SELECT 1 UNION ALL SELECT 2")).all()
    assert [tuple(row) for row in rows] == [(1,), (2,)]
    assert sum(each.getMessage().startswith("executing") for each in caplog.records) == 1


async def test_a_statement_says_what_it_changed(database: Database) -> None:
    async with database.write() as conn:
        await conn.exec_driver_sql("CREATE TABLE kept (id INTEGER PRIMARY KEY, text TEXT UNIQUE)")
        made = await conn.exec_driver_sql("INSERT INTO kept (text) VALUES (?)", ("a",))
        assert (made.rowcount, made.lastrowid) == (1, 1)
        given = await conn.exec_driver_sql("INSERT INTO kept (text) VALUES (?) RETURNING id, text", ("b",))
        assert list(given.keys()) == ["id", "text"]
        assert tuple(given.one()) == (2, "b")
        assert (await conn.exec_driver_sql("INSERT INTO kept (text) VALUES (?)", [("c",), ("d",)])).rowcount == 2
        assert (await conn.exec_driver_sql("UPDATE kept SET text = text || '.'")).rowcount == 4
        with pytest.raises(IntegrityError, match="UNIQUE"):
            await conn.exec_driver_sql("INSERT INTO kept (text) VALUES (?)", ("a.",))


@pytest.mark.postgres
async def test_rows_are_copied_into_a_table_all_or_none(database: Database) -> None:
    copy = "COPY kept (id, text) FROM STDIN"
    async with database.write() as conn:
        await conn.exec_driver_sql("CREATE TABLE kept (id INTEGER PRIMARY KEY, text TEXT)")
        assert (await conn.exec_driver_sql(copy, [(1, "a"), (2, None)])).rowcount == 2
        for wrong in ([(3, "b"), (2, "c")], [(4, "d"), (5, "e\0")]):
            with pytest.raises((IntegrityError, InvalidInput)):
                async with savepoint(conn):
                    await conn.exec_driver_sql(copy, wrong)
        found = await conn.exec_driver_sql("SELECT id, text FROM kept ORDER BY id")
        assert [tuple(row) for row in found] == [(1, "a"), (2, None)]
