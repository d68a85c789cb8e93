"""Recording: an accepted event waits in memory for the next commit, and its caller for the answer.

While one group is being committed the next one gathers, so durability costs one fsync of latency and next to no
throughput. What nobody waits for (`record_nowait`) gathers a little longer, but only while there is load.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sidemeter.batches import Row
from sidemeter.buffer import Buffer, CallerId
from sidemeter.clock import Clock, wait_for
from sidemeter.errors import AgentStopped, BufferFull, InDoubt, NotRecorded, StorageRefused
from sidemeter.events import Event, Receipt, decode, encode, mint
from sidemeter.line import Line
from sidemeter.settings import Settings

__all__ = ["Recorder", "Usage"]

_RETRY_S = 0.2


class Usage(Protocol):
    """Who adds up what was recorded."""

    def recorded(self, seq: int, event: Event, *, paid: bool = False) -> None:
        """An event was accepted as row `seq`; `paid`: what it takes of leases is debited already."""

    def undone(self, seq: int, event: Event, *, certain: bool = True) -> None:
        """It is not in the buffer under that number after all; unless that is `certain`, it may be."""


@dataclass(slots=True)
class _Waiter:
    """A caller that waits for rows `first_seq` to `last_seq`; its answer is which of its group's are duplicates."""

    first_seq: int
    last_seq: int
    answer: asyncio.Future[set[int]]


@dataclass(slots=True)
class _Group:
    """Rows that are committed together."""

    rows: list[Row] = field(default_factory=list)
    caller_ids: list[CallerId] = field(default_factory=list)
    ended: list[tuple[int, str]] = field(default_factory=list)
    waiters: list[_Waiter] = field(default_factory=list)


class Recorder:
    """Takes events, commits them in groups, answers their callers. `pending` events are not yet durable.

    `stored` is called after every commit, `keep` before each, to keep what the rows took of leases. In `line` wait those for whom a full buffer has no room. One event loop uses
    it, from one thread.
    """

    def __init__(
        self,
        buffer: Buffer,
        usage: Usage,
        settings: Settings,
        clock: Clock,
        stored: Callable[[], None],
        *,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._buffer = buffer
        self._usage = usage
        self._settings = settings
        self._waits = settings.when_full == "wait"
        self._clock = clock
        self._stored = stored
        self._keep = keep
        self._mint = mint(clock.token_hex(8))
        self._next_seq = buffer.next_seq
        self._committing = _Group()
        self._gathering: deque[_Group] = deque([_Group()])
        self._pending_bytes = 0
        self._turn = asyncio.Lock()
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._flushing = 0
        self._failing = False
        self._unkept: NotRecorded | InDoubt | None = None
        self._earliest_s = clock.monotonic_s()
        self.line = Line(
            clock, wait_s=settings.full_wait_s, max_events=settings.max_pending_events, fits=lambda n: not self._full(n)
        )
        buffer.when_in_doubt(self._refuse_gathered)
        self.stopped = False
        self.pending = 0
        self.recorded = 0
        self.duplicates = 0
        self.refused = 0
        self.commits = 0

    def record_nowait(self, event: Event) -> str:
        """Take an event that nobody waits for; its id. A failing disk delays it, and never drops it.

        Raises AgentStopped or BufferFull: then nothing was taken. It never waits for room.
        """
        if full := self._full(1) or self._behind():
            raise self._refusal(full, 1)
        return self._take(event).id or ""

    def stop(self) -> None:
        """Take nothing from now on, also not from those who wait for room."""
        self.stopped = True
        self.line.close(_stopped())

    async def record(self, event: Event) -> Receipt:
        """Take an event, and return once it is durable. Raises NotRecorded: then it is not."""
        return (await self.record_many((event,)))[0]

    async def record_many(self, events: Sequence[Event]) -> list[Receipt]:
        """Take events as one, all or none; returns once they are durable, with a receipt for each in their order."""
        if not events:
            return []
        await self.admit(events)
        return await self.record_admitted(events)

    async def admit(self, events: Sequence[Event]) -> bool:
        """Raise NotRecorded unless there is room for events, now or, with `when_full` wait, soon; whether it took time.

        The room is there for whoever takes it before the event loop goes on.
        """
        count = len(events)
        if self._buffer.doubt is not None:
            raise self._refusal(self._doubt(), count)
        full = self._full(count) or self._behind()
        if full is None:
            return False
        if isinstance(full, BufferFull) and self._waits and count <= self._settings.max_pending_events:
            try:
                await self.line.wait(count, sum(len(event.data or "") for event in events), full)
            except NotRecorded as exc:
                raise self._refusal(exc, count) from None
            if not self.stopped:
                return True
            full = _stopped()
        raise self._refusal(full, count)

    async def record_admitted(
        self, events: Sequence[Event], *, paid: bool = False, ends: str | None = None
    ) -> list[Receipt]:
        """`record_many` for events that were just admitted; `paid`: what they take of leases is debited.

        The reservation that it `ends` has its end in the same commit.
        """
        first_seq = self._next_seq
        filled = [self._take(event, whole=True, paid=paid) for event in events]
        if ends is not None:
            self._gathering[-1].ended.append((first_seq, ends))
        duplicates = await self._durable(first_seq)
        return [
            Receipt(event.id or "", event.source or "", seq in duplicates)
            for seq, event in enumerate(filled, first_seq)
        ]

    async def requeue(self, bodies: Sequence[bytes]) -> None:
        """Take events again that were accepted before, in their wire form; returns once they are durable.

        They are known by their ids, so what is here already is not taken twice. Raises StorageRefused, AgentStopped.
        """
        if self.stopped:
            raise AgentStopped("the agent is stopping, or has stopped: it takes no events")
        first_seq = self._next_seq
        for body in bodies:
            self._queue(decode(body), body, claimed=True, whole=True, paid=True)  # when it was accepted first
        await self._durable(first_seq)

    async def flush(self) -> None:
        """Return once nothing is pending. Raises AgentStopped or InDoubt when the agent stopped before that."""
        self._flushing += 1
        self._hurry.set()
        try:
            await self._idle.wait()
        finally:
            self._flushing -= 1
        if self._unkept is not None:
            raise self._unkept

    async def holds(self, source: str, event_id: str) -> bool:
        """Whether an event with this id of a caller is durable here; one under way is waited for."""
        key = (source, event_id)
        if any(key == each[1:] for group in self._groups() for each in group.caller_ids):
            await self.flush()
        return await self._buffer.holds(source, event_id)

    def pending_rows(self) -> tuple[int, list[Row]]:
        """The first row number that may not be durable yet, and every row from there on."""
        rows = [row for group in self._groups() for row in group.rows]
        return (rows[0][0] if rows else self._next_seq), rows

    async def commit_once(self) -> None:
        """Wait for a group, commit it, answer its callers. One that the disk refuses is tried again, less those."""
        await self._work.wait()
        await self._gather()
        async with self._turn:
            await self._commit()

    async def give_up(self, error: NotRecorded) -> None:
        """Let go of what no commit has taken. One under way is waited for: its callers are told what becomes of it."""
        async with self._turn:
            self._end(error)

    def abandon(self) -> None:
        """Let go of everything at once: the disk does not answer. Whether it has what it was given last is not known."""
        group, self._committing = self._committing, _Group()
        self._leave(group, InDoubt("the agent stopped while its disk did not answer: this is kept or not"))
        self._end(_stopped())

    async def _commit(self) -> None:
        group = self._committing = self._gathering.popleft()
        if not self._gathering:
            self._gathering.append(_Group())
        self._keep()
        try:
            duplicates = await self._buffer.append(
                group.rows, group.caller_ids, [hold_id for _, hold_id in group.ended]
            )
        except StorageRefused as exc:
            self._failing = True
            self._earliest_s = self._clock.monotonic_s() + _RETRY_S
            self._gathering.appendleft(group)
            self._committing = _Group()
            self.fail(exc)
        except InDoubt as exc:
            self._committing = _Group()
            self._leave(group, exc)
        else:
            self._failing = False
            self._earliest_s = self._clock.monotonic_s() + self._settings.group_window_s
            self._committing = _Group()
            self._answer(group, duplicates)

    def _end(self, error: NotRecorded) -> None:
        """There will be no other commit: also who waits for rows that nobody else waits for is told."""
        self.fail(error)
        if self.pending:
            self._unkept = self._unkept or error
            self._idle.set()

    def fail(self, error: NotRecorded) -> None:
        """Tell every caller that waits, and let its rows go. Rows that nobody waits for stay."""
        self._fail(error, self._groups())

    def _refuse_gathered(self) -> None:
        """What is under way is in doubt, but nothing was tried of what came after it."""
        self._fail(self._doubt(), list(self._gathering))

    def _doubt(self) -> StorageRefused:
        return StorageRefused(f"the disk does not say what it holds: {self._buffer.doubt}")

    def _leave(self, group: _Group, error: InDoubt) -> None:
        """Let a group go that may be kept or not, and tell its callers."""
        for waiter in group.waiters:
            if not waiter.answer.done():
                waiter.answer.set_exception(error)
        self._unkept = error if group.rows else self._unkept
        self._let_go(group.rows, certain=False)
        self._settle_pending()

    def _fail(self, error: NotRecorded, groups: Sequence[_Group]) -> None:
        for group in groups:
            refused = {seq for each in group.waiters for seq in range(each.first_seq, each.last_seq + 1)}
            for waiter in group.waiters:
                if not waiter.answer.done():
                    waiter.answer.set_exception(error)
            self._let_go([row for row in group.rows if row[0] in refused])
            group.rows = [row for row in group.rows if row[0] not in refused]
            group.caller_ids = [each for each in group.caller_ids if each[0] not in refused]
            group.ended = [each for each in group.ended if each[0] not in refused]
            group.waiters = []
            self.refused += len(refused)
        self._gathering = deque([group for group in self._gathering if group.rows] or [_Group()])
        self._settle_pending()

    def _full(self, count: int) -> NotRecorded | None:
        """Why there is no room for so many events; None when there is."""
        if self.stopped:
            return _stopped()
        if self.pending + count > self._settings.max_pending_events:
            return BufferFull(f"{self.pending} events wait for the disk; max_pending_events allows no more")
        if self._buffer.unsent_bytes + self._pending_bytes >= self._settings.max_buffer_bytes:
            return BufferFull(f"{self._buffer.unsent_bytes} bytes wait to be sent; max_buffer_bytes allows no more")
        return None

    def _behind(self) -> BufferFull | None:
        """Those who came earlier and wait have the room first."""
        return BufferFull(f"{self.line.events} events wait for room in the buffer") if self.line.events else None

    def _refusal(self, error: NotRecorded, count: int) -> NotRecorded:
        self.refused += count
        return error

    def _take(self, event: Event, *, whole: bool = False, paid: bool = False) -> Event:
        """Fill an event in and queue it."""
        filled = Event(
            event.id or self._mint(),
            event.source or self._settings.service,
            event.type,
            event.subject,
            self._clock.now_us() if event.time_us is None else event.time_us,
            event.data,
        )
        self._queue(filled, encode(filled), claimed=event.id is not None, whole=whole, paid=paid)
        return filled

    def _queue(self, event: Event, body: bytes, *, claimed: bool, whole: bool, paid: bool) -> None:
        """Put an event into the gathering group, also a full one if it must stay `whole`; `claimed`, under its id."""
        seq = self._next_seq
        self._next_seq = seq + 1
        group = self._gathering[-1]
        if len(group.rows) >= self._settings.group_max_events and not whole:
            group = _Group()
            self._gathering.append(group)
            self._hurry.set()
        group.rows.append((seq, body))
        if claimed:
            group.caller_ids.append((seq, event.source or "", event.id or ""))
        if not self.pending:
            self._work.set()
            self._idle.clear()
        self.pending += 1
        self._pending_bytes += len(body)
        self._usage.recorded(seq, event, paid=paid)

    async def _durable(self, first_seq: int) -> set[int]:
        """Wait until the rows from `first_seq` on, which were just taken, are durable; which of them are duplicates."""
        answer: asyncio.Future[set[int]] = asyncio.get_running_loop().create_future()
        self._gathering[-1].waiters.append(_Waiter(first_seq, self._next_seq - 1, answer))
        self._hurry.set()
        return await answer

    async def _gather(self) -> None:
        """Let a group grow while nobody waits for it and the last commit is less than a window ago."""
        self._hurry.clear()
        urgent = self._gathering[0].waiters or len(self._gathering) > 1 or self._flushing
        if self._failing and not self._gathering[0].waiters:
            urgent = False
        if not urgent:
            await wait_for(self._hurry, self._earliest_s - self._clock.monotonic_s(), self._clock)

    def _answer(self, group: _Group, duplicates: set[int]) -> None:
        self.commits += 1
        self.recorded += len(group.rows) - len(duplicates)
        self.duplicates += len(duplicates)
        if duplicates:
            for seq, body in group.rows:
                if seq in duplicates:
                    self._usage.undone(seq, decode(body))
        self.pending -= len(group.rows)
        self._pending_bytes -= sum(len(body) for _, body in group.rows)
        for waiter in group.waiters:
            if not waiter.answer.done():
                waiter.answer.set_result(duplicates)
        self._settle_pending()
        self._stored()

    def _let_go(self, rows: Sequence[Row], *, certain: bool = True) -> None:
        for seq, body in rows:
            self._usage.undone(seq, decode(body), certain=certain)
        self.pending -= len(rows)
        self._pending_bytes -= sum(len(body) for _, body in rows)

    def _settle_pending(self) -> None:
        self.line.move()
        if not self.pending:
            self._work.clear()
            self._idle.set()

    def _groups(self) -> list[_Group]:
        return [self._committing, *self._gathering]


def _stopped() -> AgentStopped:
    return AgentStopped("the agent is stopping, or has stopped: it takes no events")
