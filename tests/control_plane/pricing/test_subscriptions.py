"""Subscriptions: what an instant is in their life, and which periods they are billed for."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.plans import PlanSpec, read_plan
from sidemeter_control.pricing.subscriptions import (
    Subscribed,
    SubscribeSpec,
    SubscriptionStatus,
    new_subscription,
)

COUNTED = new_meter("calls", "api.call", Aggregation.COUNT, now_us=0)
FEE = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(49))
CALLS = ChargeSpec(key="calls", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
PLAN = read_plan(PlanSpec(key="pro", currency="USD", charges=(FEE, CALLS)), 1, 0)
ACME = SubscribeSpec(customer="acme", plan="pro")


def us(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1_000_000


def period(first: str, last: str) -> Period:
    return Period(us(first), us(last))


def subscribed(spec: SubscribeSpec, end: str | None = None) -> Subscribed:
    made = new_subscription(spec, PLAN, "sub_1", us("2026-01-10"))
    return Subscribed.to(PLAN, replace(made, end_at_us=None if end is None else us(end)), {"calls": COUNTED})


def test_a_subscription_starts_now_and_is_anchored_there_unless_said_otherwise() -> None:
    made = new_subscription(ACME, PLAN, "sub_1", 17)
    assert (made.start_at_us, made.anchor_us, made.end_at_us, made.trial_end_us) == (17, 17, None, None)
    assert (made.id, made.customer_key, made.plan_key, made.plan_version) == ("sub_1", "acme", "pro", 1)


def test_its_status_follows_its_life() -> None:
    own = subscribed(replace(ACME, start_at_us=us("2026-01-15"), trial_days=7), end="2026-06-01").subscription
    days = ["2026-01-14", "2026-01-15", "2026-01-21", "2026-01-22", "2026-05-31", "2026-06-01"]
    assert [own.status_at(us(day)).value for day in days] == [
        *("SCHEDULED", "TRIALING", "TRIALING", "ACTIVE", "ACTIVE", "ENDED")
    ]
    assert [own.is_active_at(us(day)) for day in days] == [False, True, True, True, True, False]


def test_periods_are_cut_where_the_subscription_starts_and_ends() -> None:
    own = subscribed(replace(ACME, anchor_us=us("2025-12-01")), end="2026-03-15")
    assert own.period_at(us("2026-01-20")) == period("2026-01-10", "2026-02-01")
    assert [leg.period for leg in own.legs(us("2025-01-01"), us("2027-01-01"))] == [
        period("2026-01-10", "2026-02-01"),
        period("2026-02-01", "2026-03-01"),
        period("2026-03-01", "2026-03-15"),
    ]


def test_before_its_start_the_first_period_counts_and_after_its_end_the_last() -> None:
    own = subscribed(ACME, end="2026-02-15")
    assert own.period_at(us("2025-06-01")) == period("2026-01-10", "2026-02-10")
    assert own.period_at(us("2027-06-01")) == period("2026-02-10", "2026-02-15")


def test_a_trial_owes_nothing_and_billing_periods_begin_where_it_ends() -> None:
    own = subscribed(replace(ACME, trial_days=14))
    assert own.subscription.status_at(us("2026-01-12")) is SubscriptionStatus.TRIALING
    assert own.period_at(us("2026-01-12")) == period("2026-01-10", "2026-01-24")
    assert next(own.legs(us("2026-01-01"), us("2026-03-01"))).period == period("2026-01-24", "2026-02-24")
    assert not list(own.legs(us("2026-01-01"), us("2026-01-24")))


def test_an_override_replaces_the_plans_charge_of_its_key_for_this_subscription() -> None:
    cheaper = ChargeSpec(key="calls", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.5"))
    own = subscribed(replace(ACME, overrides=(cheaper,)))
    assert [charge.spec for charge in own.charges] == [FEE, cheaper]
    assert own.meters == {"calls": COUNTED}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(ACME, start_at_us=-1), "startAt: must lie between the years 1970 and 9000"),
        (replace(ACME, anchor_us=us("9001-01-01")), "anchor: must lie between the years 1970 and 9000"),
        (replace(ACME, trial_days=731), "trialDays: must be from 0 to 730"),
        (
            replace(ACME, overrides=(ChargeSpec(key="calls", meter="calls", model=PricingModel.PER_UNIT),)),
            "overrides.calls.unitPrice: must be given: PER_UNIT needs it",
        ),
        (
            replace(ACME, overrides=(ChargeSpec(key="x", model=PricingModel.FLAT, amount=Decimal(1)),)),
            "overrides.x: must be a charge of plan 'pro'",
        ),
    ],
)
def test_a_wrong_subscription_is_refused_by_field_and_rule(spec: SubscribeSpec, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        subscribed(spec)
    assert str(caught.value) == message
