"""Burning down: use takes from grants in their order, what none pays waits as overage. A pure fold over segments.

At one instant: endings, then the reset, then activations and recurrences, then carried overage, then use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from sidemeter_control.money import exact
from sidemeter_control.pricing.credits.instants import (
    Allocation,
    Grant,
    Line,
    Overdraw,
    Reset,
    Segment,
    State,
    burn_order,
)

__all__ = ["Burned", "burn", "opened", "segmented"]

_NONE = Decimal(0)


@dataclass(frozen=True, slots=True)
class Burned:
    """What stands at the end, and who paid what on the way, in order. `rejected`: some use was refused."""

    state: State
    allocations: Sequence[Allocation] = ()
    rejected: bool = False
    overdraw: Overdraw = Overdraw.OVERAGE

    @property
    @exact
    def balance(self) -> Decimal:
        """What is left; less than nothing where overdrawing is to show there."""
        return self.state.balance - (self.state.unpaid if self.overdraw is Overdraw.NEGATIVE else _NONE)

    @property
    def overage(self) -> Decimal:
        """What nobody has paid."""
        return _NONE if self.overdraw is Overdraw.NEGATIVE else self.state.unpaid


@exact
def opened(
    grants: Sequence[Grant],
    at_us: int,
    reset: Reset | None = None,
    balances: Mapping[str, Decimal] | None = None,
) -> State:
    """What stands at the first instant that is looked at: active grants are full, unless `balances` says otherwise."""
    known = balances or {}
    before = [grant for grant in grants if grant.effective_at_us < at_us and grant.active.end_us > at_us]
    ledger = _Ledger.of(
        grants, State(at_us - 1, {grant.id: known.get(grant.id, grant.amount) for grant in before}), at_us
    )
    ledger.turn(at_us, reset)
    for grant in grants:
        if grant.effective_at_us == at_us and grant.id in ledger.balances:
            ledger.balances[grant.id] = known.get(grant.id, grant.amount)
    return ledger.state(at_us)


@exact
def burn(
    state: State,
    grants: Sequence[Grant],
    resets: Iterable[Reset],
    segments: Iterable[Segment],
    overdraw: Overdraw = Overdraw.OVERAGE,
) -> Burned:
    """What stands at the end of the segments, which follow on one another from the state's instant.

    Between them lie all the instants of `credits.instants`; what happens at the last one has happened, its use not.
    """
    by_instant = {reset.at_us: reset for reset in resets}
    segments = list(segments)
    at_us = state.at_us
    ledger = _Ledger.of(grants, state, segments[-1].to_us if segments else at_us, overdraw)
    for segment in segments:
        ledger.use(segment)
        at_us = segment.to_us
        ledger.turn(at_us, by_instant.get(at_us))
    return Burned(ledger.state(at_us), tuple(ledger.allocations), ledger.rejected, overdraw)


def segmented(instants: Sequence[int], used: Iterable[tuple[int, Line]]) -> list[Segment]:
    """Single uses, each at its instant, as the segments between `instants`; one that lies in none is left out."""
    taken = sorted(used, key=lambda use: use[0])
    return [
        Segment(from_us, to_us, [line for at_us, line in taken if from_us <= at_us < to_us])
        for from_us, to_us in pairwise(instants)
    ]


@dataclass(slots=True)
class _Ledger:
    """The fold's own state. `order` has every grant, the one that pays first in front; `full` when each is filled up."""

    order: Sequence[Grant]
    full: Mapping[str, frozenset[int]]
    overdraw: Overdraw
    balances: dict[str, Decimal]
    spent: dict[str, Decimal]
    burned: dict[str, Decimal]
    overage: dict[frozenset[str], Decimal]
    used: Decimal
    allocations: list[Allocation] = field(default_factory=list)
    rejected: bool = False

    @classmethod
    def of(
        cls, grants: Sequence[Grant], state: State, until_us: int, overdraw: Overdraw = Overdraw.OVERAGE
    ) -> "_Ledger":
        return cls(
            sorted(grants, key=burn_order),
            {each.id: frozenset([each.effective_at_us, *each.renewals(state.at_us, until_us)]) for each in grants},
            overdraw,
            dict(state.balances),
            dict(state.spent),
            dict(state.burned),
            {line.scope: line.amount for line in state.overage},
            state.used,
        )

    def state(self, at_us: int) -> State:
        overage = tuple(Line(amount, scope) for scope, amount in self.overage.items() if amount)
        return State(at_us, self.balances, self.spent, self.burned, overage, self.used)

    def turn(self, at_us: int, reset: Reset | None) -> None:
        """All that happens at an instant, but use."""
        for grant in self.order:
            if grant.id in self.balances and not grant.is_active_at(at_us):
                del self.balances[grant.id]
                self.spent.pop(grant.id, None)
        if reset is not None:
            self._reset(reset)
        for grant in self.order:
            if at_us in self.full[grant.id] and grant.is_active_at(at_us):
                self._set(grant, grant.amount)
        for scope, amount in list(self.overage.items()):
            if amount > 0:
                self.overage[scope] = _NONE
                self._pay(Line(amount, scope), at_us, at_us)

    def use(self, segment: Segment) -> None:
        """What was used takes its turn; together, so that it makes no difference in how many parts it came."""
        lines = segment.lines if self.overdraw is Overdraw.REJECT else _together(segment.lines)
        for line in lines:
            if self.overdraw is Overdraw.REJECT and line.amount > self._available(line.scope):
                self.rejected = True
                continue
            self.used += line.amount
            if line.amount < 0:
                self._give_back(line, segment.from_us, segment.to_us)
            else:
                self._pay(line, segment.from_us, segment.to_us)

    def _reset(self, reset: Reset) -> None:
        for grant in self.order:
            if grant.id in self.balances:
                self._set(grant, grant.kept(self.balances[grant.id]))
        self.used = _NONE
        if not reset.preserve_overage:
            self.overage.clear()

    def _set(self, grant: Grant, balance: Decimal) -> None:
        self.balances[grant.id] = balance
        self.spent.pop(grant.id, None)

    def _available(self, scope: frozenset[str]) -> Decimal:
        return sum((self.balances.get(grant.id, _NONE) for grant in self.order if grant.may_pay(scope)), _NONE)

    def _pay(self, line: Line, from_us: int, to_us: int) -> None:
        """First what was given back and nobody had paid, then grants in order, then it waits."""
        waiting = self.overage.get(line.scope, _NONE)
        due = line.amount if waiting >= 0 else max(line.amount + waiting, _NONE)
        self.overage[line.scope] = waiting + line.amount - due
        for grant in self.order:
            part = min(due, self.balances.get(grant.id, _NONE)) if grant.may_pay(line.scope) else _NONE
            if part > 0:
                self._move(grant, part, line.scope, from_us, to_us)
                due -= part
        self.overage[line.scope] += due

    def _give_back(self, line: Line, from_us: int, to_us: int) -> None:
        """The other way round: what waits is not owed any more, then the grant that paid last gets it back."""
        waiting = self.overage.get(line.scope, _NONE)
        back = -line.amount - min(max(waiting, _NONE), -line.amount)
        self.overage[line.scope] = waiting + line.amount + back
        for grant in reversed(self.order):
            part = min(back, self.spent.get(grant.id, _NONE)) if grant.may_pay(line.scope) else _NONE
            if part > 0:
                self._move(grant, -part, line.scope, from_us, to_us)
                back -= part
        self.overage[line.scope] -= back

    def _move(self, grant: Grant, amount: Decimal, scope: frozenset[str], from_us: int, to_us: int) -> None:
        self.balances[grant.id] -= amount
        self.spent[grant.id] = self.spent.get(grant.id, _NONE) + amount
        self.burned[grant.id] = self.burned.get(grant.id, _NONE) + amount
        self.allocations.append(Allocation(from_us, to_us, grant.id, scope, amount))


def _together(lines: Iterable[Line]) -> list[Line]:
    """One line for each scope, in the order in which they first come."""
    sums: dict[frozenset[str], Decimal] = {}
    for line in lines:
        sums[line.scope] = sums.get(line.scope, _NONE) + line.amount
    return [Line(amount, scope) for scope, amount in sums.items()]
