"""Quotas: what a customer may still use, from what is counted now."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.quotas import quota, quotas, quotas_of
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
