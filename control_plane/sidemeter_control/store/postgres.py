"""The database on a PostgreSQL server.

Writers take turns, as they do on one file: a write transaction begins with an advisory lock that it holds to its end, at
READ COMMITTED, so that every statement after it sees all that was committed before. That is chosen over SERIALIZABLE with
retries because the verbs are written for it: what one has read stays so until it commits, nothing is ever done twice, and a
counter kept in memory beside the database is never one of a transaction that was rolled back to be tried again. PostgreSQL
makes a commit visible before it lets go of its locks, so whoever takes the lock next sees it; a commit whose answer was lost
keeps the lock until it is over, so whoever looks it up (P15) waits for its outcome. The lock is the database's: it holds
among processes as among connections, and with it "each event once" and "one grantor of leases". A transaction that reads
its snapshot at REPEATABLE READ, READ ONLY, and waits for nobody.

Control planes share a database, commands have it alone: the writing connection of each holds a second advisory lock for as
long as it lives, shared or exclusive. Who shares it and has to change the schema waits until nobody else has it open. What
processes tell each other goes by a connection of its own (`replicas.py`).

Where commits wait for a standby, one whose wait was cut off is visible all the same: its connection was ended, or the server
killed and begun again. "Duplicate" may then be said of what a failover takes away. So a turn that changes nothing writes a
word to the log, whose COMMIT waits for a standby that has all before it as well.

A pooler between must leave a connection to whoever opened it until it is closed (PgBouncer: `pool_mode = session`).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sidemeter_control.clock import Clock, SystemClock
from sidemeter_control.errors import DatabaseUnfit, StoreUnavailable
from sidemeter_control.settings import without_password
from sidemeter_control.store import files
from sidemeter_control.store.archive import OPTION, Archive
from sidemeter_control.store.archived import EVERY, ArchiveFile
from sidemeter_control.store.changes import Changes
from sidemeter_control.store.connecting import Connections, connected, nothing_more
from sidemeter_control.store.database import MAX_WAIT_S, READERS, Database, named, translated
from sidemeter_control.store.driving import COMPILED, POSTGRES
from sidemeter_control.store.replicas import APPLICATION, CHANNEL, OPEN, IsNow, Replicas, notes_of
from sidemeter_control.store.schema import UNFINISHED, newest, revisions
from sidemeter_control.store.shards import distribute
from sidemeter_control.store.snapshot import Answer, Answers, Snapshot
from sidemeter_control.store.witness import Witness

__all__ = ["DURABLE", "MIN_VERSION", "TABLES", "PostgresDatabase", "Sight", "archive_of", "look", "unfit", "witness_of"]

T = TypeVar("T")

DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""Settings of a server that loses what it committed, in a power cut, where one of them is off (P1)."""
MIN_VERSION: Final = 14

_TURN: Final = 0x5349_4445_4D45_5401
_TRY_AGAIN_S: Final = 0.1
_LET_GO_WITHIN_S: Final = 5.0
"""How long a server may take to notice that the process before this one was killed."""
_IDLE_WITHIN_S: Final = 15
"""A transaction that does nothing for so long belongs to a process that hangs: the server ends it, and others go on, within
the time that they wait for their turn."""
_POINTS: Final = 2
_STATEMENTS: Final = 512

_KEEP_SEEN = """
SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' AND pg_current_xact_id_if_assigned() IS NULL
    THEN pg_logical_emit_message(true, 'sidemeter', '') END
"""
_NOTIFY = "SELECT pg_notify($1, note) FROM unnest($2::text[]) AS note"
_NOTIFY_STATE = """
SELECT pg_notify($1, json_build_object('origin', $2::text, 'state',
    json_build_array(generation, config_version, lease_version, holders))::text) FROM state
"""
_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])"
_LOOKED_AT = ["server_version_num", "server_encoding", "transaction_read_only", *DURABLE]
_STANDBY = "SELECT CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END"
_SIGHT = """
SELECT current_setting('server_version'), pg_database_size(current_database()),
    inet_server_addr() IS NULL OR inet_server_addr() <<= inet '127.0.0.0/8' OR inet_server_addr() = inet '::1'
        OR (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
            WHERE d.datname = current_database() AND locktype = 'advisory' AND l.granted
              AND l.classid::bigint = $1 AND l.objid::bigint = $2)
"""
TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"


class PostgresDatabase(Database):
    """See `Database`. `witness` is a file of the machine that the control plane runs on."""

    def __init__(self, url: str, max_wait_s: float, witness: Path, archive: Path, *, alone: bool) -> None:
        self._url = url
        self._max_wait_s = max_wait_s
        self._known = False
        self._seen: tuple[str, int, int] | None = None
        known = dict(COMPILED) | {OPTION: Archive(archive)}
        writer = _engine(self._connect_writer, max_wait_s, known, connections=1)
        super().__init__(without_password(url), writer, Witness(witness), known[OPTION])
        self.is_shared = not alone
        self._migrates = False
        self._connections = Connections()
        self._reader = _engine(self._connect_reader, max_wait_s, known, connections=2 * READERS)
        self._points = _engine(self._connect_reader, max_wait_s, known, connections=_POINTS, isolation="AUTOCOMMIT")
        self._origin = SystemClock().new_id("process")
        self._others = Replicas(self._origin, self._connect_listener, self._tell, self._is_told, self._looks)

        @event.listens_for(writer.sync_engine, "begin")
        def _begun(connection: Connection) -> None:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (_TURN,))

    @classmethod
    async def at(
        cls,
        url: str,
        max_wait_s: float = MAX_WAIT_S,
        *,
        witness: str | None = None,
        archive: str | None = None,
        alone: bool = True,
    ) -> Self:
        """Open the database at `url`, which is there, and empty or a control plane's. Errors as for `Database.open`."""
        kept = Path(archive) if archive else archive_of(url)
        database = cls(url, max_wait_s, Path(witness) if witness else witness_of(url), kept, alone=alone)
        try:
            with named(database.name):
                async with database.write():
                    database._known = True
                    return database
        except BaseException:
            await database.close()
            raise

    async def migrate(self, report: files.Report | None = None) -> None:
        """See `Database.migrate`. Whoever has it open alone for that alone shares it afterwards."""
        if self.is_shared and not self._migrates:
            return
        await super().migrate(report)
        if self._migrates:
            await self._writer.dispose()
            async with self.write():
                """Others are to see that it has the database open."""

    async def distribute(self, report: files.Report) -> int:
        """See `Database.distribute`."""
        async with self.write() as conn:
            return await conn.run_sync(distribute, self.name, report)

    async def join(self) -> None:
        """See `Database.join`."""
        if self.is_shared:
            await self._others.begin()

    @property
    def replicas(self) -> int:
        """See `Database`."""
        return self._others.count

    @property
    def leads(self) -> bool:
        """See `Database`."""
        return not self.is_shared or self._others.leads

    async def _note(self, conn: AsyncConnection, changes: Changes) -> None:
        if notes := notes_of(self._origin, changes):
            await conn.exec_driver_sql(_NOTIFY, (CHANNEL, notes))
        if changes.state:
            await conn.exec_driver_sql(_NOTIFY_STATE, (CHANNEL, self._origin))

    async def _keep_seen(self, conn: AsyncConnection) -> None:
        await conn.exec_driver_sql(_KEEP_SEEN)

    def _looks(self) -> IsNow:
        """Before the row `state` is asked for: what takes the answer, which must not be less than what was known till now.

        What others tell meanwhile may be newer than the answer, and come before it.
        """
        seen = self._seen

        def is_now(generation: str, configured: int, leased: int, holders: int) -> None:
            self._check_versions(seen, generation, configured, leased)
            self._is_now(generation, configured, leased, holders)

        return is_now

    def _is_told(self, generation: str, configured: int, leased: int, holders: int) -> None:
        """Of another's commit, in any order; a generation that is new is looked at first."""
        if self._seen is not None and self._seen[0] == generation:
            self._is_now(generation, configured, leased, holders)

    def _is_now(self, generation: str, configured: int, leased: int, holders: int) -> None:
        """The database had come so far; one that was known to have come further is not known to have gone back."""
        seen = self._seen
        if seen is not None and seen[0] == generation:
            self._seen = generation, max(configured, seen[1]), max(leased, seen[2])
        else:
            self._seen = generation, configured, leased
        self.witness.hear(generation, leased, holders)

    def _check_versions(self, seen: tuple[str, int, int] | None, generation: str, configured: int, leased: int) -> None:
        """What is remembered goes by these versions: one that comes again may stand for something else."""
        if seen is not None and generation == seen[0] and (configured < seen[1] or leased < seen[2]):
            self.is_older.set()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.read`."""
        with translated():
            async with self._reader.connect() as conn:
                await conn.begin()
                yield conn

    @asynccontextmanager
    async def point(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.point`: on a connection of its own, and the statement is its own transaction."""
        with translated():
            async with self._points.connect() as conn:
                yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """See `Database.snapshot`."""
        async with self.read() as conn:
            yield PostgresSnapshot(conn)

    async def close(self) -> None:
        """Close every connection; the writer's is the one that keeps other processes out, or is counted by them."""
        await self._reader.dispose()
        await self._points.dispose()
        await self._writer.dispose()
        await self._others.end()

    async def _connect_writer(self) -> asyncpg.Connection:
        wait_ms = str(round(self._max_wait_s * 1000))
        own = {"default_transaction_isolation": "read committed", "lock_timeout": wait_ms}
        own["idle_in_transaction_session_timeout"] = str(round(min(_IDLE_WITHIN_S, self._max_wait_s / 2) * 1000))
        return self._connections.made(await connected(self._url, own, self._take))

    async def _connect_reader(self) -> asyncpg.Connection:
        own = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}
        return self._connections.made(await connected(self._url, own, nothing_more))

    async def _connect_listener(self) -> asyncpg.Connection:
        """Where the database is from now on: what is still open elsewhere has nobody who answers, or does not write any more."""
        # One that granted itself and writes nothing now would find out with what it writes next, a minute later.
        take = nothing_more if self._seen is None else self._check_not_older
        made = await connected(self._url, {"application_name": APPLICATION}, take)
        self._connections.end_elsewhere(made)
        return made.raw

    async def _take(self, raw: asyncpg.Connection) -> None:
        """Make it the one connection that writes. Each new one is looked at: a server may start anew with other settings."""
        found = unfit(dict(await raw.fetch(_SETTINGS, _LOOKED_AT)))
        if found is not None:
            raise DatabaseUnfit(self.name, found)
        try:
            async with asyncio.timeout(self._max_wait_s if self.is_shared else min(self._max_wait_s, _LET_GO_WITHIN_S)):
                while not await self._opened(raw):  # noqa: ASYNC110 -- it is another process that lets go
                    await asyncio.sleep(_TRY_AGAIN_S)
        except TimeoutError as exc:
            raise StoreUnavailable(
                "another process has the database open"
                + (", and the schema is to be changed: stop all others" if self._migrates else "")
            ) from exc
        if await self._is_ours(raw) and self._known:
            await self._check_not_older(raw)

    async def _is_ours(self, raw: asyncpg.Connection) -> bool:
        """Whether there is something in it. DatabaseUnfit unless that may be used."""
        return await _revision(raw, self.name) is not None

    async def _opened(self, raw: asyncpg.Connection) -> bool:
        """Try to have it as this process wants to. Nobody waits in the server's line, where others would wait behind it."""
        # What another made of the schema meanwhile decides whether it is to be changed.
        self._migrates = self.is_shared and await _revision(raw, self.name) != newest()
        if not self.is_shared or self._migrates:
            return bool(await raw.fetchval("SELECT pg_try_advisory_lock($1)", OPEN))
        if not await raw.fetchval("SELECT pg_try_advisory_lock_shared($1)", OPEN):
            return False
        if await _revision(raw, self.name) == newest():
            return True
        await raw.fetchval("SELECT pg_advisory_unlock_shared($1)", OPEN)
        return False

    async def _check_not_older(self, raw: asyncpg.Connection) -> None:
        """A server that took the place of another may lack its last commits, and grant again what it does not know of."""
        # What is heard while it answers is newer than the answer.
        last, seen = self.witness.last, self._seen
        generation, configured, leased = await raw.fetchrow(
            "SELECT generation, config_version, lease_version FROM state"
        )
        if last is not None and generation == last.generation and leased < last.lease_version:
            self.is_older.set()
        self._check_versions(seen, generation, configured, leased)
        if self.is_older.is_set():
            raise StoreUnavailable(
                "the database has become an older copy of itself: start the control plane anew, which then waits for what"
                " agents hold"
            )


class PostgresSnapshot(Snapshot):
    """See `Snapshot`. Each statement is awaited; a question that is cancelled ends the snapshot with it."""

    def __init__(self, conn: AsyncConnection) -> None:
        self._asked = cast("AsyncConnection", _Remembering(conn))
        self._turn = asyncio.Lock()

    async def ask(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """See `Snapshot.ask`."""
        async with self._turn:
            return await question(self._asked)


class _Remembering:
    """As much of an AsyncConnection as store functions read with; short answers of a snapshot are asked for once."""

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn
        self._known = Answers()
        self.dialect = conn.dialect
        self.sync_connection = conn.sync_connection
        self.execute = conn.execute
        self.scalar = conn.scalar
        self.stream = conn.stream

    async def exec_driver_sql(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        asked = statement, tuple(parameters)
        known = self._known.get(asked)
        if known is None:
            known = Answer(await self._conn.exec_driver_sql(statement, asked[1]))
            self._known.keep(asked, known)
        return known


def witness_of(url: str) -> Path:
    """Where the witness of that database is unless a setting says so: told apart by server and name.

    >>> witness_of("postgresql://meter:secret@db.example/sidemeter")
    PosixPath('sidemeter-1c9c630e.holders')
    """
    return Path(f"{_told_apart(url)}.holders")


def archive_of(url: str) -> Path:
    """Where the archive of that database is unless a setting says so.

    >>> archive_of("postgresql://meter:secret@db.example/sidemeter")
    PosixPath('sidemeter-1c9c630e.archive')
    """
    return Path(f"{_told_apart(url)}.archive")


def _told_apart(url: str) -> str:
    found = urlsplit(url)
    server = found.netloc.rpartition("@")[2]
    name = found.path.strip("/").replace("/", "-")
    where = "/".join([server, *parse_qs(found.query).get("host", ()), name])
    return f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def unfit(settings: dict[str, str]) -> str | None:
    """Why a server with those settings is not to be used; None: it may be.

    >>> unfit({"server_version_num": "150018", "server_encoding": "UTF8", "fsync": "off"})
    'the server has fsync = off, and loses in a power cut what it said was committed: set it to on'
    """
    for name in DURABLE:
        if settings.get(name) == "off":
            return f"the server has {name} = off, and loses in a power cut what it said was committed: set it to on"
    if int(settings["server_version_num"]) < MIN_VERSION * 10_000:
        return f"the server must be PostgreSQL {MIN_VERSION} or newer"
    if settings["server_encoding"] != "UTF8":
        return f"the database must be of the encoding UTF8, not {settings['server_encoding']}"
    if settings.get("transaction_read_only") == "on":
        return "the server takes no writes: it is a standby, or read-only"
    return None


def _engine(
    connect: Callable[[], Awaitable[asyncpg.Connection]],
    max_wait_s: float,
    known: Mapping[str, Any],
    *,
    connections: int,
    isolation: Literal["AUTOCOMMIT"] | None = None,
) -> AsyncEngine:
    engine = create_async_engine(
        f"{POSTGRES}://",
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": _STATEMENTS},
        execution_options=known,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=max_wait_s,
        **({} if isolation is None else {"isolation_level": isolation}),
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _given(connection: Any, *_: object) -> None:
        if connection.driver_connection.is_closed():
            raise DisconnectionError  # the pool makes another

    return engine


async def _revision(raw: asyncpg.Connection, name: str) -> str | None:
    """The version of its schema, None: it is empty. DatabaseUnfit unless it is one of ours, of no newer version."""
    tables = {table for (table,) in await raw.fetch(TABLES)}
    if not tables:
        return None
    if not {"alembic_version", "state", "events", "rollups", "agent_epochs"} <= tables:
        raise DatabaseUnfit(name, "is a database of something else: Sidemeter needs one of its own")
    revision = str(await raw.fetchval("SELECT version_num FROM alembic_version"))
    if revision == UNFINISHED:
        raise DatabaseUnfit(
            name, "holds a part of a move that did not end: run `sidemeter-control move --replace` again"
        )
    if revision not in revisions():
        raise DatabaseUnfit(name, f"was made by a newer version, with schema {revision}: start that version")
    return revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a server says of a database: `version` its own, `revision` the schema's (None: there is none yet). `open_in`: how
    many control planes have it open. `encrypted`: the way there is, or is no network. `took_s`: to be asked one thing. `archive`: the files
    that it needs."""

    version: str
    revision: str | None
    size_bytes: int
    open_in: int
    encrypted: bool
    took_s: float
    archive: tuple[ArchiveFile, ...] = ()


async def look(url: str, clock: Clock) -> Sight:
    """Look at the database there, and change nothing. Errors as for `Database.open`, but for other processes."""
    name = without_password(url)
    with named(name):
        raw = (await connected(url, {"default_transaction_read_only": "on"}, nothing_more)).raw
        try:
            found = unfit(
                dict(await raw.fetch(_SETTINGS, _LOOKED_AT)) | {"transaction_read_only": await raw.fetchval(_STANDBY)}
            )
            if found is not None:
                raise DatabaseUnfit(name, found)
            revision = await _revision(raw, name)
            before_s = clock.monotonic_s()
            version, size_bytes, encrypted, open_in = await raw.fetchrow(_SIGHT, OPEN >> 32, OPEN & 0xFFFF_FFFF)
            took_s = clock.monotonic_s() - before_s
            known = await raw.fetchval("SELECT to_regclass('archive_files') IS NOT NULL")
            archive = [ArchiveFile(*row) for row in await raw.fetch(EVERY)] if known else []
        except asyncpg.PostgresError as exc:
            raise StoreUnavailable(str(exc)) from exc
        finally:
            await raw.close()
    return Sight(
        version=version,
        revision=revision,
        size_bytes=size_bytes,
        open_in=open_in,
        encrypted=encrypted,
        took_s=took_s,
        archive=tuple(archive),
    )
