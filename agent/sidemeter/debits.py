"""Debits: which lease each limit is decided by, and what own usage takes of it. Pure.

What was let through is debited before it is recorded. What is recorded without having been asked for is debited too, as
used beyond the lease: it happened. Of every event, one holder's lease is debited, and no other ever is.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from sidemeter.leases import ALLOWED, MAX_UNITS, WAIT_MS, Amounts, Key, Lease, Leases, Verdict
from sidemeter.tracked import Decision, Tracked, decision_of

__all__ = ["Debits", "Debt", "Take"]

_ZERO: Final = Decimal(0)
_NO_LEASE: Final = Verdict("ask", "no_lease", None, WAIT_MS)
_TOO_MUCH: Final = Verdict("denied", "limit_reached")


Take = Callable[[Leases, Amounts], Verdict]
"""Spends or reserves amounts, or only weighs them."""


class Debt(NamedTuple):
    """What an operation takes of one limit. `is_ahead`: of a period of it that is not known yet."""

    tracked: Tracked
    units: int
    is_ahead: bool = False


class Debits:
    """The leases of the present holder, as limits are decided by them.

    `leases` is None while there is no holder. `had` are all that this agent's holders have, or had: what was used of them
    is counted. `changed` are those whose counts are not kept yet. `hurry`: a limit needs another lease, so sync now.
    """

    def __init__(self) -> None:
        self.leases: Leases | None = None
        self.holder = ""
        self.had: set[Key] = set()
        self.changed: dict[Key, Lease] = {}
        self.hurry = False
        self.last_seq = 0

    @property
    def hurries(self) -> bool:
        """Whether a sync should not wait for its turn."""
        return self.hurry or (self.leases is not None and self.leases.hurry)

    def take_changed(self) -> list[Lease]:
        """The leases whose counts changed since this was asked last."""
        changed = list(self.changed.values())
        self.changed.clear()
        return changed

    def hold(self, leases: Leases | None, tracked: Iterable[Tracked], holder: str = "") -> None:
        """Another holder, named by its hello, or none: every limit gets a lease of that one."""
        self.leases, self.holder = leases, holder
        self.changed.clear()
        for each in tracked:
            each.lease = None
            self.attach(each)

    def attach(self, tracked: Tracked) -> None:
        """Let a limit be decided by the lease of its period.

        What was used of it before there was a lease, and is not in the total known, is debited from the first one. If its
        events are counted before the control plane hears of the lease, it takes them for usage that nobody speaks for, so
        they count twice: which of the two came first only it knows, and too much keeps the limit.
        """
        leases, limit = self.leases, tracked.limit
        if leases is None or limit.scale is None:
            if tracked.lease is not None:
                tracked.lease.disuse()
            tracked.lease = None
            return
        if tracked.lease is not None and leases.is_current(tracked.lease):
            return
        lease = leases.watch(limit.id, limit.period)
        if lease is None or not leases.is_current(lease):
            tracked.lease = None
            return
        units = tracked.owed if lease.key in self.had else tracked.units(tracked.own_in_period)
        tracked.lease, tracked.leased_after, tracked.owed, tracked.asked_anew = lease, self.last_seq, 0, False
        tracked.debit_from(self.holder, seq=self.last_seq, had=lease.key in self.had)
        self.had.add(lease.key)
        self._charge(lease, units)

    def outdate(self, tracked: Tracked) -> None:
        """A later period of the limit counts by now: its lease decides nothing any more."""
        tracked.lease, tracked.asked_anew = None, False

    # Deciding

    def look(self, tracked: Tracked, subject: str, quantity: int | Decimal, now_us: int | None) -> Decision:
        """Decide about one limit; nothing is debited."""
        lease, leases = tracked.lease, self.leases
        units = quantity * tracked.factor if type(quantity) is int else tracked.units(quantity)
        if lease is None or leases is None or (now_us is not None and tracked.is_over(now_us)):
            return self._refusal(Debt(tracked, units), subject, self._without(tracked))
        verdict = leases.look(lease, units) if units <= MAX_UNITS else _TOO_MUCH
        if verdict is ALLOWED:
            return _allowed(tracked, subject, lease)
        return self._refusal(Debt(tracked, units), subject, verdict)

    def settle(self, debts: Sequence[Debt], subject: str, take: Take) -> tuple[list[Decision], Amounts]:
        """Decide about several limits as one, and `take` it of all of them, or of none.

        A refusal is one decision, of the limit that it is due to.
        """
        leases = self.leases
        amounts: list[tuple[Lease, int]] = []
        for debt in debts:
            if leases is None or debt.tracked.lease is None or debt.is_ahead:
                return [self._refusal(debt, subject, self._without(debt.tracked))], ()
            if debt.units > MAX_UNITS:
                return [self._refusal(debt, subject, _TOO_MUCH)], ()
            amounts.append((debt.tracked.lease, debt.units))
        if leases is None:
            return [], ()
        decisions = [
            _allowed(tracked, subject, lease) for (tracked, *_), (lease, _) in zip(debts, amounts, strict=True)
        ]
        verdict = take(leases, amounts)
        if verdict is not ALLOWED:
            due = next((debt for debt in debts if debt.tracked.lease is verdict.lease), debts[0])
            return [self._refusal(due, subject, verdict)], ()
        return decisions, amounts

    def _without(self, tracked: Tracked) -> Verdict:
        if not tracked.asked_anew:
            tracked.asked_anew = self.hurry = True
        return _NO_LEASE

    def _refusal(self, debt: Debt, subject: str, verdict: Verdict) -> Decision:
        tracked = debt.tracked
        left = max(tracked.lease.free, 0) if tracked.lease is not None else 0
        wait_s = verdict.wait_ms / 1000 if verdict.answer == "ask" else 0.0
        return decision_of(tracked, subject, False, verdict.reason, tracked.used, _amount(tracked, left), wait_s)

    # What was recorded

    def recorded(self, tracked: Tracked, amount: Decimal) -> None:
        """Something was used without having been asked for."""
        if tracked.limit.scale is None:
            return
        units = tracked.units(amount)
        if tracked.lease is None:
            tracked.owed += units
        else:
            self._charge(tracked.lease, units)

    def charge(self, debts: Iterable[Debt]) -> None:
        """What an operation used of limits that it did not ask for."""
        for debt in debts:
            if debt.tracked.lease is not None and not debt.is_ahead:
                self._charge(debt.tracked.lease, debt.units)

    def settle_counted(self, tracked: Tracked) -> None:
        """What was debited of a limit in money for events that are counted is on the bill: nobody needs it any more.

        To be done once it is kept that they are counted: done twice, it would give back what others may spend by then.
        """
        if not tracked.limit.prices or not tracked.settled:
            return
        units = tracked.take_settled()
        if tracked.lease is not None and self.leases is not None and units:
            self.leases.settle(tracked.lease, units)
            self.changed[tracked.lease.key] = tracked.lease

    def undone(self, tracked: Tracked, seq: int, amount: Decimal) -> None:
        """Row `seq` is certainly not in the buffer: what it took is given back to the lease that it was taken of."""
        if tracked.lease is None or self.leases is None or seq <= tracked.leased_after:
            return
        self.leases.take_back([(tracked.lease, tracked.units(amount))])
        self.changed[tracked.lease.key] = tracked.lease

    def _charge(self, lease: Lease, units: int) -> None:
        self.changed[lease.key] = lease
        if units > 0 and self.leases is not None:
            self.leases.charge(lease, units)


def _allowed(tracked: Tracked, subject: str, lease: Lease) -> Decision:
    return decision_of(tracked, subject, True, "within_limit", tracked.used, _amount(tracked, lease.free))


def _amount(tracked: Tracked, units: int) -> Decimal:
    """Lease units as a quantity of the meter."""
    scale = tracked.limit.scale
    return Decimal(units).scaleb(-scale) if scale else Decimal(units)
