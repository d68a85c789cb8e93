"""Credits: when a grant is active, who pays first, what happens at one instant, and what can never happen."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.credits.burning import Burned, burn, opened, segmented
from sidemeter_control.pricing.credits.instants import (
    ANYTHING,
    Grant,
    Line,
    Overdraw,
    Reset,
    Segment,
    State,
    burn_order,
    instants,
    worth,
)
from sidemeter_control.pricing.periods import Interval, Period, Recurrence

DAY = 86_400_000_000


def grant(name: str, amount: object = 100, start: int = 0, **more: object) -> Grant:
    """A grant from day `start` on."""
    return Grant(id=name, amount=Decimal(str(amount)), effective_at_us=start * DAY, **more)  # type: ignore[arg-type]


def daily(anchor: int = 0) -> Recurrence:
    return Recurrence.every(Interval.DAY, 1, anchor * DAY, "UTC")


def run(
    grants: Sequence[Grant],
    used: Sequence[tuple[int, object]],
    until: int,
    resets: Sequence[Reset] = (),
    overdraw: Overdraw = Overdraw.OVERAGE,
) -> Burned:
    """From day 0 to day `until`; each use is a day and an amount."""
    uses = [(day * DAY, Line(Decimal(str(amount)))) for day, amount in used]
    moments = instants(grants, resets, 0, until * DAY)
    first = next((reset for reset in resets if reset.at_us == 0), None)
    return burn(opened(grants, 0, first), grants, resets, segmented(moments, uses), overdraw)


def left(burned: Burned) -> dict[str, int]:
    return {key: int(amount) for key, amount in burned.state.balances.items()}


@pytest.mark.parametrize(
    ("ends", "active"),
    [
        ({}, Period(5 * DAY, 253_402_300_800_000_000)),
        ({"expires_at_us": 9 * DAY}, Period(5 * DAY, 9 * DAY)),
        ({"expires_at_us": 9 * DAY, "voided_at_us": 7 * DAY}, Period(5 * DAY, 7 * DAY)),
        ({"expires_at_us": 9 * DAY, "voided_at_us": 11 * DAY}, Period(5 * DAY, 9 * DAY)),
        ({"voided_at_us": 8 * DAY, "deleted_at_us": 6 * DAY}, Period(5 * DAY, 6 * DAY)),
        ({"voided_at_us": 2 * DAY}, Period(5 * DAY, 5 * DAY)),
    ],
    ids=["for ever", "until it expires", "until it is voided", "voided too late", "deleted first", "ended before"],
)
def test_a_grant_is_active_from_its_first_instant_until_the_first_of_its_ends(
    ends: dict[str, int], active: Period
) -> None:
    one = grant("a", start=5, **ends)
    assert one.active == active
    assert one.is_active_at(active.start_us) is (active.start_us != active.end_us)
    assert not one.is_active_at(active.end_us)


def test_the_burn_order_is_priority_expiry_granted_before_purchased_age_and_name() -> None:
    ordered = [
        grant("first", priority=-1, expires_at_us=9 * DAY),
        grant("by priority", priority=1, expires_at_us=9 * DAY),
        grant("by expiry", priority=2, expires_at_us=3 * DAY, purchased=True, created_at_us=9),
        grant("later expiry", priority=2, expires_at_us=4 * DAY),
        grant("granted", priority=2, created_at_us=8),
        grant("older", priority=2, purchased=True, created_at_us=1),
        grant("a", priority=2, purchased=True, created_at_us=2),
        grant("b", priority=2, purchased=True, created_at_us=2),
        grant("no priority", expires_at_us=2 * DAY),
        grant("nothing"),
    ]
    backwards = list(reversed(ordered))
    assert sorted(backwards, key=burn_order) == ordered


def test_overage_waits_for_the_next_grant_to_begin() -> None:
    grants = [grant("a", 10), grant("b", 50, start=3)]
    assert (run(grants, [(1, 25)], 2).overage, run(grants, [(1, 25)], 2).balance) == (15, 0)
    later = run(grants, [(1, 25)], 3)
    assert (later.overage, left(later)) == (0, {"a": 0, "b": 35})
    assert [(each.grant, each.from_us // DAY, each.to_us // DAY, each.amount) for each in later.allocations] == [
        ("a", 0, 3, 10),
        ("b", 3, 3, 15),
    ]


def test_overage_waits_for_the_next_recurrence() -> None:
    one = grant("a", 10, recurrence=Recurrence.every(Interval.WEEK, 1, 0, "UTC"))
    assert run([one], [(1, 14)], 6).overage == 4
    assert left(run([one], [(1, 14)], 7)) == {"a": 6}


def test_a_recurrence_sets_the_balance_back_to_the_amount_and_never_above() -> None:
    one = grant("a", 10, start=1, recurrence=daily(), expires_at_us=5 * DAY)
    assert [left(run([one], [(2, 4)], day)) for day in (0, 1, 3, 4, 5)] == [{}, {"a": 10}, {"a": 10}, {"a": 10}, {}]


def test_an_end_comes_before_a_recurrence_at_the_same_instant() -> None:
    assert left(run([grant("a", 10, recurrence=daily(), expires_at_us=2 * DAY)], [], 2)) == {}


@pytest.mark.parametrize(
    ("most", "least", "used", "kept"),
    [(0, 0, 10, 0), (50, 0, 10, 50), (100, 0, 10, 90), (100, 30, 95, 30), (50, 50, 0, 50), (50, 50, 100, 50)],
)
def test_a_reset_leaves_what_lies_between_the_rollovers(most: int, least: int, used: int, kept: int) -> None:
    one = grant("a", rollover_max=Decimal(most), rollover_min=Decimal(least))
    found = run([one], [(1, used)], 2, [Reset(2 * DAY)])
    assert (left(found), found.state.used) == ({"a": kept}, 0)


def test_a_reset_drops_the_overage_or_takes_it_from_what_rolls_over() -> None:
    one = grant("a", rollover_max=Decimal(40), rollover_min=Decimal(40))
    dropped = run([one], [(1, 130)], 2, [Reset(2 * DAY)])
    preserved = run([one], [(1, 130)], 2, [Reset(2 * DAY, preserve_overage=True)])
    assert (left(dropped), dropped.overage) == ({"a": 40}, 0)
    assert (left(preserved), preserved.overage) == ({"a": 10}, 0)
    assert run([one], [(1, 190)], 2, [Reset(2 * DAY, preserve_overage=True)]).overage == 50


def test_at_one_instant_ends_come_first_then_the_reset_then_beginnings_then_overage_then_use() -> None:
    grants = [
        grant("ends", 10, expires_at_us=2 * DAY, rollover_max=Decimal(10)),
        grant("rolls", 10, priority=1, rollover_max=Decimal(10), rollover_min=Decimal(3)),
        grant("begins", 10, start=2),
        grant("recurs", 10, priority=2, recurrence=Recurrence.every(Interval.DAY, 2, 0, "UTC")),
    ]
    found = run(grants, [(1, 35), (2, 7)], 3, [Reset(2 * DAY, preserve_overage=True)])
    assert left(found) == {"rolls": 0, "recurs": 1, "begins": 10}
    assert [(each.grant, each.from_us // DAY, each.amount) for each in found.allocations if each.from_us >= DAY] == [
        ("rolls", 2, 3),
        ("recurs", 2, 2),
        ("recurs", 2, 7),
    ]


def test_use_at_the_last_instant_is_not_counted_yet() -> None:
    assert (run([grant("a")], [(2, 5)], 2).balance, run([grant("a")], [(2, 5)], 3).balance) == (100, 95)


def test_what_none_pays_is_carried_refused_or_shown_below_zero() -> None:
    used = [(1, 6), (1, 7), (2, 4)]
    carried, refused, below = (run([grant("a", 10)], used, 3, overdraw=each) for each in Overdraw)
    assert (carried.balance, carried.overage, carried.rejected) == (0, 7, False)
    assert (refused.balance, refused.overage, refused.rejected, refused.state.used) == (0, 0, True, 10)
    assert (below.balance, below.overage, below.rejected) == (-7, 0, False)


def test_what_is_given_back_goes_to_whoever_paid_last() -> None:
    grants = [grant("a", 10, priority=1), grant("b", 10, priority=2), grant("mark", 1, start=2, priority=9)]
    assert left(run(grants, [(1, 25), (3, -7)], 4)) == {"a": 10 - 10, "b": 10 - 8, "mark": 1}
    assert left(run(grants, [(1, 25), (3, -70)], 4)) == {"a": 10, "b": 10, "mark": 1}
    assert run(grants, [(1, 25), (3, -70), (4, 45)], 5).balance == 21


def test_a_limited_grant_pays_only_the_lines_it_is_for() -> None:
    grants = [
        grant("storage", 10, priority=1, scope=frozenset(["storage"])),
        grant("any", 10, priority=2),
        grant("tokens", 10, priority=3, scope=frozenset(["tokens"])),
    ]
    lines = [Line(Decimal(15), frozenset(["tokens"])), Line(Decimal(12), frozenset(["storage"])), Line(Decimal(2))]
    found = burn(opened(grants, 0), grants, [], [Segment(0, DAY, lines)])
    assert [(each.grant, set(each.scope), each.amount) for each in found.allocations] == [
        ("any", {"tokens"}, 10),
        ("tokens", {"tokens"}, 5),
        ("storage", {"storage"}, 10),
    ]
    assert found.state.overage == (Line(Decimal(2), frozenset(["storage"])), Line(Decimal(2), ANYTHING))


def test_balances_to_begin_with_are_those_that_are_told() -> None:
    grants = [grant("a", start=0), grant("b", start=1), grant("c", expires_at_us=DAY)]
    state = opened(grants, DAY, None, {"a": Decimal(7), "b": Decimal(8), "c": Decimal(9)})
    assert state.balances == {"a": 7, "b": 8}
    assert opened(grants, DAY).balances == {"a": 100, "b": 100}


def test_a_credit_is_worth_its_rate() -> None:
    assert worth(Decimal(100), Decimal("1.123456")) == Decimal("112.3456")


def test_a_recurrence_that_began_long_ago_is_refused_instead_of_looked_at_for_ever() -> None:
    one = grant("a", recurrence=daily())
    with pytest.raises(InvalidInput, match="at: must be within 4000 changes of the grants from where they begin"):
        instants([one], [], 0, 5_000 * DAY)


FEW = settings(max_examples=40, deadline=None)

# Amounts in halves, on a calendar of ten days.
amounts = st.integers(0, 200).map(lambda halves: Decimal(halves) / 2)
days = st.integers(0, 10)


@st.composite
def some_grants(draw: st.DrawFn) -> list[Grant]:
    made = []
    for number in range(draw(st.integers(0, 4))):
        start = draw(days)
        most = draw(amounts)
        made.append(
            grant(
                f"g{number}",
                draw(amounts),
                start,
                priority=draw(st.none() | st.integers(0, 2)),
                expires_at_us=draw(st.none() | days.map(lambda day, start=start: (start + day) * DAY)),
                voided_at_us=draw(st.none() | days.map(lambda day: day * DAY)),
                purchased=draw(st.booleans()),
                created_at_us=draw(st.integers(0, 2)),
                recurrence=draw(st.none() | days.map(daily)),
                rollover_max=most,
                rollover_min=min(most, draw(amounts)),
            )
        )
    return made


some_uses = st.lists(st.tuples(st.integers(0, 11), amounts), max_size=8)
some_resets = st.lists(
    st.builds(Reset, days.map(lambda day: day * DAY), st.booleans()), max_size=3, unique_by=lambda each: each.at_us
)


@FEW
@given(some_grants(), some_uses, some_resets, st.randoms())
def test_the_order_in_which_grants_and_uses_are_told_makes_no_difference(grants, uses, resets, random) -> None:
    first = run(grants, uses, 11, resets)
    random.shuffle(grants)
    random.shuffle(uses)
    assert run(grants, uses, 11, resets) == first


@FEW
@given(some_grants(), some_uses, some_resets)
def test_use_in_halves_burns_as_the_whole(grants, uses, resets) -> None:
    halves = [(day, amount / 2) for day, amount in uses for _ in range(2)]
    assert run(grants, halves, 11, resets) == run(grants, uses, 11, resets)


@FEW
@given(some_grants(), some_uses, some_resets, st.integers(0, 11))
def test_to_look_in_between_changes_nothing_and_what_was_kept_then_is_gone_on_from(grants, uses, resets, day) -> None:
    """The state is kept as text, and what follows it is burned from there."""
    lines = [(at * DAY, Line(amount)) for at, amount in uses]
    whole = run(grants, uses, 11, resets)
    cut = instants(grants, resets, 0, 11 * DAY, [day * DAY])
    first = next((reset for reset in resets if reset.at_us == 0), None)
    before, after = [at for at in cut if at <= day * DAY], [at for at in cut if at >= day * DAY]
    half = burn(opened(grants, 0, first), grants, resets, segmented(before, lines))
    rest = burn(State.read(half.state.text()), grants, resets, segmented(after, lines))
    assert rest.state == whole.state


@FEW
@given(some_grants(), some_uses)
def test_what_was_used_was_paid_or_is_overage(grants, uses) -> None:
    found = run(grants, uses, 12)
    assert sum((each.amount for each in found.allocations), Decimal(0)) == found.state.used - found.overage
    assert found.state.used == sum((amount for _, amount in uses), Decimal(0))
    by_grant = {
        each.id: sum((a.amount for a in found.allocations if a.grant == each.id), Decimal(0)) for each in grants
    }
    assert {key: amount for key, amount in by_grant.items() if amount} == found.state.burned


@FEW
@given(some_grants(), some_uses, some_resets, st.tuples(st.integers(0, 10), amounts))
def test_more_use_never_leaves_more(grants, uses, resets, more) -> None:
    less = run(grants, [*uses, more], 11, resets)
    assert less.balance <= run(grants, uses, 11, resets).balance
    assert all(balance >= 0 for balance in less.state.balances.values())


@FEW
@given(some_grants(), some_uses, some_resets)
def test_a_balance_is_never_above_what_was_granted_or_rolls_over_at_least(grants, uses, resets) -> None:
    most = {each.id: max(each.amount, each.rollover_min) for each in grants}
    found = run(grants, uses, 11, resets)
    assert all(balance <= most[key] for key, balance in found.state.balances.items())
    assert found.state.balances.keys() == {each.id for each in grants if each.is_active_at(11 * DAY)}


@FEW
@given(some_grants(), some_uses, st.integers(0, 10), amounts)
def test_use_that_is_given_back_in_its_segment_was_never_there(grants, uses, day, amount) -> None:
    changed = run(grants, [*uses, (day, amount), (day, -amount)], 11)
    plain = run(grants, [*uses, (day, Decimal(0))], 11)
    assert replace(changed, allocations=()) == replace(plain, allocations=())


def test_segments_follow_on_one_another_and_hold_each_use_once() -> None:
    found = segmented([0, 5, 9], [(9, Line(Decimal(1))), (4, Line(Decimal(2))), (5, Line(Decimal(3)))])
    assert [(each.from_us, each.to_us) for each in found] == list(pairwise([0, 5, 9]))
    assert [[line.amount for line in each.lines] for each in found] == [[2], [3]]
