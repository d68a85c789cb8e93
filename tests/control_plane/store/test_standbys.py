"""What is said of a commit that no standby has, where commits wait for one: nothing, until it has."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from fakes import eventually
from postgres import running
from sqlalchemy import text

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.store import state
from sidemeter_control.store.database import Database

pytestmark = pytest.mark.postgres

BUMP = "UPDATE state SET config_version = config_version + 1"
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND state = 'active'"
WAIT_FOR = "ALTER SYSTEM SET synchronous_standby_names = '{}'"
WITHIN_S = 60


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Database, asyncpg.Connection]]:
    """A database, and somebody else's connection to its server; of one that is open nowhere else."""
    with running(wal_level="replica", max_wal_senders="5") as server:
        database = await Database.open(server.url("postgres"), witness=str(tmp_path / "w"))
        await database.migrate()
        other = await asyncpg.connect(server.url("postgres"))
        yield database, other
        await other.close()
        await database.close()


async def test_what_was_seen_of_a_commit_that_no_standby_has_is_said_once_one_has_it(
    opened: tuple[Database, asyncpg.Connection],
) -> None:
    database, other = opened

    async def bump() -> None:
        async with database.write() as conn:
            await conn.execute(text(BUMP))

    async def version() -> int:
        async with database.write() as conn:
            return (await state.get(conn)).config_version

    async def wait_for(standby: str) -> None:
        await other.execute(WAIT_FOR.format(standby))
        await other.execute("SELECT pg_reload_conf()")

    await wait_for("absent")
    pid = None
    while pid is None:  # a commit may come before the server has heard of it
        before = await other.fetchval("SELECT config_version FROM state")
        bumping = asyncio.create_task(bump())
        while pid is None and not bumping.done():
            await asyncio.sleep(0)
            pid = await other.fetchval(WAITING)
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(StoreUnavailable):
        await bumping
    await eventually(lambda: _version(other, before + 1), WITHIN_S)  # visible, and on this server alone
    asking = asyncio.create_task(version())
    await eventually(lambda: asking.done() or other.fetchval(WAITING), WITHIN_S)
    assert not asking.done()
    await wait_for("")
    assert await asking == before + 1


async def _version(conn: asyncpg.Connection, wanted: int) -> bool:
    return bool(await conn.fetchval("SELECT config_version FROM state") == wanted)
