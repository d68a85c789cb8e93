"""A database of several servers: the one that takes writes is found, also while another hangs, and not kept to once it is not."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from fakes import eventually
from postgres import PASSWORD, USER, Server, copied, running
from sqlalchemy import text

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.store import state
from sidemeter_control.store.connecting import Connections, connected, nothing_more
from sidemeter_control.store.database import Database

pytestmark = pytest.mark.postgres

BUMP = "UPDATE state SET config_version = config_version + 1"
NAME = "sidemeter"
FOUND_WITHIN_S = 60


def url_of(*servers: Server, query: str = "") -> str:
    hosts = ",".join(quote(str(each.directory), safe="") for each in servers)
    return f"postgresql://{USER}:{PASSWORD}@{hosts}/{NAME}{query}"


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Server, Server]]:
    """A server with the database, and a standby that follows it."""
    with running(wal_level="replica", max_wal_senders="5") as primary:
        await primary.execute(f"CREATE DATABASE {NAME}")
        with copied(primary) as standby:
            yield standby, primary


@contextmanager
def hanging(server: Server) -> Iterator[None]:
    """All processes of that server stop in the block, with every connection open."""
    stopped = server.pids()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


async def bump(database: Database) -> int:
    async with database.write() as conn:
        await conn.execute(text(BUMP))
        return (await state.get(conn)).config_version


async def test_the_server_that_takes_writes_is_found_wherever_it_stands_in_the_url(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    standby, primary = pair
    for servers in ((standby, primary), (primary, standby)):
        for query in ("", "?target_session_attrs=read-write"):
            database = await Database.open(url_of(*servers, query=query), witness=str(tmp_path / "w"))
            await database.migrate()
            before = await bump(database)
            async with database.read() as conn:
                assert (await state.get(conn)).config_version == before
            await database.close()


async def test_where_none_takes_writes_each_says_why(pair: tuple[Server, Server], tmp_path: Path) -> None:
    standby, primary = pair
    primary.stop()
    with pytest.raises(StoreUnavailable) as told:
        await Database.open(url_of(standby, primary), witness=str(tmp_path / "w"))
    assert "target attribute requirement" in str(told.value)
    assert quote(str(primary.directory), safe="") in str(told.value)
    assert PASSWORD not in str(told.value)


async def test_a_standby_that_is_promoted_while_the_primary_hangs_is_written_to_and_the_primary_no_more(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    standby, primary = pair
    database = await Database.open(url_of(primary, standby), witness=str(tmp_path / "w"), alone=False)
    await database.migrate()
    await database.join()
    before = await bump(database)
    follower = await asyncpg.connect(standby.url(NAME))
    await eventually(lambda: _version(follower, before), 30)
    await follower.close()
    with hanging(primary):
        standby.promote()

        async def is_found() -> bool:
            try:
                return await bump(database) > before
            except StoreUnavailable:
                return False

        assert not await is_found()  # whoever asked the old one hears that no answer comes
        await eventually(is_found, FOUND_WITHIN_S)
    after = await bump(database)
    new = await asyncpg.connect(standby.url(NAME))
    assert await _version(new, after)
    await new.close()
    await database.close()


async def _version(conn: asyncpg.Connection, wanted: int) -> bool:
    return await conn.fetchval("SELECT config_version FROM state") == wanted


async def test_connections_to_another_server_than_the_newest_end(pair: tuple[Server, Server]) -> None:
    standby, primary = pair
    known = Connections()
    old = known.made(await connected(standby.url(NAME), {}, nothing_more))
    kept = known.made(await connected(primary.url(NAME), {}, nothing_more))
    here = await connected(primary.url(NAME), {}, nothing_more)
    known.end_elsewhere(here)
    await eventually(old.is_closed)
    assert not kept.is_closed()
    for each in (kept, here.raw):
        await each.close()
