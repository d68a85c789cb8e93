"""Forwarding: seal a batch, send it until it is answered, settle it. One batch is under way at any time."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from sidemeter.backoff import retrying
from sidemeter.batches import (
    Batch,
    BatchAnswer,
    Step,
    digest_of,
    encode_events,
    letter_of,
    next_step,
    seal,
    sealed_as_letter,
)
from sidemeter.buffer import Buffer
from sidemeter.clock import Clock, wait_for
from sidemeter.errors import ControlPlaneError
from sidemeter.presence import Joined, Presence
from sidemeter.settings import Settings
from sidemeter.traces import NO_TRACES, Traces
from sidemeter.uplink import MAX_RETRY_AFTER_S, BatchMessage, Uplink

__all__ = ["Forwarder"]

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
_PURGE_STEPS: Final = 2
"""Batches deleted for each one settled: more than come in, so that a lowered keep rule is reached."""

_MAX_REASON: Final = 256
"""Characters of the reason that a letter carries."""


@dataclass(frozen=True, slots=True)
class _Sending:
    """A batch under way, with the bytes that it was sealed with."""

    batch: Batch
    events: bytes
    as_letter: bool = False


class Forwarder:
    """Sends what the buffer holds to the control plane, in order, each batch until it is counted."""

    def __init__(
        self,
        buffer: Buffer,
        uplink: Uplink,
        settings: Settings,
        clock: Clock,
        presence: Presence,
        *,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._buffer = buffer
        self._uplink = uplink
        self._settings = settings
        self._clock = clock
        self._presence = presence
        self._traces = traces
        self._wake = asyncio.Event()
        self._waiting_since_s: float | None = clock.monotonic_s() if buffer.waiting_events else None
        self._max_events = self._at_once = settings.max_batch_events
        self._max_bytes = settings.max_batch_bytes
        self._not_before_s = 0.0
        self._under_way: _Sending | None = None
        self.connected = False
        self.last_error: str | None = None
        self.sent_events = 0
        self.sent_batches = 0
        self.failed_sends = 0
        self.dead_letters = 0
        self.paced_s = 0.0

    def nudge(self) -> None:
        """Rows were stored: wake the loop if that makes a difference to it."""
        if self._waiting_since_s is None and self._buffer.waiting_events:
            self._waiting_since_s = self._clock.monotonic_s()
            self._wake.set()
        elif self._is_full():
            self._wake.set()

    def restart(self) -> None:
        """What has to be sent is not what it was: look again, at once."""
        self._under_way = None
        if self._buffer.waiting_events and self._waiting_since_s is None:
            self._waiting_since_s = self._clock.monotonic_s()
        self._wake.set()

    async def forward_once(self) -> None:
        """Wait until a batch is due, then send it for as long as it takes, and do what the answer asks."""
        await self._due()
        await self._turn()
        answered: _Answered | None = await retrying(self._clock)(self._send)
        if answered is not None:
            await self._act(*answered)

    async def forward_rest(self) -> None:
        """Send everything now, as fast as the control plane takes it. Raises ControlPlaneError at the first failure."""
        while self._buffer.unsent_events:
            await self._turn()
            answered = await self._send()
            if answered is not None:
                await self._act(*answered)

    def _is_full(self) -> bool:
        return self._buffer.waiting_events >= self._at_once or self._buffer.waiting_bytes >= self._max_bytes

    async def _due(self) -> None:
        while self._buffer.unsent_events == self._buffer.waiting_events and not self._is_full():
            left_s = _IDLE_S
            if not self._buffer.waiting_events:  # what waited may have gone with a damaged file
                self._waiting_since_s = None
            elif self._waiting_since_s is not None:
                left_s = self._waiting_since_s + self._settings.flush_after_s - self._clock.monotonic_s()
                if left_s <= 0:
                    return
            self._wake.clear()
            await wait_for(self._wake, left_s, self._clock)

    async def _turn(self) -> None:
        """Wait until it is this agent's turn, as the last answer said."""
        left_s = self._not_before_s - self._clock.monotonic_s()
        if left_s > 0:
            self.paced_s += left_s
            await self._clock.sleep(left_s)

    async def _send(self) -> "_Answered | None":
        """One attempt: the batch under way, or the next. None: there is nothing to send after all."""
        about: dict[str, str | int] = {}
        try:
            rebuilds = self._buffer.rebuilds
            joined = await self._presence.join()
            sending = await self._next(joined, rebuilds)
            if sending is None:
                return None
            self._under_way = sending
            self._presence.stepped()
            about = _about(joined.agent_id, sending.batch)
            message = BatchMessage.of(
                joined.agent_id,
                sending.batch,
                sending.events,
                backlog=max(self._buffer.unsent_events - sending.batch.events, 0),
                oldest_pending_us=self._buffer.oldest_us,
                generation=joined.generation,
            )
            with self._traces.sending(joined.agent_id, sending.batch) as headers:
                answer = await self._uplink.batch(message, sending.batch.events, headers)
        except ControlPlaneError as exc:
            self.failed_sends += 1
            if str(exc) != self.last_error:
                log.warning("sending is retried: %s", exc, extra=about)
            self.connected, self.last_error = False, str(exc)
            raise
        self.connected, self.last_error = True, None
        return joined, sending, answer

    async def _next(self, joined: Joined, rebuilds: int) -> _Sending | None:
        self._max_events = min(self._settings.max_batch_events, max(joined.max_batch_events, 1))
        self._max_bytes = min(self._settings.max_batch_bytes, joined.max_batch_bytes)
        self._at_once = min(self._at_once, self._max_events)
        if self._under_way is not None and self._under_way.batch.epoch == joined.epoch:
            return self._under_way
        batch, unsettled = await self._buffer.last_batch()
        if batch is not None and unsettled:
            return await self._again(batch)
        rows = await self._buffer.waiting_rows(self._at_once)
        if not rows:
            return None
        batch = seal(rows, batch, joined.epoch, max_events=self._at_once, max_bytes=self._max_bytes)
        with self._traces.sealing(batch):
            await self._buffer.seal(batch, rebuilds)
        self._waiting_since_s = self._clock.monotonic_s() if self._buffer.waiting_events else None
        return _Sending(batch, encode_events([body for _, body in rows[: batch.events]]))

    async def _again(self, batch: Batch) -> _Sending | None:
        """A batch that was sealed before, by what the buffer holds of it. A retry is byte for byte the same, or none."""
        rows = await self._buffer.sealed_rows(batch)
        if rows is None:
            return None
        events = encode_events([body for _, body in rows])
        if digest_of(batch.prev_digest, events) == batch.digest:
            return _Sending(batch, events)
        letter = letter_of(rows[0][1], await self._buffer.letter_reason()) if len(rows) == 1 else b""
        if digest_of(batch.prev_digest, letter) == batch.digest:
            return _Sending(batch, letter, as_letter=True)
        await self._buffer.give_up(f"batch {batch.batch_no} of epoch {batch.epoch} does not match its rows")
        return None

    async def _act(self, joined: Joined, sending: _Sending, answer: BatchAnswer) -> None:
        batch = sending.batch
        step = next_step(batch, answer, as_letter=sending.as_letter)
        if step not in {Step.SETTLE, Step.AGAIN}:
            log.warning(
                "batch %d of epoch %d: %s, %s",
                batch.batch_no,
                batch.epoch,
                answer.status,
                answer.reason,
                extra=_about(joined.agent_id, batch),
            )
        if step is not Step.AGAIN:
            self._under_way = None
        match step:
            case Step.SETTLE:
                await self._settle(batch, answer)
            case Step.RESEND:
                await self._presence.resend(joined, answer.next_batch_no)
            case Step.SPLIT:
                await self._buffer.unseal(batch)
                self._at_once = max(batch.events // 2, 1)
            case Step.LETTER:
                reason = (answer.reason or "refused without a reason")[:_MAX_REASON]
                await self._seal_letter(batch, reason)
            case Step.SET_ASIDE:
                await self._buffer.set_aside(batch, answer.reason or "refused without a reason")
            case Step.NEW_NAME | Step.START_OVER:
                await self._presence.leave(joined, step)
        self._not_before_s = self._clock.monotonic_s() + min(answer.wait_ms / 1000, MAX_RETRY_AFTER_S)
        self.nudge()

    async def _seal_letter(self, batch: Batch, reason: str) -> None:
        for _, body in await self._buffer.sealed_rows(batch) or ():
            await self._buffer.seal_letter(sealed_as_letter(batch, letter_of(body, reason)), reason)

    async def _settle(self, batch: Batch, answer: BatchAnswer) -> None:
        await self._buffer.settle(batch)
        self.sent_batches += 1
        self.sent_events += batch.events
        self.dead_letters += answer.dead_letters
        self._at_once = min(self._at_once * 2, self._max_events)
        for _ in range(_PURGE_STEPS):
            if not await self._buffer.purge(
                keep_s=self._settings.keep_sent_s, keep_bytes=self._settings.keep_sent_bytes
            ):
                break


def _about(agent_id: str, batch: Batch) -> dict[str, str | int]:
    """What a line of log is about; the control plane names it the same."""
    return {"agent_id": agent_id, "epoch": batch.epoch, "batch_no": batch.batch_no}


_Answered = tuple[Joined, _Sending, BatchAnswer]
