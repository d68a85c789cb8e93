"""The parts of a started agent: what it consists of, how they begin, go on beside each other, and end."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from sidemeter.buffer import Buffer
from sidemeter.cell import Cell, candidates
from sidemeter.clock import Clock
from sidemeter.enforce import Enforcer
from sidemeter.errors import AgentStopped, ControlPlaneError, InDoubt, StorageRefused
from sidemeter.forward import Forwarder
from sidemeter.limits import Limits
from sidemeter.presence import Presence
from sidemeter.record import Recorder
from sidemeter.recover import Salvager
from sidemeter.refresh import Refresher
from sidemeter.reserve import Reserver
from sidemeter.settings import Settings
from sidemeter.state import AgentState
from sidemeter.tenure import Tenure
from sidemeter.traced import TracedRecorder
from sidemeter.traces import NO_TRACES, Traces
from sidemeter.uplink import Link, Uplink
from sidemeter.version import VERSION

__all__ = ["OpenBuffer", "OpenCell", "OpenLink", "Parts"]

log = logging.getLogger(__name__)

OpenBuffer = Callable[[Path, Clock], Awaitable[Buffer]]
OpenLink = Callable[[Settings], Link | None]
OpenCell = Callable[[Sequence[Path], str], Cell]

_AFTER_A_FAULT_S: Final = 1.0
_TEND_EVERY_S: Final = 1.0
"""How soon a disk that has room again, or a directory that went away, is noticed when nothing is recorded; and how far
the mark on the disk may be behind the buffer, should the power fail."""

_LAST_COMMIT_S: Final = 5.0
"""What a stop gives the disk at least, however short `drain_s` is: what is in memory is lost with the process."""

_LET_GO_S: Final = 1.0
"""What a stop gives the disk to close the buffer, when that time is over: one that hangs may do so for ever."""

_GIVE_BACK_S: Final = 2.0
"""What a stop gives the last sync at most: what is not returned then is there after a restart."""


class Parts:
    """Everything that a started agent consists of."""

    def __init__(
        self,
        buffer: Buffer,
        link: Link | None,
        settings: Settings,
        clock: Clock,
        open_cell: OpenCell,
        *,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._link = link
        self._loops: list[asyncio.Task[None]] = []
        self.buffer = buffer
        reason = "no_control_plane" if link is None else "unknown_subject"
        self.limits = Limits(allow_unknown=settings.on_unknown == "allow", unknown_reason=reason)
        directory, cells = buffer.directory.resolve(), _cell_directories(settings)
        self.tenure = Tenure(
            self.limits, clock, lambda name: open_cell(cells, name), lambda: (directory, buffer.file_id)
        )
        self.recorder = _recorder(
            buffer, self.limits, settings, clock, self._nudge, keep=self.tenure.keep_changed, traces=traces
        )
        self.salvager = Salvager(buffer, clock, self.recorder.requeue)
        uplink = Uplink(link, api_key=settings.api_key or "", compress=settings.compress) if link else None
        self.presence = Presence(
            buffer,
            uplink,
            settings,
            clock,
            version=VERSION,
            tenure=self.tenure,
            changed=self._send_anew,
            forget=self.limits.forget_all,
        )
        self.refresher = Refresher(
            buffer,
            uplink,
            settings,
            clock,
            presence=self.presence,
            limits=self.limits,
            tenure=self.tenure,
            pending_rows=self.recorder.pending_rows,
        )
        self.forwarder = Forwarder(buffer, uplink, settings, clock, self.presence, traces=traces) if uplink else None
        self.enforcer = Enforcer(
            self.limits,
            settings,
            clock,
            admit=self.recorder.admit,
            record=self.recorder.record_admitted,
            holds=self.recorder.holds,
            learn=self.refresher.learn,
            turn=self.refresher.turn,
            keep=self.tenure.keep,
            hurry=self.refresher.hurry,
        )

        self.reserver = Reserver(
            buffer,
            settings,
            clock,
            recorder=self.recorder,
            enforcer=self.enforcer,
            limits=self.limits,
            tenure=self.tenure,
        )

    @classmethod
    async def start(
        cls,
        settings: Settings,
        clock: Clock,
        open_buffer: OpenBuffer,
        open_link: OpenLink,
        open_cell: OpenCell,
        *,
        traces: Traces = NO_TRACES,
    ) -> Self:
        """Open what they stand on, go on from what was kept, and begin their loops. Raises as `Agent` says."""
        async with AsyncExitStack() as opened:
            buffer = await open_buffer(settings.data_dir, clock)
            opened.push_async_callback(buffer.close)
            link = open_link(settings)
            if link is not None:
                opened.push_async_callback(link.close)
            parts = cls(buffer, link, settings, clock, open_cell, traces=traces)
            opened.callback(parts.tenure.close)
            await parts.restore()
            opened.pop_all()
        parts.run(parts.recorder.commit_once)
        parts.run(parts.tend_once)
        parts.run(parts.salvager.salvage_once)
        parts.run(parts.recorder.line.expire_once)
        if parts.forwarder is not None:
            parts.run(parts.forward_once)
            parts.run(parts.refresher.sync_once)
        return parts

    async def restore(self) -> None:
        """Go on from what the buffer holds; from a new one, if it turns out to be damaged only now."""
        while True:
            rebuilds = self.buffer.rebuilds
            try:
                await self.presence.restore()
                await self.refresher.restore()
                await self.reserver.restore()
            except StorageRefused:
                if self.buffer.rebuilds == rebuilds:
                    raise
            else:
                return

    def run(self, once: Callable[[], Awaitable[None]]) -> None:
        """Do it again and again from now on."""
        self._loops.append(asyncio.create_task(self._loop(once), name=once.__qualname__))

    async def forward_once(self) -> None:
        """Forward a batch; who waits for the room of those counted has its turn."""
        if self.forwarder is not None:
            await self.forwarder.forward_once()
            self.recorder.line.move()

    async def tend_once(self) -> None:
        """Wait, then look after the disk."""
        await self._clock.sleep(_TEND_EVERY_S)
        await self.buffer.tend()

    async def _loop(self, once: Callable[[], Awaitable[None]]) -> None:
        """The one loop. What escapes `once` is a fault of ours or of the disk: say so, and go on."""
        while True:
            try:
                await once()
                continue
            except StorageRefused as exc:
                log.warning("%s waits for the disk: %s", once.__qualname__, exc)
            except Exception:  # a loop that ends would stop the agent in silence
                log.exception("%s failed and goes on", once.__qualname__)
            await self._clock.sleep(_AFTER_A_FAULT_S)

    async def stop(self) -> None:
        """Take no more, send and return what is here, and close everything, each in its time."""
        if self.tenure.holder is not None:
            self.tenure.holder.stop()
        await self.reserver.finish(self._settings.drain_s)
        self.recorder.stop()
        _, _, *others = self._loops  # who commits and who looks after the disk are needed until the last commit
        ends_s = self._clock.monotonic_s() + max(self._settings.drain_s, _LAST_COMMIT_S)
        try:
            await self._finish(others)
        finally:
            self.buffer.look_no_more()
            closing = asyncio.create_task(self._close())
            await asyncio.wait([closing], timeout=max(ends_s - self._clock.monotonic_s(), _LET_GO_S))
            if not closing.done():
                await self._abandon(closing)
            await closing

    async def _close(self) -> None:
        await self.recorder.give_up(AgentStopped("the agent stopped before the disk took this"))
        await self._end_loops()
        self.tenure.close()
        await self.buffer.close()

    async def _abandon(self, closing: asyncio.Task[None]) -> None:
        """Leave a disk that hangs to itself: whoever waits for it is told, and it is closed when it answers."""
        self.recorder.abandon()
        await self._end_loops()
        closing.add_done_callback(_tell)
        raise InDoubt("the disk does not answer: what it was given last is kept or not")

    async def _end_loops(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.wait(self._loops)
        if self._link is not None:
            await self._link.close()

    async def _finish(self, others: list[asyncio.Task[None]]) -> None:
        for loop in others:
            loop.cancel()
        if others:
            await asyncio.wait(others)
        await self.refresher.stop()
        try:
            async with asyncio.timeout(max(self._settings.drain_s, _LAST_COMMIT_S)):
                await self.recorder.flush()
        except TimeoutError:
            log.error("the disk did not take %d accepted events before the stop", self.recorder.pending)  # noqa: TRY400 -- there is nothing to trace
        if self.forwarder is None:
            return
        await self.refresher.give_back(min(self._settings.drain_s, _GIVE_BACK_S))
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self.forwarder.forward_rest()
        except (TimeoutError, ControlPlaneError, StorageRefused) as exc:
            log.warning("%d events stay in the buffer: %s %s", self.buffer.unsent_events, type(exc).__name__, exc)

    def _nudge(self) -> None:
        if self.forwarder is not None:
            self.forwarder.nudge()

    def _send_anew(self) -> None:
        if self.forwarder is not None:
            self.forwarder.restart()

    def _is_connected(self) -> bool:
        """By the last batch and the last sync: one that has nothing to send still asks for limits."""
        if self.forwarder is None or self.forwarder.last_error is not None:
            return False
        return self.forwarder.connected if self.refresher.answered is None else self.refresher.answered

    def state(self) -> AgentState:
        """The figures of all of them now."""
        buffer, recorder, enforcer, forwarder = self.buffer, self.recorder, self.enforcer, self.forwarder
        leases = self.tenure.leases
        return AgentState(
            ready=not recorder.stopped,
            connected=self._is_connected(),
            epoch=self.presence.epoch or 0,
            pending_events=recorder.pending,
            backlog_events=buffer.unsent_events,
            oldest_backlog_us=buffer.oldest_us or 0,
            buffer_bytes=buffer.size_bytes,
            ballast_bytes=buffer.ballast_bytes,
            disk_refusing=buffer.disk_refusing,
            set_aside_events=buffer.refused_events,
            open_losses=buffer.open_losses,
            lost_events=buffer.lost_events,
            salvaged_events=self.salvager.salvaged_events,
            rebuilds=buffer.rebuilds,
            leases=len(leases),
            leases_with_rest=sum(lease.free > 0 for lease in leases),
            leases_in_doubt=sum(lease.free > 0 for holder in self.tenure.lost for lease in holder.leases),
            lost_holders=len(self.tenure.lost),
            open_reservations=self.reserver.open_holds,
            reservations_in_doubt=self.reserver.in_doubt,
            recorded_events=recorder.recorded,
            duplicate_events=recorder.duplicates,
            refused_events=recorder.refused,
            commits=recorder.commits,
            sent_events=forwarder.sent_events if forwarder else 0,
            sent_batches=forwarder.sent_batches if forwarder else 0,
            failed_sends=forwarder.failed_sends if forwarder else 0,
            dead_letters=forwarder.dead_letters if forwarder else 0,
            paced_seconds=forwarder.paced_s if forwarder else 0.0,
            resends=self.presence.resends,
            new_names=self.presence.new_names,
            checks=enforcer.checks,
            denials=self.limits.denials.total,
            denied=dict(self.limits.denials.by_reason),
        )


def _recorder(
    buffer: Buffer,
    limits: Limits,
    settings: Settings,
    clock: Clock,
    stored: Callable[[], None],
    *,
    keep: Callable[[], None],
    traces: Traces,
) -> Recorder:
    if traces.enabled:
        return TracedRecorder(buffer, limits, settings, clock, stored, keep=keep, traces=traces)
    return Recorder(buffer, limits, settings, clock, stored, keep=keep)


def _cell_directories(settings: Settings) -> list[Path]:
    return [settings.cell_dir] if settings.cell_dir is not None else candidates(os.environ.items())


def _tell(closing: asyncio.Task[None]) -> None:
    """A disk that hung has answered after all, or the process ends."""
    if not closing.cancelled() and (exc := closing.exception()) is not None:
        log.error("the buffer was closed late: %s", exc)
