"""Questions to a snapshot: one state of the database, short ones in the loop, long ones beside it, never changed."""

import asyncio
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.store import state
from sidemeter_control.store.database import READERS, Database
from sidemeter_control.store.snapshot import QUICK_STATEMENTS

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT count(*) FROM n"


async def version(conn: AsyncConnection) -> int:
    return (await state.get(conn)).config_version


@pytest.mark.both_databases
async def test_every_question_sees_what_the_first_one_saw(database: Database) -> None:
    async with database.snapshot() as before:
        assert await before.ask(version) == 1
        async with database.write() as conn:
            await state.config_changed(conn)
        assert await before.ask(version) == 1
        count = "SELECT config_version FROM state"
        assert await before.ask(lambda conn: conn.scalar(text(count))) == 1
    async with database.snapshot() as after:
        assert await after.ask(version) == 2


@pytest.mark.both_databases
async def test_a_change_that_was_not_committed_is_not_remembered(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as conn:
            await state.config_changed(conn)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with database.snapshot() as snapshot:
        assert await snapshot.ask(version) == 1


@pytest.mark.parametrize(("statements", "sql"), [(1, LONG), (QUICK_STATEMENTS + 1, "SELECT 100000")])
async def test_what_takes_long_is_answered_from_a_thread(database: Database, statements: int, sql: str) -> None:
    threads: list[int] = []

    async def ask(conn: AsyncConnection) -> object:
        threads.append(threading.get_ident())
        return [await conn.scalar(text(sql)) for _ in range(statements)]

    async with database.snapshot() as snapshot:
        assert await snapshot.ask(ask) == [100_000] * statements
    quick, long = threads
    assert quick == threading.get_ident() != long


async def test_what_is_asked_again_takes_no_more_of_the_bounds(database: Database) -> None:
    threads: list[int] = []

    async def ask(conn: AsyncConnection) -> list[object]:
        threads.append(threading.get_ident())
        return [(await conn.exec_driver_sql("SELECT ?", (n % 3,))).one() for n in range(10 * QUICK_STATEMENTS)]

    async with database.snapshot() as snapshot:
        assert await snapshot.ask(ask) == [(n % 3,) for n in range(10 * QUICK_STATEMENTS)]
    assert threads == [threading.get_ident()]


@pytest.mark.both_databases
async def test_what_one_snapshot_remembers_is_not_what_a_later_one_answers(database: Database) -> None:
    async def ask(conn: AsyncConnection) -> object:
        return (await conn.exec_driver_sql("SELECT config_version FROM state")).one()

    for seen in (1, 2):
        async with database.snapshot() as snapshot:
            assert [await snapshot.ask(ask) for _ in range(2)] == [(seen,)] * 2
        async with database.write() as conn:
            await state.config_changed(conn)


async def test_a_cancelled_question_ends_and_frees_its_turn(database: Database) -> None:
    in_thread = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def ask(conn: AsyncConnection) -> object:
        if threading.current_thread() is not threading.main_thread():
            loop.call_soon_threadsafe(in_thread.set)
        return await conn.scalar(text(ENDLESS))

    async def never() -> None:
        async with database.snapshot() as snapshot:
            await snapshot.ask(ask)

    for _ in range(READERS + 1):
        in_thread.clear()
        task = asyncio.create_task(never())
        await in_thread.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with database.snapshot() as snapshot:
        assert await snapshot.ask(version) == 1


async def test_a_snapshot_cannot_write(database: Database) -> None:
    async with database.snapshot() as snapshot:
        with pytest.raises(Exception, match="readonly"):
            await snapshot.ask(lambda conn: conn.execute(text("DELETE FROM state")))
    with pytest.raises(StoreUnavailable, match="readonly"):
        async with database.snapshot() as snapshot:
            await snapshot.ask(lambda conn: conn.execute(text("DELETE FROM state")))


async def test_a_question_may_await_nothing_but_the_store(database: Database) -> None:
    async def ask(conn: AsyncConnection) -> None:
        await asyncio.sleep(0)

    async with database.snapshot() as snapshot:
        with pytest.raises(RuntimeError, match="nothing but the store"):
            await snapshot.ask(ask)
        assert await snapshot.ask(version) == 1
