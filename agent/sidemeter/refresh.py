"""Refreshing: learn the limits of the subjects that are active here and what the control plane has counted, tell it what
is used of leases, and take what it grants."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidemeter.backoff import retrying
from sidemeter.batches import Row, Step, after_sync
from sidemeter.buffer import Buffer, Standing, StoredLimit
from sidemeter.clock import Clock, wait_for
from sidemeter.denials import Denied
from sidemeter.errors import ControlPlaneError, StorageRefused, Unreachable
from sidemeter.events import Event, decode
from sidemeter.holder import Heard, Holder
from sidemeter.limits import Limit, Limits, Missed
from sidemeter.presence import Joined, Presence
from sidemeter.settings import Settings
from sidemeter.tenure import Tenure
from sidemeter.uplink import Seen, Sync, SyncAnswer, Uplink

__all__ = ["MAX_SUBJECTS_PER_SYNC", "Refresher"]

log = logging.getLogger(__name__)

MAX_SUBJECTS_PER_SYNC: Final = 200
"""A sync comes every second from every agent, and the control plane works out each subject's totals for it."""
_ROWS_AT_ONCE: Final = 1000

HURRIES_AFTER_S: Final = 0.02
"""Between two syncs, however many callers wait for a grant."""

LONGEST_S: Final = 10.0
"""Between two tries while the control plane is away. Of an agent that it hears from every second this is no load, and a
database that was restored grants nothing until it has heard from all of them."""

PendingRows = Callable[[], tuple[int, list[Row]]]
"""The first row that may not be durable yet, and all rows from there on."""


class Refresher:
    """Keeps the agent's limits and leases up to date. `answered`: the last sync was; None before the first one's end."""

    def __init__(
        self,
        buffer: Buffer,
        uplink: Uplink | None,
        settings: Settings,
        clock: Clock,
        *,
        presence: Presence,
        limits: Limits,
        tenure: Tenure,
        pending_rows: PendingRows,
    ) -> None:
        self._buffer = buffer
        self._uplink = uplink
        self._presence = presence
        self._limits = limits
        self._tenure = tenure
        self._pending_rows = pending_rows
        self._settings = settings
        self._clock = clock
        self._syncing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._turned = asyncio.Event()
        self._synced_s = clock.monotonic_s() - HURRIES_AFTER_S
        self._interval_s = 0.0
        self._sync_seq = 0
        self._heard = False
        self.answered: bool | None = None

    async def restore(self) -> None:
        """Go on from the last known limits, with own usage counted anew from the buffer's rows."""
        subjects, limits = await self._buffer.kept_limits()
        await self._recount(self._limits.learn(subjects, limits))
        self._limits.publish(subjects)
        self._tenure.keep_changed()

    def hurry(self) -> None:
        """A subject turned up whose limits are not known, or a lease is short: sync now."""
        self._wake.set()

    async def sync_once(self) -> None:
        """Wait for the next sync, and repeat it until it is answered."""
        await wait_for(self._wake, self._interval_s, self._clock)
        ready_s = self._synced_s + HURRIES_AFTER_S - self._clock.monotonic_s()
        if ready_s > 0:
            await self._clock.sleep(ready_s)
        self._wake.clear()
        await retrying(self._clock, LONGEST_S)(self._sync)

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

    async def turn(self, timeout_s: float) -> bool:
        """Wait for the next answer, which may bring a grant. False at once while the control plane is away."""
        is_away = self.answered is False or self._uplink is None
        return not is_away and await wait_for(self._turned, timeout_s, self._clock) and self.answered is True

    async def give_back(self, timeout_s: float) -> None:
        """Return what is free of every lease: the last sync of a stop. What is not returned is there after a restart."""
        holder = self._tenure.holder
        if holder is None or not self._tenure.holds:
            return
        holder.stop()
        if timeout_s <= 0:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._sync()
                if any(lease.free > 0 or lease.counts != lease.told for lease in holder.leases):
                    await self._sync()
        except (TimeoutError, ControlPlaneError, StorageRefused) as exc:
            log.warning("what is left of leases is not returned before the next start: %s %s", type(exc).__name__, exc)
        await self.stop()

    async def stop(self) -> None:
        """End the sync under way, if there is one."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])

    async def _sync(self, first: str | None = None) -> None:
        """Join the sync under way, or start one. It goes on when a caller stops waiting: half of one counts wrong."""
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync_now(first))
            self._syncing.add_done_callback(_heed)
        await asyncio.shield(self._syncing)

    async def _sync_now(self, first: str | None) -> None:
        self._synced_s = self._clock.monotonic_s()
        self._heard = False
        try:
            await self._ask(await self._presence.join(), first)
            for holder in tuple(self._tenure.lost):
                await self._tell(holder)
        finally:
            self.answered = self._heard
            self._turned.set()
            self._turned = asyncio.Event()

    async def _ask(self, joined: Joined, first: str | None) -> None:
        """One sync of the present epoch: its limits, and its leases."""
        holder = self._presence.holder(joined)
        settled, _ = await self._buffer.batch_nos(joined.epoch)
        subjects = tuple(self._limits.to_ask(MAX_SUBJECTS_PER_SYNC, first))
        sync_id = holder.head.sync_id
        denied = self._limits.denials.to_tell()
        answer = await self._exchange(holder, subjects, settled, denied)
        self._heard = True
        step = after_sync(answer.status, answer.counted_batch_no, settled=settled)
        if answer.status in {"OK", "RECOVERING"} and answer.generation != joined.generation:
            await self._presence.introduce(joined)
            self._limits.denials.tell_anew()
            raise Unreachable("the control plane's database is another copy now")
        heard = self._tenure.hear(holder, answer.of_leases(sync_id))
        if step is Step.GO_ON:
            self._limits.denials.told(denied)
            await self._learn(answer, holder, heard)
            if holder is self._tenure.holder and any(_is_behind(limit, holder) for limit in answer.limits):
                await self._presence.begin_anew(joined)
                raise Unreachable("a limit counts in an earlier period again: its lease is of another epoch")
            return
        if step is Step.RESEND:
            await self._presence.resend(joined, answer.counted_batch_no + 1)
        else:
            await self._presence.leave(joined, step)
        raise Unreachable(f"the control plane knows this agent differently: {answer.status}")

    async def _tell(self, holder: Holder) -> None:
        """One sync of an epoch that is over: what was used in it, and what is left of its leases."""
        holder.leases.expire(self._clock.monotonic_ms())
        sync_id = holder.head.sync_id
        try:
            answer = await self._exchange(holder, (), 0)
        except ControlPlaneError as exc:
            log.debug("what epoch %d had is not told yet: %s", holder.head.epoch, exc)
        else:
            self._tenure.hear(holder, answer.of_leases(sync_id))

    async def _exchange(
        self, holder: Holder, subjects: tuple[str, ...], settled: int, denied: tuple[Denied, ...] = ()
    ) -> SyncAnswer:
        """Send what a holder has to say, once what it returns is kept."""
        if self._uplink is None:
            raise Unreachable("there is no control plane")
        if holder is self._tenure.holder:
            self._tenure.keep(holder.leases.expire(self._clock.monotonic_ms()))
            self._tenure.keep_changed()
        self._limits.debits.hurry = False
        returns = self.answered is True or holder.leases.shut is not None  # cut off, it is better to keep what there is
        out = holder.report(self._clock.monotonic_ms(), returns=returns)
        self._tenure.keep(out.store)
        message = out.message
        self._sync_seq += 1
        return await self._uplink.sync(
            Sync(
                agent_id=message.agent_id,
                epoch=message.epoch,
                sync_seq=self._sync_seq,
                nonce=message.nonce,
                seen=Seen(message.generation, message.state_version) if message.generation else None,
                subjects=subjects,
                leases=message.leases,
                backlog=self._buffer.unsent_events,
                oldest_pending_us=self._buffer.oldest_us,
                sync_id=message.sync_id,  # asked again without an answer, it is the same sync
                settled_batch_no=settled,
                hello_id=message.hello_id,
                complete=message.complete,
                denied=denied,
                denials=dict(self._limits.denials.by_reason),
                knows_prices=True,
            )
        )

    async def _learn(self, answer: SyncAnswer, holder: Holder, heard: Heard) -> None:
        self._interval_s = max(self._settings.sync_interval_s, answer.next_sync_ms / 1000)
        if answer.grants:  # where a limit is scarce, the control plane hands it round in small parts
            self._interval_s = min(self._interval_s, max(answer.next_sync_ms / 1000, HURRIES_AFTER_S))
        if holder is not self._tenure.holder:
            return
        head, subjects = holder.head, answer.subjects
        learned: list[StoredLimit] = []
        if self._buffer.salvaging:  # own usage is not all here yet: no limit may be learned with less
            subjects = {}
        else:
            counted_seq = await self._buffer.counted_seq(head.epoch, answer.counted_batch_no)
            learned = [(limit, answer.as_of_us, counted_seq) for limit in answer.limits]
            await self._recount(self._limits.learn(answer.subjects, learned))
            self._limits.publish(answer.subjects)
            self._tenure.keep_changed()
            learned = [(self._limits.as_kept(limit), as_of_us, seq) for limit, as_of_us, seq in learned]
        named = tuple(self._tenure.unnamed)
        standing = Standing(head.epoch, answer.generation, answer.nonce, head.hello_id)
        try:
            await self._presence.keep(subjects, learned, standing, named, [lease.key for lease in heard.drop])
        except StorageRefused as exc:
            log.warning("limits are known, but not kept for a restart: %s", exc)
            return
        if holder is self._tenure.holder:
            self._presence.stepped()
            self._limits.settle_counted(limit.id for limit, _, _ in learned)
            self._tenure.keep_changed()
            for key in named:
                self._tenure.unnamed.pop(key, None)
            self._tenure.forget(heard.drop)
            if self._limits.debits.hurries:
                self.hurry()

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


def _is_behind(limit: Limit, holder: Holder) -> bool:
    """Whether the period that counts is one before that of a lease, because its reset was changed, or a clock was set.

    The holder may have forgotten what it spent of that one, so it never spends of it again: another holder may.
    """
    held = holder.leases.current(limit.id)
    return limit.scale is not None and held is not None and held.key[1] > limit.period


def _heed(sync: asyncio.Task[None]) -> None:
    """Whoever waited for it may have left: then its error is nobody's."""
    if not sync.cancelled() and (exc := sync.exception()) is not None:
        log.debug("a sync failed: %s", exc)


def _events(rows: list[Row]) -> list[tuple[int, Event]]:
    return [(seq, decode(body)) for seq, body in rows]
