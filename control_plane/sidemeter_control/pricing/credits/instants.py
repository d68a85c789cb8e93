"""Credits: when a grant is active, which grant pays first, and what stands at an instant. Pure rules, no I/O.

An amount is money or a feature's units: the rules are the same, and every grant of one question counts in one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Protocol

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import exact
from sidemeter_control.pricing.periods import EVER, Period

__all__ = [
    "ANYTHING",
    "MAX_INSTANTS",
    "Allocation",
    "Grant",
    "Line",
    "Overdraw",
    "Recurs",
    "Reset",
    "Segment",
    "State",
    "burn_order",
    "instants",
    "worth",
]

ANYTHING: frozenset[str] = frozenset()
"""The scope of a line that no limited grant pays."""


MAX_INSTANTS = 4_000
"""That one answer may look at: ten years of a daily recurrence. Each is at least one usage question."""


class Overdraw(Enum):
    """What becomes of use that no grant pays: carried as overage, refused, or owed by a balance below zero."""

    OVERAGE = "OVERAGE"
    REJECT = "REJECT"
    NEGATIVE = "NEGATIVE"


class Recurs(Protocol):
    """When a grant recurs: where periods end, as `periods.Recurrence` lays them."""

    def meeting(self, from_us: int, to_us: int) -> Iterator[Period]:
        """The periods, in order, that share an instant with `[from_us, to_us)`."""
        ...

    def period_at(self, at_us: int) -> Period:
        """The one of an instant."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An amount that pays for use while it is active. Instants in microseconds since 1970; None is never.

    A reset leaves of its balance what lies between `rollover_min` and `rollover_max`; a recurrence sets the balance
    back to the amount. `scope` names the lines it may pay, None any line.
    """

    id: str
    amount: Decimal
    effective_at_us: int
    created_at_us: int = 0
    priority: int | None = None
    expires_at_us: int | None = None
    voided_at_us: int | None = None
    deleted_at_us: int | None = None
    purchased: bool = False
    recurrence: Recurs | None = None
    rollover_max: Decimal = Decimal(0)
    rollover_min: Decimal = Decimal(0)
    scope: frozenset[str] | None = None

    @property
    def active(self) -> Period:
        """From when to when it pays: a period without length when it ended before it began."""
        ends = (self.expires_at_us, self.voided_at_us, self.deleted_at_us)
        end_us = min((end for end in ends if end is not None), default=EVER.end_us)
        return Period(self.effective_at_us, max(self.effective_at_us, end_us))

    def is_active_at(self, at_us: int) -> bool:
        """Whether it pays at that instant: from its first one on, and at its end no more."""
        return self.active.start_us <= at_us < self.active.end_us

    def may_pay(self, scope: frozenset[str]) -> bool:
        """Whether a line of that scope is one of those it is for."""
        return self.scope is None or not self.scope.isdisjoint(scope)

    def renewals(self, after_us: int, until_us: int) -> Iterator[int]:
        """When it recurs, after `after_us` and not after `until_us`, while it is active."""
        if self.recurrence is None:
            return
        start_us = max(after_us, self.effective_at_us)
        for period in self.recurrence.meeting(start_us, min(until_us, self.active.end_us - 1)):
            if period.end_us <= until_us and self.is_active_at(period.end_us):
                yield period.end_us

    @exact
    def kept(self, balance: Decimal) -> Decimal:
        """What a reset leaves of a balance."""
        return min(self.rollover_max, max(self.rollover_min, balance))


def burn_order(grant: Grant) -> tuple[object, ...]:
    """Sorts the grant that pays first to the front.

    Priority (none last), expiry (none last), granted before purchased, the older one, the smaller id.
    """
    return (
        grant.priority is None,
        grant.priority or 0,
        grant.expires_at_us is None,
        grant.expires_at_us or 0,
        grant.purchased,
        grant.created_at_us,
        grant.id,
    )


@dataclass(frozen=True, slots=True)
class Reset:
    """The end of a period: balances roll over, use is counted anew, overage is dropped or `preserve_overage`d."""

    at_us: int
    preserve_overage: bool = False


class Line(msgspec.Struct, frozen=True):
    """Something to be paid, negative when it is given back; `scope` says by which limited grants it may be."""

    amount: Decimal
    scope: frozenset[str] = ANYTHING


@dataclass(frozen=True, slots=True)
class Segment:
    """What was used in `[from_us, to_us)`, in which nothing but use happens."""

    from_us: int
    to_us: int
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one grant paid for a line of a segment, negative when it was given back.

    Overage that was carried is paid at an instant: `from_us` is then `to_us`.
    """

    from_us: int
    to_us: int
    grant: str
    scope: frozenset[str]
    amount: Decimal


class State(msgspec.Struct, frozen=True):
    """What stands at an instant, after all that happens at it but use. JSON, digit for digit, is `state.text()`.

    `balances` are those of active grants; `spent` of that what they paid since the balance was last set; `burned` what
    each grant has ever paid. `used` counts since the last reset. `overage` waits for a grant, by what it is for; less
    than nothing is what was given back and no grant had paid.
    """

    at_us: int
    balances: Mapping[str, Decimal] = {}
    spent: Mapping[str, Decimal] = {}
    burned: Mapping[str, Decimal] = {}
    overage: tuple[Line, ...] = ()
    used: Decimal = Decimal(0)

    def text(self) -> str:
        """JSON to keep."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str) -> "State":
        """What `text` gave."""
        return msgspec.json.decode(text, type=cls)

    @property
    @exact
    def balance(self) -> Decimal:
        """What all active grants have left together."""
        return sum(self.balances.values(), Decimal(0))

    @property
    @exact
    def unpaid(self) -> Decimal:
        """The overage of every scope together."""
        return sum((line.amount for line in self.overage), Decimal(0))


def instants(
    grants: Iterable[Grant], resets: Iterable[Reset], from_us: int, until_us: int, cuts: Iterable[int] = ()
) -> list[int]:
    """From `from_us` to `until_us`, both of them in it, every instant at which something else than use happens.

    InvalidInput for more than 4,000 of them.
    """
    found = {from_us, until_us, *cuts, *(reset.at_us for reset in islice(resets, MAX_INSTANTS))}
    for grant in grants:
        renewals = islice(grant.renewals(from_us, until_us), MAX_INSTANTS)
        found |= {grant.active.start_us, grant.active.end_us, *renewals}
    within = sorted(at_us for at_us in found if from_us <= at_us <= until_us)
    if len(within) > MAX_INSTANTS:
        raise InvalidInput("at", f"must be within {MAX_INSTANTS} changes of the grants from where they begin")
    return within


@exact
def worth(quantity: Decimal, rate: Decimal) -> Decimal:
    """What so many credits are in money, at the amount that one of them is worth."""
    return quantity * rate
