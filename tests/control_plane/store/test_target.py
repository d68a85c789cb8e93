"""The database that another is moved to: only what is empty, and whole only once it is said so."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from fakes import eventually
from postgres import Server
from sqlalchemy import text

from sidemeter_control.errors import DatabaseUnfit, StoreUnavailable
from sidemeter_control.store import dead_letters
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import DeadLetter
from sidemeter_control.store.tables import late_days
from sidemeter_control.store.target import Target

pytestmark = pytest.mark.postgres

ENDED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with server.empty() as made:
        yield made


async def prepared(url: str, directory: Path) -> Target:
    target = await Target.at(url, witness=str(directory / "holders"))
    await target.prepare(lambda *_: None, replace=False)
    return target


async def run(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url)
    await conn.execute(statement)
    await conn.close()


async def test_tables_of_somebody_else_are_never_touched(url: str, tmp_path: Path) -> None:
    await run(url, "CREATE TABLE invoices (id int)")
    with pytest.raises(DatabaseUnfit, match="must be empty"):
        await Target.at(url, witness=str(tmp_path / "holders"))
    await run(url, "INSERT INTO invoices VALUES (1)")


async def test_the_last_word_may_be_said_again_when_nobody_knows_whether_it_was_heard(url: str, tmp_path: Path) -> None:
    target = await prepared(url, tmp_path)

    async def said() -> bool:
        with suppress(StoreUnavailable):
            await target.finish()
            return True
        return False

    assert await said()
    await run(url, ENDED)
    await eventually(said)  # whoever asks before it has noticed that its connection is gone is told so
    await target.close()
    await (await Database.open(url, witness=str(tmp_path / "holders"))).close()


async def test_a_row_that_the_server_does_not_take_is_named_by_its_table(url: str, tmp_path: Path) -> None:
    target = await prepared(url, tmp_path)
    for row in (("acme", 0, "many"), ("a\0b", 0, 1), ("acme", 0, None)):
        with pytest.raises(StoreUnavailable, match="late_days"):
            await target.put(late_days, [row])
    await target.put(late_days, [("acme", 0, 1)])
    assert [rows async for rows in target.rows(late_days)] == [[("acme", 0, 1)]]
    await target.close()


async def test_tables_without_rows_are_numbered_from_one(url: str, tmp_path: Path) -> None:
    target = await prepared(url, tmp_path)
    await target.go_on_numbering()
    async with target.write() as conn:
        await dead_letters.add(conn, [DeadLetter.of("c", "r", b"raw", 0, None)])
    async with target.read() as conn:
        assert await conn.scalar(text("SELECT max(id) FROM dead_letters")) == 1
    await target.close()
