"""Entitlements: what is allowed, what is left, until when, and which of several counts."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.limits.add_ons import AddOn
from sidemeter_control.limits.entitlements import (
    Entitlement,
    Given,
    QuotaPart,
    QuotaSource,
    Right,
    answer,
    granted,
    most_permissive,
    reset_period,
)
from sidemeter_control.limits.overrides import Override
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
        ([metered("10", SOFT), metered("20")], 0),
        ([metered("10", overage_up_to=Decimal(15)), metered("20")], 0),
        ([metered("10", overage_up_to=Decimal(15), grace_days=1), metered("20")], 1),
        ([metered("10"), metered("10", grace_days=1)], 1),
        ([metered("10"), metered("10", reset=ResetPeriod.DAY)], 0),
    ],
    ids=[
        "the larger limit",
        "no limit",
        "no limit before one",
        "the soft one",
        "the one that never stops",
        "the one that stops later",
        "an overage that does not last counts less",
        "the one with a grace",
        "else the oldest",
    ],
)
def test_of_several_subscriptions_the_most_permissive_counts(offers: list[EntitlementSpec], best: int) -> None:
    assert most_permissive([Entitlement(spec, NOVEMBER) for spec in offers]).spec is offers[best]


def test_only_active_subscriptions_grant() -> None:
    fee = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(1))
    plan = read_plan(PlanSpec(key="p", currency="USD", charges=(fee,), entitlements=(metered("5"),)), 1, 0)
    own = Subscribed.to(plan, new_subscription(SubscribeSpec(customer="c", plan="p"), plan, "s", 1000), {})
    assert granted([own], Given(), "UTC", 999) == {}
    part = QuotaPart(QuotaSource.PLAN, "Plan p, version 1", Decimal(5))
    only = Entitlement(metered("5"), own.period_at(1000), part, since_us=1000)
    assert granted([own], Given(), "UTC", 1000) == {"tokens": Right((only,))}


def added(quantity: str) -> QuotaPart:
    return QuotaPart(QuotaSource.ADD_ON, "Add-on", Decimal(quantity))


@pytest.mark.parametrize(
    ("more", "used", "over", "allowed", "ceiling"),
    [
        ({"overage_up_to": Decimal(5)}, "14.9", False, True, "15"),
        ({"overage_up_to": Decimal(5)}, "15", False, False, "15"),
        ({"overage_up_to": Decimal(0)}, "10", False, False, "10"),
        ({"grace_days": 3}, "9", False, True, None),
        ({"grace_days": 3}, "99", False, True, None),
        ({"grace_days": 3}, "10", True, False, "10"),
        ({"grace_days": 3, "overage_up_to": Decimal(5)}, "14", False, True, "15"),
        ({"grace_days": 3, "overage_up_to": Decimal(5)}, "15", False, False, "15"),
        ({"grace_days": 3, "overage_up_to": Decimal(5)}, "12", True, False, "10"),
    ],
    ids=[
        "within the overage",
        "the overage is used up",
        "no overage",
        "before the limit",
        "in grace",
        "after the grace",
        "in grace and within the overage",
        "in grace and the overage is used up",
        "within the overage after the grace",
    ],
)
def test_usage_beyond_a_hard_limit_is_allowed_so_far_and_so_long(
    more: dict[str, Any], used: str, over: bool, allowed: bool, ceiling: str | None
) -> None:
    quota = answer(Entitlement(metered("10", **more), NOVEMBER), Decimal(used), 7, grace_is_over=over)
    assert quota.allowed is allowed
    assert quota.ceiling == (None if ceiling is None else Decimal(ceiling))
    assert quota.limit == Decimal(10)
    assert quota.remaining == max(Decimal(10) - Decimal(used), Decimal(0))


def test_a_limit_is_what_its_parts_add_up_to() -> None:
    part = QuotaPart(QuotaSource.PLAN, "Plan Pro, version 2", Decimal(10))
    entitlement = Entitlement(metered("10"), NOVEMBER, part, carried=Decimal("2.5"))
    quota = answer(entitlement, Decimal(4), 7, [added("1"), added("3")])
    assert (quota.limit, quota.remaining) == (Decimal("16.5"), Decimal("12.5"))
    assert [(each.source.value, each.quantity) for each in quota.parts] == [
        ("PLAN", Decimal(10)),
        ("ROLLOVER", Decimal("2.5")),
        ("ADD_ON", Decimal(1)),
        ("ADD_ON", Decimal(3)),
    ]


def test_what_is_without_a_limit_stays_so_with_an_add_on() -> None:
    quota = answer(Entitlement(metered(None), NOVEMBER), Decimal(4), 7, [added("1")])
    assert (quota.limit, quota.remaining, quota.ceiling, quota.allowed) == (None, None, None, True)


def add_on(feature: str, quantity: str | None, start: int = 0, end: int | None = None) -> AddOn:
    return AddOn("a", "acme", feature, None if quantity is None else Decimal(quantity), start, end, None, 0)


def override(spec: EntitlementSpec, start: int = 0, end: int | None = None) -> Override:
    return Override("acme", spec, start, end, 0)


def subscribed(*entitlements: EntitlementSpec, start_us: int = 0) -> Subscribed:
    fee = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(1))
    plan = read_plan(PlanSpec(key="p", currency="USD", charges=(fee,), entitlements=entitlements), 1, 0)
    wanted = SubscribeSpec(customer="c", plan="p", start_at_us=start_us)
    return Subscribed.to(plan, new_subscription(wanted, plan, "s", 0), {})


def test_an_override_takes_the_place_of_every_plan_while_it_holds() -> None:
    own = [subscribed(metered("50")), subscribed(metered(None))]
    theirs = Given(overrides=(override(metered("7"), 1000, 2000),))
    sources = [
        [offer.part.source for offer in granted(own, theirs, "UTC", at_us)["tokens"].offers if offer.part]
        for at_us in (999, 1000, 1999, 2000)
    ]
    plans = [QuotaSource.PLAN, QuotaSource.PLAN]
    assert sources == [plans, [QuotaSource.OVERRIDE], [QuotaSource.OVERRIDE], plans]


def test_an_add_on_is_on_top_of_a_plan_or_an_override_while_it_is_in_force() -> None:
    theirs = Given((add_on("tokens", "5", 1000, 2000), add_on("tokens", "2", 1500)), (override(metered("7"), 1800),))
    limits = []
    for at_us in (999, 1000, 1500, 1800, 2000):
        right = granted([subscribed(metered("50"))], theirs, "UTC", at_us)["tokens"]
        limits.append(answer(right.offers[0], None, at_us, right.extra).limit)
    assert limits == [50, 55, 57, 14, 9]


def test_an_add_on_alone_is_a_hard_limit_of_each_billing_period() -> None:
    theirs = Given((add_on("tokens", "5"), add_on("sso", None)))
    own = subscribed(start_us=us("2026-11-10T00:00:00Z"))
    at_us = us("2026-11-21T00:00:00Z")
    found = granted([own], theirs, "UTC", at_us)
    quota = answer(found["tokens"].offers[0], Decimal(5), at_us, found["tokens"].extra)
    assert (quota.limit, quota.enforcement, quota.allowed) == (5, HARD, False)
    assert (quota.period_start_us, quota.resets_at_us) == (us("2026-11-10T00:00:00Z"), us("2026-12-10T00:00:00Z"))
    sso = answer(found["sso"].offers[0], None, at_us, found["sso"].extra)
    assert (sso.kind, sso.allowed, sso.value) == (EntitlementKind.BOOLEAN, True, "true")
    assert [part.source for part in sso.parts] == [QuotaSource.ADD_ON]


def test_without_a_subscription_the_calendars_month_is_the_billing_period() -> None:
    theirs = Given(overrides=(override(metered("7")),))
    (offer,) = granted([], theirs, "Europe/Berlin", us("2026-11-21T00:00:00Z"))["tokens"].offers
    assert offer.period == Period(us("2026-11-01T00:00:00+01:00"), us("2026-12-01T00:00:00+01:00"))


@pytest.mark.parametrize(
    ("reset", "start", "at", "earlier"),
    [
        (
            ResetPeriod.MONTH,
            "2026-08-20T00:00:00Z",
            "2026-11-21T00:00:00Z",
            ["2026-10-01T00:00:00Z", "2026-09-01T00:00:00Z", "2026-08-01T00:00:00Z"],
        ),
        (
            ResetPeriod.BILLING_PERIOD,
            "2026-08-31T00:00:00Z",
            "2026-11-21T00:00:00Z",
            ["2026-09-30T00:00:00Z", "2026-08-31T00:00:00Z"],
        ),
        (ResetPeriod.DAY, "2026-11-21T01:00:00Z", "2026-11-21T02:00:00Z", []),
        (ResetPeriod.NEVER, "2026-08-20T00:00:00Z", "2026-11-21T00:00:00Z", []),
    ],
)
def test_earlier_periods_go_back_to_the_one_in_which_it_began(
    reset: ResetPeriod, start: str, at: str, earlier: list[str]
) -> None:
    own = subscribed(metered("5", reset=reset), start_us=us(start))
    (offer,) = granted([own], Given(), "UTC", us(at))["tokens"].offers
    assert [period.start_us for period in offer.earlier()] == [us(each) for each in earlier]


def test_earlier_periods_of_an_override_begin_no_sooner_than_the_billing_periods_do() -> None:
    own = subscribed(start_us=us("2026-10-20T00:00:00Z"))
    theirs = Given(overrides=(override(metered("5"), us("2026-01-01T00:00:00Z")),))
    (offer,) = granted([own], theirs, "UTC", us("2026-11-21T00:00:00Z"))["tokens"].offers
    assert [period.start_us for period in offer.earlier()] == [us("2026-10-20T00:00:00Z")]


@pytest.mark.parametrize(
    ("zone", "at", "start", "end"),
    [
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"),
        ("Asia/Kathmandu", "2026-11-20T18:15:00Z", "2026-11-21T00:00:00+05:45", "2026-11-22T00:00:00+05:45"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"),
    ],
    ids=["a day of 23 hours", "a day of 25 hours", "a day without a midnight", "three quarters", "after a lost day"],
)
def test_a_day_is_the_customers_also_where_clocks_change(zone: str, at: str, start: str, end: str) -> None:
    assert reset_period(ResetPeriod.DAY, NOVEMBER, zone, us(at)) == Period(us(start), us(end))


@given(
    st.sampled_from([ResetPeriod.DAY, ResetPeriod.WEEK, ResetPeriod.MONTH, ResetPeriod.YEAR]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.integers(us("1990-01-01T00:00:00Z"), us("2040-01-01T00:00:00Z")),
)
def test_every_instant_is_in_one_reset_period_and_the_next_begins_where_it_ends(
    reset: ResetPeriod, zone: str, at_us: int
) -> None:
    period = reset_period(reset, NOVEMBER, zone, at_us)
    assert period.start_us <= at_us < period.end_us
    assert reset_period(reset, NOVEMBER, zone, period.start_us) == period
    assert reset_period(reset, NOVEMBER, zone, period.end_us).start_us == period.end_us


amounts = st.decimals("0", "1e18", places=9)


@st.composite
def offers(draw: st.DrawFn) -> Entitlement:
    enforcement = draw(st.sampled_from(Enforcement))
    limit = draw(st.none() | amounts)
    more: dict[str, Any] = {}
    if limit is not None and enforcement is HARD:
        more = {"overage_up_to": draw(st.none() | amounts), "grace_days": draw(st.integers(0, 5))}
    spec = metered(None if limit is None else str(limit), enforcement, **more)
    return Entitlement(spec, NOVEMBER, carried=Decimal(0) if limit is None else draw(amounts))


@given(st.lists(offers(), min_size=1, max_size=4), amounts)
def test_what_any_subscription_allows_for_good_is_allowed(entitlements: list[Entitlement], used: Decimal) -> None:
    allowed = [answer(each, used, 0, grace_is_over=True).allowed for each in entitlements]
    assert answer(most_permissive(entitlements), used, 0, grace_is_over=True).allowed is any(allowed)


@given(offers(), st.lists(st.decimals("0.001", "1e9", places=3), max_size=3), amounts, st.booleans())
def test_an_add_on_never_takes_away(entitlement: Entitlement, sold: list[Decimal], used: Decimal, over: bool) -> None:
    extra = [added(str(each)) for each in sold]
    before = answer(entitlement, used, 0, grace_is_over=over)
    after = answer(entitlement, used, 0, extra, grace_is_over=over)
    assert after.allowed >= before.allowed
    if before.limit is None:
        assert after.limit is None
    else:
        assert after.limit == before.limit + sum(sold)
        assert after.limit == sum(part.quantity or 0 for part in after.parts) + (entitlement.spec.limit or 0)
    assert (after.ceiling is None) == (before.ceiling is None)


@given(amounts, amounts, st.sampled_from(Enforcement))
def test_used_and_remaining_add_up_to_the_limit_and_the_overage(
    limit: Decimal, used: Decimal, enforcement: Enforcement
) -> None:
    quota = answer(Entitlement(metered(str(limit), enforcement), NOVEMBER), used, 0)
    assert quota.remaining is not None
    assert quota.overage is not None
    assert used + quota.remaining == limit + quota.overage
    assert quota.allowed is (enforcement is SOFT or used < limit)
