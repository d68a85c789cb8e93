"""Limits: what is known of the subjects that are active here, and what they may do. Pure; time plays no part.

`Tracked` is one limit. One that is leased is decided by its lease, of which every own event is debited; `changed` are the
leases whose counts are not kept yet.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from sidemeter.debits import Debits, Debt, Take
from sidemeter.denials import Denials
from sidemeter.events import Event
from sidemeter.leases import Amounts, Leases
from sidemeter.tracked import (
    MAX_MARKS,
    Decision,
    Enforcement,
    Kind,
    Limit,
    Mark,
    QuotaView,
    Tracked,
    decide,
    parts_of,
    tightness,
)

__all__ = [
    "MAX_MARKS",
    "MAX_SUBJECTS",
    "Decision",
    "Enforcement",
    "Kind",
    "Limit",
    "Limits",
    "Missed",
    "QuotaView",
    "Subjects",
    "Tracked",
    "decide",
]

MAX_SUBJECTS: Final = 100_000
"""Subjects the agent follows; past that, the one that was quiet longest is forgotten and learned anew when it returns."""

_ZERO: Final = Decimal(0)

Subjects = Mapping[str, Sequence[str]]
"""What each subject has: the ids of its limits."""

Missed = Mapping[str, tuple[Tracked, ...]]
"""By subject, the limits that lack events recorded before they were watched."""


class Limits:
    """Every subject this agent follows, with its limits. `recorded`, `undone` and `check` are the hot path.

    `debits` are the leases that the leased ones are decided by, `denials` what was refused.
    """

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
        self.debits = Debits()
        self.denials = Denials()

    def check(self, subject: str, feature: str, quantity: int | Decimal = 1, now_us: int | None = None) -> Decision:
        """Decide for one feature, from memory. A lease of a period that is over by `now_us` allows nothing."""
        self.see(subject)
        features = self._known.get(subject)
        if features is None:
            return Decision(self._allow_unknown, self._unknown_reason, subject, feature)
        tracked = features.get(feature)
        if tracked is None:
            return Decision(False, "not_entitled", subject, feature)
        if tracked.limit.scale is not None:
            return self.debits.look(tracked, subject, quantity, now_us)
        return decide(tracked, subject, quantity)

    def weigh(self, event: Event) -> Decision:
        """Decide for an event: every metered limit that takes it must allow it. The tightest one is the answer."""
        return self._settle(event, Leases.weigh)[0]

    def spend(self, event: Event, take: Take = Leases.spend) -> tuple[Decision, Amounts]:
        """`weigh`, and if it is allowed what is debited of which lease: to be kept before anybody is told.

        The event is then `recorded` as paid, before anything else happens. One of an earlier period is debited as if it
        were of this one. `take` may also reserve.
        """
        return self._settle(event, take)

    def _settle(self, event: Event, take: Take) -> tuple[Decision, Amounts]:
        self.see(event.subject)
        features = self._known.get(event.subject)
        if features is None:
            return Decision(self._allow_unknown, self._unknown_reason, event.subject), ()
        metered = [tracked for tracked in features.values() if tracked.limit.kind == "METERED"]
        decisions: list[Decision] = []
        debts: list[Debt] = []
        for tracked, amount, is_late, is_ahead in parts_of(metered, event):
            if tracked.limit.scale is None:
                decisions.append(decide(tracked, event.subject, _ZERO if is_late else amount))
            else:
                debts.append(Debt(tracked, tracked.units(amount), is_ahead))
        amounts: Amounts = ()
        if debts and all(decision.allowed for decision in decisions):
            leased, amounts = self.debits.settle(debts, event.subject, take)
            decisions += leased
        return min(decisions, key=tightness, default=Decision(True, "no_limit", event.subject)), amounts

    def denied(self, decision: Decision) -> None:
        """Count a refusal that somebody was given."""
        features = self._known.get(decision.subject) or {}
        tracked = features.get(decision.feature or "")
        self.denials.add(decision.reason, None if tracked is None else tracked.limit)

    def debts(self, event: Event) -> list[Debt]:
        """What an event takes of leased limits, by lease units; nothing is decided."""
        features = self._known.get(event.subject) or {}
        metered = [tracked for tracked in features.values() if tracked.limit.scale is not None]
        return [
            Debt(tracked, tracked.units(amount), is_late or is_ahead)
            for tracked, amount, is_late, is_ahead in parts_of(metered, event)
        ]

    def follows(self, limit_id: str) -> bool:
        """Whether anything is known of that limit."""
        return limit_id in self._tracked

    def begins_us(self, subject: str) -> int:
        """When the newest period of the subject's leased limits began: whatever a clock says, it is not before that."""
        features = self._known.get(subject) or {}
        begins = (each.limit.period_start_us or 0 for each in features.values() if each.limit.scale is not None)
        return max(begins, default=0)

    def knows(self, subject: str) -> bool:
        """Whether the limits of `subject` are known (also when it is known to have none)."""
        return subject in self._known

    def views(self, subject: str) -> tuple[QuotaView, ...] | None:
        """Everything known of a subject, by feature; None when it is not known."""
        features = self._known.get(subject)
        return None if features is None else tuple(features[name].view() for name in sorted(features))

    def metered(self) -> list[Tracked]:
        """Every limit that ends at some quantity."""
        return [tracked for tracked in self._tracked.values() if tracked.limit.limit is not None]

    def see(self, subject: str) -> None:
        """Note that a subject is active here: the next `to_ask` puts it first, unless it is known to have no limits."""
        if self._known.get(subject, True) and len(self._active) < self._max_subjects:
            self._active[subject] = None

    def recorded(self, seq: int, event: Event, *, paid: bool = False) -> None:
        """Add an event that the agent accepted as row `seq`; `paid`: what it takes of leases is debited already."""
        self.see(event.subject)
        self.debits.last_seq = seq
        watched = self._watched.get(event.subject)
        if watched:
            for tracked, amount, is_late, is_ahead in parts_of(watched, event):
                tracked.add(seq, _ZERO if is_late else amount, is_ahead=is_ahead)
                if not (paid or is_late or is_ahead):
                    self.debits.recorded(tracked, amount)

    def undone(self, seq: int, event: Event, *, certain: bool = True) -> None:
        """Take back an event whose row `seq` was refused, or was there already under another number.

        Unless that is `certain`, leases stay debited: it may be kept.
        """
        for tracked, amount, is_late, is_ahead in parts_of(self._watched.get(event.subject, ()), event):
            tracked.undo(seq, _ZERO if is_late else amount, is_ahead=is_ahead)
            if certain and not (is_late or is_ahead):
                self.debits.undone(tracked, seq, amount)

    def hold(self, leases: Leases | None, holder: str = "") -> None:
        """Decide by the leases of another holder, named by its hello; None: there is no holder, and no lease."""
        self.debits.hold(leases, self._tracked.values(), holder)

    def outdate(self, limit_ids: Iterable[str]) -> None:
        """Later periods of these limits count by now, of which nothing is known yet."""
        for limit_id in limit_ids:
            if limit_id in self._tracked:
                self.debits.outdate(self._tracked[limit_id])

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
                if (
                    tracked.limit.prices != limit.prices
                ):  # what was debited at the old ones is not known of single events
                    tracked.leased_after = self.debits.last_seq
                    tracked.debited_after = tracked.last_row(self.debits.last_seq)
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
        marks: dict[tuple[Tracked, bool], list[Mark]] = {}
        for seq, event in rows:
            for tracked, amount, is_late, is_ahead in parts_of(missed.get(event.subject, ()), event):
                marks.setdefault((tracked, is_ahead), []).append((seq, _ZERO if is_late else amount))
        for (tracked, is_ahead), found in marks.items():
            added = tracked.add_missed(found, is_ahead=is_ahead)
            if tracked.lease is not None and not is_ahead:
                self.debits.recorded(tracked, added)

    def publish(self, subjects: Subjects) -> None:
        """Decide by what was learned: everything has been counted."""
        for subject, limit_ids in subjects.items():
            self._active.pop(subject, None)
            self._known.pop(subject, None)
            features = [self._tracked[each] for each in limit_ids if each in self._tracked]
            self._known[subject] = {tracked.limit.feature: tracked for tracked in features}
            self._watched[subject] = tuple(tracked for tracked in features if tracked.adds)
            for tracked in features:
                self.debits.attach(tracked)
        if len(self._known) > self._max_subjects:
            self._forget(len(self._known) - self._max_subjects * 9 // 10)

    def as_kept(self, limit: Limit) -> Limit:
        """A limit that was learned, with what is to be known of it after a restart."""
        tracked = self._tracked.get(limit.id)
        return limit if tracked is None or tracked.limit is not limit else tracked.as_kept()

    def settle_counted(self, limit_ids: Iterable[str]) -> None:
        """Give back what was debited of these limits for events that are counted, as it is kept by now."""
        for each in limit_ids:
            if (tracked := self._tracked.get(each)) is not None:
                self.debits.settle_counted(tracked)

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
