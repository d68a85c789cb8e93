"""Refreshing: say hello, and learn the limits of the subjects that are active here."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidemeter.backoff import retrying
from sidemeter.batches import Row
from sidemeter.buffer import Buffer, Identity
from sidemeter.clock import Clock, wait_for
from sidemeter.errors import ControlPlaneError, StorageRefused, Unreachable
from sidemeter.events import Event, decode
from sidemeter.limits import Limits, Missed
from sidemeter.settings import Settings
from sidemeter.uplink import Hello, Seen, Sync, Uplink

__all__ = ["MAX_SUBJECTS_PER_SYNC", "Refresher"]

log = logging.getLogger(__name__)

MAX_SUBJECTS_PER_SYNC: Final = 200
"""A sync comes every second from every agent, and the control plane works out each subject's totals for it."""
_ROWS_AT_ONCE: Final = 1000

PendingRows = Callable[[], tuple[int, list[Row]]]
"""The first row that may not be durable yet, and all rows from there on."""


class Refresher:
    """Keeps the agent's epoch and its limits up to date. `left` is called when an epoch was given up."""

    def __init__(
        self,
        buffer: Buffer,
        uplink: Uplink | None,
        settings: Settings,
        clock: Clock,
        *,
        limits: Limits,
        pending_rows: PendingRows,
        left: Callable[[], None],
        version: str,
    ) -> None:
        self._buffer = buffer
        self._uplink = uplink
        self._limits = limits
        self._pending_rows = pending_rows
        self._settings = settings
        self._clock = clock
        self._left = left
        self._version = version
        self._boot_id = clock.token_hex(16)
        self._joining = asyncio.Lock()
        self._identity: Identity | None = None
        self._previous_epoch: int | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._interval_s = 0.0
        self._sync_seq = 0
        self._seen: Seen | None = None

    @property
    def epoch(self) -> int | None:
        """The agent's epoch; None before the first contact."""
        return self._identity.epoch if self._identity else None

    async def restore(self) -> None:
        """Go on from the last known limits, with own usage counted anew from the buffer's rows."""
        self._identity = await self._buffer.identity(self._clock.token_hex(16), self._clock.token_hex(16))
        subjects, limits = await self._buffer.kept_limits()
        await self._recount(self._limits.learn(subjects, limits))
        self._limits.publish(subjects)

    async def join(self) -> Identity:
        """Who this agent is, with an epoch. Says hello if there is none yet; raises ControlPlaneError without answer."""
        async with self._joining:
            identity = self._identity
            if identity is None or self._uplink is None:
                raise Unreachable("there is no control plane")
            if identity.epoch is None:
                hello = Hello(
                    agent_id=identity.agent_id,
                    hello_id=identity.hello_id,
                    boot_id=self._boot_id,
                    previous_epoch=self._previous_epoch,
                    service=self._settings.service,
                    version=self._version,
                )
                answer = await self._uplink.hello(hello)
                identity = self._identity = await self._buffer.set_epoch(answer.epoch)
            return identity

    async def leave(self, everything: bool) -> None:
        """Give up the epoch. With `everything`, all that is kept is sent again, so no total known holds it for sure."""
        async with self._joining:
            self._previous_epoch = self.epoch
            self._identity = await self._buffer.start_over(self._clock.token_hex(16), everything=everything)
            if everything:
                self._limits.forget_all()
        self._left()

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
        identity = await self.join()
        if self._uplink is None or identity.epoch is None:
            raise Unreachable("there is no control plane")
        self._sync_seq += 1
        answer = await self._uplink.sync(
            Sync(
                agent_id=identity.agent_id,
                epoch=identity.epoch,
                sync_seq=self._sync_seq,
                nonce=None,
                seen=self._seen,
                subjects=tuple(self._limits.to_ask(MAX_SUBJECTS_PER_SYNC, first)),
                leases=(),
                backlog=self._buffer.unsent_events,
                oldest_pending_us=self._buffer.oldest_us,
            )
        )
        if answer.status == "UNKNOWN_EPOCH":
            if self._identity is identity:
                await self.leave(True)
            raise Unreachable("the control plane does not know this epoch")
        self._seen = Seen(answer.generation, answer.state_version)
        self._interval_s = max(self._settings.sync_interval_s, answer.next_sync_ms / 1000)
        counted_seq = await self._buffer.counted_seq(identity.epoch, answer.counted_batch_no)
        learned = [(limit, answer.as_of_us, counted_seq) for limit in answer.limits]
        await self._recount(self._limits.learn(answer.subjects, learned))
        self._limits.publish(answer.subjects)
        try:
            await self._buffer.keep_limits(answer.subjects, learned)
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
