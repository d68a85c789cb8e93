"""Quotas: what a customer may still use, from what is counted now."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace
from shop import BASE, Shop, open_shop, us
from sqlalchemy import event

from sidemeter_control.limits.add_ons import AddOnSpec
from sidemeter_control.limits.entitlements import QuotaAnswer, QuotaSource
from sidemeter_control.limits.given import grant_add_on, remove_entitlement, set_entitlement
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.quotas import quota, quotas, quotas_of
from sidemeter_control.limits.rollover import MAX_ROLLOVER_PERIODS
from sidemeter_control.money import decimal_text
from sidemeter_control.pricing.credits.balances import feature_credits
from sidemeter_control.pricing.credits.granting import grant_credits
from sidemeter_control.pricing.credits.grants import CreditUnit, Denomination, GrantSpec
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod

TOKENS = EntitlementSpec(
    feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(1000), enforcement=Enforcement.HARD
)
CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(2), reset=ResetPeriod.DAY)
SSO = EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN)
REGION = EntitlementSpec(feature="region", kind=EntitlementKind.STATIC, value='"eu"')


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, now="2026-11-21T12:00:00") as opened:
        yield opened


async def test_every_granted_feature_is_answered_from_one_snapshot(shop: Shop) -> None:
    acme = await shop.customer("acme", subjects=("a", "b"))
    await shop.sell(acme, BASE, entitlements=(TOKENS, CALLS, SSO, REGION), start="2026-11-10")
    await shop.use("a", "2026-11-12T10:00:00", "600")
    await shop.use("b", "2026-11-21T10:00:00", "400")
    await shop.use("b", "2026-11-21T10:00:01", "5", mode="test")
    async with shop.database.read() as conn:
        found = {each.feature: each for each in await quotas(conn, acme, shop.clock.now_us())}
    assert list(found) == ["calls", "region", "sso", "tokens"]
    tokens, calls = found["tokens"], found["calls"]
    assert (tokens.allowed, tokens.used, tokens.remaining, tokens.overage) == (False, Decimal(1005), 0, Decimal(5))
    assert (tokens.period_start_us, tokens.resets_at_us) == (us("2026-11-10"), us("2026-12-10"))
    assert (calls.allowed, calls.used, calls.remaining) == (True, Decimal(1), Decimal(1))
    assert (calls.period_start_us, calls.resets_at_us) == (us("2026-11-21"), us("2026-11-22"))
    assert (found["sso"].value, found["region"].value) == ("true", '"eu"')
    assert {each.as_of_us for each in found.values()} == {us("2026-11-21T12:00:00")}


async def test_a_daily_quota_begins_again_at_the_customers_midnight(shop: Shop) -> None:
    acme = await shop.customer("acme", time_zone="Asia/Tokyo")
    await shop.sell(acme, BASE, entitlements=(CALLS,))
    await shop.use("acme", "2026-11-20T14:59:59", "1")
    await shop.use("acme", "2026-11-20T15:00:00", "1")
    async with shop.database.read() as conn:
        found = await quota(conn, acme, "calls", shop.clock.now_us())
    assert found is not None
    assert (found.used, found.period_start_us) == (Decimal(1), us("2026-11-21T00:00:00+09:00"))


async def test_a_quota_that_never_resets_counts_what_was_before_the_subscription(shop: Shop) -> None:
    acme = await shop.customer("acme")
    forever = EntitlementSpec(
        feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(10), reset=ResetPeriod.NEVER
    )
    await shop.sell(acme, BASE, entitlements=(forever,))
    await shop.use("acme", "1999-01-01T00:00:00", "4")
    async with shop.database.read() as conn:
        found = await quota(conn, acme, "tokens", shop.clock.now_us())
    assert found is not None
    assert (found.used, found.remaining, found.resets_at_us) == (Decimal(4), Decimal(6), None)


async def test_what_no_active_subscription_grants_has_no_quota(shop: Shop) -> None:
    acme, other = await shop.customer("acme"), await shop.customer("other")
    await shop.sell(acme, BASE, entitlements=(TOKENS,), start="2026-12-01")
    async with shop.database.read() as conn:
        assert await quota(conn, acme, "tokens", shop.clock.now_us()) is None
        assert await quota(conn, acme, "sso", us("2026-12-02")) is None
        assert await quotas_of(conn, [acme, other], shop.clock.now_us()) == {"acme": [], "other": []}


async def test_of_two_plans_the_more_permissive_counts(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(TOKENS,))
    more = EntitlementSpec(feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(5000))
    await shop.sell(acme, BASE, entitlements=(more,), plan="addon")
    async with shop.database.read() as conn:
        found = await quota(conn, acme, "tokens", shop.clock.now_us())
    assert found is not None
    assert found.limit == Decimal(5000)


async def tokens_of(shop: Shop, customer: Customer) -> QuotaAnswer:
    async with shop.database.read() as conn:
        found = await quota(conn, customer, "tokens", shop.clock.now_us())
    assert found is not None
    return found


async def test_what_earlier_billing_periods_left_is_added(shop: Shop) -> None:
    acme = await shop.customer("acme")
    rolling = replace(TOKENS, rollover_max=Decimal(1500))
    await shop.sell(acme, BASE, entitlements=(rolling,), start="2026-08-15T10:20:30")
    await shop.use("acme", "2026-08-15T10:20:29", "999")  # before it began
    await shop.use("acme", "2026-08-16T00:00:00", "400")  # leaves 600
    await shop.use("acme", "2026-09-15T10:20:30", "1500")  # of 1,600, leaves 100
    await shop.use("acme", "2026-10-15T10:20:29", "50")  # still of September's, leaves 50
    await shop.use("acme", "2026-11-15T10:20:29", "800")  # of 1,050, leaves 250
    await shop.use("acme", "2026-11-15T10:20:30", "1200")
    found = await tokens_of(shop, acme)
    assert (found.limit, found.used, found.remaining, found.allowed) == (1250, 1200, 50, True)
    assert [(part.source.value, part.quantity) for part in found.parts] == [("PLAN", 1000), ("ROLLOVER", 250)]


async def test_a_long_past_counts_as_far_as_the_bound(shop: Shop) -> None:
    """MAX_ROLLOVER_PERIODS: a limit of 10 a day, nothing used, and a most that no number of days fills."""
    acme = await shop.customer("acme")
    daily = replace(TOKENS, limit=Decimal(10), reset=ResetPeriod.DAY, rollover_max=Decimal(10**9))
    await shop.sell(acme, BASE, entitlements=(daily,), start="2025-01-01")
    assert (await tokens_of(shop, acme)).limit == 10 + 10 * MAX_ROLLOVER_PERIODS
    first = us("2026-11-21") - MAX_ROLLOVER_PERIODS * 86_400_000_000
    await shop.use("acme", f"{datetime.fromtimestamp(first // 1_000_000, UTC):%Y-%m-%d}T05:00:00", "3")
    assert (await tokens_of(shop, acme)).limit == 10 + 10 * MAX_ROLLOVER_PERIODS - 3


@pytest.mark.parametrize("days", [1, MAX_ROLLOVER_PERIODS - 1, MAX_ROLLOVER_PERIODS, MAX_ROLLOVER_PERIODS + 1])
async def test_what_is_carried_over_is_of_as_many_periods_as_there_were(shop: Shop, days: int) -> None:
    acme = await shop.customer("acme")
    daily = replace(TOKENS, limit=Decimal(10), reset=ResetPeriod.DAY, rollover_max=Decimal(10**9))
    start = datetime.fromtimestamp((us("2026-11-21") - days * 86_400_000_000) // 1_000_000, UTC)
    await shop.sell(acme, BASE, entitlements=(daily,), start=f"{start:%Y-%m-%d}")
    assert (await tokens_of(shop, acme)).limit == 10 + 10 * min(days, MAX_ROLLOVER_PERIODS)


async def test_of_two_plans_the_one_counts_to_which_more_was_carried_over(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(TOKENS, rollover_max=Decimal(800)),), start="2026-10-01")
    await shop.sell(acme, BASE, entitlements=(replace(TOKENS, limit=Decimal(1700)),), plan="other")
    assert (await tokens_of(shop, acme)).limit == 1800
    await shop.use("acme", "2026-10-05T00:00:00", "950")
    assert (await tokens_of(shop, acme)).limit == 1700


@pytest.mark.parametrize(
    ("reached", "allowed", "ceiling"),
    [
        ("2026-11-18T12:00:01", True, None),
        ("2026-11-18T12:00:00", False, Decimal(1000)),
        ("2026-11-10T00:00:00", False, Decimal(1000)),
    ],
)
async def test_a_grace_lasts_so_many_days_from_the_event_that_reached_the_limit(
    shop: Shop, reached: str, allowed: bool, ceiling: Decimal | None
) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(TOKENS, grace_days=3),))
    await shop.use("acme", "2026-10-20T00:00:00", "5000")  # another period
    await shop.use("acme", "2026-11-02T00:00:00", "999")
    assert (await tokens_of(shop, acme)).allowed is True
    await shop.use("acme", reached, "1")
    await shop.use("acme", "2026-11-20T00:00:00", "700")
    found = await tokens_of(shop, acme)
    assert (found.allowed, found.ceiling, found.overage) == (allowed, ceiling, 700)


async def test_an_add_on_ends_what_a_grace_did(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(TOKENS, grace_days=1),))
    await shop.use("acme", "2026-11-02T00:00:00", "1000")
    assert (await tokens_of(shop, acme)).allowed is False
    more = AddOnSpec(customer="acme", feature="tokens", quantity=Decimal(500))
    await grant_add_on(shop.database, shop.clock, more)
    found = await tokens_of(shop, acme)
    assert (found.allowed, found.limit, found.remaining, found.ceiling) == (True, 1500, 500, None)


async def test_an_override_and_an_add_on_work_without_any_subscription(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await set_entitlement(shop.database, shop.clock, OverrideSpec(customer="acme", entitlement=TOKENS))
    await grant_add_on(shop.database, shop.clock, AddOnSpec(customer="acme", feature="sso"))
    await grant_add_on(shop.database, shop.clock, AddOnSpec(customer="acme", feature="calls", quantity=Decimal(2)))
    await shop.use("acme", "2026-11-02T00:00:00", "400")
    async with shop.database.read() as conn:
        found = await quotas(conn, acme, shop.clock.now_us())
    assert [(each.feature, each.limit, each.used, each.value) for each in found] == [
        ("calls", 2, 1, None),
        ("sso", None, None, "true"),
        ("tokens", 1000, 400, None),
    ]


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        (TOKENS, False),
        (replace(TOKENS, overage_up_to=Decimal(10)), False),
        (replace(TOKENS, grace_days=5), True),
        (replace(TOKENS, limit=Decimal(10**6), grace_days=5), False),
        (replace(TOKENS, rollover_max=Decimal(10)), True),
    ],
    ids=["nothing of it", "an overage", "a grace that runs", "a grace that did not begin", "a rollover"],
)
async def test_only_what_rolls_over_or_is_in_grace_asks_the_database_more(
    shop: Shop, spec: EntitlementSpec, more: bool
) -> None:
    """Add-ons and overrides are remembered, as subscriptions are: a quota is the state and one usage question."""
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(spec,), start="2026-10-01")
    await grant_add_on(shop.database, shop.clock, AddOnSpec(customer="acme", feature="tokens", quantity=Decimal(1)))
    await shop.use("acme", "2026-11-02T00:00:00", "5000")
    assert (await tokens_of(shop, acme)).parts[-1].quantity == 1
    statements: list[str] = []
    async with shop.database.read() as conn:
        listening = conn.sync_connection.engine

        @event.listens_for(listening, "before_cursor_execute")
        def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        await quota(conn, acme, "tokens", shop.clock.now_us())
        event.remove(listening, "before_cursor_execute", note)
    assert "FROM state" in statements[0]
    assert (len(statements) > 2) is more, statements


UNITS = Denomination(CreditUnit.FEATURE, "tokens")


async def grant(shop: Shop, amount: str, **terms: object) -> None:
    terms = {"effective_at_us": us("2026-11-01"), "purchased": True} | terms
    spec = GrantSpec(customer="acme", amount=Decimal(amount), denomination=UNITS, **terms)  # type: ignore[arg-type]
    await grant_credits(shop.database, shop.clock, spec)


async def tokens_left(shop: Shop, customer: Customer) -> tuple[str, str, str, bool]:
    """Limit, used, remaining, and whether more is allowed; the one part is the limit."""
    async with shop.database.read() as conn:
        found = await quota(conn, customer, "tokens", shop.clock.now_us())
        assert found is not None
        assert found.enforcement is Enforcement.HARD
        assert [(part.source, part.text, part.quantity) for part in found.parts] == [
            (QuotaSource.CREDITS, "Credits", found.limit)
        ]
        left = (await feature_credits(conn, customer, "tokens", 0, shop.clock.now_us())).left
        assert found.remaining == max(left, 0)
    assert found.limit is not None
    assert found.used is not None
    return decimal_text(found.limit), decimal_text(found.used), decimal_text(found.remaining), found.allowed


@pytest.mark.parametrize("subscribed", [True, False])
async def test_credits_in_its_units_give_a_feature_until_they_are_used_up(shop: Shop, subscribed: bool) -> None:
    acme = await shop.customer("acme")
    if subscribed:
        await shop.sell(acme, BASE)
    await grant(shop, "500")
    assert await tokens_left(shop, acme) == ("500", "0", "500", True)
    await shop.use("acme", "2026-11-20", "300")
    assert await tokens_left(shop, acme) == ("500", "300", "200", True)
    await grant(shop, "100", effective_at_us=us("2026-11-21"))
    assert await tokens_left(shop, acme) == ("600", "300", "300", True)
    await shop.use("acme", "2026-11-21", "350")
    assert await tokens_left(shop, acme) == ("600", "650", "0", False)


async def test_what_was_purchased_and_not_used_is_there_in_the_next_period(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE)
    await grant(shop, "500")
    await grant(shop, "70", purchased=False)
    await shop.use("acme", "2026-11-20", "300")
    assert await tokens_left(shop, acme) == ("570", "300", "270", True)
    shop.clock.set_wall(us("2026-12-02"))
    assert await tokens_left(shop, acme) == ("270", "0", "270", True)
    await shop.use("acme", "2026-12-01", "20.5")
    assert await tokens_left(shop, acme) == ("270", "20.5", "249.5", True)


async def test_what_was_used_before_any_credits_is_paid_by_them_first(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE)
    await shop.use("acme", "2026-11-05", "40")
    await grant(shop, "100", effective_at_us=us("2026-11-10"))
    assert await tokens_left(shop, acme) == ("100", "40", "60", True)


async def test_credits_that_have_expired_give_nothing(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await grant(shop, "500", expires_at_us=us("2026-11-22"))
    assert (await tokens_left(shop, acme))[0] == "500"
    shop.clock.set_wall(us("2026-11-22"))
    async with shop.database.read() as conn:
        assert await quota(conn, acme, "tokens", shop.clock.now_us()) is None


Parts = list[tuple[str, int]]


async def stands(shop: Shop, customer: Customer, at: str | None = None) -> tuple[Parts, int, int]:
    """The parts of the quota, what is used, what remains; the parts less what is used are what remains."""
    if at is not None:
        shop.clock.set_wall(us(at))
    found = await tokens_of(shop, customer)
    assert found.limit is not None
    assert found.used is not None
    assert found.remaining is not None
    assert found.limit == sum(part.quantity or 0 for part in found.parts)
    assert found.remaining == max(found.limit - found.used, 0)
    if found.enforcement is Enforcement.HARD:
        assert (found.ceiling, found.allowed) == (found.limit, found.used < found.limit)
    return [(part.source.value, int(part.quantity or 0)) for part in found.parts], int(found.used), int(found.remaining)


MONTHLY = replace(TOKENS, limit=Decimal(100))


@pytest.mark.parametrize("enforcement", Enforcement)
async def test_credits_are_room_beyond_the_plan_and_what_was_not_needed_is_there_next_month(
    shop: Shop, enforcement: Enforcement
) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(MONTHLY, enforcement=enforcement),))
    await grant(shop, "50")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 50)], 0, 150)
    await shop.use("acme", "2026-11-10", "80")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 50)], 80, 70)
    await shop.use("acme", "2026-11-20", "50")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 50)], 130, 20)
    assert await stands(shop, acme, "2026-12-02") == ([("PLAN", 100), ("CREDITS", 20)], 0, 120)
    await shop.use("acme", "2026-12-01", "120")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 20)], 120, 0)
    assert await stands(shop, acme, "2027-01-02") == ([("PLAN", 100)], 0, 100)


async def test_what_went_beyond_both_waits_for_the_next_credits_and_what_the_plan_allowed_never_does(
    shop: Shop,
) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(MONTHLY,))
    await grant(shop, "50")
    await shop.use("acme", "2026-11-10", "170")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 50)], 170, 0)
    await grant(shop, "30", effective_at_us=us("2026-11-21"))
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 80)], 170, 10)


async def test_credits_of_which_nothing_is_left_still_gave_what_they_paid_in_the_period(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(MONTHLY,))
    await grant(shop, "50", expires_at_us=us("2026-11-22"))
    await shop.use("acme", "2026-11-10", "140")
    assert await stands(shop, acme, "2026-11-23") == ([("PLAN", 100), ("CREDITS", 40)], 140, 0)
    assert await stands(shop, acme, "2026-12-02") == ([("PLAN", 100)], 0, 100)


async def test_credits_come_after_add_ons_an_override_and_what_was_carried_over(shop: Shop) -> None:
    acme = await shop.customer("acme")
    rolling = replace(MONTHLY, rollover_max=Decimal(60))
    await shop.sell(acme, BASE, entitlements=(rolling,), start="2026-10-01")
    await grant(shop, "50", effective_at_us=us("2026-10-01"))
    await shop.use("acme", "2026-10-10", "70")
    more = AddOnSpec(customer="acme", feature="tokens", quantity=Decimal(7), effective_at_us=us("2026-11-01"))
    await grant_add_on(shop.database, shop.clock, more)
    first = [("PLAN", 100), ("ROLLOVER", 30), ("ADD_ON", 7)]
    assert await stands(shop, acme) == ([*first, ("CREDITS", 50)], 0, 187)
    await shop.use("acme", "2026-11-10", "147")
    assert await stands(shop, acme) == ([*first, ("CREDITS", 50)], 147, 40)
    agreed = OverrideSpec(customer="acme", entitlement=replace(MONTHLY, limit=Decimal(200)))
    await set_entitlement(shop.database, shop.clock, agreed)
    assert await stands(shop, acme) == ([("OVERRIDE", 200), ("ADD_ON", 7), ("CREDITS", 50)], 147, 110)
    await shop.use("acme", "2026-11-21T13:00:00", "80")  # what the override allows beside the 10 that credits paid: 70
    assert await stands(shop, acme, "2026-11-22") == ([("OVERRIDE", 200), ("ADD_ON", 7), ("CREDITS", 50)], 227, 30)
    await remove_entitlement(shop.database, shop.clock, "acme", "tokens")
    parts, used, remaining = await stands(shop, acme)
    assert (parts[0], used, remaining) == (("PLAN", 100), 227, 30), "what was allowed is not taken back"


async def test_beside_a_plan_without_a_limit_credits_are_neither_a_part_nor_burned(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(TOKENS, limit=None),))
    await grant(shop, "500")
    await shop.use("acme", "2026-11-10", "700")
    found = await tokens_of(shop, acme)
    assert (found.limit, found.remaining, [part.source for part in found.parts]) == (None, None, [QuotaSource.PLAN])
    async with shop.database.read() as conn:
        assert (await feature_credits(conn, acme, "tokens", 0, shop.clock.now_us())).left == 500


async def test_credits_are_no_part_before_they_take_effect(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(MONTHLY,))
    await grant(shop, "50", effective_at_us=us("2027-01-05"))
    await shop.use("acme", "2026-11-10", "170")
    assert await stands(shop, acme) == ([("PLAN", 100)], 170, 0)
    assert await stands(shop, acme, "2027-01-06") == ([("PLAN", 100), ("CREDITS", 50)], 0, 150)


@pytest.mark.parametrize(
    ("reset", "then", "later"),
    [
        (ResetPeriod.DAY, ([("PLAN", 100), ("CREDITS", 20)], 0, 120), ([("PLAN", 100), ("CREDITS", 20)], 0, 120)),
        (ResetPeriod.NEVER, ([("PLAN", 100), ("CREDITS", 50)], 130, 20), ([("PLAN", 100), ("CREDITS", 50)], 130, 20)),
    ],
)
async def test_the_plans_limit_is_that_of_its_own_reset_period(
    shop: Shop, reset: ResetPeriod, then: object, later: object
) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(MONTHLY, reset=reset),))
    await grant(shop, "50")
    await shop.use("acme", "2026-11-21T10:00:00", "130")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 50)], 130, 20)
    assert await stands(shop, acme, "2026-11-22T12:00:00") == then
    assert await stands(shop, acme, "2026-12-22T12:00:00") == later


async def test_what_a_reset_forgot_and_what_was_used_before_any_credits_takes_none_of_them(shop: Shop) -> None:
    """A limit for ever was passed in an earlier billing period, which is no debt of credits; what they are is room."""
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(MONTHLY, reset=ResetPeriod.NEVER),), start="2026-08-01")
    await shop.use("acme", "2026-08-10", "130")
    await grant(shop, "20", effective_at_us=us("2026-10-05"))
    await shop.use("acme", "2026-10-10", "45")  # 25 of them are forgotten with October
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 20)], 175, 0)
    await grant(shop, "50", effective_at_us=us("2026-11-15"))
    assert (await stands(shop, acme))[1:] == (175, 50)
    await shop.use("acme", "2026-11-20", "49")
    assert (await stands(shop, acme))[1:] == (224, 1)
    await shop.use("acme", "2026-11-21", "1")
    assert await stands(shop, acme) == ([("PLAN", 100), ("CREDITS", 70)], 225, 0)


async def test_a_grace_begins_where_the_plan_and_credits_end(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(replace(MONTHLY, grace_days=3),))
    await grant(shop, "50")
    await shop.use("acme", "2026-11-10", "149")
    assert (await tokens_of(shop, acme)).allowed is True
    await shop.use("acme", "2026-11-11", "1")
    found = await tokens_of(shop, acme)
    assert (found.allowed, found.limit, found.ceiling) == (False, 150, 150)
