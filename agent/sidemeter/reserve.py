"""Reserving: set aside what an operation may cost at most, then say what it did cost. Each reservation has one end.

Its end is kept with its event in one commit, before the counts change: a kill between the two charges all that was
reserved, and forgets nothing. What ends without anybody saying how is charged when its time is over, and not billed; who
knows better later gets the difference back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sidemeter.buffer import Buffer
from sidemeter.clock import Clock, wait_for
from sidemeter.enforce import Enforcer
from sidemeter.errors import StorageRefused
from sidemeter.events import Event, Receipt, decode, encode
from sidemeter.held import KeptHold
from sidemeter.leases import MAX_HOLDS, MAX_UNITS, Key, Leases
from sidemeter.limits import Limits
from sidemeter.record import Recorder
from sidemeter.reservation import Reservation, check_ttl
from sidemeter.settings import Settings
from sidemeter.tenure import Tenure

__all__ = ["MAX_ENDED", "Reserver"]

MAX_ENDED: Final = 10_000
"""Ended reservations that are remembered, so that a final call said again is an answer and no error."""


class _Open(NamedTuple):
    """A reservation without an end: whose leases it holds, its event, and what it holds of which lease."""

    leases: Leases
    event: Event
    parts: tuple[tuple[Key, int], ...]


class Reserver:
    """Every reservation of this agent that has no end yet. `in_doubt` counts those whose time was over before that."""

    def __init__(
        self,
        buffer: Buffer,
        settings: Settings,
        clock: Clock,
        *,
        recorder: Recorder,
        enforcer: Enforcer,
        limits: Limits,
        tenure: Tenure,
    ) -> None:
        self._buffer = buffer
        self._recorder = recorder
        self._enforcer = enforcer
        self._limits = limits
        self._tenure = tenure
        self._settings = settings
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._nothing = Leases()  # for those that hold nothing: their limits are not leased
        self._ends: dict[str, asyncio.Task[Receipt | None]] = {}
        self._ended: OrderedDict[str, str | None] = OrderedDict()  # and the source of their events
        self._end_seen = asyncio.Event()

    async def restore(self) -> None:
        """Know the reservations of before a restart: what they hold is with the holder, if it went on."""
        holder = self._tenure.holder
        if holder is None:
            return
        for kept in await self._buffer.kept_holds():
            self._open[kept.id] = _Open(holder.leases, decode(kept.event), kept.parts)

    def is_open(self, hold_id: str) -> bool:
        """Whether it has no end yet."""
        return hold_id in self._open

    @property
    def open_holds(self) -> int:
        """Reservations without an end, whose time is not over."""
        holder = self._tenure.holder
        leases = [self._nothing, *(each.leases for each in self._tenure.lost), *([holder.leases] if holder else [])]
        return sum(each.open_holds for each in leases)

    @property
    def in_doubt(self) -> int:
        """Reservations that are charged, since nobody said what became of them in time."""
        return max(len(self._open) - self.open_holds, 0)

    async def reserve(self, event: Event, ttl_s: float, wait_s: float | None = None) -> Reservation:
        """Set aside what `event` takes of each leased limit, of all or of none; see `Enforcer.consume` for the wait.

        One with the id of an open reservation is that one. Raises StorageRefused when the disk does not take it.
        """
        check_ttl(ttl_s)
        hold_id = event.id or self._clock.token_hex(16)
        event = msgspec.structs.replace(
            event,
            id=hold_id,
            source=event.source or self._settings.service,
            time_us=self._clock.now_us() if event.time_us is None else event.time_us,
        )
        deadline_ms = self._deadline_ms(ttl_s)
        decision, amounts = await self._enforcer.reserve(event, hold_id, deadline_ms, wait_s)
        if not decision.allowed or hold_id in self._open:
            return Reservation(self, hold_id, decision)
        leases, parts = self._limits.debits.leases, tuple((lease.key, units) for lease, units in amounts)
        if leases is None or not parts:
            leases = self._nothing
            leases.expire(self._clock.monotonic_ms())
            leases.reserve(hold_id, (), deadline_ms)
        self._remember(hold_id, _Open(leases, event, parts))
        try:
            await self._buffer.keep_hold(KeptHold(hold_id, parts, deadline_ms, encode(event)))
        except (StorageRefused, asyncio.CancelledError):  # it did not start
            await self.release(hold_id)
            raise
        return Reservation(self, hold_id, decision)

    async def commit(self, hold_id: str, data: Mapping[str, object] | str | None) -> Receipt | None:
        """Record what the operation used (text is JSON that was checked), and end its reservation. Said again it changes
        nothing.

        None: no such reservation is known, or it was released. Raises what recording raises; then it is still open.
        """
        found = self._open.get(hold_id)
        if found is None:
            source = self._ended.get(hold_id)
            known = source is not None and await self._recorder.holds(source, hold_id)
            return Receipt(hold_id, source, duplicate=True) if source is not None and known else None
        text = data if isinstance(data, str) else Event.of(found.event.type, found.event.subject, data).data
        event = msgspec.structs.replace(found.event, data=text)
        return await self._end(hold_id, lambda: self._commit(hold_id, found, event))

    async def release(self, hold_id: str) -> bool:
        """End a reservation whose operation did not start; False if it has another end, or is not known."""
        found = self._open.get(hold_id)
        if found is None:
            return False
        await self._end(hold_id, lambda: self._release(hold_id, found))
        return True

    async def _end(self, hold_id: str, end: Callable[[], Coroutine[Any, Any, Receipt | None]]) -> Receipt | None:
        """Carry out a final call, also when its caller leaves; one that is under way is the one."""
        task = self._ends.get(hold_id)
        if task is None:
            task = self._ends[hold_id] = asyncio.create_task(end())
            task.add_done_callback(lambda _: self._ends.pop(hold_id, None))
        return await asyncio.shield(task)

    async def extend(self, hold_id: str, ttl_s: float) -> bool:
        """Let a reservation last until `ttl_s` from now; False if it has an end, or its time was over before."""
        check_ttl(ttl_s)
        found, deadline_ms = self._open.get(hold_id), self._deadline_ms(ttl_s)
        if found is None or not found.leases.extend(hold_id, deadline_ms):
            return False
        await self._buffer.keep_hold(KeptHold(hold_id, found.parts, deadline_ms, encode(found.event)))
        return True

    async def finish(self, timeout_s: float) -> None:
        """Wait until every reservation has its end, or its time is over."""
        ends_s = self._clock.monotonic_s() + timeout_s
        while self.open_holds and (left_s := ends_s - self._clock.monotonic_s()) > 0:
            self._end_seen.clear()
            await wait_for(self._end_seen, left_s, self._clock)

    async def _commit(self, hold_id: str, found: _Open, event: Event) -> Receipt:
        await self._recorder.admit((event,))
        (receipt,) = await self._recorder.record_admitted((event,), paid=True, ends=hold_id)
        used = [0] * len(found.parts) if receipt.duplicate else self._used(found, event)  # it was counted before
        self._settle(hold_id, found, used)
        return receipt

    async def _release(self, hold_id: str, found: _Open) -> None:
        await self._buffer.end_hold(hold_id)
        self._settle(hold_id, found, [0] * len(found.parts))

    def _used(self, found: _Open, event: Event) -> list[int]:
        """What an event takes of each part. What it takes of others is charged there; of an unknown limit, all is used."""
        debts = {debt.tracked.limit.id: debt for debt in self._limits.debts(event)}
        held = {limit for (limit, _), _ in found.parts}
        self._limits.debits.charge(debt for limit, debt in debts.items() if limit not in held)
        return [
            min(debts[limit].units, MAX_UNITS) if limit in debts else 0 if self._limits.follows(limit) else reserved
            for (limit, _), reserved in found.parts
        ]

    def _settle(self, hold_id: str, found: _Open, used: Sequence[int]) -> None:
        self._open.pop(hold_id, None)
        self._tenure.stepped(self._buffer.steps)
        changed = found.leases.commit(hold_id, used)
        self._tenure.keep(lease for lease, _ in changed or ())
        self._tenure.keep_changed()
        self._ended[hold_id] = found.event.source
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)
        self._end_seen.set()

    def _remember(self, hold_id: str, opened: _Open) -> None:
        while len(self._open) >= MAX_HOLDS:  # only ones that are charged can be so many
            self._open.pop(next(iter(self._open)))
        self._open[hold_id] = opened

    def _deadline_ms(self, ttl_s: float) -> int:
        return self._clock.monotonic_ms() + int(ttl_s * 1000)
