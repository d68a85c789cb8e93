"""One snapshot of the database, asked by whole coroutines: at once where that is quick, else in a thread."""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Executable, Row
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["QUICK_STATEMENTS", "QUICK_STEPS", "Answer", "Answers", "Snapshot", "SqliteSnapshot", "worked"]

T = TypeVar("T")

# What a question may take of the event loop: some 4 ms. A live cost of three charges takes 5 statements and 7,000 steps of
# SQLite's, one of twelve charges, of every model, 15 statements and 33,000 steps.
QUICK_STATEMENTS = 20
QUICK_STEPS = 60_000
_STEPS_AT_ONCE = 1_000

# What is remembered of a snapshot, whose answers never change: the parts of one cost ask for the same edges again and again.
_REMEMBERED_ANSWERS = 64
_REMEMBERED_ROWS = 4


class _NotQuick(Exception):
    """The question is to begin anew, in a thread."""


class Snapshot(ABC):
    """What one reader sees. The coroutine that is asked may await nothing but the store."""

    @abstractmethod
    async def ask(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """What the question answers, given the connection. One at a time; cancelled, it ends before this returns."""


class SqliteSnapshot(Snapshot):
    """See `Snapshot`. The store never waits here.

    A thread takes its turn with the loop for each statement, which costs more than the statement does: so a question
    is asked in the loop first, and once more in a thread when it turns out to be long. It must change nothing.
    """

    def __init__(self, connection: Connection, threads: Executor) -> None:
        self._connection = connection
        self._threads = threads
        self._sqlite: Any = connection.connection.driver_connection
        self._turn = asyncio.Lock()
        self._known = Answers()

    async def ask(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """See `Snapshot.ask`."""
        async with self._turn:
            try:
                return self._quickly(question)
            except _NotQuick:
                return await self._in_thread(question)

    def _quickly(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        quick = _Quick(self._connection, self._known)
        self._sqlite.set_progress_handler(quick.steps_taken, _STEPS_AT_ONCE)
        try:
            return _driven(question, quick)
        except OperationalError as exc:
            if quick.steps_left <= 0:
                raise _NotQuick from exc
            raise
        finally:
            self._sqlite.set_progress_handler(None, 0)

    async def _in_thread(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(self._threads, _driven, question, _Direct(self._connection, self._known))
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            await self._stop(answer)
            raise
        return answer.result()

    async def _stop(self, answer: asyncio.Future[Any]) -> None:
        """The connection is for the next reader only when the thread has let go of it."""
        while not answer.done():
            self._sqlite.interrupt()
            try:
                await asyncio.wait([answer], timeout=0.1)
            except asyncio.CancelledError:
                continue
        answer.exception()


def _driven(question: Callable[[AsyncConnection], Coroutine[Any, Any, T]], direct: "_Direct") -> T:
    asked = question(cast("AsyncConnection", direct))
    try:
        asked.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    finally:
        asked.close()
    raise RuntimeError("a question to a snapshot must await nothing but the store")


class _Direct:
    """As much of an AsyncConnection as store functions read with, on a connection of this thread: nothing suspends."""

    def __init__(self, connection: Connection, known: "Answers") -> None:
        self.sync_connection = connection
        self.dialect = connection.dialect
        self._sqlite: Any = connection.connection.driver_connection
        self._known = known

    def spend(self) -> None:
        """Called before each statement."""

    def work(self, work: Callable[[], T]) -> T:
        """What takes long, here where nobody waits for the thread."""
        return work()

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        self.spend()
        return self.sync_connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Sequence[Any] = ()) -> "Answer":
        """What is the driver's own goes straight to it: SQLAlchemy's result around it costs more than the rows.

        A short answer is remembered: whoever asks the same again takes nothing of the database, nor of the bounds.
        """
        asked = statement, tuple(parameters)
        if asked in self._known:
            return self._known[asked]
        self.spend()
        try:
            answer = Answer(self._sqlite.execute(statement, parameters))
        except sqlite3.Error as exc:
            raise DBAPIError.instance(statement, parameters, exc, sqlite3.Error) from exc
        self._known.keep(asked, answer)
        return answer

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        self.spend()
        return self.sync_connection.scalar(statement, parameters)

    @asynccontextmanager
    async def stream(self, statement: Executable) -> AsyncIterator["_Rows"]:
        self.spend()
        with self.sync_connection.execute(statement) as result:
            yield _Rows(result)


class _Quick(_Direct):
    """The same within bounds."""

    def __init__(self, connection: Connection, known: "Answers") -> None:
        super().__init__(connection, known)
        self.statements_left = QUICK_STATEMENTS
        self.steps_left = QUICK_STEPS

    def spend(self) -> None:
        self.statements_left -= 1
        if self.statements_left < 0:
            raise _NotQuick

    def work(self, work: Callable[[], T]) -> T:  # noqa: ARG002 -- as above
        """Not in the loop."""
        raise _NotQuick

    def steps_taken(self) -> bool:
        """For SQLite: whether to interrupt the statement."""
        self.steps_left -= _STEPS_AT_ONCE
        return self.steps_left <= 0


async def worked(conn: AsyncConnection, work: Callable[[], T]) -> T:
    """What `work` returns, of a store function that must read more than the database; the loop goes on meanwhile."""
    asked: object = conn
    return asked.work(work) if isinstance(asked, _Direct) else await asyncio.to_thread(work)


class Answer(list[tuple[Any, ...]]):
    """The rows of a statement, as far as store functions ask a result for them."""

    def all(self) -> Self:
        """Every row."""
        return self

    def one(self) -> tuple[Any, ...]:
        """The only row."""
        (row,) = self
        return row


class Answers(dict[tuple[str, tuple[Any, ...]], Answer]):
    """What is remembered of one snapshot: short answers, and not many."""

    def keep(self, asked: tuple[str, tuple[Any, ...]], answer: Answer) -> None:
        """Remember it, where there is room."""
        if len(answer) <= _REMEMBERED_ROWS and len(self) < _REMEMBERED_ANSWERS:
            self[asked] = answer


class _Rows:
    def __init__(self, result: CursorResult[Any]) -> None:
        self._result = result

    async def partitions(self, size: int) -> AsyncIterator[Sequence[Row[Any]]]:
        for some in self._result.partitions(size):
            yield some
