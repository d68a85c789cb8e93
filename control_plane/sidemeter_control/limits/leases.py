"""Leases: how one hard limit is shared among agents, so that all together never exceed it. Pure rules, no I/O, no clock.

A **holder** is one epoch of one agent, named by its agent and its hello: a new hello is a new holder, with nothing. What
the control plane knows of a holder's part of a limit is a `Holding`. The parts of all holders, those that are gone
included, never add up to more than the limit: rights leave only by what their holder says it returned, by the end of the
period, or by an operator's word. Nothing is ever given back because time passed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from sidemeter_control.limits.recovery import HolderId, Recovery
from sidemeter_control.metering.identity import Nonces, next_nonce

__all__ = [
    "ACTIVE_FOR_TURNS",
    "Granted",
    "Holding",
    "Key",
    "Known",
    "Others",
    "Pool",
    "Report",
    "Standing",
    "Status",
    "Sync",
    "Taken",
    "Turn",
    "newly_settled",
    "others",
    "shows_rollback",
    "smallest_grant",
    "take",
    "tells_more",
    "turn_of",
]

SHARES = 100_000
"""The smallest grant is the limit over this many."""

ACTIVE_FOR_TURNS = 4
"""A holder shares in what is left until every one has asked so many times since it was heard last, on the average."""

INTERVAL_MS = 1000
SCARCE_INTERVAL_MS = 100
"""Between syncs while some holders have nothing left and others do."""

Key = tuple[str, int]
"""A limit, and the period whose usage it counts: an integer that is larger for a later one."""

Status = Literal["OK", "FENCED", "UNKNOWN_EPOCH", "RECOVERING"]
Mode = Literal["lease", "central", "closed"]


class Standing(Enum):
    """CURRENT may be granted more. SUPERSEDED was followed by another hello: it may only return. TWINS: two processes
    speak as it, so that neither knows what both used: what they say they return is not believed."""

    CURRENT = "CURRENT"
    SUPERSEDED = "SUPERSEDED"
    TWINS = "TWINS"


class Turn(Enum):
    """Which sync of its epoch one is, by the nonce that it brings.

    FRESH follows the last one, REPEATED is the last one again, LATE an older one. TWIN: another sync than the last one
    brings that one's nonce. AHEAD: its nonce is none that this database has given yet.
    """

    FRESH = "FRESH"
    REPEATED = "REPEATED"
    LATE = "LATE"
    TWIN = "TWIN"
    AHEAD = "AHEAD"


@dataclass(frozen=True, slots=True)
class Report:
    """What a holder says of one lease. All but `reserved`, `want_free` and `need` only ever rise."""

    limit: str
    period: int
    granted: int = 0
    returned: int = 0
    used: int = 0
    reserved: int = 0
    refunded: int = 0
    overrun: int = 0
    want_free: int = 0
    need: int = 0

    @property
    def key(self) -> Key:
        """Which lease."""
        return self.limit, self.period


@dataclass(frozen=True, slots=True)
class Sync:
    """What a holder says at once. `generation` and `state_version` are those of the last answer it took.

    `complete`: since it heard of `generation`, it has told every lease that it holds.
    """

    holder: HolderId
    epoch: int
    sync_id: str
    nonce: bytes | None
    generation: str
    state_version: int
    reports: tuple[Report, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """What one holder has of one limit in one period, as far as this database knows.

    `written_off` is what an operator said will never be spent, counted like `returned` and in place of it, whichever is
    more. `reserved`, `want_free`, `need` are from the holder's last fresh sync, the `turn`-th of its pool.
    """

    granted: int = 0
    returned: int = 0
    used: int = 0
    refunded: int = 0
    overrun: int = 0
    written_off: int = 0
    reserved: int = 0
    want_free: int = 0
    need: int = 0
    turn: int = 0

    @property
    def held(self) -> int:
        """Its part of the limit: what it may spend or has spent, and what it spent beyond that.

        >>> Holding(granted=100, returned=60, used=40).held, Holding(granted=100, used=130, overrun=30).held
        (40, 130)
        """
        return max(self.granted - max(self.returned, self.written_off), self.used - self.refunded)

    @property
    def free(self) -> int:
        """What it has left to spend, as it said last."""
        return self.granted - self.returned - self.used - self.reserved + self.refunded

    @property
    def wants(self) -> int:
        """How much more it asked for than it has."""
        return max(max(self.want_free, self.need) - self.free, 0)

    def merge(self, report: Report, *, returns: bool = True) -> "Holding":
        """Take in what it says, in whatever order and however often: of each count the largest."""
        return Holding(
            granted=max(self.granted, report.granted),
            returned=max(self.returned, report.returned) if returns else self.returned,
            used=max(self.used, report.used),
            refunded=max(self.refunded, report.refunded) if returns else self.refunded,
            overrun=max(self.overrun, report.overrun),
            written_off=self.written_off,
            reserved=self.reserved,
            want_free=self.want_free,
            need=self.need,
            turn=self.turn,
        )

    def hear(self, report: Report, turn: int, *, exact: bool) -> "Holding":
        """Note what it wants, as the newest sync of its holder says.

        `exact`: it took the last answer and takes none of before, so what it was granted and has not got it never gets.
        """
        granted = report.granted if exact else self.granted
        return replace(
            self, granted=granted, reserved=report.reserved, want_free=report.want_free, need=report.need, turn=turn
        )

    def grant(self, units: int) -> "Holding":
        """Give it more."""
        return replace(self, granted=self.granted + units) if units else self

    def write_off(self, *, is_billed: bool = False) -> "Holding":
        """Count what is free of it as returned, by an operator's word.

        `is_billed`: of money, what it used is on the bill by now; nothing of it is held for that any more.

        >>> Holding(granted=100, used=40).write_off().held, Holding(granted=100, used=40).write_off(is_billed=True).held
        (40, 0)
        """
        if is_billed:
            return replace(self, written_off=self.granted, refunded=max(self.refunded, self.used))
        spent = max(self.used + self.reserved - self.refunded, 0)
        return replace(self, written_off=max(self.written_off, self.granted - spent))


NOTHING = Holding()


@dataclass(frozen=True, slots=True)
class Others:
    """All holders of a pool but the one that asks: what they hold, and of those that share in what is left, how many
    they are, what they have free, what they lack, and what they want in all."""

    held: int = 0
    active: int = 0
    spare: int = 0
    short: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """One limit in one period. `period_now` is the period that counts now; only in that one is anything granted."""

    limit: int
    period: int
    period_now: int
    policy_version: int = 1
    turn: int = 0

    @property
    def told(self) -> int:
        """The limit as holders are told it: never nothing, because who has nothing to ask for would not hear of a larger
        one."""
        return max(self.limit, 1)

    @property
    def unit(self) -> int:
        """See `smallest_grant`."""
        return smallest_grant(self.limit)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a holder is told of one lease: all that it was ever granted, and how it goes on.

    `keep_free`: others starve, so it is to return what is free beyond that; None is no such wish.
    """

    limit: str
    period: int
    granted: int
    mode: Mode = "closed"
    limit_units: int = 0
    unit: int = 1
    policy_version: int = 0
    period_now: int = 0
    keep_free: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the database holds that bears on one sync.

    `standing` None: it has never heard of that holder. `known_holders` counts all it has. `pools` and `holdings` are
    those of the leases in the sync; a lease without a pool is of no hard limit that there is.
    """

    generation: str
    state_version: int
    standing: Standing | None
    nonces: Nonces
    recovery: Recovery | None
    known_holders: int
    pools: Mapping[Key, tuple[Pool, Others]]
    holdings: Mapping[Key, Holding]


@dataclass(frozen=True, slots=True)
class Taken:
    """What to store before the answer leaves, and the answer. `alert`: two processes speak as one holder."""

    status: Status
    standing: Standing
    nonces: Nonces
    recovery: Recovery | None
    holdings: Mapping[Key, Holding]
    grants: tuple[Granted, ...]
    next_sync_ms: int = INTERVAL_MS
    alert: bool = False


def smallest_grant(limit: int) -> int:
    """The unit of a limit, in its own units.

    >>> smallest_grant(50), smallest_grant(2_000_000)
    (1, 20)
    """
    return max(1, limit // SHARES)


def turn_of(held: Nonces, nonce: bytes | None, sync_id: str) -> Turn:
    """Which sync of its epoch one is. `held` are the nonces that the next one and the last one should bring."""
    if nonce == held.current:
        return Turn.FRESH
    if nonce == held.previous:
        return Turn.REPEATED if next_nonce(nonce, sync_id) == held.current else Turn.TWIN
    return Turn.AHEAD if _count(nonce) > _count(held.current) else Turn.LATE


def others(pool: Pool, holdings: Iterable[tuple[Standing, Holding]]) -> Others:
    """The summary of all holders but one, from their holdings: the rule that `store.leases.others` has the database follow."""
    held = active = spare = short = wanted = known = 0
    sharing = []
    for standing, each in holdings:
        held += each.held
        if standing is Standing.CURRENT:
            known += 1
            sharing.append(each)
    since = pool.turn - ACTIVE_FOR_TURNS * (known + 1)
    for each in sharing:
        spare += max(each.free, 0)
        if each.turn > since and (each.want_free or each.need):
            active += 1
            short += each.wants
            wanted += max(each.want_free, each.need)
    return Others(held, active, spare, short, wanted)


def shows_rollback(sync: Sync, known: Known) -> bool:
    """Whether a sync tells of what this database, of the same generation, never stored: it is an older copy of itself.

    Then a recovery begins, in a new generation, before the sync is taken.
    """
    if sync.generation != known.generation:
        return False
    if sync.state_version > known.state_version:
        return True
    if known.recovery is not None:  # holders tell what was lost, as they are to
        return False
    return (
        known.standing is None
        or turn_of(known.nonces, sync.nonce, sync.sync_id) is Turn.AHEAD
        or tells_more(sync, known)
    )


def newly_settled(sync: Sync, known: Known) -> Mapping[Key, int]:
    """What the holder gave back of what it had used, by lease, that this database has not heard of."""
    risen = {each.key: each.refunded - known.holdings.get(each.key, NOTHING).refunded for each in sync.reports}
    return {key: units for key, units in risen.items() if units > 0}


def tells_more(sync: Sync, known: Known) -> bool:
    """Whether a holder was granted more than this database knows of."""
    return any(each.granted > known.holdings.get(each.key, NOTHING).granted for each in sync.reports)


def take(sync: Sync, known: Known) -> Taken:
    """What a sync changes, and its answer. Facts are merged whoever tells them; granted is only to a current holder
    with a fresh sync, by a database that knows all there is to know."""
    standing = Standing.SUPERSEDED if known.standing is None else known.standing
    turn = turn_of(known.nonces, sync.nonce, sync.sync_id)
    twins = standing is Standing.CURRENT and turn is Turn.TWIN
    if twins:
        standing = Standing.TWINS
    merged = {
        report.key: known.holdings.get(report.key, NOTHING).merge(report, returns=standing is not Standing.TWINS)
        for report in sync.reports
    }
    recovery = _recovered(sync, known)
    if standing is not Standing.CURRENT or turn is Turn.LATE:
        status: Status = "UNKNOWN_EPOCH" if known.standing is None else "FENCED"
        return Taken(status, standing, known.nonces, recovery, merged, (), alert=twins)
    nonces = known.nonces
    if turn in {Turn.FRESH, Turn.AHEAD}:
        nonces = Nonces(next_nonce(sync.nonce, sync.sync_id), sync.nonce)
    grants = [
        _decide(
            report,
            merged,
            known.pools[report.key],
            recovery,
            grants_more=turn is Turn.FRESH,
            exact=turn is Turn.FRESH and sync.generation == known.generation,
        )
        for report in sync.reports
        if report.key in known.pools
    ]
    scarce = any(each.mode != "closed" and (each.mode == "central" or each.keep_free is not None) for each in grants)
    return Taken(
        "OK" if recovery is None else "RECOVERING",
        standing,
        nonces,
        recovery,
        merged,
        tuple(grants),
        SCARCE_INTERVAL_MS if scarce else INTERVAL_MS,
    )


def _recovered(sync: Sync, known: Known) -> Recovery | None:
    """The recovery after this sync; a report counts if no answer of before the rollback can change it any more."""
    recovery = known.recovery
    if recovery is None:
        return None
    lacked = [each.period for each in sync.reports if each.granted > known.holdings.get(each.key, NOTHING).granted]
    recovery = replace(recovery, through=max(recovery.through, *lacked) if lacked else recovery.through)
    known_holders = known.known_holders
    if known.standing is None:
        recovery = replace(recovery, awaited=recovery.awaited | {sync.holder})
        known_holders += 1
    if sync.complete and sync.generation == known.generation:
        recovery = recovery.heard(sync.holder)
    return None if recovery.is_over(known_holders) else recovery


def _decide(
    report: Report,
    holdings: dict[Key, Holding],
    pool_and_others: tuple[Pool, Others],
    recovery: Recovery | None,
    *,
    grants_more: bool,
    exact: bool,
) -> Granted:
    """Grant what can be granted, which changes `holdings`, and say how to go on."""
    pool, rest = pool_and_others
    own = holdings[report.key]
    is_known = recovery is None or pool.period > recovery.through
    if grants_more:
        own = own.hear(report, pool.turn, exact=exact and is_known)
        if is_known and pool.period == pool.period_now:
            own = own.grant(_grant(pool, rest, own))
        holdings[report.key] = own
    # What was granted and not heard of is as good as granted now, and there may be less since.
    fits = is_known and rest.held + own.held <= pool.limit
    return Granted(
        *report.key,
        granted=own.granted if fits else min(own.granted, report.granted),
        mode=_mode(pool, rest, own),
        limit_units=pool.told,
        unit=pool.unit,
        policy_version=pool.policy_version,
        period_now=pool.period_now,
        keep_free=_keep_free(pool, rest, own),
    )


def _grant(pool: Pool, rest: Others, own: Holding) -> int:
    """A part of what is wanted, so that something is left for the others; what callers wait for, whole if it is there."""
    room = pool.limit - rest.held - own.held
    if room <= 0:
        return 0
    share = max(pool.unit, room // (rest.active + 1))
    return min(max(min(own.want_free - own.free, share), own.need - own.free, 0), room)


def _mode(pool: Pool, rest: Others, own: Holding) -> Mode:
    room = pool.limit - rest.held - own.held
    if pool.period != pool.period_now or (room <= 0 and rest.spare == 0):
        return "closed"
    return "central" if room < (rest.active + 1) * pool.unit else "lease"


def _keep_free(pool: Pool, rest: Others, own: Holding) -> int | None:
    """A fair part of what is left, when others lack more than can be granted."""
    room = max(pool.limit - rest.held - own.held, 0)
    if rest.short <= room:
        return None
    left, wanted = room + rest.spare + max(own.free, 0), max(own.want_free, own.need)
    return max(left * wanted // (wanted + rest.wanted), 0) if wanted else 0


def _count(nonce: bytes | None) -> int:
    """How many nonces came before it in its epoch."""
    return 0 if nonce is None else int.from_bytes(nonce[:8], "big")
