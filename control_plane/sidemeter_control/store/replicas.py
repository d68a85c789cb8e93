"""Beside other control planes on one PostgreSQL database: how many there are, what they changed, and who does what is to be
done once.

That is one connection of its own: it listens, and once a second looks how many have the database open and whether the jobs
are to be had. Nothing that is counted, owed, allowed or let in depends on it: whoever decides reads what it decides by in
its own transaction. A notification that comes late makes a subscription late, and one that was missed while the connection
was away is made up for: then everything is looked at again.

A process that hangs still holds its locks, and what it does not read keeps the server's queue of notifications from being
cut. So whoever looks ends the connections of those that have not looked for a while; a process that goes on after all
begins its connection again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, Final

import asyncpg
import msgspec

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.store.changes import Changes

__all__ = [
    "APPLICATION",
    "CHANNEL",
    "LOOK_EVERY_S",
    "MAX_NOTES",
    "MAX_NOTE_BYTES",
    "OPEN",
    "IsNow",
    "Note",
    "Replicas",
    "notes_of",
]

OPEN: Final = 0x5349_4445_4D45_5402
"""The lock of whoever has the database open, shared by control planes. Names of locks are nobody else's, likely."""
_JOBS: Final = 0x5349_4445_4D45_5403

CHANNEL: Final = "sidemeter"
APPLICATION: Final = "sidemeter-control replica"

MAX_NOTE_BYTES: Final = 7_900
"""PostgreSQL takes less than 8,000 in one notification."""
MAX_NOTES: Final = 8
"""Of one transaction: those whom a batch is of, some 5,000. What is more is said of everyone."""

LOOK_EVERY_S: Final = 1.0
_ANSWERS_WITHIN_S: Final = 10.0
_HANGS_AFTER_S: Final = 30
"""Without a look, or without taking what the server sends."""

_LOOK = """
SELECT (SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.mode = 'ShareLock'
          AND l.classid::bigint = $1 AND l.objid::bigint = $2),
    $4 OR pg_try_advisory_lock($3), generation, config_version, lease_version, holders
FROM state
"""
_END_THOSE_THAT_HANG = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
  AND (application_name = $1 OR (application_name = 'sidemeter-control' AND wait_event = 'ClientWrite'))
  AND state_change < clock_timestamp() - $2 * interval '1 s'
"""

_log = logging.getLogger(__name__)


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one process tells the others. `origin`: who tells; `state`: generation, version of the configuration and of
    leases, and how many holders there are. One that says nothing is of a process that comes or goes."""

    origin: str
    subjects: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    alerted: tuple[str, ...] = ()
    everyone: bool = False
    state: tuple[str, int, int, int] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


def notes_of(origin: str, changes: Changes) -> list[str]:
    """The same for the others, in as many notes as it takes; none for nothing that anybody may watch.

    >>> notes_of("a", Changes(subjects={"acme"}))
    ['{"origin":"a","subjects":["acme"]}']
    """
    if changes.everyone:
        return [_text(Note(origin, everyone=True))]
    most = MAX_NOTE_BYTES - 200
    notes = [
        *(Note(origin, subjects=part) for part in _in_parts(changes.subjects, most)),
        *(Note(origin, customers=part) for part in _in_parts(changes.customers, most)),
        *(Note(origin, alerted=part) for part in _in_parts(changes.alerted, most)),
    ]
    return list(map(_text, notes if len(notes) <= MAX_NOTES else [Note(origin, everyone=True)]))


def _in_parts(keys: Collection[str], most_bytes: int) -> Iterator[tuple[str, ...]]:
    part: list[str] = []
    size = 0
    for key in sorted(keys):
        more = len(_encode(key)) + 1
        if size + more > most_bytes:
            yield tuple(part)
            part, size = [], 0
        part.append(key)
        size += more
    if part:
        yield tuple(part)


def _text(note: Note) -> str:
    return _encode(note).decode()


IsNow = Callable[[str, int, int, int], None]
"""Takes what the row `state` says: generation, versions of the configuration and of leases, holders."""


class Replicas:
    """This process among them. `connect` makes the connection, `heard` takes what others changed, `is_told` how far they say
    that the database came, and `looks` gives what takes how far it has come; it is called before that is asked."""

    def __init__(
        self,
        origin: str,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        heard: Callable[[Changes], None],
        is_told: IsNow,
        looks: Callable[[], IsNow],
    ) -> None:
        self._origin, self._connect, self._heard = origin, connect, heard
        self._is_told, self._looks = is_told, looks
        self.count = 1
        """How many there are, this one too."""
        self.leads = False
        """Whether what one alone does is this one's to do."""
        self._due = asyncio.Event()
        self._raw: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Be one of them. StoreUnavailable when the server does not answer."""
        await self._again()
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Be none of them any more; the others hear of it, and have the jobs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        raw, self._raw, self.leads = self._raw, None, False
        if raw is None:
            return
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await raw.fetchval("SELECT pg_advisory_unlock_all()", timeout=_ANSWERS_WITHIN_S)
            await raw.execute("SELECT pg_notify($1, $2)", CHANNEL, _text(Note(self._origin)), timeout=_ANSWERS_WITHIN_S)
            await raw.close(timeout=_ANSWERS_WITHIN_S)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._due.wait()
            self._due.clear()
            try:
                if self._raw is None:
                    await self._again()
                    self._heard(Changes(everyone=True))
                else:
                    await self._look(self._raw)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, StoreUnavailable) as exc:
                self._lose()
                _log.warning("other control planes are not heard until the database answers again: %s", exc)

    async def _again(self) -> None:
        raw = await self._connect()
        try:
            await raw.add_listener(CHANNEL, self._told)
            raw.add_termination_listener(self._ended)
            await self._look(raw)
            await raw.execute("SELECT pg_notify($1, $2)", CHANNEL, _text(Note(self._origin)))
        except BaseException as exc:
            raw.terminate()
            if isinstance(exc, OSError | asyncpg.PostgresError | asyncpg.InterfaceError):
                raise StoreUnavailable(str(exc)) from exc
            raise
        self._raw = raw

    async def _look(self, raw: asyncpg.Connection) -> None:
        asked, is_now = (OPEN >> 32, OPEN & 0xFFFF_FFFF, _JOBS, self.leads), self._looks()
        count, leads, *now = await raw.fetchrow(_LOOK, *asked, timeout=_ANSWERS_WITHIN_S)
        self.count = max(count, 1)
        if leads and not self.leads:
            _log.info("what is done in the background is done by this control plane from now on")
        self.leads = leads
        is_now(*now)
        await raw.fetch(_END_THOSE_THAT_HANG, APPLICATION, _HANGS_AFTER_S, timeout=_ANSWERS_WITHIN_S)

    def _ended(self, raw: Any) -> None:
        if raw is self._raw:
            self._lose()
            self._due.set()

    def _lose(self) -> None:
        raw, self._raw, self.leads = self._raw, None, False
        if raw is not None:
            raw.terminate()

    def _told(self, _raw: Any, _pid: int, _channel: str, payload: Any) -> None:
        try:
            note = _decode(payload)
        except msgspec.MsgspecError:
            return  # of somebody else, or of a version that says more: what is missed is found a minute later
        if note.origin == self._origin:
            return
        if note.state is not None:
            self._is_told(*note.state)
        changes = Changes(set(note.subjects), set(note.customers), set(note.alerted), note.everyone)
        if changes != Changes():
            self._heard(changes)
        elif note.state is None:
            self._due.set()
