"""What control planes on one database tell each other, and what they never lose of it. See `test_postgres.py` for the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st
from postgres import Kind
from sqlalchemy import text

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.limits.recovery import Attested
from sidemeter_control.store import changes, state
from sidemeter_control.store.changes import Changes
from sidemeter_control.store.database import Database
from sidemeter_control.store.postgres import PostgresDatabase
from sidemeter_control.store.replicas import APPLICATION, MAX_NOTE_BYTES, MAX_NOTES, Note, notes_of

KEYS = st.sets(st.text(max_size=256), max_size=60)


@given(KEYS, KEYS, KEYS)
def test_notes_say_all_that_changed_each_within_what_the_server_takes(
    subjects: set[str], customers: set[str], alerted: set[str]
) -> None:
    notes = notes_of("one", Changes(subjects, customers, alerted, state=True))
    assert all(len(each.encode()) <= MAX_NOTE_BYTES for each in notes)
    told = [msgspec.json.decode(each, type=Note) for each in notes]
    if any(each.everyone for each in told):
        assert len(told) == 1
        return
    assert {key for each in told for key in each.subjects} == subjects
    assert {key for each in told for key in each.customers} == customers
    assert {key for each in told for key in each.alerted} == alerted


@pytest.mark.parametrize(("count", "notes"), [(0, 0), (70, 1), (500, 7), (MAX_NOTES * 74, 8), (MAX_NOTES * 74 + 1, 1)])
def test_what_takes_too_many_notes_is_said_of_everyone(count: int, notes: int) -> None:
    told = notes_of("one", Changes(subjects={f"{number:0100d}" for number in range(count)}))
    assert len(told) == notes
    assert [msgspec.json.decode(each, type=Note).everyone for each in told] == [count > MAX_NOTES * 74] * notes


def test_what_is_anybodys_is_one_note() -> None:
    told = notes_of("one", Changes(subjects={"a"}, everyone=True))
    assert [msgspec.json.decode(each, type=Note) for each in told] == [Note("one", everyone=True)]


class Told:
    """A database that is shared, and what its listeners heard."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.heard: list[Changes] = []
        database.listen(self.heard.append)

    async def says(self, subject: str) -> None:
        async with self.database.write() as conn:
            changes.note(conn, subjects=[subject])

    def knows(self, subject: str) -> bool:
        return any(subject in each.subjects for each in self.heard)


@asynccontextmanager
async def sharing(directory: Path, count: int = 2, max_wait_s: float = 30) -> AsyncIterator[list[Told]]:
    """So many, as so many processes would have it open."""
    assert Kind.server is not None
    async with Kind.server.migrated() as url, AsyncExitStack() as undo:
        opened = []
        for number in range(count):
            witness = str(directory / f"holders-{number}")
            database = await Database.open(url, max_wait_s, witness=witness, alone=False)
            undo.push_async_callback(database.close)
            await database.migrate()
            await database.join()
            opened.append(Told(database))
        await eventually(lambda: all(each.database.replicas == count for each in opened))
        yield opened


async def statement(database: Database, *statements: str) -> None:
    """Run them as somebody else."""
    assert isinstance(database, PostgresDatabase)
    other = await asyncpg.connect(database._url)
    for each in statements:
        await other.execute(each)
    await other.close()


@pytest.mark.postgres
async def test_each_hears_what_the_others_change_and_one_of_them_leads(tmp_path: Path) -> None:
    async with sharing(tmp_path, 3) as (one, two, three):
        assert [each.database.leads for each in (one, two, three)] == [True, False, False]
        await two.says("acme")
        await eventually(lambda: one.knows("acme") and three.knows("acme"))
        assert [each for each in two.heard if each.subjects] == [Changes(subjects={"acme"})]  # once, of itself
        await one.database.close()
        await eventually(lambda: two.database.leads != three.database.leads)
        await eventually(lambda: two.database.replicas == 2)


@pytest.mark.postgres
async def test_whoever_did_not_hear_for_a_while_looks_at_everything(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (one, two):
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
        await statement(one.database, ended)
        await one.says("missed, perhaps")
        await eventually(lambda: any(each.everyone for each in two.heard))
        await eventually(lambda: one.database.leads != two.database.leads)
        await one.says("acme")
        await eventually(lambda: two.knows("acme"))


@pytest.mark.postgres
async def test_an_older_copy_is_known_for_one_also_by_what_others_granted(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (one, two):
        for each in (one, two):
            async with each.database.write() as conn:
                known = await state.get(conn)
                said = each.database.witness.statement(Attested(known.generation, known.lease_version, 0))
            await each.database.witness.keep(said)
        async with one.database.write() as conn:
            granted = (await state.leases_changed(conn)).lease_version
        heard = two.database.witness
        await eventually(lambda: heard.last is not None and heard.last.lease_version == granted)
        await statement(
            one.database,
            "UPDATE state SET lease_version = 0",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sidemeter-control'"
            " AND datname = current_database()",
        )
        with pytest.raises(StoreUnavailable):
            await two.says("acme")
        with pytest.raises(StoreUnavailable, match="an older copy of itself"):
            await two.says("acme")
        assert two.database.is_older.is_set()


@pytest.mark.postgres
async def test_what_was_configured_and_is_not_any_more_is_an_older_copy(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (one, two):
        async with one.database.write() as conn:
            await state.config_changed(conn)
        await eventually(lambda: any(each.everyone for each in two.heard))
        await statement(one.database, "UPDATE state SET config_version = 1")
        await asyncio.wait_for(two.database.is_older.wait(), 30)


@pytest.mark.postgres
async def test_one_that_hangs_within_a_transaction_lets_go_before_others_give_up(tmp_path: Path) -> None:
    async with sharing(tmp_path, max_wait_s=4) as (hangs, goes_on):

        async def hang() -> None:
            async with hangs.database.write() as conn:
                await conn.execute(text("UPDATE state SET config_version = 99"))
                await goes_on.says("acme")

        with pytest.raises(StoreUnavailable):
            await hang()
        async with goes_on.database.read() as conn:
            assert (await state.get(conn)).config_version == 1
        await hangs.says("acme")


@pytest.mark.postgres
async def test_whoever_wants_it_alone_is_kept_out_by_those_who_share_it_and_keeps_them_out(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (one, two):
        assert isinstance(one.database, PostgresDatabase)
        url, witness = one.database._url, str(tmp_path / "w")
        with pytest.raises(StoreUnavailable, match="another process has the database open"):
            await Database.open(url, 0.1, witness=witness)
        await one.database.close()
        await two.database.close()
        alone = await Database.open(url, witness=witness)
        with pytest.raises(StoreUnavailable, match="another process has the database open"):
            await Database.open(url, 0.1, witness=witness, alone=False)
        await alone.close()


@pytest.mark.postgres
async def test_whoever_has_to_change_the_schema_waits_until_nobody_else_is_there(tmp_path: Path) -> None:
    async with sharing(tmp_path, 1) as (older,):
        assert isinstance(older.database, PostgresDatabase)
        await statement(older.database, "UPDATE alembic_version SET version_num = '0001'")
        with pytest.raises(StoreUnavailable, match="the schema is to be changed: stop all others"):
            await Database.open(older.database._url, 0.3, witness=str(tmp_path / "w"), alone=False)


@pytest.mark.postgres
async def test_several_that_begin_on_an_empty_database_make_its_tables_once(tmp_path: Path) -> None:
    assert Kind.server is not None

    async def begin(url: str, number: int) -> Database:
        database = await Database.open(url, witness=str(tmp_path / f"w-{number}"), alone=False)
        await database.migrate()
        await database.join()
        return database

    async with Kind.server.empty() as url:
        opened = await asyncio.gather(*(begin(url, number) for number in range(3)))
        await eventually(lambda: all(each.replicas == 3 for each in opened))
        for each in opened:
            await each.close()
