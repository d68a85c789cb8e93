"""Limits: what the agent last learned of them, what it has used since, and the decision. Pure; time plays no part.

Used, as the agent sees it, is the control plane's last known total plus the agent's own events that this total does
not hold yet. Those are kept as marks (last row, amount): once the control plane says that it has counted up to a row,
the marks up to that row go, so every event is in exactly one of the two at any moment.
"""

import functools
import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal

import msgspec

from sidemeter.events import Event, Receipt
from sidemeter.meters import EXACT, Meter, data_of

__all__ = [
    "Decision",
    "Limit",
    "Limits",
    "QuotaView",
    "Tracked",
    "decide",
]

MAX_MARKS: Final = 64
"""Marks of one limit. More are merged in pairs: a merged mark goes only when all of it is counted."""

MAX_SUBJECTS: Final = 100_000
"""Subjects the agent follows; past that, the one that was quiet longest is forgotten and learned anew when it returns."""

_ZERO: Final = Decimal(0)

Kind = Literal["BOOLEAN", "STATIC", "METERED"]
Enforcement = Literal["HARD", "SOFT"]
Mark = tuple[int, Decimal]
Subjects = Mapping[str, Sequence[str]]
"""What each subject has: the ids of its limits."""


class Limit(msgspec.Struct, frozen=True):
    """What the control plane said last about one limit. `limit` None is unlimited; `value` is JSON text."""

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


class Decision(msgspec.Struct, frozen=True):
    """The answer to "may this subject do this?", why it is so, and how old the knowledge is.

    `reason` is one of within_limit, limit_reached, soft_limit_exceeded, unlimited, entitled, not_entitled, no_limit,
    unknown_subject, no_control_plane. `used` includes own events not yet counted; `remaining` is never negative.
    Quantities are in the meter's unit, instants in microseconds since 1970, `wait_s` is when asking again may help.
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
    """A limit with the agent's own usage that the limit's total does not hold yet."""

    __slots__ = ("_marks", "as_of_us", "counted_seq", "limit", "own")

    def __init__(self, limit: Limit, as_of_us: int, counted_seq: int) -> None:
        self.limit = limit
        self.as_of_us = as_of_us
        self.counted_seq = counted_seq
        self.own = _ZERO
        self._marks: deque[Mark] = deque()

    @property
    def adds(self) -> bool:
        """Whether own events are added to the total known: only counts and sums can be."""
        meter = self.limit.meter
        return meter is not None and meter.aggregation in {"COUNT", "SUM"}

    @property
    def used(self) -> Decimal:
        """The total known, with own usage added."""
        return EXACT.add(self.limit.used or _ZERO, self.own)

    def add(self, seq: int, amount: Decimal) -> None:
        """Own usage of row `seq`, the newest so far."""
        self.own = EXACT.add(self.own, amount)
        self._marks.append((seq, amount))
        if len(self._marks) > MAX_MARKS:
            self._marks = _merged(self._marks)

    def add_missed(self, marks: Iterable[Mark]) -> None:
        """Own usage of any rows that were not added when they were recorded."""
        missed = [mark for mark in marks if mark[0] > self.counted_seq]
        self.own = _total(self.own, missed)
        self._marks = deque(sorted([*self._marks, *missed]))
        while len(self._marks) > MAX_MARKS:
            self._marks = _merged(self._marks)

    def undo(self, seq: int, amount: Decimal) -> None:
        """Take back what was added for a row that is not in the buffer after all."""
        for index, (last_seq, total) in enumerate(self._marks):
            if last_seq >= seq:
                self._marks[index] = (last_seq, EXACT.subtract(total, amount))
                self.own = EXACT.subtract(self.own, amount)
                return

    def learn(self, limit: Limit, as_of_us: int, counted_seq: int) -> None:
        """A newer total, which holds every own row up to `counted_seq`."""
        self.limit = limit
        self.as_of_us = as_of_us
        self.counted_seq = max(self.counted_seq, counted_seq)
        while self._marks and self._marks[0][0] <= self.counted_seq:
            self.own = EXACT.subtract(self.own, self._marks.popleft()[1])

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


Missed = Mapping[str, tuple[Tracked, ...]]
"""By subject, the limits that lack events recorded before they were watched."""


class Limits:
    """Every subject this agent follows, with its limits. `recorded`, `undone` and `check` are the hot path."""

    def __init__(
        self, *, allow_unknown: bool, unknown_reason: str = "unknown_subject", max_subjects: int = MAX_SUBJECTS
    ) -> None:
        self._allow_unknown = allow_unknown
        self._max_subjects = max_subjects
        self._unknown_reason = unknown_reason
        self._tracked: dict[str, Tracked] = {}
        self._known: dict[str, dict[str, Tracked]] = {}  # subject -> feature; the one learned longest ago comes first
        self._watched: dict[str, tuple[Tracked, ...]] = {}  # whose own usage is added up here, known yet or not
        self._active: dict[str, None] = {}

    def check(self, subject: str, feature: str, quantity: int | Decimal = 1) -> Decision:
        """Decide for one feature, from memory."""
        self.see(subject)
        features = self._known.get(subject)
        if features is None:
            return Decision(self._allow_unknown, self._unknown_reason, subject, feature)
        tracked = features.get(feature)
        if tracked is None:
            return Decision(False, "not_entitled", subject, feature)
        return decide(tracked, subject, quantity)

    def weigh(self, event: Event) -> Decision:
        """Decide for an event: every metered limit that takes it must allow it. The tightest one is the answer."""
        features = self._known.get(event.subject)
        if features is None:
            return Decision(self._allow_unknown, self._unknown_reason, event.subject)
        metered = [tracked for tracked in features.values() if tracked.limit.kind == "METERED"]
        decisions = [decide(tracked, event.subject, amount) for tracked, amount in _amounts(metered, event)]
        return min(decisions, key=_tightness, default=Decision(True, "no_limit", event.subject))

    def knows(self, subject: str) -> bool:
        """Whether the limits of `subject` are known (also when it is known to have none)."""
        return subject in self._known

    def views(self, subject: str) -> tuple[QuotaView, ...] | None:
        """Everything known of a subject, by feature; None when it is not known."""
        features = self._known.get(subject)
        return None if features is None else tuple(features[name].view() for name in sorted(features))

    def see(self, subject: str) -> None:
        """Note that a subject is active here: the next `to_ask` puts it first, unless it is known to have no limits."""
        if self._known.get(subject, True) and len(self._active) < self._max_subjects:
            self._active[subject] = None

    def recorded(self, seq: int, event: Event) -> None:
        """Add an event that the agent accepted as row `seq`."""
        self.see(event.subject)
        watched = self._watched.get(event.subject)
        if watched:
            for tracked, amount in _amounts(watched, event):
                tracked.add(seq, amount)

    def undone(self, seq: int, event: Event) -> None:
        """Take back an event whose row `seq` was refused, or was there already under another number."""
        for tracked, amount in _amounts(self._watched.get(event.subject, ()), event):
            tracked.undo(seq, amount)

    def to_ask(self, count: int, first: str | None = None) -> list[str]:
        """Up to `count` subjects to ask about: `first`, then active ones, then those asked about longest ago.

        However many are active, a quarter goes to the others: whoever got a limit meanwhile turns up among them.
        """
        asked = dict.fromkeys(() if first is None else (first,))
        some_active = itertools.islice(self._active, count * 3 // 4)
        for subject in itertools.chain(some_active, self._known, self._active):
            if len(asked) == count:
                break
            asked[subject] = None
        return list(asked)

    def learn(self, subjects: Subjects, limits: Iterable[tuple[Limit, int, int]]) -> Missed:
        """Take an answer: what each subject has, and `(limit, as_of_us, counted_seq)` of each limit.

        Returns what has to be counted again from the buffer before `publish` may show the subjects: pairs of a
        subject and a limit that were not watched so far. From here on they are.
        """
        for limit, as_of_us, counted_seq in limits:
            tracked = self._tracked.get(limit.id)
            if tracked is not None and tracked.limit.meter == limit.meter:
                tracked.learn(limit, as_of_us, counted_seq)
            else:
                self._tracked[limit.id] = Tracked(limit, as_of_us, counted_seq)
        missed: dict[str, tuple[Tracked, ...]] = {}
        for subject, limit_ids in subjects.items():
            before = self._watched.get(subject, ())
            adding = (self._tracked[each] for each in limit_ids if each in self._tracked)
            new = tuple(tracked for tracked in adding if tracked.adds and tracked not in before)
            if new:
                missed[subject] = new
                self._watched[subject] = before + new
        return missed

    def recount(self, missed: Missed, rows: Iterable[tuple[int, Event]]) -> None:
        """Add events that were recorded before their limit was watched."""
        marks: dict[Tracked, list[Mark]] = {}
        for seq, event in rows:
            for tracked, amount in _amounts(missed.get(event.subject, ()), event):
                marks.setdefault(tracked, []).append((seq, amount))
        for tracked, found in marks.items():
            tracked.add_missed(found)

    def publish(self, subjects: Subjects) -> None:
        """Decide by what was learned: everything has been counted."""
        for subject, limit_ids in subjects.items():
            self._active.pop(subject, None)
            self._known.pop(subject, None)
            features = [self._tracked[each] for each in limit_ids if each in self._tracked]
            self._known[subject] = {tracked.limit.feature: tracked for tracked in features}
            self._watched[subject] = tuple(tracked for tracked in features if tracked.adds)
        if len(self._known) > self._max_subjects:
            self._forget(len(self._known) - self._max_subjects * 9 // 10)

    def unlearn(self, missed: Missed) -> None:
        """Take back a `learn` whose recount could not be finished."""
        for subject, new in missed.items():
            self._watched[subject] = tuple(each for each in self._watched.get(subject, ()) if each not in new)

    def forget_all(self) -> None:
        """Know nobody any more: rows that the totals held may be counted anew. Everyone is asked about again."""
        self._active = dict.fromkeys(self._known) | self._active
        self._tracked, self._known, self._watched = {}, {}, {}

    def _forget(self, count: int) -> None:
        for subject in list(itertools.islice(self._known, count)):
            del self._known[subject], self._watched[subject]
        self._tracked = {each.limit.id: each for features in self._known.values() for each in features.values()}


def decide(tracked: Tracked, subject: str, quantity: int | Decimal) -> Decision:
    """The rule: may `subject` use `quantity` more of this limit?"""
    limit = tracked.limit
    if limit.kind != "METERED":
        entitled = limit.kind == "STATIC" or limit.value == "true"
        return _decision(tracked, subject, entitled, "entitled" if entitled else "not_entitled")
    if limit.limit is None:
        return _decision(tracked, subject, True, "unlimited", tracked.used)
    used = tracked.used
    left = EXACT.subtract(limit.limit, used)
    remaining = left if left > 0 else _ZERO
    if left >= quantity if tracked.adds else left > 0:  # what is not a sum has no amount to compare
        return _decision(tracked, subject, True, "within_limit", used, remaining)
    if limit.enforcement == "SOFT":
        return _decision(tracked, subject, True, "soft_limit_exceeded", used, remaining)
    return _decision(tracked, subject, False, "limit_reached", used, remaining)


def _decision(  # noqa: PLR0917 -- positional, because a check is counted in nanoseconds
    tracked: Tracked,
    subject: str,
    allowed: bool,
    reason: str,
    used: Decimal | None = None,
    remaining: Decimal | None = None,
) -> Decision:
    limit = tracked.limit
    return Decision(
        allowed,
        reason,
        subject,
        limit.feature,
        limit.limit,
        used,
        remaining,
        0.0,
        limit.resets_at_us,
        tracked.as_of_us,
        limit.policy_version,
    )


def _tightness(decision: Decision) -> tuple[bool, bool, Decimal]:
    return decision.allowed, decision.remaining is None, decision.remaining or _ZERO


def _amounts(candidates: Sequence[Tracked], event: Event) -> Iterable[tuple[Tracked, Decimal]]:
    """The limits that take an event, each with what the event adds to it here."""
    data: object = None
    for tracked in candidates:
        limit, meter = tracked.limit, tracked.limit.meter
        if meter is None or meter.event_type != event.type:
            continue
        if data is None:
            data = data_of(event)
        amount = meter.amount(data)
        if amount is not None:
            in_period = limit.period_start_us is None or event.time_us is None or event.time_us >= limit.period_start_us
            yield tracked, amount if in_period else _ZERO


def _merged(marks: Iterable[Mark]) -> deque[Mark]:
    """Neighbours made one, at half the number. The pair stands at its later row, so it goes late, never early."""
    halved: deque[Mark] = deque()
    for index, (seq, amount) in enumerate(marks):
        halved.append((seq, EXACT.add(halved.pop()[1], amount) if index % 2 else amount))
    return halved


def _total(start: Decimal, marks: Iterable[Mark]) -> Decimal:
    return functools.reduce(EXACT.add, (amount for _, amount in marks), start)
