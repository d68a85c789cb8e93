"""Refreshing: learn the limits of the subjects that are active here, and what the control plane has counted."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidemeter.backoff import retrying
from sidemeter.batches import Row, Step, after_sync
from sidemeter.buffer import Buffer, Standing
from sidemeter.clock import Clock, wait_for
from sidemeter.errors import ControlPlaneError, StorageRefused, Unreachable
from sidemeter.events import Event, decode
from sidemeter.limits import Limits, Missed
from sidemeter.presence import Presence
from sidemeter.settings import Settings
from sidemeter.uplink import Seen, Sync, SyncAnswer, Uplink

__all__ = ["MAX_SUBJECTS_PER_SYNC", "Refresher"]

log = logging.getLogger(__name__)

MAX_SUBJECTS_PER_SYNC: Final = 200
"""A sync comes every second from every agent, and the control plane works out each subject's totals for it."""
_ROWS_AT_ONCE: Final = 1000
_SYNC_ID_BYTES: Final = 8

PendingRows = Callable[[], tuple[int, list[Row]]]
"""The first row that may not be durable yet, and all rows from there on."""


class Refresher:
    """Keeps the agent's limits up to date."""

    def __init__(
        self,
        buffer: Buffer,
        uplink: Uplink | None,
        settings: Settings,
        clock: Clock,
        *,
        presence: Presence,
        limits: Limits,
        pending_rows: PendingRows,
    ) -> None:
        self._buffer = buffer
        self._uplink = uplink
        self._presence = presence
        self._limits = limits
        self._pending_rows = pending_rows
        self._settings = settings
        self._clock = clock
        self._syncing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._interval_s = 0.0
        self._sync_seq = 0
        self._sync_id = clock.token_hex(_SYNC_ID_BYTES)
        self._state_version = 0

    async def restore(self) -> None:
        """Go on from the last known limits, with own usage counted anew from the buffer's rows."""
        subjects, limits = await self._buffer.kept_limits()
        await self._recount(self._limits.learn(subjects, limits))
        self._limits.publish(subjects)

    def hurry(self) -> None:
        """A subject turned up whose limits are not known: sync now."""
        self._wake.set()

    async def sync_once(self) -> None:
        """Wait for the next sync, and repeat it until it is answered."""
        await wait_for(self._wake, self._interval_s, self._clock)
        self._wake.clear()
        await retrying(self._clock)(self._sync)

    async def learn(self, subject: str, timeout_s: float) -> bool:
        """Learn the limits of `subject` now, within `timeout_s`; whether they are known then."""
        self._limits.see(subject)
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(2):  # a sync under way may have been asked before the subject turned up
                    if not self._limits.knows(subject):
                        await self._sync(subject)
        except (TimeoutError, ControlPlaneError, StorageRefused) as exc:
            log.debug("the limits of %s are not known: %s", subject, exc)
        return self._limits.knows(subject)

    async def stop(self) -> None:
        """End the sync under way, if there is one."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])

    async def _sync(self, first: str | None = None) -> None:
        """Join the sync under way, or start one. It goes on when a caller stops waiting: half of one counts wrong."""
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync_now(first))
        await asyncio.shield(self._syncing)

    async def _sync_now(self, first: str | None) -> None:
        joined = await self._presence.join()
        if self._uplink is None:
            raise Unreachable("there is no control plane")
        settled, _ = await self._buffer.batch_nos(joined.epoch)
        self._sync_seq += 1
        answer = await self._uplink.sync(
            Sync(
                agent_id=joined.agent_id,
                epoch=joined.epoch,
                sync_seq=self._sync_seq,
                nonce=joined.nonce,
                seen=Seen(joined.generation, self._state_version) if joined.generation else None,
                subjects=tuple(self._limits.to_ask(MAX_SUBJECTS_PER_SYNC, first)),
                leases=(),
                backlog=self._buffer.unsent_events,
                oldest_pending_us=self._buffer.oldest_us,
                sync_id=self._sync_id,
                settled_batch_no=settled,
            )
        )
        self._sync_id = self._clock.token_hex(_SYNC_ID_BYTES)  # asked again without an answer, it is the same sync
        step = after_sync(answer.status, answer.counted_batch_no, settled=settled)
        if answer.status == "OK" and answer.generation != joined.generation:
            await self._presence.introduce(joined)
            raise Unreachable("the control plane's database is another copy now")
        if step is Step.GO_ON:
            await self._learn(answer, joined.epoch)
            return
        if step is Step.RESEND:
            await self._presence.resend(joined, answer.counted_batch_no + 1)
        else:
            await self._presence.leave(joined, step)
        raise Unreachable(f"the control plane knows this agent differently: {answer.status}")

    async def _learn(self, answer: SyncAnswer, epoch: int) -> None:
        self._interval_s = max(self._settings.sync_interval_s, answer.next_sync_ms / 1000)
        standing = Standing(epoch, answer.generation, answer.nonce)
        if self._buffer.salvaging:  # own usage is not all here yet: no limit may be learned with less
            await self._presence.keep({}, (), standing)
            return
        self._state_version = answer.state_version
        counted_seq = await self._buffer.counted_seq(epoch, answer.counted_batch_no)
        learned = [(limit, answer.as_of_us, counted_seq) for limit in answer.limits]
        await self._recount(self._limits.learn(answer.subjects, learned))
        self._limits.publish(answer.subjects)
        try:
            await self._presence.keep(answer.subjects, learned, standing)
        except StorageRefused as exc:
            log.warning("limits are known, but not kept for a restart: %s", exc)

    async def _recount(self, missed: Missed) -> None:
        """Count own rows that were recorded before their limit was watched; nothing may await before this begins."""
        if not missed:
            return
        try:
            before_seq, pending = self._pending_rows()
            self._limits.recount(missed, _events(pending))
            after_seq = min(tracked.counted_seq for each in missed.values() for tracked in each)
            while rows := await self._buffer.rows(after_seq, before_seq, _ROWS_AT_ONCE):
                self._limits.recount(missed, _events(rows))
                after_seq = rows[-1][0]
        except BaseException:
            self._limits.unlearn(missed)
            raise


def _events(rows: list[Row]) -> list[tuple[int, Event]]:
    return [(seq, decode(body)) for seq, body in rows]
