"""The database and its transactions: what the rest of the program knows of it, whichever it is.

`Database.open` chooses by the URL: one file, `sqlite.py`, or a PostgreSQL server, `postgres.py`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sidemeter_control.errors import Conflict, InvalidInput, StoreUnavailable
from sidemeter_control.settings import is_postgres
from sidemeter_control.store import files
from sidemeter_control.store.archive import Archive
from sidemeter_control.store.changes import Changes, noted
from sidemeter_control.store.schema import upgrade
from sidemeter_control.store.snapshot import Snapshot
from sidemeter_control.store.witness import Witness

__all__ = ["MAX_WAIT_S", "ONE_FILE", "OWN_TOOLS", "READERS", "Database", "named", "savepoint", "translated"]

# Readers share one interpreter; more of them only queue for it.
READERS = 4
# How long a transaction waits for its turn before the caller hears "try again".
MAX_WAIT_S = 30

_NO_TEXT = "22021"  # PostgreSQL's for a text that it cannot hold
OWN_TOOLS = "a PostgreSQL database is backed up and restored by its own tools, pg_dump or pg_basebackup"
ONE_FILE = "one file cannot be spread over nodes: move it to a PostgreSQL with the extension citus first (sidemeter-control move)"


class Database(ABC):
    """An open database. `write` and `read` give a connection inside a transaction; store functions take it. `witness` is
    the file that is no part of it, `archive` where events of old months are; `name` is what an operator knows it by, without
    secrets.

    `is_shared`: other processes may write to it meanwhile, so that nothing read of it holds for long. `replicas`: how many
    have it open, this one too. `leads`: whether what is to be done once is this one's to do. `is_older`: set once it was seen
    to have become an older copy of itself under this process, which then has to start anew.

    Both raise StoreUnavailable when the database gives no answer (disk full, read-only, failing, or no turn in time):
    nothing is then known of the transaction's effect, and it may be repeated.
    """

    def __init__(self, name: str, writer: AsyncEngine, witness: Witness, archive: Archive) -> None:
        self.name = name
        self.witness = witness
        self.archive = archive
        self.is_shared = False
        self.is_older = asyncio.Event()
        self._writer = writer
        self._listeners: list[Callable[[Changes], None]] = []

    @staticmethod
    async def open(
        url: str,
        max_wait_s: float = MAX_WAIT_S,
        *,
        witness: str | None = None,
        archive: str | None = None,
        alone: bool = True,
    ) -> "Database":
        """Open the database at `url`: `sqlite:///PATH`, whose file is made when absent, or `postgresql://…`.

        `witness`: the path of its file, where that is not beside the database, and `archive` that of its directory. Not `alone`: beside others that say so, too,
        where the database is one for several; a file never is. SettingsError when the URL is not one,
        StoreUnavailable when the database does not answer or another process has it open, DatabaseUnfit when it is none
        that may be used: something else than a sound database of this version, or one that does not keep what it commits.
        """
        # Each brings its own driver, and one of them is an extra.
        if is_postgres(url):
            from sidemeter_control.store.postgres import PostgresDatabase  # noqa: PLC0415

            return await PostgresDatabase.at(url, max_wait_s, witness=witness, archive=archive, alone=alone)
        from sidemeter_control.store.sqlite import SqliteDatabase  # noqa: PLC0415

        return await SqliteDatabase.at(url, max_wait_s, archive=archive)

    async def migrate(self, report: files.Report | None = None) -> None:
        """Bring the schema to the newest version, in one transaction. `report` is told of each step, on this thread."""
        with named(self.name):
            async with self.write() as conn:
                await conn.run_sync(upgrade, report)

    async def distribute(self, report: files.Report) -> int:  # noqa: ARG002 -- the interface
        """Spread the tables of the newest schema over the nodes of a Citus cluster, in one transaction; those that are spread
        stay as they are. `report` is told of each step, on this thread. How many tables were spread.

        Conflict where the database is a file, DatabaseUnfit where its server is not one that can.
        """
        raise Conflict(ONE_FILE)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees all before it and is committed at the end of the block, or not at all.

        Once COMMIT is sent its outcome is awaited, also by a caller who is cancelled meanwhile.
        """
        with translated():
            async with self._writer.connect() as conn:
                await conn.begin()
                yield conn
                changes = noted(conn)
                if changes is None:
                    await self._keep_seen(conn)
                elif self.is_shared:
                    await self._note(conn, changes)
                try:
                    await _to_the_end(conn.commit())
                finally:
                    if changes is not None:
                        self._tell(changes)

    async def _note(self, conn: AsyncConnection, changes: Changes) -> None:  # noqa: B027 -- a file is nobody else's
        """Let other processes hear of it, once the transaction is committed."""

    async def _keep_seen(self, conn: AsyncConnection) -> None:  # noqa: B027 -- what is in a file is nowhere else
        """Let what a transaction saw that changes nothing be as durable, at its COMMIT, as if it had been its own (P5)."""

    @property
    def replicas(self) -> int:
        """See the class."""
        return 1

    @property
    def leads(self) -> bool:
        """See the class."""
        return True

    async def join(self) -> None:  # noqa: B027 -- as above
        """Hear of what other processes change, and be counted among them; once the schema is this version's.

        StoreUnavailable when the database does not answer.
        """

    def listen(self, listener: Callable[[Changes], None]) -> Callable[[], None]:
        """Tell `listener` what each transaction changed, right after its COMMIT, and a moment later where it was another
        process's; answers what ends that.

        It must be quick and raise nothing. One whose COMMIT failed is told of, too: nobody knows what became of it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, changes: Changes) -> None:
        for listener in self._listeners:
            listener(changes)

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One snapshot of the database: every query in the block sees the same state."""

    def point(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """As `read`, for one statement that is over at once, and waits for no question that takes longer."""
        return self.read()

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """As `read`, for many statements: each question to the snapshot is answered as a whole."""

    @property
    def path(self) -> Path:
        """The file. Conflict where the database is none."""
        raise Conflict(OWN_TOOLS)

    async def copy_to(self, target: Path, report: files.Report) -> None:  # noqa: ARG002 -- the interface
        """Copy all that is committed now into the new file `target`; reading and writing go on.

        Conflict where the database is no file.
        """
        raise Conflict(OWN_TOOLS)

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""


@asynccontextmanager
async def savepoint(conn: AsyncConnection) -> AsyncIterator[None]:
    """A part of a transaction: undone when the block fails, while all before it stays.

    StoreUnavailable as for the whole: SQLite may then have undone all of it by itself, and nothing more is to be done.
    """
    with translated():
        async with conn.begin_nested():
            yield


async def _to_the_end(step: Coroutine[Any, Any, None]) -> None:
    """Await `step` whole; a cancellation meanwhile takes effect after it."""
    task = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    task.result()
    if cancelled is not None:
        raise cancelled


@contextmanager
def named(name: str) -> Iterator[None]:
    """For an operator who starts it, what fails is a database; a caller is told no paths."""
    try:
        yield
    except StoreUnavailable as exc:
        raise StoreUnavailable(f"{name}: {exc}") from exc


@contextmanager
def translated() -> Iterator[None]:
    """An error of the driver, as this program calls it; a mistake of ours stays what it is. InvalidInput for a text that
    PostgreSQL cannot hold."""
    try:
        yield
    except DBAPIError as exc:
        state: str | None = getattr(exc.orig, "sqlstate", None)
        if state == _NO_TEXT:
            raise InvalidInput("text", "must contain no NUL") from exc
        if _is_mistake(exc) if state is None else _is_mistake_of(state):
            raise
        raise StoreUnavailable(_said(exc)) from exc
    except (ConnectionError, TimeoutError) as exc:
        raise StoreUnavailable("the database server gave no answer") from exc
    except PoolTimeout as exc:
        raise StoreUnavailable("no turn came in time") from exc
    except MemoryError as exc:  # SQLite's own as well
        raise StoreUnavailable("no memory was left") from exc


def _is_mistake(exc: DBAPIError) -> bool:
    return isinstance(exc, DataError | IntegrityError | ProgrammingError) or not (
        isinstance(exc, DatabaseError) or exc.connection_invalidated
    )


def _is_mistake_of(state: str) -> bool:
    """By PostgreSQL's classes: cardinality, data, integrity, and syntax, of which rights and missing tables are no mistake."""
    return state[:2] in {"21", "22", "23", "42"} and state not in {"42501", "42P01"}


def _said(exc: DBAPIError) -> str:
    """What the database itself said, without the names of the driver's classes."""
    return str(getattr(exc.orig, "driver_exception", exc.orig) or exc.orig)
