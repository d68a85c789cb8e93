"""Entitlements: what is allowed, what is left, until when, and which of several counts."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.limits.entitlements import Entitlement, answer, granted, most_permissive, reset_period
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.plans import (
    Enforcement,
    EntitlementKind,
    EntitlementSpec,
    PlanSpec,
    ResetPeriod,
    read_plan,
)
from sidemeter_control.pricing.subscriptions import Subscribed, SubscribeSpec, new_subscription

HARD, SOFT = Enforcement.HARD, Enforcement.SOFT
NOVEMBER = Period(1_793_491_200_000_000, 1_796_083_200_000_000)


def metered(limit: str | None, enforcement: Enforcement = HARD, **more: Any) -> EntitlementSpec:
    decimal = None if limit is None else Decimal(limit)
    return EntitlementSpec(
        feature="tokens", kind=EntitlementKind.METERED, limit=decimal, enforcement=enforcement, **more
    )


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("spec", "used", "allowed", "remaining", "overage"),
    [
        (metered("10"), "9.999", True, "0.001", "0"),
        (metered("10"), "10", False, "0", "0"),
        (metered("10"), "12", False, "0", "2"),
        (metered("10", SOFT), "12", True, "0", "2"),
        (metered("0"), None, False, "0", "0"),
        (metered(None), "12", True, None, "0"),
        (metered("10"), None, True, "10", "0"),
        (metered("10"), "-5", True, "15", "0"),
    ],
)
def test_a_quota(spec: EntitlementSpec, used: str | None, allowed: bool, remaining: str | None, overage: str) -> None:
    quota = answer(Entitlement(spec, NOVEMBER), None if used is None else Decimal(used), 7)
    assert quota.allowed is allowed
    assert quota.used == Decimal(used or 0)
    assert quota.remaining == (None if remaining is None else Decimal(remaining))
    assert quota.overage == Decimal(overage)
    assert (quota.period_start_us, quota.resets_at_us, quota.as_of_us) == (NOVEMBER.start_us, NOVEMBER.end_us, 7)


@pytest.mark.parametrize(
    ("kind", "value", "shown"), [(EntitlementKind.BOOLEAN, None, "true"), (EntitlementKind.STATIC, '"eu"', '"eu"')]
)
def test_a_feature_that_is_not_counted_has_a_value_and_nothing_else(
    kind: EntitlementKind, value: str | None, shown: str
) -> None:
    quota = answer(Entitlement(EntitlementSpec(feature="f", kind=kind, value=value), NOVEMBER), None, 7)
    assert (quota.allowed, quota.value) == (True, shown)
    assert (quota.limit, quota.used, quota.remaining, quota.resets_at_us) == (None, None, None, None)


@pytest.mark.parametrize(
    ("reset", "start", "end"),
    [
        (ResetPeriod.DAY, "2026-11-21T00:00:00+01:00", "2026-11-22T00:00:00+01:00"),
        (ResetPeriod.WEEK, "2026-11-16T00:00:00+01:00", "2026-11-23T00:00:00+01:00"),
        (ResetPeriod.MONTH, "2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        (ResetPeriod.YEAR, "2026-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"),
    ],
)
def test_a_reset_period_goes_by_the_customers_calendar(reset: ResetPeriod, start: str, end: str) -> None:
    at_us = us("2026-11-21T08:00:00+01:00")
    assert reset_period(reset, NOVEMBER, "Europe/Berlin", at_us) == Period(us(start), us(end))


def test_a_reset_period_can_be_the_billing_period_or_never_end() -> None:
    assert reset_period(ResetPeriod.BILLING_PERIOD, NOVEMBER, "UTC", 0) == NOVEMBER
    assert reset_period(ResetPeriod.NEVER, NOVEMBER, "UTC", 0) == EVER
    forever = answer(Entitlement(metered("5", reset=ResetPeriod.NEVER), EVER), Decimal(1), 7)
    assert (forever.period_start_us, forever.resets_at_us) == (None, None)


@pytest.mark.parametrize(
    ("offers", "best"),
    [
        ([metered("10"), metered("20")], 1),
        ([metered("10"), metered(None)], 1),
        ([metered(None), metered("10")], 0),
        ([metered("10"), metered("10", SOFT)], 1),
        ([metered("10"), metered("10", reset=ResetPeriod.DAY)], 0),
    ],
    ids=["the larger limit", "no limit", "no limit before one", "the soft one", "else the oldest"],
)
def test_of_several_subscriptions_the_most_permissive_counts(offers: list[EntitlementSpec], best: int) -> None:
    assert most_permissive([Entitlement(spec, NOVEMBER) for spec in offers]).spec is offers[best]


def test_only_active_subscriptions_grant() -> None:
    fee = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(1))
    plan = read_plan(PlanSpec(key="p", currency="USD", charges=(fee,), entitlements=(metered("5"),)), 1, 0)
    own = Subscribed.to(plan, new_subscription(SubscribeSpec(customer="c", plan="p"), plan, "s", 1000), {})
    assert granted([own], "UTC", 999) == {}
    assert granted([own], "UTC", 1000) == {"tokens": Entitlement(metered("5"), own.period_at(1000))}


amounts = st.decimals("0", "1e18", places=9)


@given(amounts, amounts, st.sampled_from(Enforcement))
def test_used_and_remaining_add_up_to_the_limit_and_the_overage(
    limit: Decimal, used: Decimal, enforcement: Enforcement
) -> None:
    quota = answer(Entitlement(metered(str(limit), enforcement), NOVEMBER), used, 0)
    assert quota.remaining is not None
    assert quota.overage is not None
    assert used + quota.remaining == limit + quota.overage
    assert quota.allowed is (enforcement is SOFT or used < limit)
