"""The holder: one epoch of this agent, what it tells the control plane of its leases, and what it takes from answers.

Pure. A holder begins with a hello and holds nothing; it ends when its epoch is lost, and never spends again. What it is
to keep is named by what its methods return, and kept before anything else happens: `store` in the cell, then the nonce,
then the message leaves or the caller is told.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from sidemeter.leases import Counts, Key, Lease, Leases, Mode

__all__ = [
    "INTERVAL_MS",
    "MAX_LEASES_PER_SYNC",
    "Head",
    "Heard",
    "Holder",
    "LeaseAnswer",
    "LeaseGrant",
    "LeaseReport",
    "LeaseSync",
    "Outgoing",
    "Standing",
    "may_resume",
]

INTERVAL_MS: Final = 1000
"""Between two syncs, where the control plane asks for nothing else."""

MAX_LEASES_PER_SYNC: Final = 1000


class Head(msgspec.Struct, frozen=True):
    """Whose counts a cell holds, and how far its holder had come: with its syncs, and with its database's `steps`."""

    hello_id: str
    epoch: int
    boot_id: str
    nonce: bytes | None = None
    previous_nonce: bytes | None = None
    sync_id: str = ""
    steps: int = 0


class Standing(msgspec.Struct, frozen=True):
    """What the database kept of the holder. `steps` counts what it committed and others then relied on: the ends of
    reservations, batches sealed, limits in money learned. The cell knows of each before anybody else does."""

    hello_id: str
    epoch: int
    nonce: bytes | None = None
    steps: int = 0


def may_resume(head: Head | None, standing: Standing | None, boot_id: str, *, names_known: bool) -> bool:
    """Whether a process that holds the locks of database and cell may go on in the epoch that both tell of.

    Only if the cell is of this run of the machine and the database is no older or newer copy: its nonce is the cell's,
    or the one before, as a kill between the two leaves it, and it took every step that the cell knows of. `names_known`:
    the database knows every lease of the cell.
    Otherwise: hello, a new epoch, and nothing held.
    """
    if head is None or standing is None or not names_known:
        return False
    same = (head.hello_id, head.epoch, head.boot_id) == (standing.hello_id, standing.epoch, boot_id)
    is_older = head.steps > standing.steps
    return same and not is_older and standing.nonce in {head.nonce, head.previous_nonce}


class LeaseReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One lease, as its holder counts it, and what it wants: `want_free` units in all, `need` of them at once."""

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


class LeaseSync(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts, never changes of counts: sent twice or in another order it says the same.

    `sync_id` is random, and stays until its answer came. `complete`: with this, every lease of the holder has been told
    since it heard of `generation`.
    """

    agent_id: str
    hello_id: str
    epoch: int
    sync_id: str
    nonce: bytes | None
    generation: str
    state_version: int
    leases: tuple[LeaseReport, ...] = ()
    complete: bool = False


class LeaseGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that was ever granted of one lease. `keep_free`: return what is free beyond it, others starve.

    `limit_units` is the whole limit, `unit` its smallest grant, `period_now` the period that counts by now.
    """

    limit: str
    period: int
    granted: int
    mode: Mode = "lease"
    limit_units: int = 0
    unit: int = 1
    policy_version: int = 0
    period_now: int = 0
    keep_free: int | None = None


class LeaseAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to the sync `sync_id`; the next one brings `nonce`."""

    status: Literal["OK", "FENCED", "UNKNOWN_EPOCH", "RECOVERING"]
    sync_id: str
    nonce: bytes | None
    generation: str
    state_version: int
    grants: tuple[LeaseGrant, ...] = ()
    next_sync_ms: int = INTERVAL_MS


class Outgoing(msgspec.Struct, frozen=True):
    """A sync to send once the counts of `store` are kept: what is returned is kept before it is said."""

    store: Sequence[Lease]
    message: LeaseSync


class Heard(msgspec.Struct, frozen=True):
    """What an answer changed: counts to keep before they are spent, leases to forget, and whether the epoch is lost.

    `turned`: keep the holder's head, first in the cell, then its standing in the database.
    """

    store: Sequence[Lease] = ()
    drop: Sequence[Lease] = ()
    turned: bool = False
    lost: bool = False


class Holder:
    """One epoch. `leases` are what it holds; `next_sync_ms` is when to sync again, at the latest."""

    def __init__(self, agent_id: str, head: Head, leases: Leases | None = None) -> None:
        self.agent_id = agent_id
        self.head = head
        self.leases = Leases() if leases is None else leases
        self.generation = ""
        self.state_version = 0
        self.next_sync_ms = INTERVAL_MS
        self._is_sent = False
        self._asked: dict[Key, int] = {}
        self._reported: dict[Key, Counts] = {}

    @classmethod
    def resume(cls, agent_id: str, head: Head, counts: Iterable[tuple[Key, int, Counts]]) -> "Holder":
        """Go on as the cell was left, after `may_resume`; each of `counts` has its place in the cell.

        The holds are still to be resumed (`Leases.resume`).
        """
        holder = cls(agent_id, head)
        for key, index, kept in counts:
            holder.leases.add(Lease(key, kept)).index = index
        return holder

    @property
    def is_lost(self) -> bool:
        """Whether the epoch is over: nothing is spent, what is left is returned."""
        return self.leases.shut == "no_lease"

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to say any more: a lost holder may be forgotten then."""
        return self.leases.open_holds == 0 and all(
            lease.counts == lease.told and lease.free <= 0 for lease in self.leases
        )

    def report(self, now_ms: int, *, returns: bool = True) -> Outgoing:
        """The next sync, or the same one again with newer counts. What is free and not wanted is returned with it.

        Not so without `returns`: while the control plane is away, what is here may have to do for long.
        """
        self.leases.hurry = False
        awake = self.leases.awake()
        changed = [lease for lease in awake if self._size(lease, now_ms, returns=returns)]
        news = sorted(filter(self._has_news, awake), key=_urgency)
        reports = news[:MAX_LEASES_PER_SYNC]
        self.leases.defer(reports)
        listed = {lease.key for lease in reports}
        if not self._is_sent:  # the answer may be to the first copy, so only what that one told is known
            self._is_sent = True
            self._asked = {lease.key: lease.need for lease in reports}
            self._reported = {lease.key: lease.counts for lease in reports}
        message = LeaseSync(
            agent_id=self.agent_id,
            hello_id=self.head.hello_id,
            epoch=self.head.epoch,
            sync_id=self.head.sync_id,
            nonce=self.head.nonce,
            generation=self.generation,
            state_version=self.state_version,
            leases=tuple(map(self._told, reports)),
            complete=all(lease.told is not None or lease.key in listed for lease in awake),
        )
        return Outgoing(changed, message)

    def hear(self, answer: LeaseAnswer, next_sync_id: str) -> Heard:
        """Take an answer; one that is not to the sync under way changes nothing. `next_sync_id` is random."""
        if answer.sync_id != self.head.sync_id:
            return Heard()
        if answer.status in {"FENCED", "UNKNOWN_EPOCH"}:
            return self._lose(answer, next_sync_id)
        answered = self._reported
        self._turn(answer, next_sync_id)
        granted = [lease for grant in answer.grants if (lease := self._take(grant, answered)) is not None]
        drop = [] if self.is_lost else self._over()
        return Heard(granted, drop, turned=True)

    def lose(self) -> None:
        """Another holder took this one's place: never spend again. Free units are returned from here on."""
        self.leases.shut = "no_lease"

    def stop(self) -> None:
        """Spend no more; once no reservation is open, the next sync returns all that is free."""
        if not self.is_lost:
            self.leases.shut = "agent_stopping"

    # What to want, and what to give back

    def _size(self, lease: Lease, now_ms: int, *, returns: bool) -> bool:
        """Return what is not wanted any more; whether there was something."""
        lease.demand.roll(lease.used + lease.reserved + lease.turned_away, now_ms, INTERVAL_MS)
        keep = self._keeps(lease)
        if lease.free <= keep or not returns:
            return False
        lease.returned += lease.free - keep
        lease.low = -1
        return True

    def _keeps(self, lease: Lease) -> int:
        """How much may be free after the next sync without being returned."""
        if self.leases.shut is not None or not self.leases.is_current(lease):
            return 0
        keep = lease.free
        unit = lease.unit if lease.demand.per_interval else 0
        if keep > max(lease.demand.at_most, unit) + lease.need:
            keep = lease.demand.ahead + lease.need
        if lease.keep_free is not None:
            keep = min(keep, max(lease.keep_free, lease.need))
        return keep

    def _wants(self, lease: Lease) -> int:
        if self.leases.shut is not None or not self.leases.is_current(lease):
            return 0
        ahead = 0 if lease.mode == "central" else lease.demand.ahead
        return min(lease.need + ahead, lease.limit)

    def _has_news(self, lease: Lease) -> bool:
        """Whether it is worth a place in a sync; if not, and nothing is used of it, it rests.

        What has free units always is: others may starve, and it is to hear of that. So is what callers ask for, although
        nothing is wanted of it while all that is left is less than they need: there may be more by now.
        """
        news = lease.told != lease.counts or self._wants(lease) > 0 or lease.free > 0 or lease.demand.per_interval > 0
        news = news or not self.leases.is_current(lease)
        if not news:
            self.leases.rest(lease)
        return news

    def _told(self, lease: Lease) -> LeaseReport:
        return LeaseReport(*lease.key, *lease.counts, want_free=self._wants(lease), need=lease.need)

    # What answers change

    def _turn(self, answer: LeaseAnswer, next_sync_id: str) -> None:
        for key, counts in self._reported.items():
            lease = self.leases.get(key)
            if lease is not None:
                lease.told = counts
                lease.need = max(lease.need - self._asked[key], 0)
        self._reported, self._is_sent = {}, False
        if answer.generation != self.generation:
            self._tell_all()
        self.generation, self.state_version = answer.generation, answer.state_version
        self.next_sync_ms = answer.next_sync_ms
        head = self.head
        self.head = msgspec.structs.replace(head, nonce=answer.nonce, previous_nonce=head.nonce, sync_id=next_sync_id)

    def _take(self, grant: LeaseGrant, answered: Mapping[Key, Counts]) -> Lease | None:
        """Learn of one lease; returned if its counts changed. `answered` are the counts that the answer is to."""
        if grant.period_now > grant.period and not self.is_lost:
            self._follow(grant)
        lease = self.leases.get((grant.limit, grant.period))
        if lease is None:
            return None
        changed = grant.granted > lease.granted
        lease.granted = max(lease.granted, grant.granted)
        lease.mode, lease.limit, lease.unit = grant.mode, grant.limit_units, grant.unit
        lease.policy_version, lease.keep_free = grant.policy_version, grant.keep_free
        told = answered.get(lease.key)
        lease.is_short = told is not None and told.free + grant.granted - told.granted < self._asked[lease.key]
        self.leases.wake(lease)
        lease.low = min(lease.demand.ahead, lease.free) // 3 if grant.mode == "lease" and not lease.is_short else -1
        if grant.keep_free is not None and lease.free > max(grant.keep_free, lease.need):
            self.leases.hurry = True
        return lease if changed else None

    def _follow(self, grant: LeaseGrant) -> None:
        """A later period counts by now: hold a lease of that one instead."""
        if self.leases.watch(grant.limit, grant.period_now) is not None:
            self.leases.hurry = True

    def _over(self) -> list[Lease]:
        """Forget what is returned, told, and of a period that is over."""
        over = [lease for lease in self.leases.awake() if self._is_over(lease)]
        for lease in over:
            self.leases.drop(lease)
        return over

    def _is_over(self, lease: Lease) -> bool:
        later = self.leases.current(lease.key[0])
        if later is None or later is lease or later.granted == 0:  # only what was granted is kept over a kill
            return False
        return lease.reserved == 0 and lease.free <= 0 and lease.told == lease.counts

    def _lose(self, answer: LeaseAnswer, next_sync_id: str) -> Heard:
        was_lost = self.is_lost
        self.lose()
        self._turn(answer, next_sync_id)
        if not was_lost:
            self._tell_all()  # what it told before it was lost was not the last word
        return Heard(lost=not was_lost)

    def _tell_all(self) -> None:
        for lease in self.leases:
            lease.told = None
            self.leases.wake(lease)


def _urgency(lease: Lease) -> bool:
    """The leases that callers wait for come first; among the others, those not told for longest."""
    return lease.need == 0
