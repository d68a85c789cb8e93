"""Forwarding: seal a batch, send it until it is answered, settle it. One batch is under way at any time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from sidemeter.backoff import retrying
from sidemeter.batches import Batch, BatchAnswer, Step, digest_of, encode_events, next_step, seal
from sidemeter.buffer import Buffer, Identity
from sidemeter.clock import Clock, wait_for
from sidemeter.errors import ControlPlaneError
from sidemeter.settings import Settings
from sidemeter.uplink import BatchMessage, Uplink

__all__ = ["Forwarder"]

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
_PURGE_STEPS: Final = 2
"""Batches deleted for each one settled: more than come in, so that a lowered keep rule is reached."""

Join = Callable[[], Awaitable[Identity]]
"""Who the agent is, with an epoch: the hello is said if it has to be."""

Leave = Callable[[bool], Awaitable[None]]
"""Give up the epoch; True when everything that is kept has to be sent again."""


class Forwarder:
    """Sends what the buffer holds to the control plane, in order, each batch until it is counted."""

    def __init__(
        self, buffer: Buffer, uplink: Uplink, settings: Settings, clock: Clock, *, join: Join, leave: Leave
    ) -> None:
        self._buffer = buffer
        self._uplink = uplink
        self._settings = settings
        self._clock = clock
        self._join = join
        self._leave = leave
        self._wake = asyncio.Event()
        self._waiting_since_s: float | None = clock.monotonic_s() if buffer.waiting_events else None
        self._at_once = settings.max_batch_events
        self._under_way: tuple[Batch, bytes] | None = None
        self.connected = False
        self.last_error: str | None = None
        self.sent_events = 0
        self.sent_batches = 0
        self.failed_sends = 0
        self.dead_letters = 0

    def nudge(self) -> None:
        """Rows were stored: wake the loop if that makes a difference to it."""
        if self._waiting_since_s is None and self._buffer.waiting_events:
            self._waiting_since_s = self._clock.monotonic_s()
            self._wake.set()
        elif self._is_full():
            self._wake.set()

    async def forward_once(self) -> None:
        """Wait until a batch is due, then send it for as long as it takes, and do what the answer asks."""
        await self._due()
        answered: tuple[Batch, BatchAnswer] | None = await retrying(self._clock)(self._send)
        if answered is not None:
            await self._act(*answered)

    async def forward_rest(self) -> None:
        """Send everything now. Raises ControlPlaneError at the first attempt that fails."""
        while self._buffer.unsent_events:
            answered = await self._send()
            if answered is not None:
                await self._act(*answered)

    def _is_full(self) -> bool:
        return (
            self._buffer.waiting_events >= self._at_once or self._buffer.waiting_bytes >= self._settings.max_batch_bytes
        )

    async def _due(self) -> None:
        while self._buffer.unsent_events == self._buffer.waiting_events and not self._is_full():
            left_s = _IDLE_S
            if self._waiting_since_s is not None and self._buffer.waiting_events:
                left_s = self._waiting_since_s + self._settings.flush_after_s - self._clock.monotonic_s()
                if left_s <= 0:
                    return
            self._wake.clear()
            await wait_for(self._wake, left_s, self._clock)

    async def _send(self) -> tuple[Batch, BatchAnswer] | None:
        """One attempt: the batch under way, or the next. None: there is nothing to send after all."""
        try:
            identity = await self._join()
            found = await self._next(identity.epoch or 0)
            if found is None:
                return None
            batch, events = self._under_way = found
            backlog = max(self._buffer.unsent_events - batch.events, 0)
            message = BatchMessage.of(
                identity.agent_id, batch, events, backlog=backlog, oldest_pending_us=self._buffer.oldest_us
            )
            answer = await self._uplink.batch(message)
        except ControlPlaneError as exc:
            self.failed_sends += 1
            if str(exc) != self.last_error:
                log.warning("sending is retried: %s", exc)
            self.connected, self.last_error = False, str(exc)
            raise
        self.connected, self.last_error = True, None
        return batch, answer

    async def _next(self, epoch: int) -> tuple[Batch, bytes] | None:
        if self._under_way is not None and self._under_way[0].epoch == epoch:
            return self._under_way
        batch, unsettled = await self._buffer.last_batch()
        if batch is not None and unsettled:
            return await self._again(batch)
        rows = await self._buffer.rows(self._buffer.sealed_seq, 1 << 62, self._at_once)
        if not rows:
            return None
        batch = seal(rows, batch, epoch, max_events=self._at_once, max_bytes=self._settings.max_batch_bytes)
        await self._buffer.seal(batch)
        self._waiting_since_s = self._clock.monotonic_s() if self._buffer.waiting_events else None
        return batch, encode_events([body for _, body in rows[: batch.events]])

    async def _again(self, batch: Batch) -> tuple[Batch, bytes] | None:
        """A batch that was sealed before, by what the buffer holds of it. A retry is byte for byte the same, or none."""
        rows = await self._buffer.rows(batch.first_seq - 1, batch.last_seq + 1, batch.events)
        events = encode_events([body for _, body in rows])
        if digest_of(batch.prev_digest, events) == batch.digest:
            return batch, events
        log.error("batch %d of epoch %d is damaged in the buffer; sealing its rows anew", batch.batch_no, batch.epoch)
        await self._buffer.unseal(batch)
        return None

    async def _act(self, batch: Batch, answer: BatchAnswer) -> None:
        step = next_step(batch, answer)
        if step is not Step.SETTLE:
            log.warning("batch %d of epoch %d: %s, %s", batch.batch_no, batch.epoch, answer.status, answer.reason)
        match step:
            case Step.SETTLE:
                await self._settle(batch, answer)
            case Step.RESEND:
                if not await self._buffer.resend_from(batch.epoch, answer.next_batch_no):
                    await self._leave(True)
            case Step.START_OVER:
                await self._leave(answer.status != "FORK")
            case Step.SPLIT:
                await self._buffer.unseal(batch)
                self._at_once = max(batch.events // 2, 1)
            case Step.SET_ASIDE:
                await self._buffer.set_aside(batch, answer.reason or "refused without a reason")
        self._under_way = None
        self.nudge()

    async def _settle(self, batch: Batch, answer: BatchAnswer) -> None:
        await self._buffer.settle(batch)
        self.sent_batches += 1
        self.sent_events += batch.events
        self.dead_letters += answer.dead_letters
        self._at_once = min(self._at_once * 2, self._settings.max_batch_events)
        for _ in range(_PURGE_STEPS):
            if not await self._buffer.purge(
                keep_s=self._settings.keep_sent_s, keep_bytes=self._settings.keep_sent_bytes
            ):
                break
