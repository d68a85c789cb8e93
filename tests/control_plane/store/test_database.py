"""The database: turns, snapshots, cancellation, and a schema that migrations and metadata agree on."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from planes import older_database, open_database
from postgres import Kind
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import DatabaseUnfit, SettingsError, StoreUnavailable
from sidemeter_control.store import state
from sidemeter_control.store.database import Database
from sidemeter_control.store.sqlite import sqlite_path
from sidemeter_control.store.tables import metadata


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with AsyncExitStack() as undo:
        url = f"sqlite:///{tmp_path}/made/here/control.db"
        if Kind.server is not None:
            url = await undo.enter_async_context(Kind.server.migrated())
        opened = await Database.open(url, witness=str(tmp_path / "control.holders"))
        undo.push_async_callback(opened.close)
        yield opened


async def scalar(conn: AsyncConnection, sql: str) -> object:
    return (await conn.execute(text(sql))).scalar_one()


def test_the_path_of_a_url_is_relative_after_three_slashes_and_absolute_after_four() -> None:
    assert sqlite_path("sqlite:///x.db") == Path("x.db")
    assert sqlite_path("sqlite:////abs/x.db") == Path("/abs/x.db")


@pytest.mark.parametrize(
    "url", ["", "x.db", "sqlite://", "sqlite:///", "sqlite:///x?mode=ro", "mysql:///x", "sqlite:////d/"]
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///PATH"):
        sqlite_path(url)


async def test_the_file_and_its_companions_are_for_the_owner_alone(database: Database, tmp_path: Path) -> None:
    await database.migrate()
    directory = tmp_path / "made" / "here"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in directory.iterdir()} == dict.fromkeys(
        ["control.db", "control.db-wal", "control.db-shm", "control.db.lock"], "0o600"
    )


async def test_the_writer_syncs_in_full_and_the_readers_cannot_write(database: Database) -> None:
    await database.migrate()
    async with database.write() as conn:
        assert await scalar(conn, "PRAGMA synchronous") == 2
        assert await scalar(conn, "PRAGMA journal_mode") == "wal"
        assert await scalar(conn, "PRAGMA temp_store") == 2  # a savepoint writes no file outside the directory
    with pytest.raises(StoreUnavailable, match="readonly"):
        async with database.read() as conn:
            await conn.execute(text("DELETE FROM meters"))


async def test_the_index_of_the_log_has_its_room_on_the_disk_before_it_is_used(
    database: Database, tmp_path: Path
) -> None:
    index = (tmp_path / "made" / "here" / "control.db-shm").stat()
    assert index.st_size == 256 * 1024 <= index.st_blocks * 512
    await database._writer.dispose()
    await database.migrate()  # with another connection, and on another file: the first went with the last connection
    index = (tmp_path / "made" / "here" / "control.db-shm").stat()
    assert index.st_size == 256 * 1024 <= index.st_blocks * 512


async def test_migrations_make_the_schema_that_the_tables_describe(database: Database) -> None:
    await database.migrate()
    await database.migrate()

    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    def without_rowid(connection: Connection) -> set[str]:
        sql = "SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%'"
        return set(connection.execute(text(sql)).scalars())

    def constraints(connection: Connection) -> dict[str, list[object]]:
        found = inspect(connection)
        return {
            table: [found.get_pk_constraint(table), found.get_foreign_keys(table), found.get_unique_constraints(table)]
            for table in metadata.tables
        }

    async with database.read() as conn:
        assert await conn.run_sync(differences) == []
        hot = {"corrections", "late_days", "outcome_mentions", "rollups", "rollup_values"}
        without = hot | {"lease_holders", "lease_holdings", "lease_pools"}
        assert await conn.run_sync(without_rowid) == without
        migrated = await conn.run_sync(constraints)
    async with database.write() as conn:
        for table in metadata.tables:
            await conn.execute(text(f'ALTER TABLE "{table}" RENAME TO "old_{table}"'))
            for index in metadata.tables[table].indexes:
                await conn.execute(text(f"DROP INDEX {index.name}"))
        await conn.run_sync(metadata.create_all)
        assert await conn.run_sync(constraints) == migrated


@pytest.mark.both_databases
async def test_a_failed_block_leaves_nothing_behind(database: Database) -> None:
    await database.migrate()

    async def fail() -> None:
        async with database.write() as conn:
            await conn.execute(text("UPDATE state SET config_version = 99"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with database.read() as conn:
        assert await scalar(conn, "SELECT config_version FROM state") == 1


@pytest.mark.both_databases
async def test_a_reader_keeps_its_snapshot_while_others_write(database: Database) -> None:
    await database.migrate()
    async with database.read() as reader:
        assert await scalar(reader, "SELECT config_version FROM state") == 1
        async with database.write() as writer:
            await writer.execute(text("UPDATE state SET config_version = 2"))
        assert await scalar(reader, "SELECT config_version FROM state") == 1
    async with database.read() as reader:
        assert await scalar(reader, "SELECT config_version FROM state") == 2


@pytest.mark.both_databases
async def test_writers_take_turns(database: Database) -> None:
    await database.migrate()

    async def increment() -> None:
        async with database.write() as conn:
            version = await scalar(conn, "SELECT config_version FROM state")
            await conn.execute(text("UPDATE state SET config_version = :v"), {"v": int(str(version)) + 1})

    await asyncio.gather(*(increment() for _ in range(20)))
    async with database.read() as conn:
        assert await scalar(conn, "SELECT config_version FROM state") == 21


@pytest.mark.both_databases
@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_a_cancelled_writer_is_committed_whole_or_not_at_all_and_frees_its_turn(
    database: Database, steps: int
) -> None:
    await database.migrate()

    async def change() -> None:
        async with database.write() as conn:
            await conn.execute(text("UPDATE state SET config_version = 50"))
            await conn.execute(text("UPDATE state SET created_at_us = 50"))

    task = asyncio.create_task(change())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    async with database.write() as conn:
        row = (await conn.execute(text("SELECT config_version, created_at_us = 50 FROM state"))).one()
    assert tuple(row) in {(1, False), (50, True)}


async def test_a_second_process_is_kept_out_until_the_first_has_closed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/control.db"
    first = await Database.open(url)
    with pytest.raises(StoreUnavailable, match="another process"):
        await Database.open(url)
    await first.close()
    await (await Database.open(url)).close()


async def test_a_file_that_is_no_database_is_refused_and_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(DatabaseUnfit, match="is no database"):
        await Database.open(f"sqlite:///{path}")
    path.unlink()
    await (await Database.open(f"sqlite:///{path}")).close()


async def test_a_copy_is_gone_also_when_its_caller_leaves_after_the_last_step(tmp_path: Path) -> None:
    target, loop = tmp_path / "copy.db", asyncio.get_running_loop()
    steps: list[str] = []

    def leave(step: str, done: int, total: int) -> None:
        if step not in steps and done == total:
            steps.append(step)
            if len(steps) == 2:
                loop.call_soon_threadsafe(copying.cancel)

    async with open_database(tmp_path) as database:
        copying = asyncio.create_task(database.copy_to(target, leave))
        with pytest.raises(asyncio.CancelledError):
            await copying
    assert len(steps) == 2
    assert not target.exists()


async def test_a_database_that_was_migrated_knows_when_it_was_changed_last(tmp_path: Path) -> None:
    said = "INSERT INTO audit (seq, at_us, actor, action, target, detail) VALUES"
    async with (
        older_database(
            tmp_path, "0019", f"{said} (1, 7, 'o', 'a', 't', '{{}}'), (2, 5, 'o', 'a', 't', '{{}}')"
        ) as database,
        database.read() as conn,
    ):
        assert (await state.get(conn)).changed_at_us == 7
