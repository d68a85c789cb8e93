"""A limit with what was used of it here since, and the decision by that. Pure; time plays no part.

Used, as the agent sees it, is the control plane's last known total plus the agent's own events that this total does
not hold yet. Those are kept as marks (last row, amount): once the control plane says that it has counted up to a row,
the marks up to that row go, so every event is in exactly one of the two at any moment.

Of a limit that is leased, the lease decides (`sidemeter.limits`); what is used is told, and decides nothing.
"""

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Final, Literal, NamedTuple

import msgspec

from sidemeter.events import Event, Receipt
from sidemeter.leases import MAX_UNITS, Lease
from sidemeter.meters import EXACT, Meter, PriceCap, data_of, price_of

__all__ = [
    "MAX_MARKS",
    "Decision",
    "Enforcement",
    "Kind",
    "Limit",
    "Mark",
    "Part",
    "QuotaView",
    "Tracked",
    "decide",
    "decision_of",
    "parts_of",
    "tightness",
    "units_of",
]

MAX_MARKS: Final = 64
"""Marks of one limit. More are merged in pairs: a merged mark goes only when all of it is counted."""

_ZERO: Final = Decimal(0)

Kind = Literal["BOOLEAN", "STATIC", "METERED"]
Enforcement = Literal["HARD", "SOFT"]
Mark = tuple[int, Decimal]


class Limit(msgspec.Struct, frozen=True):
    """What the control plane said last about one limit. `limit` None is unlimited; `value` is JSON text.

    `scale` is set for one that is leased, as the lease of `period`: one lease unit is 10^-scale of the meter's unit.
    `prices`: it is in money; what an event takes of it is what it costs at most by these, and `limit` and `used` are money.

    Of one in money it is kept for a restart that rows after `debited_after` were debited at these prices, from the lease of
    the holder with the hello `debited_by`.
    """

    id: str
    customer: str
    feature: str
    kind: Kind
    enforcement: Enforcement
    policy_version: int
    value: str | None = None
    limit: Decimal | None = None
    used: Decimal | None = None
    meter: Meter | None = None
    period_start_us: int | None = None
    resets_at_us: int | None = None
    period: int = 0
    scale: int | None = None
    prices: tuple[PriceCap, ...] = ()
    debited_by: str = ""
    debited_after: int = 0

    def amount(self, event_type: str, data: object) -> Decimal | None:
        """What an event takes of it; None when it is not about it. Money is rounded up to a lease unit."""
        if self.meter is not None:
            return self.meter.amount(data) if self.meter.event_type == event_type else None
        price = price_of(self.prices, event_type, data)
        if price is None or self.scale is None:
            return price
        return Decimal(units_of(price, 10**self.scale)).scaleb(-self.scale, EXACT)

    def takes(self, event_type: str) -> bool:
        """Whether events of that type can take something of it."""
        if self.meter is not None:
            return self.meter.event_type == event_type
        return any(each.meter.event_type == event_type for each in self.prices)


class Part(NamedTuple):
    """What an event adds to one limit. `is_late`: it is of a period before the one that is known, so it adds nothing;
    `is_ahead`: of one after it."""

    tracked: "Tracked"
    amount: Decimal
    is_late: bool = False
    is_ahead: bool = False


class Decision(msgspec.Struct, frozen=True):
    """The answer to "may this subject do this?", why it is so, and how old the knowledge is.

    `reason` is one of within_limit, limit_reached, soft_limit_exceeded, unlimited, entitled, not_entitled, no_limit,
    unknown_subject, no_control_plane; of a leased limit also lease_short (this agent's lease has less left), no_lease
    (it has none now), agent_stopping, too_many_reservations. `used` includes own events not yet counted; `remaining` is
    never negative, and of a leased limit what this agent may still spend on its own. Quantities are in the meter's unit, instants in microseconds since 1970, `wait_s` is when asking again may help.
    `receipt` is set when the call recorded an event.
    """

    allowed: bool
    reason: str
    subject: str
    feature: str | None = None
    limit: Decimal | None = None
    used: Decimal | None = None
    remaining: Decimal | None = None
    wait_s: float = 0.0
    resets_at_us: int | None = None
    as_of_us: int | None = None
    policy_version: int | None = None
    receipt: Receipt | None = None


class QuotaView(msgspec.Struct, frozen=True):
    """One limit of a subject as this agent knows it; the fields mean what they mean in `Limit` and `Decision`."""

    customer: str
    feature: str
    kind: Kind
    enforcement: Enforcement
    value: str | None
    limit: Decimal | None
    used: Decimal | None
    remaining: Decimal | None
    resets_at_us: int | None
    as_of_us: int
    policy_version: int


class Tracked:
    """A limit with the agent's own usage that the limit's total does not hold yet, and its lease, if it has one.

    `own` includes what is of a later period than the one known: it counts here until that one is. `owed` are lease units
    that were used without having been asked for, while there was no lease to debit; `leased_after` is the last row from
    before there was this one. `asked_anew`: that it needs another lease was said already.

    Of a limit in money what was debited for an event is `settled` once the event is counted: the bill has it then. That is
    given back with `take_settled`, but for `unsettled`, which was debited from another lease than this one.
    """

    __slots__ = (
        "_ahead",
        "_marks",
        "as_of_us",
        "asked_anew",
        "counted_seq",
        "debited_after",
        "debited_by",
        "factor",
        "lease",
        "leased_after",
        "limit",
        "owed",
        "own",
        "settled",
        "unsettled",
    )

    def __init__(self, limit: Limit, as_of_us: int, counted_seq: int) -> None:
        self.limit = limit
        self.as_of_us = as_of_us
        self.counted_seq = counted_seq
        self.own = _ZERO
        self.lease: Lease | None = None
        self.leased_after = 0
        self.owed = 0
        self.asked_anew = False
        self.settled = _ZERO
        self.unsettled = _ZERO
        self.debited_by, self.debited_after = limit.debited_by, limit.debited_after
        self.factor = 10 ** (limit.scale or 0)
        self._marks: deque[Mark] = deque()
        self._ahead: deque[Mark] = deque()

    @property
    def adds(self) -> bool:
        """Whether own events are added to the total known: only counts and sums can be."""
        meter = self.limit.meter
        return bool(self.limit.prices) if meter is None else meter.aggregation in {"COUNT", "SUM"}

    @property
    def used(self) -> Decimal:
        """The total known, with own usage added."""
        return EXACT.add(self.limit.used or _ZERO, self.own)

    @property
    def own_in_period(self) -> Decimal:
        """Own usage of the period that is known."""
        return _total(_ZERO, self._marks)

    def units(self, amount: int | Decimal) -> int:
        """An amount in units of the lease."""
        return units_of(amount, self.factor)

    def is_over(self, now_us: int) -> bool:
        """Whether the period that is known has ended by then."""
        return self.limit.resets_at_us is not None and now_us >= self.limit.resets_at_us

    def add(self, seq: int, amount: Decimal, *, is_ahead: bool = False) -> None:
        """Own usage of row `seq`, the newest so far."""
        self.own = EXACT.add(self.own, amount)
        marks = self._ahead if is_ahead else self._marks
        marks.append((seq, amount))
        if len(marks) > MAX_MARKS:
            self._put(_merged(marks), is_ahead=is_ahead)

    def add_missed(self, marks: Iterable[Mark], *, is_ahead: bool = False) -> Decimal:
        """Own usage of any rows that were not added when they were recorded; what it came to."""
        missed = [mark for mark in marks if mark[0] > self.counted_seq]
        added = _total(_ZERO, missed)
        self.own = EXACT.add(self.own, added)
        all_marks = deque(sorted([*(self._ahead if is_ahead else self._marks), *missed]))
        while len(all_marks) > MAX_MARKS:
            all_marks = _merged(all_marks)
        self._put(all_marks, is_ahead=is_ahead)
        return added

    def undo(self, seq: int, amount: Decimal, *, is_ahead: bool = False) -> None:
        """Take back what was added for a row that is not in the buffer after all."""
        marks = self._ahead if is_ahead else self._marks
        for index, (last_seq, total) in enumerate(marks):
            if last_seq >= seq:
                marks[index] = (last_seq, EXACT.subtract(total, amount))
                self.own = EXACT.subtract(self.own, amount)
                return

    def learn(self, limit: Limit, as_of_us: int, counted_seq: int) -> None:
        """A newer total, which holds every own row up to `counted_seq`."""
        begins = self.is_over(limit.period_start_us) if limit.period_start_us is not None else False
        if begins:  # what was used before it does not count in it
            self._marks, self._ahead, self.owed = self._ahead, deque(), 0
            self.settled = self.unsettled = _ZERO
            self.own = self.own_in_period
        if limit.scale is not None and (limit.period, limit.scale) != (self.limit.period, self.limit.scale):
            self.lease, self.asked_anew, self.factor = None, False, 10**limit.scale
            self.settled = self.unsettled = _ZERO
        self.limit = limit
        self.as_of_us = as_of_us
        self.counted_seq = max(self.counted_seq, counted_seq)
        for marks in (self._marks, self._ahead):
            while marks and marks[0][0] <= self.counted_seq:
                amount = marks.popleft()[1]
                self.own = EXACT.subtract(self.own, amount)
                if self.limit.prices and marks is self._marks:
                    self._settle(amount)

    def _settle(self, amount: Decimal) -> None:
        passed = min(amount, self.unsettled)
        self.unsettled = EXACT.subtract(self.unsettled, passed)
        self.settled = EXACT.add(self.settled, EXACT.subtract(amount, passed))

    def debit_from(self, holder: str, *, seq: int, had: bool) -> None:
        """What is debited from here on is debited from a lease of `holder`, after row `seq`.

        `had`: own usage so far was debited before. The same holder, after a restart, goes on with what it was debited for.
        """
        self.settled = self.unsettled = _ZERO
        if had and holder and holder == self.debited_by:
            self.unsettled = _total(_ZERO, self._marks_through(self.debited_after))
            return
        if had:
            self.unsettled = self.own_in_period
        self.debited_by, self.debited_after = holder, self.last_row(seq)

    def last_row(self, recorded_seq: int) -> int:
        """The last row that may be debited by now. After a restart nothing was `recorded` yet, and the buffer's rows are here."""
        return max(recorded_seq, self.counted_seq, self._marks[-1][0] if self._marks else 0)

    def _marks_through(self, seq: int) -> Iterator[Mark]:
        """The marks that may hold something of rows up to that one: a merged one is named by its last row."""
        for mark in self._marks if seq else ():
            yield mark
            if mark[0] > seq:
                return

    def as_kept(self) -> Limit:
        """The limit, with what is to be known of it after a restart."""
        if not self.limit.prices:
            return self.limit
        return msgspec.structs.replace(self.limit, debited_by=self.debited_by, debited_after=self.debited_after)

    def take_settled(self) -> int:
        """Lease units that were debited for what is counted by now, each once."""
        settled, self.settled = self.settled, _ZERO
        return self.units(settled)

    def _put(self, marks: deque[Mark], *, is_ahead: bool) -> None:
        if is_ahead:
            self._ahead = marks
        else:
            self._marks = marks

    def view(self) -> QuotaView:
        """What is known, to look at."""
        limit, metered = self.limit, self.limit.kind == "METERED"
        return QuotaView(
            customer=limit.customer,
            feature=limit.feature,
            kind=limit.kind,
            enforcement=limit.enforcement,
            value=limit.value,
            limit=limit.limit,
            used=self.used if metered else None,
            remaining=None if limit.limit is None else max(limit.limit - self.used, _ZERO),
            resets_at_us=limit.resets_at_us,
            as_of_us=self.as_of_us,
            policy_version=limit.policy_version,
        )


def decide(tracked: Tracked, subject: str, quantity: int | Decimal) -> Decision:
    """The rule: may `subject` use `quantity` more of this limit?"""
    limit = tracked.limit
    if limit.kind != "METERED":
        entitled = limit.kind == "STATIC" or limit.value == "true"
        return decision_of(tracked, subject, entitled, "entitled" if entitled else "not_entitled")
    if limit.limit is None:
        return decision_of(tracked, subject, True, "unlimited", tracked.used)
    used = tracked.used
    left = EXACT.subtract(limit.limit, used)
    remaining = left if left > 0 else _ZERO
    if left >= quantity if tracked.adds else left > 0:  # what is not a sum has no amount to compare
        return decision_of(tracked, subject, True, "within_limit", used, remaining)
    if limit.enforcement == "SOFT":
        return decision_of(tracked, subject, True, "soft_limit_exceeded", used, remaining)
    return decision_of(tracked, subject, False, "limit_reached", used, remaining)


def decision_of(  # noqa: PLR0917 -- positional, because a check is counted in nanoseconds
    tracked: Tracked,
    subject: str,
    allowed: bool,
    reason: str,
    used: Decimal | None = None,
    remaining: Decimal | None = None,
    wait_s: float = 0.0,
) -> Decision:
    """The decision about a limit, with what it was made from."""
    limit = tracked.limit
    return Decision(
        allowed,
        reason,
        subject,
        limit.feature,
        limit.limit,
        used,
        remaining,
        wait_s,
        limit.resets_at_us,
        tracked.as_of_us,
        limit.policy_version,
    )


def tightness(decision: Decision) -> tuple[bool, bool, Decimal]:
    """Of several decisions, the least one is the answer."""
    return decision.allowed, decision.remaining is None, decision.remaining or _ZERO


def parts_of(candidates: Sequence[Tracked], event: Event) -> Iterator[Part]:
    """The limits that take an event, each with what the event adds to it here."""
    data: object = None
    for tracked in candidates:
        limit = tracked.limit
        if not limit.takes(event.type):
            continue
        if data is None:
            data = data_of(event)
        amount = limit.amount(event.type, data)
        if amount is None:
            continue
        at_us = event.time_us
        if at_us is None:
            yield Part(tracked, amount)
        elif limit.period_start_us is not None and at_us < limit.period_start_us:
            yield Part(tracked, amount, is_late=True)
        else:
            yield Part(tracked, amount, is_ahead=tracked.is_over(at_us))


def units_of(amount: int | Decimal, factor: int) -> int:
    """An amount in lease units, rounded up; less than nothing is nothing. More than there can be is one more than that.

    >>> units_of(Decimal("0.0015"), 1000), units_of(-3, 1), units_of(10**30, 1) == MAX_UNITS + 1
    (2, 0, True)
    """
    if isinstance(amount, Decimal):
        amount = int(EXACT.multiply(amount, Decimal(factor)).to_integral_value(ROUND_CEILING, EXACT))
    else:
        amount *= factor
    return min(max(amount, 0), MAX_UNITS + 1)


def _merged(marks: Iterable[Mark]) -> deque[Mark]:
    """Neighbours made one, at half the number. The pair stands at its later row, so it goes late, never early."""
    halved: deque[Mark] = deque()
    for index, (seq, amount) in enumerate(marks):
        halved.append((seq, EXACT.add(halved.pop()[1], amount) if index % 2 else amount))
    return halved


def _total(start: Decimal, marks: Iterable[Mark]) -> Decimal:
    return functools.reduce(EXACT.add, (amount for _, amount in marks), start)
