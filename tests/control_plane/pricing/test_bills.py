"""Bills: what one subscription owes for a part of its time, leg by leg, by the rules of its plan."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.pricing.bills import CostLine, Slice, total_of
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, TierSpec, Used
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval, Period
from sidemeter_control.pricing.plans import PlanSpec, read_plan
from sidemeter_control.pricing.proration import ProrationRule
from sidemeter_control.pricing.subscriptions import Pause, Subscribed, SubscribeSpec, new_subscription
from sidemeter_control.pricing.words import Language

ACME = Customer("acme")
COUNTED = new_meter("calls", "api.call", Aggregation.COUNT, now_us=0)
FEE = ChargeSpec(key="base", name="Base fee", model=PricingModel.FLAT, amount=Decimal(30))
AHEAD = msgspec.structs.replace(FEE, in_advance=True)
CALLS = ChargeSpec(key="calls", name="Calls", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
TIERED = ChargeSpec(
    key="tiered",
    meter="calls",
    model=PricingModel.GRADUATED,
    tiers=(TierSpec(up_to=Decimal(10), unit_price=Decimal("0.333")), TierSpec(flat_fee=Decimal(1))),
)
BOUNDED = ChargeSpec(
    key="bounded",
    meter="calls",
    model=PricingModel.PER_UNIT,
    unit_price=Decimal("1.003"),
    minimum=Decimal("20.01"),
    maximum=Decimal("40.05"),
)
Events = Sequence[tuple[int, Decimal]]


def us(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


def subscribed(
    *charges: ChargeSpec,
    start: str = "2026-11-01",
    end: str | None = None,
    pauses: Sequence[tuple[str, str | None]] = (),
    trial_days: int = 0,
    **terms: Any,
) -> Subscribed:
    """A subscription anchored on 1 November 2026."""
    plan = read_plan(PlanSpec(key="pro", currency="USD", charges=charges, **terms), 1, 0)
    spec = SubscribeSpec(
        customer="acme", plan="pro", start_at_us=us(start), anchor_us=us("2026-11-01"), trial_days=trial_days
    )
    made = replace(
        new_subscription(spec, plan, "sub_1", 0),
        end_at_us=None if end is None else us(end),
        pauses=tuple(Pause(us(first), None if last is None else us(last)) for first, last in pauses),
    )
    return Subscribed.to(plan, made, {"calls": COUNTED})


def bill(own: Subscribed, asked: Period, events: Events = ()) -> list[CostLine]:
    """The lines of an interval, given what was used when."""

    def used(period: Period) -> dict[str, Used]:
        total = sum((n for at_us, n in events if period.start_us <= at_us < period.end_us), Decimal(0))
        return {charge.spec.key: Used.of(total) for charge in own.charges if charge.spec.meter is not None}

    lines: list[CostLine] = []
    for leg in own.legs(asked.start_us, asked.end_us):
        part = Slice(own, leg, leg.period.clipped(asked.start_us, asked.end_us), dated=False, language=Language.EN)
        before = None if part.earlier is None else used(part.earlier)
        lines += part.lines(ACME, used(part.so_far), before, [used(each.period) for each in part.reckoned_with])
    return lines


def owed(own: Subscribed, first: str, end: str, events: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Key and amount of each line that is not zero."""
    counted = [(us(at), Decimal(n)) for at, n in events]
    lines = bill(own, Period(us(first), us(end)), counted)
    return [(line.charge, str(line.amount.rounded)) for line in lines if line.amount.rounded]


def steps(own: Subscribed, first: str, end: str, events: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Words and amount of each step of each line."""
    counted = [(us(at), Decimal(n)) for at, n in events]
    lines = bill(own, Period(us(first), us(end)), counted)
    return [(part.text, f"{part.amount:f}") for line in lines for part in line.parts]


@pytest.mark.parametrize("fee", [FEE, AHEAD])
def test_a_whole_period_owes_the_fee(fee: ChargeSpec) -> None:
    assert steps(subscribed(fee), "2026-11-01", "2026-12-01") == [("recurring fee", "30")]


@pytest.mark.parametrize("fee", [FEE, AHEAD])
def test_a_period_that_begins_late_owes_what_is_left_of_it(fee: ChargeSpec) -> None:
    own = subscribed(fee, start="2026-11-16")
    assert steps(own, "2026-11-01", "2026-12-01") == [("recurring fee, 2026-11-16 to 2026-11-30", "15.00")]


def test_in_arrears_a_period_that_ends_early_owes_what_was_used_of_it() -> None:
    own = subscribed(FEE, end="2026-11-11")
    assert steps(own, "2026-11-01", "2026-12-01") == [("recurring fee, 2026-11-01 to 2026-11-10", "10.00")]


def test_in_advance_a_period_that_ends_early_gives_the_unused_time_back() -> None:
    own = subscribed(AHEAD, end="2026-11-11")
    assert steps(own, "2026-11-01", "2026-11-02") == [("recurring fee", "30")]
    assert steps(own, "2026-11-02", "2026-12-01") == [("unused time, 2026-11-11 to 2026-11-30", "-20.00")]


def test_a_credit_in_advance_is_taken_back_as_it_was_given() -> None:
    own = subscribed(msgspec.structs.replace(AHEAD, amount=Decimal(-30)), end="2026-11-11")
    assert owed(own, "2026-11-01", "2026-12-01") == [("base", "-10.00")]


def test_a_trial_that_ends_within_a_period_leaves_the_rest_of_it_owed() -> None:
    assert owed(subscribed(FEE, trial_days=20), "2026-11-01", "2026-12-01") == [("base", "10.00")]


@pytest.mark.parametrize("fee", [FEE, AHEAD])
def test_a_pause_is_not_owed_and_begins_a_new_leg(fee: ChargeSpec) -> None:
    own = subscribed(fee, CALLS, pauses=[("2026-11-11", "2026-11-21")])
    events = [("2026-11-05", "3"), ("2026-11-15", "100"), ("2026-11-25", "4")]
    assert owed(own, "2026-11-01", "2026-12-01", events) == [
        *(("base", "10.00"), ("calls", "3.00"), ("base", "10.00"), ("calls", "4.00"))
    ]


def test_nothing_is_owed_until_a_pause_without_an_end_is_resumed() -> None:
    own = subscribed(FEE, pauses=[("2026-11-16", None)])
    assert owed(own, "2026-11-01", "2027-06-01") == [("base", "15.00")]


def test_a_pause_of_no_length_cuts_nothing() -> None:
    own = subscribed(FEE, pauses=[("2026-11-16", "2026-11-16")])
    assert steps(own, "2026-11-01", "2026-12-01") == [("recurring fee", "30")]


@pytest.mark.parametrize(
    ("rule", "amount"),
    [
        (ProrationRule.SECONDS, "15.48"),
        (ProrationRule.CALENDAR_DAYS, "15.48"),
        (ProrationRule.THIRTY_DAY_MONTHS, "15.00"),
    ],
)
def test_the_plan_says_how_time_is_compared(rule: ProrationRule, amount: str) -> None:
    own = subscribed(FEE, start="2026-12-16", proration=rule)
    assert owed(own, "2026-12-01", "2027-01-01") == [("base", amount)]


def test_a_period_is_brought_to_its_minimum_where_it_ends() -> None:
    own = subscribed(FEE, CALLS, minimum_spend=Decimal(100))
    events = [("2026-11-05", "12")]
    assert owed(own, "2026-11-01", "2026-11-30", events) == [("calls", "12.00")]
    assert steps(own, "2026-11-30", "2026-12-01", events)[-1] == (
        "up to the minimum of 100 USD, 42 USD of it spent",
        "58.00",
    )
    assert ("_minimumSpend", "58.00") in owed(own, "2026-11-01", "2026-12-01", events)


def test_what_reaches_the_minimum_owes_no_more() -> None:
    own = subscribed(FEE, CALLS, minimum_spend=Decimal(100))
    assert owed(own, "2026-11-01", "2026-12-01", [("2026-11-05", "70")]) == [("base", "30.00"), ("calls", "70.00")]


def test_the_minimum_of_a_period_that_is_cut_is_prorated() -> None:
    own = subscribed(CALLS, minimum_spend=Decimal(100), end="2026-11-16")
    assert owed(own, "2026-11-01", "2026-12-01") == [("_minimumSpend", "50.00")]


LEAST = msgspec.structs.replace(CALLS, minimum=Decimal(100))
MOST = msgspec.structs.replace(CALLS, maximum=Decimal(100))


@pytest.mark.parametrize(
    ("charge", "used", "amount", "why"),
    [
        (LEAST, "12", "33.33", "raised to the minimum of 33.33 USD"),
        (LEAST, "50", "50.00", None),
        (MOST, "50", "33.33", "lowered to the maximum of 33.33 USD"),
        (MOST, "12", "12.00", None),
    ],
)
def test_the_least_and_the_most_of_a_charge_are_prorated_where_a_period_is_cut(
    charge: ChargeSpec, used: str, amount: str, why: str | None
) -> None:
    own = subscribed(charge, end="2026-11-11")
    assert owed(own, "2026-11-01", "2026-12-01", [("2026-11-05", used)]) == [("calls", amount)]
    words = [text for text, _ in steps(own, "2026-11-01", "2026-12-01", [("2026-11-05", used)])]
    assert words[1:] == ([] if why is None else [why])


@pytest.mark.parametrize("rule", ProrationRule)
def test_who_changes_plans_within_a_period_owes_its_minimum_once(rule: ProrationRule) -> None:
    before = subscribed(LEAST, end="2026-11-11", proration=rule)
    after = subscribed(LEAST, start="2026-11-11", proration=rule)
    found = [line for own in (before, after) for line in owed(own, "2026-11-01", "2026-12-01")]
    assert found == [("calls", "33.33"), ("calls", "66.67")]


def test_a_commitment_is_settled_with_what_each_leg_costs_at_most() -> None:
    smoothed = msgspec.structs.replace(SMOOTHED, smoothing_months=2)
    own = subscribed(MOST, commitment=smoothed, start="2026-10-16", end="2026-12-01")
    events = [("2026-10-20", "900"), ("2026-11-20", "900")]
    assert owed(own, "2026-10-01", "2026-12-01", events) == [("calls", "51.61"), ("calls", "100.00")]


@pytest.mark.parametrize(
    ("terms", "used", "settled"),
    [
        ({}, "40", [("60 USD not used of the 100 USD committed", "60.00")]),
        ({"true_up": False}, "40", []),
        ({}, "100", []),
        ({}, "130", []),
        (
            {"overage_factor": Decimal("1.5")},
            "130",
            [("30 USD beyond the 100 USD committed, at 1.5 times the price", "15.00")],
        ),
        (
            {"overage_factor": Decimal("0.8")},
            "130",
            [("30 USD beyond the 100 USD committed, at 0.8 times the price", "-6.00")],
        ),
        (
            {"discount_percentage": Decimal(20)},
            "40",
            [
                ("60 USD not used of the 100 USD committed", "60.00"),
                ("20% off the 100 USD committed", "-20.00"),
            ],
        ),
        (
            {"discount_percentage": Decimal(20), "true_up": False},
            "40",
            [("20% off the 40 USD committed", "-8.00")],
        ),
        ({"discount_percentage": Decimal(20)}, "130", [("20% off the 100 USD committed", "-20.00")]),
    ],
)
def test_a_commitment_is_settled_with_what_was_used(
    terms: dict[str, Any], used: str, settled: list[tuple[str, str]]
) -> None:
    own = subscribed(FEE, CALLS, commitment=CommitmentSpec(amount=Decimal(100), **terms))
    found = steps(own, "2026-11-01", "2026-12-01", [("2026-11-05", used)])
    assert found[2:] == settled


def test_a_commitment_comes_before_the_minimum_spend() -> None:
    own = subscribed(CALLS, commitment=CommitmentSpec(amount=Decimal(100)), minimum_spend=Decimal(110))
    found = owed(own, "2026-11-01", "2026-12-01", [("2026-11-05", "40")])
    assert found == [("calls", "40.00"), ("_commitment", "60.00"), ("_minimumSpend", "10.00")]


SMOOTHED = CommitmentSpec(amount=Decimal(100), smoothing_months=3, overage_factor=Decimal(2))


@pytest.mark.parametrize(
    ("uses", "settled"),
    [(("40", "120", "90"), "50.00"), (("0", "150", "150"), None), (("200", "60", "60"), "20.00")],
)
def test_a_smoothed_commitment_is_settled_over_its_months_at_their_end(
    uses: tuple[str, ...], settled: str | None
) -> None:
    own = subscribed(CALLS, commitment=SMOOTHED)
    events = [(f"{month}-05", n) for month, n in zip(("2026-11", "2026-12", "2027-01"), uses, strict=True)]
    lines = [line for line in owed(own, "2026-11-01", "2027-02-01", events) if line[0] == "_commitment"]
    assert lines == ([] if settled is None else [("_commitment", settled)])
    assert "_commitment" not in dict(owed(own, "2026-11-01", "2027-01-01", events))


def test_an_end_settles_a_smoothed_commitment_early_for_the_time_there_was() -> None:
    own = subscribed(CALLS, commitment=SMOOTHED, end="2026-12-01")
    assert owed(own, "2026-11-01", "2027-02-01", [("2026-11-05", "40")])[-1] == ("_commitment", "60.00")


def test_a_pause_settles_a_smoothed_commitment_and_begins_its_months_anew() -> None:
    own = subscribed(CALLS, commitment=SMOOTHED, pauses=[("2026-12-01", "2027-01-01")])
    found = owed(own, "2026-11-01", "2027-03-01", [("2026-11-05", "40"), ("2027-01-05", "1")])
    assert found == [("calls", "40.00"), ("_commitment", "60.00"), ("calls", "1.00")]


DAY_US = 86_400_000_000
START_US = us("2026-11-01")
days = st.integers(0, 150 * DAY_US).map(lambda after_us: START_US + after_us)


@st.composite
def subscriptions(draw: st.DrawFn) -> Subscribed:
    charges = draw(
        st.lists(st.sampled_from([FEE, CALLS, TIERED, BOUNDED]), unique_by=lambda each: each.key, min_size=1)
    )
    charges = [AHEAD if each is FEE and draw(st.booleans()) else each for each in charges]
    commitment = draw(st.none() | st.just(CommitmentSpec(amount=Decimal("70.01"))) | st.just(SMOOTHED))
    plan = read_plan(
        PlanSpec(
            key="pro",
            currency="USD",
            charges=tuple(charges),
            interval=Interval.MONTH,
            proration=draw(st.sampled_from(ProrationRule)),
            minimum_spend=draw(st.none() | st.just(Decimal("99.99"))),
            commitment=commitment,
        ),
        1,
        0,
    )
    start_us, paused_us, resumed_us, end_us = sorted(draw(st.tuples(days, days, days, days)))
    spec = SubscribeSpec(
        customer="acme", plan="pro", start_at_us=start_us, anchor_us=START_US, trial_days=draw(st.sampled_from([0, 9]))
    )
    made = new_subscription(spec, plan, "sub_1", 0)
    pauses = draw(st.sampled_from([(), (Pause(paused_us, resumed_us),), (Pause(paused_us, None),)]))
    ends = draw(st.sampled_from([None, end_us]))
    return Subscribed.to(plan, replace(made, pauses=pauses, end_at_us=ends), {"calls": COUNTED})


@given(
    subscriptions(),
    st.lists(st.tuples(days, st.integers(-5, 60).map(Decimal)), max_size=12),
    st.lists(days, max_size=5),
)
def test_slices_never_change_the_sum(own: Subscribed, events: Events, cuts: list[int]) -> None:
    ends = [START_US, *sorted(cuts), START_US + 200 * DAY_US]
    whole = bill(own, Period(ends[0], ends[-1]), events)
    slices = [line for cut in pairwise(ends) for line in bill(own, Period(*cut), events)]
    assert by_charge(slices) == by_charge(whole)
    for line in [*whole, *slices]:
        assert sum(part.amount for part in line.parts) == line.amount.amount
    assert total_of(slices, "USD") == total_of(whole, "USD")


def by_charge(lines: Iterable[CostLine]) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    sums: dict[str, tuple[Decimal, Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0), Decimal(0)))
    for line in lines:
        amount, rounded, quantity = sums[line.charge]
        more = (line.amount.amount, line.amount.rounded, line.quantity or 0)
        sums[line.charge] = (amount + more[0], rounded + more[1], quantity + more[2])
    return {key: each for key, each in sums.items() if any(each)}
