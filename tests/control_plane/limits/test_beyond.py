"""What goes beyond all that allows a feature, and is credits' to pay: in the order of time, by the limits of that time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.add_ons import AddOn
from sidemeter_control.limits.beyond import MAX_LATE_PERIODS, MAX_STRETCHES, Past
from sidemeter_control.limits.entitlements import Given, granted, most_permissive
from sidemeter_control.limits.overrides import Override
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, PlanSpec, ResetPeriod, read_plan
from sidemeter_control.pricing.subscriptions import Pause, Subscribed, Subscription

DAY = 86_400_000_000
JANUARY = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
FEW = settings(max_examples=60, deadline=None)


def day(number: float) -> int:
    """So many days after the first of January."""
    return JANUARY + round(number * DAY)


def metered(limit: int | None, reset: ResetPeriod = ResetPeriod.MONTH, **more: Any) -> EntitlementSpec:
    amount = None if limit is None else Decimal(limit)
    return EntitlementSpec(feature="tokens", kind=EntitlementKind.METERED, limit=amount, reset=reset, **more)


def billed(limit: int) -> EntitlementSpec:
    return metered(limit, ResetPeriod.BILLING_PERIOD)


def plan(*entitlements: EntitlementSpec, start: float = 0, end: float | None = None, pauses: Any = ()) -> Subscribed:
    fee = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(1))
    made = read_plan(PlanSpec(key="p", currency="USD", charges=(fee,), entitlements=entitlements), 1, 0)
    ends_us = None if end is None else day(end)
    paused = tuple(Pause(day(from_), day(to)) for from_, to in pauses)
    name = f"from {start}: {entitlements}"
    return Subscribed.to(
        made, Subscription(name, "c", "p", 1, day(start), ends_us, day(start), None, (), 0, None, paused), {}
    )


def override(spec: EntitlementSpec, start: float, end: float | None = None) -> Override:
    return Override("c", spec, day(start), None if end is None else day(end), 0)


def add_on(quantity: int, start: float, end: float | None = None, revoked: float | None = None) -> AddOn:
    ends = [None if each is None else day(each) for each in (end, revoked)]
    return AddOn(
        f"{quantity} from {start}", "c", "tokens", Decimal(quantity), day(start), ends[0], None, 0, ends[1], None
    )


def past(*own: Subscribed, overrides: Sequence[Override] = (), add_ons: Sequence[AddOn] = ()) -> Past:
    return Past.of("tokens", own, Given(tuple(add_ons), tuple(overrides)), "UTC")


Uses = Sequence[tuple[float, Decimal | int]]


def beyond(of: Past, uses: Uses, days: Sequence[float]) -> list[Decimal]:
    def used(from_us: int, to_us: int) -> Decimal:
        return sum((Decimal(amount) for at, amount in uses if from_us <= day(at) < to_us), Decimal(0))

    return of.beyond([day(each) for each in days], used)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (past(), [80, 60, 30, 90]),
        (past(plan()), [80, 60, 30, 90]),
        (past(plan(metered(0))), [80, 60, 30, 90]),
        (past(plan(metered(None))), [0, 0, 0, 0]),
        (past(plan(EntitlementSpec(feature="tokens", kind=EntitlementKind.BOOLEAN))), [0, 0, 0, 0]),
        (past(plan(metered(100))), [0, 40, 0, 20]),
        (past(plan(metered(70, ResetPeriod.DAY))), [10, 0, 0, 20]),
        (past(plan(metered(100, ResetPeriod.NEVER))), [0, 40, 30, 90]),
        (past(plan(metered(100)), plan(metered(110))), [0, 30, 0, 10]),
        (past(plan(), add_ons=[add_on(50, 0)]), [30, 60, 0, 70]),
        (past(plan(metered(100)), add_ons=[add_on(30, 0)]), [0, 10, 0, 0]),
        (past(plan(metered(100)), overrides=[override(metered(20), 0)]), [60, 60, 10, 90]),
        (past(plan(metered(100, rollover_max=Decimal(50))), add_ons=[add_on(5, 0)]), [0, 35, 0, 15]),
        (past(plan(metered(150, rollover_max=Decimal(50)))), [0, 0, 0, 0]),
    ],
    ids=[
        "nothing gives it",
        "a plan without it",
        "a limit of nothing",
        "no limit",
        "not counted",
        "of each month",
        "of each day",
        "for ever",
        "the more permissive of two",
        "an add-on alone",
        "an add-on",
        "an override",
        "nothing was left to be carried over",
        "what was left is carried over",
    ],
)
def test_use_is_allowed_up_to_the_limit_of_its_reset_period(of: Past, expected: list[int]) -> None:
    uses = [(3, 80), (9.5, 60), (40, 30), (50, 90)]
    assert beyond(of, uses, [0, 5, 20, 45, 55]) == expected


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (past(plan(metered(100)), add_ons=[add_on(50, 10)]), [30, 0, 0]),
        (past(plan(metered(100)), add_ons=[add_on(50, 0, 10)]), [0, 20, 20]),
        (past(plan(metered(100)), add_ons=[add_on(50, 0, revoked=10)]), [0, 20, 20]),
        (past(plan(metered(100)), overrides=[override(metered(200), 10)]), [30, 0, 0]),
        (past(plan(metered(200)), overrides=[override(metered(120), 10, 20)]), [0, 20, 0]),
        (past(plan(metered(100)), overrides=[override(metered(0), 0), override(metered(150), 5)]), [0, 0, 20]),
        (past(plan(metered(100), end=10), plan(metered(160), start=10)), [30, 0, 0]),
        (past(plan(metered(160), end=10), plan(metered(140), start=10)), [0, 10, 20]),
        (past(plan(metered(100), end=10)), [30, 20, 20]),
        (past(plan(metered(100), pauses=[(10, 20)])), [30, 20, 20]),
        (past(plan(metered(140), pauses=[(10, 20)])), [0, 20, 10]),
        (past(plan(billed(100), end=10), plan(billed(15), start=10)), [30, 5, 20]),
        (past(plan(metered(None), end=10), plan(metered(140), start=10)), [0, 10, 20]),
        (past(plan(metered(100), end=10), plan(metered(None), start=10)), [30, 0, 0]),
        (past(plan(metered(90, ResetPeriod.DAY), end=10), plan(metered(100), start=10)), [40, 10, 20]),
    ],
    ids=[
        "an add-on that is bought later",
        "one that has expired",
        "one that was revoked",
        "an override that is more",
        "an override that is less, and gone",
        "an override that took another one's place",
        "a larger plan",
        "a smaller plan",
        "the end",
        "a pause",
        "a pause, with something left after it",
        "another period",
        "a limit where there was none",
        "no limit any more",
        "a month in place of days",
    ],
)
def test_a_limit_counts_from_when_it_holds(of: Past, expected: list[int]) -> None:
    """Used are 130 by the 10th, 20 until the 20th, 20 after that."""
    uses = [(5.5, 130), (15, 20), (25, 20)]
    assert beyond(of, uses, [0, 10, 20, 31]) == expected


def test_a_larger_limit_leaves_room_for_what_comes_and_gives_nothing_back() -> None:
    of = past(plan(metered(100)), overrides=[override(metered(150), 10)])
    assert beyond(of, [(5, 130), (15, 50), (16, 7)], [0, 10, 15.5, 20]) == [30, 0, 7]


def test_a_smaller_limit_takes_nothing_back_and_allows_nothing_more() -> None:
    of = past(plan(metered(150)), overrides=[override(metered(100), 10)])
    assert beyond(of, [(5, 130), (15, 50)], [0, 10, 20]) == [0, 50]


def test_what_was_used_before_the_first_instant_counts_as_allowed() -> None:
    of = past(plan(metered(100)))
    assert beyond(of, [(3, 90), (10, 30)], [5, 20]) == [20]
    assert beyond(of, [(3, 190), (10, 30)], [5, 20]) == [30]


def test_what_is_given_back_went_beyond_first() -> None:
    of = past(plan(metered(100)))
    assert beyond(of, [(3, 130), (5, -20), (7, -20), (9, 15)], [0, 4, 6, 8, 10]) == [30, -20, -10, 5]
    assert beyond(of, [(3, -5), (5, 105), (7, 1)], [0, 4, 6, 8]) == [-5, 5, 1]


def test_only_what_held_before_an_instant_is_part_of_its_terms() -> None:
    of = past(plan(metered(100)), add_ons=[add_on(5, 3, 11)], overrides=[override(metered(1), 20)])
    later = past(plan(metered(100), end=12), add_ons=[add_on(5, 3, 10), add_on(7, 9)])
    assert of.terms(day(9)) == later.terms(day(9))
    for changed in [
        past(plan(metered(100)), add_ons=[add_on(5, 3, 8)]),
        past(plan(metered(100)), add_ons=[add_on(5, 3, 11), add_on(5, 8)]),
        past(plan(metered(100)), add_ons=[add_on(5, 3, 11)], overrides=[override(metered(1), 8)]),
        past(plan(metered(100)), add_ons=[add_on(5, 3, 11)], overrides=[override(metered(1), 7, 8)]),
        past(plan(metered(100), end=8), add_ons=[add_on(5, 3, 11)]),
        past(plan(metered(100), pauses=[(8, 10)]), add_ons=[add_on(5, 3, 11)]),
    ]:
        assert changed.terms(day(9)) != of.terms(day(9))


@pytest.mark.parametrize(
    ("days", "fits"), [(MAX_STRETCHES - 1, True), (MAX_STRETCHES, True), (MAX_STRETCHES + 1, False)]
)
def test_so_many_reset_periods_are_looked_at_and_no_more(days: int, fits: bool) -> None:
    of = past(plan(metered(1, ResetPeriod.DAY)))
    if fits:
        assert beyond(of, [], [0, days]) == [0]
    else:
        with pytest.raises(InvalidInput, match="at: must be within 4000 reset periods from where the credits begin"):
            beyond(of, [], [0, days])


@pytest.mark.parametrize("days", [MAX_LATE_PERIODS - 1, MAX_LATE_PERIODS, MAX_LATE_PERIODS + 1])
def test_what_comes_late_is_looked_for_in_so_many_reset_periods(days: int) -> None:
    of = past(plan(metered(1, ResetPeriod.DAY)))
    assert of.back(day(0), day(days)) == day(max(0, days - MAX_LATE_PERIODS))
    assert past().back(day(0), day(5_000)) == day(0)
    assert past(plan(metered(1), start=100)).back(day(0), day(150)) == day(0)


amounts = st.integers(0, 60)
limits = st.none() | st.integers(0, 100)
resets = st.sampled_from(list(ResetPeriod))
days = st.integers(0, 140).map(lambda halves: halves / 2)
spans = st.tuples(days, st.none() | st.integers(1, 60)).map(
    lambda told: (told[0], None if told[1] is None else told[0] + told[1])
)
entitled = st.builds(metered, limits, resets)


@st.composite
def some_past(draw: st.DrawFn, entitlements: st.SearchStrategy[EntitlementSpec] = entitled) -> Past:
    own = [
        plan(draw(entitlements), start=start, end=end, pauses=[(start + 3, start + 7)] if draw(st.booleans()) else ())
        for start, end in sorted(draw(st.lists(spans, max_size=3)), key=lambda each: each[0])
    ]
    agreed = [override(draw(entitlements), *each) for each in draw(st.lists(spans, max_size=2))]
    added = [add_on(draw(st.integers(1, 40)), *each) for each in draw(st.lists(spans, max_size=2))]
    return past(*own, overrides=agreed, add_ons=added)


some_uses = st.lists(st.tuples(days, amounts), max_size=12)
some_cuts = st.lists(days, min_size=2, max_size=8, unique=True).map(sorted)


def one_by_one(of: Past, uses: Uses, start: float, end: float) -> Decimal:
    """The rule as it is said: each use in turn is allowed while its period has allowed less than the limit of then."""
    allowed: list[tuple[int, Decimal]] = [(day(at), Decimal(amount)) for at, amount in uses if at < start]
    rest = Decimal(0)
    for at, amount in sorted(use for use in uses if start <= use[0] < end):
        right = granted(of.own, of.given, of.time_zone, day(at)).get("tokens")
        free = Decimal(0)
        if right is not None:
            chosen = most_permissive(right.offers)
            limit = right.limit(chosen)
            had = sum((each for when, each in allowed if chosen.period.start_us <= when), Decimal(0))
            free = Decimal(amount) if limit is None else min(Decimal(amount), max(limit - had, Decimal(0)))
        allowed.append((day(at), free))
        rest += amount - free
    return rest


@FEW
@given(some_past(), some_uses, some_cuts)
def test_each_use_in_turn_is_allowed_while_its_period_has_allowed_less_than_its_limit(of, uses, cuts) -> None:
    assert sum(beyond(of, uses, cuts)) == one_by_one(of, uses, cuts[0], cuts[-1])


signed = st.lists(st.tuples(days, st.integers(-60, 60)), max_size=12)


@FEW
@given(some_past(), signed, some_cuts, st.randoms())
def test_to_look_in_between_and_the_order_in_which_uses_are_told_change_nothing(of, uses, cuts, random) -> None:
    whole = beyond(of, uses, [cuts[0], cuts[-1]])
    shuffled = random.sample(uses, len(uses))
    assert [sum(beyond(of, shuffled, cuts))] == whole
    running = list(accumulate(beyond(of, uses, cuts)))
    assert [sum(beyond(of, uses, [cuts[0], each])) for each in cuts[1:]] == running


@FEW
@given(some_past(st.builds(metered, st.just(0), resets)), signed, some_cuts)
def test_a_limit_of_nothing_is_as_if_nothing_gave_it(of, uses, cuts) -> None:
    nothing = Past.of("tokens", of.own, Given(), "UTC")
    alone = Past.of("tokens", (), Given(), "UTC")
    uses = [use for use in uses if use[0] >= cuts[0]]
    assert beyond(nothing, uses, cuts) == beyond(alone, uses, cuts)
    used = [sum(amount for at, amount in uses if a <= at < b) for a, b in pairwise(cuts)]
    assert beyond(alone, uses, cuts) == used


@FEW
@given(some_past(), some_uses, some_cuts)
def test_never_more_goes_beyond_than_was_used_and_never_less_than_nothing(of, uses, cuts) -> None:
    for found, (a, b) in zip(beyond(of, uses, cuts), pairwise(cuts), strict=True):
        assert 0 <= found <= sum(amount for at, amount in uses if a <= at < b)


@FEW
@given(some_past(), some_uses, some_cuts, st.tuples(days, st.integers(1, 60)))
def test_a_turn_that_changes_no_limit_changes_nothing(of, uses, cuts, irrelevant) -> None:
    other = plan(EntitlementSpec(feature="other", kind=EntitlementKind.BOOLEAN), start=irrelevant[0] + 1000)
    ended = add_on(1, irrelevant[0], irrelevant[0])  # of no time at all
    more = Past.of("tokens", (*of.own, other), Given((*of.given.add_ons, ended), of.given.overrides), "UTC")
    assert beyond(more, uses, cuts) == beyond(of, uses, cuts)
