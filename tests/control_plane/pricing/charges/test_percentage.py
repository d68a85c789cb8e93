"""PERCENTAGE: what each event owes, what is free, and how millions of events are added up."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from charges import WORDS, charge, lines, shown
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import Used
from sidemeter_control.pricing.charges.percentage import BreakPoints, Percentage
from sidemeter_control.pricing.charges.used import Tally


def of(*amounts: str) -> Used:
    return Used.of_amounts(map(Decimal, amounts))


def owed(amounts: Sequence[str], **parameters: object) -> str:
    return shown(charge("PERCENTAGE", **parameters).price(of(*amounts), WORDS).total.amount)


@pytest.mark.parametrize(
    ("amounts", "parameters", "expected"),
    [
        (["50", "100", "250", "400"], {"percentage": "1.3", "fixedPerEvent": "2"}, "18.4"),
        (["20"], {"percentage": "2.99", "minPerEvent": "5.5"}, "5.5"),
        (["1000"], {"percentage": "2.99", "maxPerEvent": "12"}, "12"),
        (["-20"], {"percentage": "10"}, "-2"),
        (["-20"], {"percentage": "10", "minPerEvent": "1"}, "1"),
        (["0"], {"percentage": "10", "fixedPerEvent": "2"}, "2"),
        ([], {"percentage": "10", "fixedPerEvent": "2"}, "0"),
        (["100", "200"], {"percentage": "0", "fixedPerEvent": "1", "minPerEvent": "3"}, "6"),
    ],
)
def test_a_fee_is_the_rate_and_the_fixed_part_then_raised_then_lowered(
    amounts: list[str], parameters: dict[str, str], expected: str
) -> None:
    assert owed(amounts, **parameters) == expected


@pytest.mark.parametrize(
    ("amounts", "parameters", "expected"),
    [
        (["1", "1", "1"], {"freeEvents": 3}, "0"),
        (["1", "1", "1", "1"], {"freeEvents": 3}, "5.01"),
        (["10", "5"], {"freeAmount": "15"}, "0"),
        (["10", "5.5", "1"], {"freeAmount": "15"}, "10.015"),
        (["1", "1", "1", "1"], {"freeEvents": 3, "freeAmount": "15"}, "5.01"),
        (["1", "20", "1"], {"freeEvents": 3, "freeAmount": "15"}, "10.07"),
        (["10", "80", "10000"], {"freeEvents": 3, "freeAmount": "10000"}, "5.9"),
        (["1"], {"freeEvents": 0}, "5.01"),
        (["0", "1"], {"freeAmount": "0"}, "5.01"),
        (["15", "-10", "10", "1"], {"freeAmount": "15"}, "5.01"),
        (["20", "-20", "1"], {"freeAmount": "15"}, "14.86"),
    ],
    ids=[
        "events within the count",
        "the event that breaks the count pays in full",
        "a sum of exactly the amount",
        "the event that breaks the amount pays for the excess, the next in full",
        "the count breaks first",
        "the amount breaks first, and the count frees nothing any more",
        "the excess of the last one",
        "no free event",
        "no free amount",
        "a refund gives back what is free",
        "nothing is free again once the allowance is broken",
    ],
)
def test_an_event_is_free_while_both_allowances_hold(
    amounts: list[str], parameters: dict[str, object], expected: str
) -> None:
    assert owed(amounts, percentage="1", fixedPerEvent="5", **parameters) == expected


def test_a_free_event_owes_no_minimum() -> None:
    assert owed(["10"], percentage="1", minPerEvent="2", freeEvents=1) == "0"


def test_lines_say_which_part_of_the_fee_the_events_fall_under() -> None:
    own = charge(
        "PERCENTAGE",
        percentage="10",
        fixedPerEvent="1",
        minPerEvent="2",
        maxPerEvent="9",
        freeAmount="15",
        freeEvents=5,
    )
    assert lines(own, of("10", "25", "1", "1", "1000", "40")) == [
        ("1 event free, 15 USD in all", "0"),
        ("10% of 60 USD plus 1 USD for each of 2 events", "8"),
        ("2 events at the minimum of 2 USD", "4"),
        ("1 event at the maximum of 9 USD", "9"),
    ]


def test_a_rate_alone_needs_no_single_events() -> None:
    own = charge("PERCENTAGE", percentage="2.9")
    assert lines(own, "4") == [("2.9% of 4 USD", "0.116")]
    assert lines(own, "0") == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "charges.input.percentage: must be given: PERCENTAGE needs it"),
        ({"percentage": "-1"}, "charges.input.percentage: must not be negative"),
        ({"percentage": "1", "freeEvents": -1}, "charges.input.freeEvents: must not be negative"),
        (
            {"percentage": "1", "minPerEvent": "2", "maxPerEvent": "1"},
            "charges.input.maxPerEvent: must not be less than minPerEvent",
        ),
        ({"percentage": "1", "includedUnits": "1"}, "charges.input.includedUnits: is not a parameter of PERCENTAGE"),
    ],
)
def test_a_wrong_definition_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("PERCENTAGE", **parameters)
    assert str(caught.value) == message


def test_break_points_are_the_last_and_first_amounts_that_owe_a_bound() -> None:
    own = Percentage(Decimal(3), Decimal("0.5"), min_per_event=Decimal(1), max_per_event=Decimal(10))
    low, high = own.break_points()
    assert (low, high) == (Decimal("16.666666667"), Decimal("316.666666666"))
    nano = Decimal("1e-9")
    assert own.fee(low) > Decimal(1) == own.fee(low - nano)
    assert own.fee(high) < Decimal(10) == own.fee(high + nano)


def test_without_a_rate_or_bounds_there_are_no_break_points() -> None:
    assert Percentage(Decimal(0), min_per_event=Decimal(1)).break_points() == BreakPoints(None, None)
    assert Percentage(Decimal(2), Decimal(1)).break_points() == BreakPoints(None, None)


def test_the_walk_over_what_is_free_looks_at_no_event_behind_it() -> None:
    events = iter(map(Decimal, range(1, 1_000_000)))
    own = Percentage(Decimal(1), free_amount=Decimal(8))
    assert own.allowance(events) == (4, Tally(3, Decimal(8)), Decimal(2))
    assert next(events) == 5


cents = st.decimals("-100", "1000", places=9)
small = st.decimals("0", "20", places=2)


@st.composite
def percentages(draw: st.DrawFn) -> Percentage:
    bounds = sorted((draw(small), draw(small)))
    return Percentage(
        draw(st.decimals("0", "30", places=3)),
        draw(small),
        draw(st.none() | st.just(bounds[0])),
        draw(st.none() | st.just(bounds[1])),
        draw(st.none() | st.integers(0, 5)),
        draw(st.none() | st.decimals("0", "500", places=2)),
    )


def one_by_one(own: Percentage, amounts: Sequence[Decimal]) -> Decimal:
    """The rule, event after event."""
    owed, total, allowed = Decimal(0), Decimal(0), own.has_allowance
    for number, amount in enumerate(amounts, 1):
        total += amount
        if allowed and own.free_events is not None and number > own.free_events:
            allowed = False
        elif allowed and own.free_amount is not None and total > own.free_amount:
            allowed, amount = False, total - own.free_amount  # noqa: PLW2901
        if not allowed:
            owed += own.fee(amount)
    return owed


@given(percentages(), st.lists(cents, max_size=12))
def test_the_pieces_cost_what_the_events_cost_one_by_one(own: Percentage, amounts: list[Decimal]) -> None:
    assert own.fee_of(own.pieces_of(amounts)) == one_by_one(own, amounts)


@given(percentages(), st.lists(cents, max_size=12), st.integers(0, 12))
def test_the_first_events_and_the_sums_of_all_are_enough(own: Percentage, amounts: list[Decimal], more: int) -> None:
    reached = own.allowance(amounts).seen
    prefix = amounts[: max(reached, more)]
    assert own.pieces_after(prefix, own.pieces(amounts)) == own.pieces_of(amounts)


@given(percentages(), st.lists(cents, max_size=12))
def test_the_break_points_sort_events_into_their_pieces(own: Percentage, amounts: list[Decimal]) -> None:
    low, high = own.break_points()
    pieces = own.pieces(amounts)
    above = [each for each in amounts if high is not None and each > high]
    below = [each for each in amounts if low is not None and each < low and each not in above]
    assert (pieces.at_minimum, pieces.at_maximum) == (Tally.of(below), Tally.of(above))
    between = [each for each in amounts if each not in above and each not in below]
    assert own.fee_of(pieces) == sum(map(own.fee, between + below + above), Decimal(0))


@given(
    percentages(), st.lists(cents, max_size=12).flatmap(lambda each: st.tuples(st.just(each), st.permutations(each)))
)
def test_without_an_allowance_the_order_of_events_means_nothing(
    own: Percentage, orders: tuple[list[Decimal], list[Decimal]]
) -> None:
    free = Percentage(own.percentage, own.fixed_per_event, own.min_per_event, own.max_per_event)
    assert free.pieces_of(orders[0]) == free.pieces_of(orders[1])
