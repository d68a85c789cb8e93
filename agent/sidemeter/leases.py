"""Leases: the parts of hard limits that this agent may spend on its own. Pure; no clock decides what is allowed.

Of every lease there are six counts, all but `reserved` only ever rise: the control plane raises `granted`, the agent the
others. What is free is `granted - returned - used - reserved + refunded`, and nothing is spent or reserved beyond it.
Nothing comes back because time passed: it is returned, and said so, or it stays taken.

Whoever calls keeps the counts of every lease named by an answer in the cell before anybody is told "allowed".
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from sidemeter.demand import Demand
from sidemeter.errors import InvalidInput

__all__ = [
    "ALLOWED",
    "MAX_COUNT",
    "MAX_HOLDS",
    "MAX_UNITS",
    "WAIT_MS",
    "Amounts",
    "Counts",
    "Kept",
    "Key",
    "Lease",
    "Leases",
    "Mode",
    "Verdict",
]

MAX_UNITS: Final = 1 << 56
"""Of a limit, in its lease's integer units: all of it may be granted and returned 255 times in one period until a count
needs more than the eight bytes that the cell has for it."""

MAX_COUNT: Final = 1 << 62
"""What a count goes up to: more than that, used without having been asked for, is not told apart."""

MAX_HOLDS: Final = 100_000
"""Reservations that are open, or charged and not yet ended by their callers."""

WAIT_MS: Final = 200
"""How long it is worth waiting after `ask`: a sync and its answer, and once more."""

Mode = Literal["lease", "central", "closed"]
Key = tuple[str, int]
"""A limit, and the period whose usage it counts: an integer that is larger for a later one."""

Kept = tuple[str, Sequence[tuple[Key, int]], int]
"""A hold as it is kept for a restart: its id, what it holds of which lease, its deadline in milliseconds."""


class Counts(NamedTuple):
    """What became of one lease; all but `reserved` only ever rise.

    `refunded` is what was counted in `used` and was not used after all; `overrun` what was used beyond its reservation.

    >>> Counts(granted=10, returned=1, used=4, reserved=2).free
    3
    """

    granted: int = 0
    returned: int = 0
    used: int = 0
    reserved: int = 0
    refunded: int = 0
    overrun: int = 0

    @property
    def free(self) -> int:
        """What may still be spent; negative after an overrun."""
        return self.granted - self.returned - self.used - self.reserved + self.refunded


class Lease:
    """One lease: its counts, what the control plane said of its limit last, and what is wanted of it.

    `need` is what callers wait for; `is_short` that the last answer did not bring it; `low` the free units at which to
    ask for more; `told` the counts that the control plane has; `index` the lease's place in the cell. One that `rests`
    has nothing to say.
    """

    __slots__ = (
        "demand",
        "granted",
        "index",
        "is_short",
        "keep_free",
        "key",
        "limit",
        "low",
        "mode",
        "need",
        "overrun",
        "policy_version",
        "refunded",
        "reserved",
        "rests",
        "returned",
        "told",
        "turned_away",
        "unit",
        "used",
    )

    def __init__(self, key: Key, counts: Counts = Counts()) -> None:  # noqa: B008 -- a tuple
        self.key = key
        self.granted, self.returned, self.used, self.reserved, self.refunded, self.overrun = counts
        self.mode: Mode = "lease"
        self.limit = MAX_UNITS
        self.unit = 1
        self.policy_version = 0
        self.keep_free: int | None = None
        self.need = 0
        self.turned_away = 0
        self.is_short = False
        self.low = -1
        self.told: Counts | None = None
        self.rests = False
        self.index = -1
        self.demand = Demand()

    def __repr__(self) -> str:
        return f"Lease({self.key}, {self.counts})"

    def disuse(self) -> None:
        """Nothing is spent of it any more: all that is free is returned with the next sync."""
        self.need, self.demand = 0, Demand()

    @property
    def free(self) -> int:
        """See `Counts.free`."""
        return self.granted - self.returned - self.used - self.reserved + self.refunded

    @property
    def counts(self) -> Counts:
        """The counts as they are now."""
        return Counts(self.granted, self.returned, self.used, self.reserved, self.refunded, self.overrun)


Amounts = Sequence[tuple[Lease, int]]
"""What one operation takes of each limit that applies to it."""


class Verdict(msgspec.Struct, frozen=True):
    """May it happen? `ask`: not from what is here, but a grant may come within `wait_ms`.

    `reason` is one of within_limit, limit_reached, lease_short, no_lease, agent_stopping,
    too_many_reservations; `lease` the one that decided.
    """

    answer: Literal["allowed", "denied", "ask"]
    reason: str
    lease: Lease | None = None
    wait_ms: int = 0


ALLOWED: Final = Verdict("allowed", "within_limit")


class _Hold:
    """A reservation: open until its one end; after its deadline all of it is charged, until an end says what it was."""

    __slots__ = ("amounts", "deadline_ms", "is_charged")

    def __init__(self, amounts: Amounts, deadline_ms: int) -> None:
        self.amounts = amounts
        self.deadline_ms = deadline_ms
        self.is_charged = False


class Leases:
    """All leases of one holder, with its reservations. `hurry` is set when a sync should not wait for its turn.

    `shut` says why nothing is spent any more: no_lease once the epoch is lost, agent_stopping before the last sync.
    """

    def __init__(self) -> None:
        self.shut: str | None = None
        self.hurry = False
        self._leases: dict[Key, Lease] = {}
        self._current: dict[str, Lease] = {}
        self._awake: dict[Key, Lease] = {}
        self._holds: dict[str, _Hold] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def open_holds(self) -> int:
        """Reservations that may still be used without having been charged."""
        return sum(not hold.is_charged for hold in self._holds.values())

    def get(self, key: Key) -> Lease | None:
        """The lease of that limit and period, if there is one."""
        return self._leases.get(key)

    def current(self, limit: str) -> Lease | None:
        """The lease of a limit's newest period that is known."""
        return self._current.get(limit)

    def watch(self, limit: str, period: int) -> Lease | None:
        """The lease of that limit and period, made if need be; None if a later period is known: it stays closed."""
        known = self._current.get(limit)
        if known is not None and known.key[1] >= period:
            return self._leases.get((limit, period))
        return self.add(Lease((limit, period)))

    def add(self, lease: Lease) -> Lease:
        """Take a lease as it is, for instance as the cell kept it."""
        limit, period = lease.key
        self._leases[lease.key] = self._awake[lease.key] = lease
        known = self._current.get(limit)
        if known is None or known.key[1] < period:
            self._current[limit] = lease
        return lease

    def awake(self) -> list[Lease]:
        """The leases that may have something to say: of very many, most rest."""
        return list(self._awake.values())

    def defer(self, leases: Iterable[Lease]) -> None:
        """Let all others be told before these are again."""
        for lease in leases:
            self._awake[lease.key] = self._awake.pop(lease.key)

    def rest(self, lease: Lease) -> None:
        """Leave a lease out of syncs until it is used again."""
        lease.rests, lease.low = True, MAX_UNITS
        self._awake.pop(lease.key, None)

    def wake(self, lease: Lease) -> None:
        """Let a lease take part in syncs; one that was dropped has nothing to say."""
        lease.rests, lease.low = False, -1
        if self._leases.get(lease.key) is lease:
            self._awake[lease.key] = lease

    def is_current(self, lease: Lease) -> bool:
        """Whether no later period of its limit is known."""
        return self._current.get(lease.key[0]) is lease

    def drop(self, lease: Lease) -> None:
        """Forget a lease of a period that is over. One of the current period is all that keeps its count: never."""
        if self.is_current(lease):
            raise InvalidInput("lease", "must be of a period that is over")
        del self._leases[lease.key]
        self._awake.pop(lease.key, None)

    # Spending

    def spend(self, amounts: Amounts) -> Verdict:
        """Debit every limit, or none."""
        verdict = self._weigh(amounts)
        if verdict is ALLOWED:
            for lease, units in amounts:
                lease.used += units
        return verdict

    def weigh(self, amounts: Amounts) -> Verdict:
        """What `spend` would answer; nothing is debited. What is short is asked for."""
        return self._weigh(amounts)

    def look(self, lease: Lease, units: int) -> Verdict:
        """`weigh` for one limit, by somebody who may look again: however often, the same units are asked for once."""
        left = lease.granted - lease.returned - lease.used - lease.reserved + lease.refunded - units
        if left >= 0 and self.shut is None and left >= lease.low:
            return ALLOWED
        need = lease.need
        verdict = self._weigh(((lease, units),))
        if verdict.answer == "ask":
            lease.need = max(need, min(units, lease.limit))
        return verdict

    def charge(self, lease: Lease, units: int) -> None:
        """Debit what was used without having been asked for: it happened, so it is counted, also beyond the lease."""
        units = min(units, MAX_COUNT - lease.used)
        lease.used += units
        lease.overrun += units
        self.wake(lease)
        self.hurry |= 0 <= lease.free < lease.low

    def take_back(self, amounts: Amounts) -> None:
        """Undo a `spend` of which nothing happened."""
        for lease, units in amounts:
            lease.refunded += units
            self.wake(lease)

    def settle(self, lease: Lease, units: int) -> None:
        """Return what was used and is accounted for elsewhere by now: nothing of it is free here again."""
        units = min(units, max(lease.used - lease.refunded, 0))
        lease.refunded += units
        lease.returned += units
        self.wake(lease)

    def _has_room(self) -> bool:
        """Whether one more hold can be remembered; one that is charged makes room, and stays charged."""
        if len(self._holds) < MAX_HOLDS:
            return True
        charged = next((hold_id for hold_id, hold in self._holds.items() if hold.is_charged), None)
        if charged is None:
            return False
        del self._holds[charged]
        return True

    def _weigh(self, amounts: Amounts) -> Verdict:
        if self.shut is not None:
            return Verdict("denied", self.shut)
        if len(amounts) > 1 and len({lease.key for lease, _ in amounts}) < len(amounts):
            raise InvalidInput("limits", "must be different ones")
        fits = True
        for lease, units in amounts:
            left = lease.granted - lease.returned - lease.used - lease.reserved + lease.refunded - units
            if left < 0 or units < 0:
                fits = False
            elif left < lease.low:
                self.hurry |= not lease.rests
                self.wake(lease)
        return ALLOWED if fits else self._refuse(amounts)

    def _refuse(self, amounts: Amounts) -> Verdict:
        if any(not 0 <= units <= MAX_UNITS for _, units in amounts):
            raise InvalidInput("amount", f"must be 0 to {MAX_UNITS}")
        short = [(lease, units) for lease, units in amounts if units > lease.free]
        for lease, _ in short:
            self.wake(lease)
        hopeless = [lease for lease, units in short if not self._may_come(lease, units)]
        if hopeless:
            for lease, units in short:
                lease.turned_away += units
            return Verdict("denied", "limit_reached", hopeless[0])
        for lease, units in short:
            lease.need = min(lease.need + units, lease.limit)
            self.hurry |= not lease.is_short  # what the last sync did not bring comes with the next, or not at all
        return Verdict("ask", "lease_short", short[0][0], WAIT_MS)

    def _may_come(self, lease: Lease, units: int) -> bool:
        return self.is_current(lease) and lease.mode != "closed" and units <= lease.limit

    # Reservations

    def reserve(self, hold_id: str, amounts: Amounts, deadline_ms: int) -> Verdict:
        """Set aside what an operation may cost at most, of every limit or of none. Said again, it is the same hold."""
        if hold_id in self._holds:
            return ALLOWED
        if not self._has_room():
            return Verdict("denied", "too_many_reservations")
        verdict = self._weigh(amounts)
        if verdict is ALLOWED:
            for lease, units in amounts:
                lease.reserved += units
            self._holds[hold_id] = _Hold(tuple(amounts), deadline_ms)
        return verdict

    def commit(self, hold_id: str, used: Sequence[int]) -> Amounts | None:
        """End a hold with what its operation used of each limit. Returns what was debited to which lease.

        None: there is no such hold (any more), and its end has been counted or charged; nothing changes. What is used
        beyond the reservation is counted in full.
        """
        hold = self._holds.get(hold_id)
        if hold is None:
            return None
        if len(used) != len(hold.amounts) or any(not 0 <= each <= MAX_UNITS for each in used):
            raise InvalidInput("used", "must be one amount of 0 or more for each limit of the reservation")
        del self._holds[hold_id]
        ended = [(lease, units) for (lease, _), units in zip(hold.amounts, used, strict=True)]
        for (lease, reserved), units in zip(hold.amounts, used, strict=True):
            self._end(lease, reserved, units, was_charged=hold.is_charged)
        return ended

    def release(self, hold_id: str) -> Amounts | None:
        """End a hold whose operation did not start. See `commit`."""
        hold = self._holds.get(hold_id)
        return None if hold is None else self.commit(hold_id, [0] * len(hold.amounts))

    def extend(self, hold_id: str, deadline_ms: int) -> bool:
        """Let a hold wait longer for its end; False if it has ended, or is charged already."""
        hold = self._holds.get(hold_id)
        if hold is None or hold.is_charged:
            return False
        hold.deadline_ms = max(hold.deadline_ms, deadline_ms)
        return True

    def expire(self, now_ms: int) -> list[Lease]:
        """Charge every hold whose deadline passed: what became of it is not known. Returns the leases that changed."""
        changed: dict[Key, Lease] = {}
        for hold in self._holds.values():
            if not hold.is_charged and hold.deadline_ms <= now_ms:
                hold.is_charged = True
                for lease, units in hold.amounts:
                    lease.reserved -= units
                    lease.used += units
                    self.wake(lease)
                    changed[lease.key] = lease
        return list(changed.values())

    def resume(self, holds: Iterable[Kept]) -> list[Lease]:
        """Go on after a kill with the holds that were kept; whatever else was reserved is charged.

        Returns the leases that changed. The end of a hold is kept before the counts of its leases change; so a hold that
        is kept and not in `reserved` has been charged.
        """
        left = {lease.key: lease.reserved for lease in self}
        for hold_id, parts, deadline_ms in holds:
            if any(key not in left for key, _ in parts):
                continue
            hold = self._holds[hold_id] = _Hold([(self._leases[key], units) for key, units in parts], deadline_ms)
            hold.is_charged = any(units > left[key] for key, units in parts)
            if not hold.is_charged:
                for key, units in parts:
                    left[key] -= units
        lost = [lease for lease in self if left[lease.key]]
        for lease in lost:
            lease.reserved -= left[lease.key]
            lease.used += left[lease.key]
        return lost

    def _end(self, lease: Lease, reserved: int, used: int, *, was_charged: bool) -> None:
        self.wake(lease)
        beyond = max(used - reserved, 0)
        lease.overrun += beyond
        if was_charged:
            lease.used += beyond
            lease.refunded += max(reserved - used, 0)
        else:
            lease.reserved -= reserved
            lease.used += used
