"""Beyond: what was used of a feature that nothing but credits in its units allowed. Pure rules, no I/O.

Plans, add-ons, an override and rollover allow use first, in the order of time: while they have allowed less in their reset
period than their limit of that time. A limit counts from when it holds, by what is known now of when it did. So a larger
one gives nothing back that went beyond a smaller one before, and a smaller one takes nothing back that a larger one allowed.
Where nothing gives the feature, nothing is allowed; where something gives it without a limit, everything is. What was used
before the first instant that is asked for counts as allowed.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import pairwise
from operator import attrgetter

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.entitlements import Entitlement, Given, Right, granted, most_permissive
from sidemeter_control.limits.rollover import carried, in_parts, settled
from sidemeter_control.money import exact
from sidemeter_control.pricing.periods import EVER
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = ["MAX_LATE_PERIODS", "MAX_STRETCHES", "Past", "Stretch", "UsedBetween"]

MAX_STRETCHES = 4_000
"""Reset periods, or parts of them in which a limit changed, that one answer may look at: ten years of days."""

MAX_LATE_PERIODS = 100
"""Of what came late to an earlier time only so many reset periods are looked at, because every answer looks at them all."""

UsedBetween = Callable[[int, int], Decimal]
"""What was used in `[from_us, to_us)`."""

_NONE = Decimal(0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """`[start_us, end_us)`, all in one reset period, with one limit; None: without a limit.

    Of its period, so much was `allowed` before it, and so much was `beyond`; `before` is all that ever was beyond.
    """

    start_us: int
    end_us: int
    limit: Decimal | None
    allowed: Decimal = _NONE
    beyond: Decimal = _NONE
    before: Decimal = _NONE

    @exact
    def until(self, at_us: int, used: UsedBetween) -> Decimal:
        """All that ever was beyond, up to an instant of it."""
        if self.limit is None or at_us <= self.start_us:
            return self.before
        return self.before + self.more(used(self.start_us, at_us))

    @exact
    def more(self, used: Decimal) -> Decimal:
        """How much of so much use is beyond. What is given back was beyond first, then allowed, then never used.

        >>> half = Stretch(0, 1, Decimal(100), allowed=Decimal(90), beyond=Decimal(5))
        >>> [str(half.more(Decimal(used))) for used in (7, 30, -3, -20, -97)]
        ['0', '20', '-3', '-5', '-7']
        """
        if self.limit is None:
            return _NONE
        if used < 0:
            given_back = min(max(self.beyond, _NONE), -used)
            return used + min(max(self.allowed, _NONE), -used - given_back)
        never_used = min(max(-self.beyond, _NONE), used)
        return used - min(max(self.limit - self.allowed, _NONE), used - never_used)


@dataclass(frozen=True, slots=True)
class Past:
    """All that ever gave a customer one feature, or will. `rights` is a note of what was looked up.

    `own` are all subscriptions, because the oldest one's billing periods are those of overrides and add-ons.
    """

    feature: str
    own: tuple[Subscribed, ...]
    given: Given
    time_zone: str
    turns: tuple[int, ...]
    rights: dict[int, Right | None]

    @classmethod
    def of(cls, feature: str, own: Sequence[Subscribed], given: Given, time_zone: str) -> "Past":
        """What there is of those; of the overrides that hold at an instant, the last one counts."""
        narrow = tuple(_only(feature, each) for each in own)
        turns = {EVER.start_us, EVER.end_us, *_turns(narrow, given)}
        return cls(feature, narrow, given, time_zone, tuple(sorted(turns)), {})

    def terms(self, at_us: int) -> tuple[object, ...]:
        """All that limits before an instant, and billing periods until then, depend on but use: equal where they are."""

        def ended(ends_us: int | None) -> int | None:
            return None if ends_us is None or ends_us > at_us else ends_us

        own = [each.subscription for each in self.own if each.subscription.start_at_us < at_us]
        pauses = [(pause.from_us, ended(pause.to_us)) for each in own for pause in each.pauses if pause.from_us < at_us]
        added = [each for each in self.given.add_ons if each.effective_at_us < at_us]
        agreed = [each for each in self.given.overrides if each.effective_at_us < at_us]
        return (
            [(each.id, ended(each.end_at_us)) for each in own],
            pauses,
            [(each.id, ended(each.ends_at_us)) for each in added],
            [(each.entitlement, each.effective_at_us, ended(each.expires_at_us)) for each in agreed],
        )

    @exact
    def beyond(self, instants: Sequence[int], used: UsedBetween) -> list[Decimal]:
        """What was used and not allowed from each of the instants, which are in order, to the next.

        InvalidInput for more than 4,000 stretches.
        """
        found: list[Stretch] = []
        at_us = instants[0]
        while at_us < instants[-1]:
            if len(found) == MAX_STRETCHES:
                raise InvalidInput("at", f"must be within {MAX_STRETCHES} reset periods from where the credits begin")
            found.append(self._stretch(at_us, found, used))
            at_us = found[-1].end_us
        until = [_until(found, each, used) for each in instants]
        return [after - before for before, after in pairwise(until)]

    def back(self, from_us: int, at_us: int) -> int:
        """Where a reset period begins, 100 of them before an instant; not before `from_us`."""
        for _ in range(MAX_LATE_PERIODS):
            if at_us <= from_us:
                break
            right = self._right(at_us - 1)
            starts = [] if right is None else [each.period_at(at_us - 1).start_us for each in right.offers]
            at_us = min(starts, default=self._turn(at_us - 1))
        return max(at_us, from_us)

    def _stretch(self, at_us: int, found: Sequence[Stretch], used: UsedBetween) -> Stretch:
        """The stretch that begins at an instant, at which those before it end."""
        right, before = self._right(at_us), _until(found, at_us, used)
        turn_us = self.turns[bisect_right(self.turns, at_us)]
        if right is None:
            return Stretch(at_us, turn_us, _NONE, before=before)
        offers = [replace(each, period=each.period_at(at_us)) for each in right.offers]
        chosen = most_permissive(_with_carried(each, used) for each in offers)
        start_us, end_us = chosen.period.start_us, min(turn_us, *(each.period.end_us for each in offers))
        if start_us == at_us:
            return Stretch(at_us, end_us, right.limit(chosen), before=before)
        beyond = before - _until(found, start_us, used)
        return Stretch(at_us, end_us, right.limit(chosen), used(start_us, at_us) - beyond, beyond, before)

    def _turn(self, at_us: int) -> int:
        """When what gives the feature at an instant began to be all that does."""
        return self.turns[bisect_right(self.turns, at_us) - 1]

    def _right(self, at_us: int) -> Right | None:
        """What gives the feature at an instant, and until the next turn; periods are laid but once."""
        turn_us = self._turn(at_us)
        if turn_us not in self.rights:
            found = granted(self.own, self.given, self.time_zone, at_us).get(self.feature)
            if found is not None:
                laid = tuple(replace(each, period_at=cache(each.period_at)) for each in found.offers)
                found = replace(found, offers=laid)
            self.rights[turn_us] = found
        return self.rights[turn_us]


def _only(feature: str, own: Subscribed) -> Subscribed:
    """The subscription with no other entitlement of its plan: each look is at all that it has."""
    entitlements = tuple(each for each in own.plan.entitlements if each.feature == feature)
    return replace(own, plan=replace(own.plan, entitlements=entitlements))


def _turns(own: Sequence[Subscribed], given: Given) -> Iterator[int]:
    """When something begins or ends to give the feature. In between, it is the same that does."""
    held: list[tuple[int, int | None]] = []
    for each in (own.subscription for own in own):
        held += [(each.start_at_us, each.end_at_us), *((pause.from_us, pause.to_us) for pause in each.pauses)]
    held += [(each.effective_at_us, each.ends_at_us) for each in given.add_ons]
    held += [(each.effective_at_us, each.expires_at_us) for each in given.overrides]
    for start_us, end_us in held:
        yield start_us
        if end_us is not None:
            yield end_us


def _until(found: Sequence[Stretch], at_us: int, used: UsedBetween) -> Decimal:
    """All that was beyond up to an instant, which those stretches have in them or before them."""
    place = bisect_right(found, at_us, key=attrgetter("start_us")) - 1
    return _NONE if place < 0 else found[place].until(at_us, used)


def _with_carried(offer: Entitlement, used: UsedBetween) -> Entitlement:
    """The offer with what earlier periods left to it, looking back no further than it matters."""
    spec = offer.spec
    if spec.rollover_max is None:
        return offer
    known: list[Decimal] = []
    for some in in_parts(offer.earlier()):
        known = [*(used(each.start_us, each.end_us) for each in some), *known]
        handed_on = settled(spec, known)
        if handed_on is not None:
            return replace(offer, carried=handed_on)
    return replace(offer, carried=carried(spec, known))
