"""PostgreSQL: which servers are refused, one writer at a time whatever happens to it, and statements that it takes."""

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import asyncpg
import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fakes import ManualClock
from postgres import PASSWORD, Server
from sqlalchemy import Connection, text

from sidemeter_control import store
from sidemeter_control.errors import Conflict, DatabaseUnfit, InvalidInput, StoreUnavailable
from sidemeter_control.limits.recovery import Attested
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.metering.outcomes import Mention, Thing
from sidemeter_control.metering.rollups import Bucket, Rollup
from sidemeter_control.metering.windows import Span
from sidemeter_control.pricing.customers import new_customer
from sidemeter_control.store import customers, events, outcomes, postgres, rollups, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.replicas import CHANNEL, Note
from sidemeter_control.store.schema import newest
from sidemeter_control.store.sql import Sql
from sidemeter_control.store.tables import metadata

pytestmark = pytest.mark.postgres

BUMP = "UPDATE state SET config_version = config_version + 1"


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with server.migrated() as made:
        yield made


async def opened(url: str, directory: Path, max_wait_s: float = 30) -> Database:
    return await Database.open(url, max_wait_s, witness=str(directory / "control.holders"))


async def version(database: Database) -> int:
    async with database.read() as conn:
        return (await state.get(conn)).config_version


async def test_every_statement_is_one_that_postgresql_takes(url: str) -> None:
    modules = [
        importlib.import_module(f"{store.__name__}.{each.name}") for each in pkgutil.iter_modules(store.__path__)
    ]
    found = {
        f"{module.__name__}.{name}": value.postgres
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Sql)
    }
    assert len(found) > 30
    found["add"] = events._ADD_ALL
    for wanted in ("_READ", "_READ_VALUES", "_JOIN_PG", "_JOIN_VALUES", "_JOIN_HOURS_PG"):
        for of in ((1, False, "all"), (8, False, "one"), (2, True, "some")):
            found[f"{wanted} {of}"] = rollups._statement_pg(getattr(rollups, wanted), *of)
    conn = await asyncpg.connect(url)
    refused = {}
    for name, statement in found.items():
        try:
            await conn.prepare(statement)
        except asyncpg.PostgresError as exc:
            refused[name] = str(exc)
    await conn.close()
    assert refused == {}


async def test_migrations_make_the_schema_that_the_tables_describe(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    await database.migrate()
    async with database.read() as conn:
        assert await conn.run_sync(differences) == []


async def test_texts_are_in_the_order_of_their_bytes_in_a_database_of_any_language(database: Database) -> None:
    keys = ["ä", "b", "B", "a", "a b", "ab", "_"]
    async with database.write() as conn:
        for key in keys:
            await customers.put(conn, new_customer(key, now_us=0))
    async with database.read() as conn:
        assert await conn.scalar(text("SELECT 'a' < 'B'"))  # the database's own order is another
        assert [each.key for each in await customers.page(conn, 10)] == sorted(keys)
        assert [each.key for each in await customers.page(conn, 10, after="a")] == ["a b", "ab", "b", "ä"]


@pytest.mark.parametrize("setting", postgres.DURABLE)
async def test_a_server_that_loses_what_it_commits_is_refused(server: Server, tmp_path: Path, setting: str) -> None:
    async with server.empty() as url:
        server.stop()
        server.start(**{setting: "off"})
        try:
            with pytest.raises(DatabaseUnfit, match=f"the server has {setting} = off"):
                await opened(url, tmp_path)
        finally:
            server.stop()
            server.start()
        await (await opened(url, tmp_path)).close()


async def test_a_database_of_something_else_and_one_of_a_newer_version_are_refused(
    server: Server, url: str, tmp_path: Path
) -> None:
    name = url.rpartition("/test_")[2].partition("?")[0]
    await server.execute("UPDATE alembic_version SET version_num = '9999'", database=f"test_{name}")
    with pytest.raises(DatabaseUnfit, match="newer version, with schema 9999"):
        await opened(url, tmp_path)
    await server.execute("DROP TABLE alembic_version", database=f"test_{name}")
    with pytest.raises(DatabaseUnfit, match="something else"):
        await opened(url, tmp_path)


async def test_a_second_process_is_kept_out_until_the_first_has_closed(url: str, tmp_path: Path) -> None:
    first = await opened(url, tmp_path)
    with pytest.raises(StoreUnavailable, match="another process has the database open"):
        await opened(url, tmp_path, 0.1)
    await first.close()
    await (await opened(url, tmp_path)).close()


async def test_whoever_holds_the_turn_keeps_every_writer_waiting_on_whatever_connection(
    url: str, tmp_path: Path
) -> None:
    database = await opened(url, tmp_path, 0.2)
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", postgres._TURN)
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            async with database.write() as conn:
                await conn.execute(text(BUMP))
        await other.execute(BUMP)
    async with database.write() as conn:
        assert (await state.get(conn)).config_version == 2  # what was committed while it waited is seen
        await conn.execute(text(BUMP))
    assert await version(database) == 3
    await other.close()
    await database.close()


async def test_a_server_that_is_killed_loses_nothing_committed_and_is_found_again(
    server: Server, url: str, tmp_path: Path
) -> None:
    database = await opened(url, tmp_path)

    async def bump(*, killed: bool = False) -> None:
        async with database.write() as conn:
            await conn.execute(text(BUMP))
            if killed:
                server.stop("immediate")

    await bump()
    assert await version(database) == 2
    with pytest.raises(StoreUnavailable):
        await bump(killed=True)
    with pytest.raises(StoreUnavailable):
        await version(database)
    server.start()
    assert await version(database) == 2
    await bump()
    assert await version(database) == 3
    await database.close()


async def test_a_server_that_has_become_an_older_copy_is_written_to_no_more(
    server: Server, url: str, tmp_path: Path
) -> None:
    database = await opened(url, tmp_path)
    async with database.write() as conn:
        known = await state.leases_changed(conn)
        said = database.witness.statement(Attested(known.generation, known.lease_version, 0))
    await database.witness.keep(said)
    other = await asyncpg.connect(url)
    await other.execute("UPDATE state SET lease_version = 0")
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    await other.execute(ended)
    await other.close()
    with pytest.raises(StoreUnavailable):  # the connection is gone
        async with database.write():
            pass
    with pytest.raises(StoreUnavailable, match="an older copy of itself"):
        async with database.write():
            pass
    await database.close()


async def test_what_a_snapshot_sees_stays_and_cannot_be_written(database: Database) -> None:
    async with database.snapshot() as snapshot:
        assert (await snapshot.ask(state.get)).config_version == 1
        async with database.write() as conn:
            await state.config_changed(conn)
        assert await snapshot.ask(lambda conn: conn.scalar(text("SELECT config_version FROM state"))) == 1
    with pytest.raises(StoreUnavailable, match="read-only"):
        async with database.snapshot() as snapshot:
            await snapshot.ask(lambda conn: conn.execute(text(BUMP)))


async def test_a_cancelled_question_frees_its_connection(database: Database) -> None:
    async def never() -> None:
        async with database.snapshot() as snapshot:
            asking.set()
            await snapshot.ask(lambda conn: conn.scalar(text("SELECT pg_sleep(3600)")))

    for _ in range(9):
        asking = asyncio.Event()
        task = asyncio.create_task(never())
        await asking.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await version(database) == 1


async def test_the_password_is_in_no_name_and_no_error(server: Server, tmp_path: Path) -> None:
    for url in (server.url("absent"), f"postgresql://meter:{PASSWORD}@127.0.0.1:1/meter"):
        with pytest.raises(StoreUnavailable) as told:
            await opened(url, tmp_path)
        assert "postgresql://meter@" in str(told.value)
        assert PASSWORD not in str(told.value) + repr(told.value.__cause__)


async def test_a_text_with_nul_is_refused_by_rule(database: Database) -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        async with database.read() as conn:
            await customers.get(conn, ["a\0b"])


async def test_texts_of_events_with_nul_are_kept_and_told_apart(database: Database) -> None:
    names = ["a\0b", "a\x1a0b", "a\x1a\0b", "ab"]
    things = {Thing("acme", 1, name): Mention(0, "s", name.replace("\0", "-"), "USED", 1) for name in names}
    async with database.write() as conn:
        bucket = Bucket("acme", 1, 3600, 0, "[]")
        await rollups.put(conn, {bucket: Rollup(len(names), values=dict.fromkeys(names, 1))})
        await outcomes.add_mentions(conn, things.items())
    async with database.read() as conn:
        assert await conn.scalar(text("SELECT count(*) FROM rollup_values")) == len(names)
        assert await outcomes.mentions(conn, things) == {thing: {mention} for thing, mention in things.items()}


async def test_it_is_copied_by_its_own_tools(database: Database, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="pg_dump"):
        await database.copy_to(tmp_path / "copy", lambda *_: None)
    with pytest.raises(Conflict, match="pg_dump"):
        assert database.path


async def test_a_look_says_how_it_is_and_changes_nothing(server: Server, url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    seen = await postgres.look(url, clock)
    assert (seen.revision, seen.open_in, seen.encrypted, seen.took_s) == (newest(), 0, True, 0)
    database = await opened(url, tmp_path)
    assert await postgres.look(url, clock) == replace(seen, open_in=1)
    await database.close()
    async with server.empty() as empty:
        assert (await postgres.look(empty, clock)).revision is None


class Overtaken:
    """A connection whose answer comes after somebody else's commit was heard of."""

    def __init__(self, database: postgres.PostgresDatabase, leased: int, *answer: object) -> None:
        self._database, self._leased, self._answer = database, leased, answer

    async def fetchrow(self, *_: object, timeout: float = 0) -> tuple[object, ...]:
        hear(self._database, self._leased)
        return self._answer

    async def fetch(self, *_: object, timeout: float = 0) -> None:
        """Nobody hangs."""


def hear(database: postgres.PostgresDatabase, leased: int) -> None:
    """What another control plane told, of how far it came."""
    note = msgspec.json.encode(Note("another", state=("g", 1, leased, 0))).decode()
    database._others._told(None, 0, CHANNEL, note)


async def test_what_is_heard_while_somebody_asks_does_not_make_the_answer_an_older_copy(database: Database) -> None:
    """Of a new connection, and of the one that looks every second: the server sends what it is told before it has answered."""
    assert isinstance(database, postgres.PostgresDatabase)
    database._looks()("g", 1, 5, 0)
    await database._check_not_older(cast("asyncpg.Connection", Overtaken(database, 6, "g", 1, 5)))
    assert not database.is_older.is_set()
    await database._others._look(cast("asyncpg.Connection", Overtaken(database, 7, 2, True, "g", 1, 6, 0)))
    assert not database.is_older.is_set()
    await database._others._look(cast("asyncpg.Connection", Overtaken(database, 7, 2, True, "g", 1, 6, 0)))
    assert database.is_older.is_set()


async def test_what_was_told_before_a_look_and_comes_after_it_is_no_older_copy(database: Database) -> None:
    assert isinstance(database, postgres.PostgresDatabase)
    database._looks()("g", 1, 7, 0)
    hear(database, 6)
    assert not database.is_older.is_set()
    database._looks()("g", 1, 6, 0)
    assert database.is_older.is_set()


FILL = """
INSERT INTO rollups (subject, meter_id, grain_s, bucket_us, dimensions, events)
SELECT 'c' || c, m, grain_s, n * grain_s::bigint * 1000000, '[]', 1
FROM generate_series(1, 30) AS c, generate_series(1, 3) AS m, (VALUES (3600, 2400), (86400, 100)) AS g (grain_s, many),
     generate_series(0, many - 1) AS n
"""
OTHERS = 2 * 30 * 3
DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
NIGHTS = [Span(3600, n * DAY_US, n * DAY_US + 6 * HOUR_US) for n in range(50, 80)]
MONTH = [
    Span(3600, 50 * DAY_US - HOUR_US, 50 * DAY_US),
    Span(86400, 50 * DAY_US, 80 * DAY_US),
    Span(3600, 80 * DAY_US, 80 * DAY_US + HOUR_US),
]


@pytest.mark.parametrize(("spans", "many"), [(MONTH, 3 * 32), (NIGHTS, 3 * 30 * 24)], ids=["month", "nights"])
async def test_what_a_customer_used_is_found_without_reading_what_others_did_or_what_was_before(
    database: Database, spans: list[Span], many: int
) -> None:
    """Of 225,000 rows as many as lie between the first and the last span of a grain, and what others have in two hours."""
    for statement in (FILL, "ANALYZE rollups"):
        async with database.write() as conn:
            await conn.execute(text(statement))
    meters = [replace(new_meter("m", "call", Aggregation.COUNT, now_us=0), id=number) for number in (1, 2, 3)]
    read = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'rollups'"
    async with database.read() as conn:
        for subjects in (["c7"], ["c7", "c8"]):
            before = await conn.scalar(text(read))
            totals = await rollups.totals(conn, meters, spans, subjects)
            wanted = sum((each.to_us - each.from_us) // (each.grain_s * 1_000_000) for each in spans)
            assert {each.events for each in totals.values()} == {wanted * len(subjects)}
            assert await conn.scalar(text(read)) - before <= len(subjects) * many + OTHERS
