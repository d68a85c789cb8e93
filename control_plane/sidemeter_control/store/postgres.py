"""The database on a PostgreSQL server.

Writers take turns, as they do on one file: a write transaction begins with an advisory lock that it holds to its end, at
READ COMMITTED, so that every statement after it sees all that was committed before. That is chosen over SERIALIZABLE with
retries because the verbs are written for it: what one has read stays so until it commits, nothing is ever done twice, and a
counter kept in memory beside the database is never one of a transaction that was rolled back to be tried again. PostgreSQL
makes a commit visible before it lets go of its locks, so whoever takes the lock next sees it; a commit whose answer was lost
keeps the lock until it is over, so whoever looks it up (P15) waits for its outcome. The lock is the database's: it holds
among processes as among connections, and with it "each event once" and "one grantor of leases". A transaction that reads
its snapshot at REPEATABLE READ, READ ONLY, and waits for nobody.

One process at a time has a database open, because subscriptions and deliveries are still one process's: its writing
connection holds a second advisory lock for as long as it lives. So a pooler between the two must leave a connection to whoever
opened it until it is closed (PgBouncer: `pool_mode = session`).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sidemeter_control.clock import Clock
from sidemeter_control.errors import DatabaseUnfit, StoreUnavailable
from sidemeter_control.settings import without_password
from sidemeter_control.store.database import MAX_WAIT_S, READERS, Database, named, translated
from sidemeter_control.store.driving import COMPILED, POSTGRES
from sidemeter_control.store.schema import revisions
from sidemeter_control.store.snapshot import Answer, Answers, Snapshot
from sidemeter_control.store.witness import Witness

__all__ = ["DURABLE", "MIN_VERSION", "PostgresDatabase", "Sight", "look", "unfit", "witness_of"]

T = TypeVar("T")

DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""Settings of a server that loses what it committed, in a power cut, where one of them is off (P1)."""
MIN_VERSION: Final = 14

# Names of locks, which nobody else's are likely to be.
_TURN: Final = 0x5349_4445_4D45_5401
_OPEN: Final = 0x5349_4445_4D45_5402
_CONNECTS_WITHIN_S: Final = 10.0
_ANSWERS_WITHIN_S: Final = 600.0
"""A server that has not answered a statement by then is taken for one that is gone."""
_LET_GO_WITHIN_S: Final = 5.0
"""How long a server may take to notice that the process before this one was killed."""
_IDLE_WITHIN_S: Final = 60
"""A transaction that does nothing for so long belongs to a process that hangs: the server ends it, and others go on."""
_STATEMENTS: Final = 512

_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])"
_LOOKED_AT = ["server_version_num", "server_encoding", "transaction_read_only", *DURABLE]
_STANDBY = "SELECT CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END"
_SIGHT = """
SELECT current_setting('server_version'), pg_database_size(current_database()),
    inet_server_addr() IS NULL OR inet_server_addr() <<= inet '127.0.0.0/8' OR inet_server_addr() = inet '::1'
        OR (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
    EXISTS (SELECT 1 FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
            WHERE d.datname = current_database() AND locktype = 'advisory' AND l.granted
              AND l.classid::bigint = $1 AND l.objid::bigint = $2)
"""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"


class PostgresDatabase(Database):
    """See `Database`. `witness` is a file of the machine that the control plane runs on."""

    def __init__(self, url: str, max_wait_s: float, witness: Path) -> None:
        self._url = url
        self._max_wait_s = max_wait_s
        self._known = False
        writer = _engine(self._connect_writer, max_wait_s, connections=1)
        super().__init__(without_password(url), writer, Witness(witness))
        self._reader = _engine(self._connect_reader, max_wait_s, connections=2 * READERS)

        @event.listens_for(writer.sync_engine, "begin")
        def _begun(connection: Connection) -> None:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (_TURN,))

    @classmethod
    async def at(cls, url: str, max_wait_s: float = MAX_WAIT_S, *, witness: str | None = None) -> Self:
        """Open the database at `url`, which is there, and empty or a control plane's. Errors as for `Database.open`."""
        database = cls(url, max_wait_s, Path(witness) if witness else witness_of(url))
        try:
            with named(database.name):
                async with database.write():
                    database._known = True
                    return database
        except BaseException:
            await database.close()
            raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.read`."""
        with translated():
            async with self._reader.connect() as conn:
                await conn.begin()
                yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """See `Database.snapshot`."""
        async with self.read() as conn:
            yield PostgresSnapshot(conn)

    async def close(self) -> None:
        """Close every connection; the writer's is the one that keeps other processes out."""
        await self._reader.dispose()
        await self._writer.dispose()

    async def _connect_writer(self) -> asyncpg.Connection:
        wait_ms = str(round(self._max_wait_s * 1000))
        own = {"default_transaction_isolation": "read committed", "lock_timeout": wait_ms}
        own["idle_in_transaction_session_timeout"] = f"{_IDLE_WITHIN_S}s"
        return await _connected(self._url, own, self._take)

    async def _connect_reader(self) -> asyncpg.Connection:
        own = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}
        return await _connected(self._url, own, _nothing_more)

    async def _take(self, raw: asyncpg.Connection) -> None:
        """Make it the one connection that writes. Each new one is looked at: a server may start anew with other settings."""
        found = unfit(dict(await raw.fetch(_SETTINGS, _LOOKED_AT)))
        if found is not None:
            raise DatabaseUnfit(self.name, found)
        await raw.execute(f"SET lock_timeout = {round(min(self._max_wait_s, _LET_GO_WITHIN_S) * 1000)}")
        try:
            await raw.execute(f"SELECT pg_advisory_lock({_OPEN})")
        except asyncpg.LockNotAvailableError as exc:
            raise StoreUnavailable("another process has the database open") from exc
        await raw.execute("RESET lock_timeout")
        if await _revision(raw, self.name) is not None and self._known:
            await self._check_not_older(raw)

    async def _check_not_older(self, raw: asyncpg.Connection) -> None:
        """A server that took the place of another may lack its last commits, and grant again what it does not know of."""
        last = self.witness.last
        generation, lease_version = await raw.fetchrow("SELECT generation, lease_version FROM state")
        if last is not None and generation == last.generation and lease_version < last.lease_version:
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
    found = urlsplit(url)
    server = found.netloc.rpartition("@")[2]
    name = found.path.strip("/").replace("/", "-")
    where = "/".join([server, *parse_qs(found.query).get("host", ()), name])
    return Path(f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}.holders")


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


async def _connected(
    url: str, own: dict[str, str], take: Callable[[asyncpg.Connection], Awaitable[None]]
) -> asyncpg.Connection:
    """A connection with these settings of its own, once `take` has taken it."""
    asked = {"application_name": "sidemeter-control", "jit": "off"} | own
    try:
        raw = await asyncpg.connect(
            url, timeout=_CONNECTS_WITHIN_S, command_timeout=_ANSWERS_WITHIN_S, server_settings=asked
        )
        try:
            await take(raw)
        except BaseException:
            raw.terminate()
            raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise StoreUnavailable(f"the database server does not take the connection: {exc}") from exc
    return raw


async def _nothing_more(_: asyncpg.Connection) -> None:
    """A reader needs nothing but its settings."""


def _engine(
    connect: Callable[[], Awaitable[asyncpg.Connection]], max_wait_s: float, *, connections: int
) -> AsyncEngine:
    engine = create_async_engine(
        f"{POSTGRES}://",
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": _STATEMENTS},
        execution_options=COMPILED,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=max_wait_s,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _given(connection: Any, *_: object) -> None:
        if connection.driver_connection.is_closed():
            raise DisconnectionError  # the pool makes another

    return engine


async def _revision(raw: asyncpg.Connection, name: str) -> str | None:
    """The version of its schema, None: it is empty. DatabaseUnfit unless it is one of ours, of no newer version."""
    tables = {table for (table,) in await raw.fetch(_TABLES)}
    if not tables:
        return None
    if not {"alembic_version", "state", "events", "rollups", "agent_epochs"} <= tables:
        raise DatabaseUnfit(name, "is a database of something else: Sidemeter needs one of its own")
    revision = str(await raw.fetchval("SELECT version_num FROM alembic_version"))
    if revision not in revisions():
        raise DatabaseUnfit(name, f"was made by a newer version, with schema {revision}: start that version")
    return revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a server says of a database: `version` its own, `revision` the schema's (None: there is none yet). `is_open`: a
    control plane has it open. `encrypted`: the way there is, or is no network. `took_s`: to be asked one thing."""

    version: str
    revision: str | None
    size_bytes: int
    is_open: bool
    encrypted: bool
    took_s: float


async def look(url: str, clock: Clock) -> Sight:
    """Look at the database there, and change nothing. Errors as for `Database.open`, but for other processes."""
    name = without_password(url)
    with named(name):
        raw = await _connected(url, {"default_transaction_read_only": "on"}, _nothing_more)
        try:
            found = unfit(
                dict(await raw.fetch(_SETTINGS, _LOOKED_AT)) | {"transaction_read_only": await raw.fetchval(_STANDBY)}
            )
            if found is not None:
                raise DatabaseUnfit(name, found)
            revision = await _revision(raw, name)
            before_s = clock.monotonic_s()
            version, size_bytes, encrypted, is_open = await raw.fetchrow(_SIGHT, _OPEN >> 32, _OPEN & 0xFFFF_FFFF)
            took_s = clock.monotonic_s() - before_s
        except asyncpg.PostgresError as exc:
            raise StoreUnavailable(str(exc)) from exc
        finally:
            await raw.close()
    return Sight(
        version=version,
        revision=revision,
        size_bytes=size_bytes,
        is_open=is_open,
        encrypted=encrypted,
        took_s=took_s,
    )
