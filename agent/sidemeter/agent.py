"""The agent, as the service that it runs in uses it."""

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Final, Self

from sidemeter.buffer import Buffer
from sidemeter.cell import Cell
from sidemeter.clock import Clock, SystemClock
from sidemeter.errors import AgentStopped
from sidemeter.events import Event, Receipt
from sidemeter.limits import Decision, QuotaView
from sidemeter.parts import OpenBuffer, OpenCell, OpenLink, Parts
from sidemeter.reservation import Reserving
from sidemeter.settings import Settings
from sidemeter.state import AgentState
from sidemeter.traces import Traces, traces_of
from sidemeter.uplink import Link

__all__ = ["Agent"]


_LOOKED_AT_ONCE: Final = 500
"""Limits between two turns of the event loop: about a millisecond."""


def _part_left(view: QuotaView) -> Decimal:
    """Of 1 down to 0."""
    return (view.remaining or Decimal(0)) / view.limit if view.limit else Decimal(0)


def _open_link(settings: Settings) -> Link | None:
    """The way to the control plane; None when the settings name none."""
    if settings.control_plane is None:
        return None
    return Link(url=settings.control_plane, timeout_s=settings.request_timeout_s)


class Agent:
    """Records usage durably, forwards it, and decides by limits in memory.

    Use it as an async context manager, from one event loop and its thread. Entering raises DirectoryInUse while another
    agent has the data directory, StorageRefused when the disk does not take the buffer; leaving drains. What opens the
    buffer, the cell and the way to the control plane can be put in, so that a simulation owns disk, memory and network;
    `traces` as well, which by default are what the settings say.

    >>> import asyncio, tempfile
    >>> async def example(directory):
    ...     async with Agent(Settings(service="chat", data_dir=directory)) as agent:
    ...         receipt = await agent.record("llm.completion", "acme", {"tokens": 812}, id="request-7")
    ...         return receipt.durability, (await agent.record("llm.completion", "acme", id="request-7")).duplicate
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     asyncio.run(example(directory))
    ('disk', True)
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        open_buffer: OpenBuffer = Buffer.open,
        open_link: OpenLink = _open_link,
        open_cell: OpenCell = Cell.open,
        traces: Traces | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._open_buffer = open_buffer
        self._open_link = open_link
        self._open_cell = open_cell
        self._traces = traces_of(settings) if traces is None else traces
        self._parts: Parts | None = None

    async def __aenter__(self) -> Self:
        opens = self._open_buffer, self._open_link, self._open_cell
        self._parts = await Parts.start(self._settings, self._clock, *opens, traces=self._traces)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def record(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> Receipt:
        """Record one event, and return once it is on disk.

        An `id` of yours makes a repeat harmless. Raises InvalidInput for what breaks a rule, and NotRecorded
        (BufferFull, StorageRefused, AgentStopped) when nothing was kept, InDoubt when nobody can tell.
        """
        return await self._running.recorder.record(Event.of(type, subject, data, id=id, time=time, source=source))

    async def record_many(self, events: Sequence[Event]) -> list[Receipt]:
        """Record events with one wait for the disk: all or none. One receipt for each, in their order."""
        return await self._running.recorder.record_many(events)

    def record_nowait(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> str:
        """Record one event without waiting for the disk; its id. It counts in `pending` until it is durable."""
        return self._running.recorder.record_nowait(Event.of(type, subject, data, id=id, time=time, source=source))

    @property
    def pending(self) -> int:
        """How many accepted events are not yet on disk."""
        return self._running.recorder.pending

    async def flush(self) -> None:
        """Return once everything accepted is on disk. Raises AgentStopped or InDoubt when a stop came before that."""
        await self._running.recorder.flush()

    def check(self, subject: str, feature: str, quantity: int | Decimal = 1) -> Decision:
        """May `subject` use `quantity` more of `feature`? From memory, in microseconds; a no is an answer.

        Without a control plane there are no limits to decide by: the answer is what the setting `on_unknown` says, by
        default no, with the reason no_control_plane. Raises InvalidInput for a quantity that is not an int or a Decimal
        above 0, or has more than 18 digits before or 9 after the point.
        """
        return self._running.enforcer.check(subject, feature, quantity)

    async def ask(
        self, subject: str, feature: str, quantity: int | Decimal = 1, *, wait_s: float | None = None
    ) -> Decision:
        """`check`, which waits at most `wait_s` (by default the setting `first_check_wait_s`) where that may help: for the
        limits of a subject that is not known yet, or for a grant when this agent's lease is short."""
        return await self._running.enforcer.ask(subject, feature, quantity, wait_s)

    async def consume(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        time: datetime | str | None = None,
        source: str | None = None,
        wait_s: float | None = None,
    ) -> Decision:
        """Check and record as one step: the event is recorded, and `receipt` set, only if every limit allows it.

        It waits as `ask` does.
        """
        return await self.consume_event(Event.of(type, subject, data, id=id, time=time, source=source), wait_s)

    async def consume_event(self, event: Event, wait_s: float | None = None) -> Decision:
        """`consume` for an event that was made already."""
        return await self._running.enforcer.consume(event, wait_s)

    def reserve(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        ttl_s: float = 60.0,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        source: str | None = None,
        wait_s: float | None = None,
    ) -> Reserving:
        """Set aside what an operation may take at most of each leased limit, as the event that it will be: `data` with
        the highest quantities. Await it, or use it as an async context manager; either gives a `Reservation`.

            async with agent.reserve("llm.completion", "acme", {"tokens": 4000}) as hold:
                if hold.allowed:
                    hold.used = {"tokens": 0}
                    async for part in stream:
                        hold.used = {"tokens": part.tokens_so_far}

        At its end what was used is recorded, also when the block is cancelled. After `ttl_s` without an end all of it is
        charged to the limits, and not billed. It waits as `ask` does; raises InvalidInput, and StorageRefused when the
        disk does not keep it.
        """
        return self.reserve_event(Event.of(type, subject, data, id=id, source=source), ttl_s, wait_s)

    def reserve_event(self, event: Event, ttl_s: float, wait_s: float | None = None) -> Reserving:
        """`reserve` for an event that was made already."""
        reserver = self._running.reserver
        return Reserving(lambda: reserver.reserve(event, ttl_s, wait_s))

    async def commit(self, hold_id: str, data: Mapping[str, object] | str | None) -> Receipt | None:
        """`Reservation.commit`, by its id: also after a restart. None if there is no such reservation."""
        return await self._running.reserver.commit(hold_id, data)

    async def release(self, hold_id: str) -> bool:
        """`Reservation.release`, by its id."""
        return await self._running.reserver.release(hold_id)

    async def extend(self, hold_id: str, ttl_s: float) -> bool:
        """`Reservation.extend`, by its id."""
        return await self._running.reserver.extend(hold_id, ttl_s)

    async def learn(self, subject: str, timeout_s: float | None = None) -> bool:
        """Ask the control plane for the limits of `subject` now; whether they are known then.

        Waits at most `timeout_s`, by default the setting `first_check_wait_s`.
        """
        bound_s = self._settings.first_check_wait_s if timeout_s is None else timeout_s
        return await self._running.refresher.learn(subject, bound_s)

    def quotas(self, subject: str) -> tuple[QuotaView, ...] | None:
        """What is known of a subject's limits, by feature; None when it is not known."""
        return self._running.limits.views(subject)

    async def nearest(self, count: int) -> list[QuotaView]:
        """The `count` known limits that are nearest to their end, those first that have the smallest part left."""
        found: list[tuple[Decimal, str, str, QuotaView]] = []
        metered = self._running.limits.metered()
        for first in range(0, len(metered), _LOOKED_AT_ONCE):
            views = [tracked.view() for tracked in metered[first : first + _LOOKED_AT_ONCE]]
            found += [(_part_left(view), view.customer, view.feature, view) for view in views]
            found = heapq.nsmallest(count, found, key=lambda each: each[:3])
            await asyncio.sleep(0)  # whoever records has its turn
        return [view for *_, view in found]

    @property
    def ready(self) -> bool:
        """Whether events are taken now."""
        return self._parts is not None and not self._parts.recorder.stopped

    def status(self) -> AgentState:
        """The agent's figures at this moment."""
        return AgentState(ready=False) if self._parts is None else self._parts.state()

    def stop_waiting(self) -> None:
        """Let nobody wait for room any more: a stop is near. Who does is told that the agent stops."""
        if self._parts is not None:
            self._parts.recorder.line.close(AgentStopped("the agent is stopping: nobody waits for room any more"))

    async def drain(self) -> None:
        """Take no more events, commit what is pending, forward what `drain_s` allows, and close. The rest stays kept.

        Raises InDoubt when the disk does not answer: the directory stays locked until it does, or the process ends.
        """
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.stop()

    @property
    def _running(self) -> "Parts":
        if self._parts is None:
            raise AgentStopped("the agent is not started, or has stopped")
        return self._parts
