"""Credits in units beside what else gives the feature: they pay what it did not allow, whatever is kept, late or looked at."""

import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from shop import BASE, Shop, open_shop, us
from sqlalchemy import delete

from sidemeter_control.limits.add_ons import AddOnSpec
from sidemeter_control.limits.entitlements import QuotaAnswer
from sidemeter_control.limits.given import grant_add_on, remove_entitlement, revoke_add_on, set_entitlement
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.quotas import quota
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.pricing.catalogue import publish_plan
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.credits.balances import CreditBalance, balance
from sidemeter_control.pricing.credits.granting import grant_credits, set_top_up
from sidemeter_control.pricing.credits.grants import CreditGrant, CreditUnit, Denomination, GrantSpec, TopUp
from sidemeter_control.pricing.credits.owed import owed_between
from sidemeter_control.pricing.credits.topping_up import settle_once, top_up_once
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.lifecycle import change_plan, pause
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, PlanSpec, ResetPeriod
from sidemeter_control.pricing.subscriptions import Subscription
from sidemeter_control.store import credits
from sidemeter_control.store.tables import credit_snapshots

UNITS = Denomination(CreditUnit.FEATURE, "tokens")
MONTHLY = EntitlementSpec(
    feature="tokens",
    kind=EntitlementKind.METERED,
    limit=Decimal(100),
    enforcement=Enforcement.HARD,
    reset=ResetPeriod.MONTH,
)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def give(shop: Shop, amount: int, at: str = "2026-09-01", customer: str = "acme", **fields: Any) -> CreditGrant:
    terms = {"denomination": UNITS, "purchased": True, "effective_at_us": us(at)} | fields
    return await grant_credits(shop.database, shop.clock, GrantSpec(customer=customer, amount=Decimal(amount), **terms))


async def credits_at(shop: Shop, customer: Customer, at: str) -> CreditBalance:
    async with shop.database.read() as conn:
        return await balance(conn, customer, UNITS, us(at), owed_between(conn, customer, us(at)))


async def left(shop: Shop, customer: Customer, at: str) -> int:
    found = await credits_at(shop, customer, at)
    return int(found.balance - found.overage)


async def agree(shop: Shop, limit: int, **fields: Any) -> None:
    spec = OverrideSpec(customer="acme", entitlement=replace(MONTHLY, limit=Decimal(limit)), **fields)
    await set_entitlement(shop.database, shop.clock, spec)


async def forget(shop: Shop) -> None:
    """Let everything be burned down from the beginning again."""
    async with shop.database.write() as conn:
        await conn.execute(delete(credit_snapshots))


async def subscribed(shop: Shop, limit: int = 100, grant: int = 500) -> tuple[Customer, Subscription]:
    """Since September on 100 a month, with 500 credits; September took 150, October 90, November 120."""
    acme = await shop.customer("acme")
    own = await shop.sell(
        acme, BASE, entitlements=(replace(MONTHLY, limit=Decimal(limit)),), start="2026-09-01", plan="pro"
    )
    await give(shop, grant)
    for at, amount in (("2026-09-10", "150"), ("2026-10-10", "90"), ("2026-11-10", "120")):
        await shop.use("acme", at, amount)
    return acme, own


async def test_who_paid_what_is_told_of_what_the_plan_did_not_allow(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(MONTHLY,), start="2026-11-01")
    first = await give(shop, 30, at="2026-11-01", priority=1)
    second = await give(shop, 50, at="2026-11-12")
    for at, amount in (("2026-11-10", "110"), ("2026-11-11", "15"), ("2026-11-13", "20")):
        await shop.use("acme", at, amount)
    found = await credits_at(shop, acme, "2026-11-21")
    assert (found.balance, found.overage, found.used) == (35, 0, 45)
    assert [(each.grant.id, each.balance, each.burned) for each in found.holdings] == [
        (first.id, 0, 30),
        (second.id, 35, 15),
    ]
    assert [(each.grant, each.from_us, each.to_us, each.amount) for each in found.allocations] == [
        (first.id, us("2026-11-01"), us("2026-11-12"), 25),
        (first.id, us("2026-11-12"), us("2026-11-21"), 5),
        (second.id, us("2026-11-12"), us("2026-11-21"), 15),
    ]


async def test_what_stood_at_an_instant_is_by_the_limits_of_that_time(shop: Shop) -> None:
    acme, own = await subscribed(shop)
    told = {at: await left(shop, acme, at) for at in ("2026-09-09", "2026-09-20", "2026-10-31", "2026-11-21")}
    assert told == {"2026-09-09": 500, "2026-09-20": 450, "2026-10-31": 450, "2026-11-21": 430}
    spec = PlanSpec(key="big", currency="USD", charges=(BASE,), entitlements=(replace(MONTHLY, limit=Decimal(1000)),))
    await publish_plan(shop.database, shop.clock, spec)
    await change_plan(shop.database, shop.clock, own.id, plan="big", at=ChangeAt.NOW)
    assert {at: await left(shop, acme, at) for at in told} == told
    await shop.use("acme", "2026-11-22", "879")
    assert await left(shop, acme, "2026-11-23") == 430
    await shop.use("acme", "2026-11-23", "51")  # 20 of the month's 1,050 were paid by credits
    assert await left(shop, acme, "2026-11-24") == 400


LATE = ["late and allowed", "late and beyond", "given back", "given back of what was allowed"]
CHANGES = [
    *LATE,
    "a plan from now on",
    "an override from now on",
    "an override of the past",
    "an override of the past, taken back",
    "an add-on of the past",
    "an add-on that was revoked",
    "a pause",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_kept_is_gone_on_from_only_where_nothing_changes_by_it(shop: Shop, change: str) -> None:
    acme, own = await subscribed(shop)
    assert await settle_once(shop.database, shop.clock) == 1
    assert await left(shop, acme, "2026-11-21") == 430
    more = AddOnSpec(customer="acme", feature="tokens", quantity=Decimal(30), effective_at_us=us("2026-09-05"))
    match change:
        case "late and allowed":
            await shop.use("acme", "2026-10-12", "7")
            expected = 430
        case "late and beyond":
            await shop.use("acme", "2026-09-30", "7")
            expected = 423
        case "given back":
            await shop.use("acme", "2026-11-12", "-7")
            expected = 437
        case "given back of what was allowed":
            await shop.use("acme", "2026-10-12", "-70")
            expected = 430
        case "a plan from now on":
            bigger = (replace(MONTHLY, limit=Decimal(1000)),)
            spec = PlanSpec(key="big", currency="USD", charges=(BASE,), entitlements=bigger)
            await publish_plan(shop.database, shop.clock, spec)
            await change_plan(shop.database, shop.clock, own.id, plan="big", at=ChangeAt.NOW)
            expected = 430
        case "an override from now on":
            await agree(shop, 10)
            expected = 430
        case "an override of the past":
            await agree(shop, 110, effective_at_us=us("2026-09-01"), expires_at_us=us("2026-10-01"))
            expected = 440
        case "an override of the past, taken back":
            await agree(shop, 110, effective_at_us=us("2026-09-01"))
            await remove_entitlement(shop.database, shop.clock, "acme", "tokens")
            expected = 450
        case "an add-on of the past":
            await grant_add_on(shop.database, shop.clock, more)
            expected = 480
        case "an add-on that was revoked":
            made = await grant_add_on(shop.database, shop.clock, more)
            await revoke_add_on(shop.database, shop.clock, made.id, "an error")
            expected = 480
        case _:
            await pause(shop.database, shop.clock, own.id, None)
            expected = 430
    assert await left(shop, acme, "2026-11-21") == expected
    kept = await is_kept(shop, acme)
    assert kept is (change in LATE or change.endswith("from now on") or change == "a pause")
    await forget(shop)
    assert await left(shop, acme, "2026-11-21") == expected


async def is_kept(shop: Shop, customer: Customer) -> bool:
    """Whether a snapshot is gone on from: one unit less is seen."""
    before = await left(shop, customer, "2026-11-21")
    async with shop.database.write() as conn:
        kept = await credits.snapshot_before(conn, "acme", UNITS, us("2026-11-21"))
        assert kept is not None
        await credits.keep_snapshot(conn, "acme", UNITS, kept._replace(counted=kept.counted - 1))
    return await left(shop, customer, "2026-11-21") == before - 1


async def test_what_is_kept_again_and_again_is_what_is_burned_at_once(shop: Shop) -> None:
    acme = await shop.customer("acme")
    rolling = replace(MONTHLY, reset=ResetPeriod.WEEK, rollover_max=Decimal(40))
    await shop.sell(acme, BASE, entitlements=(rolling,), start="2026-06-10")
    shop.clock.set_wall(us("2026-06-10"))
    await give(shop, 10_000, at="2026-06-10")
    dice = random.Random(7)
    for week in range(16):
        shop.clock.advance(7 * 86_400)
        now = datetime.fromtimestamp(shop.clock.now_us() // 1_000_000, UTC)
        for _ in range(4):
            await shop.use("acme", now.replace(hour=dice.randrange(24)).isoformat(), str(dice.randrange(-20, 90)))
        if week % 5 == 2:
            await agree(shop, dice.randrange(200), expires_at_us=shop.clock.now_us() + 9 * 86_400_000_000)
        await settle_once(shop.database, shop.clock)
    at = datetime.fromtimestamp(shop.clock.now_us() // 1_000_000, UTC).isoformat()
    kept = await left(shop, acme, at)
    await forget(shop)
    assert await left(shop, acme, at) == kept < 10_000


async def test_the_order_and_the_batches_in_which_events_come_change_nothing(shop: Shop) -> None:
    """The same events for five customers, one after another, shuffled, and some looked at after each."""
    told = [("2026-09-10", 150), ("2026-09-20", 30), ("2026-10-01", 99), ("2026-10-31", 41), ("2026-11-10", -5)]
    ingest = Ingest(shop.database, shop.clock, max_future_s=10**9)
    found = set()
    for number, events in enumerate(itertools.islice(itertools.permutations(told), 0, 120, 24)):
        acme = await shop.customer(f"c{number}")
        await shop.sell(acme, BASE, entitlements=(MONTHLY,), start="2026-09-01", plan=f"p{number}")
        await give(shop, 60, customer=acme.key, rollover_max=Decimal(45))
        await give(shop, 60, at="2026-10-15", customer=acme.key, priority=1)
        made = [
            Event(
                id=f"{number}-{at}",
                source="s",
                type="llm",
                subject=acme.key,
                time_us=us(at),
                data=f'{{"tokens": {amount}}}',
            )
            for at, amount in events
        ]
        for batch in [made[:number], made[number:]] if number % 2 else [[each] for each in made]:
            await ingest.record(batch)
            if number > 2:
                await left(shop, acme, "2026-11-01")
                await settle_once(shop.database, shop.clock)
        await forget(shop)
        stood = [await credits_at(shop, acme, at) for at in ("2026-10-01", "2026-10-20", "2026-11-21")]
        found.add(tuple((each.balance, each.overage, each.used) for each in stood))
    assert len(found) == 1


async def test_a_plan_of_nothing_and_credits_are_as_credits_alone(shop: Shop) -> None:
    stood = []
    for key, entitlements in (("acme", ()), ("globex", (replace(MONTHLY, limit=Decimal(0)),))):
        customer = await shop.customer(key)
        await shop.sell(customer, BASE, entitlements=entitlements, start="2026-09-01", plan=key)
        await give(shop, 100, customer=key)
        await give(shop, 20, customer=key, at="2026-10-20", purchased=False, rollover_max=Decimal(5))
        for at, amount in (("2026-09-10", "70"), ("2026-10-10", "50"), ("2026-10-21", "-10"), ("2026-11-10", "12")):
            await shop.use(key, at, amount)
        async with shop.database.read() as conn:
            found = await quota(conn, customer, "tokens", shop.clock.now_us())
        assert found is not None
        looked = [
            await credits_at(shop, customer, f"2026-{at}") for at in ("10-11", "10-20", "10-25", "11-01", "11-21")
        ]
        stood.append(
            (
                [(each.balance, each.overage, each.used, len(each.allocations)) for each in looked],
                (found.limit, found.used, found.remaining, found.enforcement, found.ceiling),
            )
        )
    assert stood[0] == stood[1]


@pytest.mark.parametrize("seed", range(12))
async def test_what_remains_can_be_used_to_the_last_unit_and_is_then_all_that_there_was(shop: Shop, seed: int) -> None:
    """Whatever happened before: the plan's, the override's and the credits' last unit is that of the quota."""
    dice = random.Random(seed)
    acme, _ = await subscribed(shop, limit=dice.choice([0, 60, 100, 140]), grant=dice.choice([20, 60, 300]))
    if dice.random() < 0.5:
        rolling = {"rollover_max": Decimal(30), "enforcement": dice.choice([*Enforcement])}
        reset = dice.choice([ResetPeriod.WEEK, ResetPeriod.MONTH, ResetPeriod.YEAR, ResetPeriod.BILLING_PERIOD])
        changed = replace(MONTHLY, limit=Decimal(dice.choice([30, 90, 400])), reset=reset, **rolling)
        start_us = us(f"2026-{dice.choice(['09-15', '10-20', '11-05', '11-15'])}")
        end_us = dice.choice([None, us("2026-11-18")])
        agreed = OverrideSpec(customer="acme", entitlement=changed, effective_at_us=start_us, expires_at_us=end_us)
        await set_entitlement(shop.database, shop.clock, agreed)
    if dice.random() < 0.5:
        await give(shop, 40, at=dice.choice(["2026-10-05", "2026-11-15"]), expires_at_us=us("2026-12-01"))
    if dice.random() < 0.3:
        await settle_once(shop.database, shop.clock)
    stood = await quota_now(shop, acme)
    assert stood.remaining is not None
    before = await left(shop, acme, "2026-11-21")
    assert stood.remaining >= max(before, 0)
    if stood.remaining:
        await shop.use("acme", "2026-11-20T23:59:59", str(stood.remaining))
    assert (await quota_now(shop, acme)).remaining == 0
    assert await left(shop, acme, "2026-11-21") == min(before, 0)
    await shop.use("acme", "2026-11-20T23:59:59", "1")
    assert ((await quota_now(shop, acme)).remaining, await left(shop, acme, "2026-11-21")) == (0, min(before, 0) - 1)


async def quota_now(shop: Shop, customer: Customer) -> QuotaAnswer:
    async with shop.database.read() as conn:
        found = await quota(conn, customer, "tokens", shop.clock.now_us())
    assert found is not None
    assert found.limit is not None
    assert found.limit == sum(part.quantity or 0 for part in found.parts)
    assert found.remaining == max(found.limit - (found.used or 0), 0)
    return found


async def test_more_is_bought_when_what_the_plan_allows_and_the_credits_run_low(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, entitlements=(MONTHLY,), start="2026-11-01")
    await give(shop, 30, at="2026-11-01")
    rule = TopUp("acme", UNITS, Decimal(20), Decimal(50), 5, shop.clock.now_us())
    await set_top_up(shop.database, rule)
    await shop.use("acme", "2026-11-10", "110")
    assert await top_up_once(shop.database, shop.clock) == []
    await shop.use("acme", "2026-11-11", "1")
    assert [each.amount for each in await top_up_once(shop.database, shop.clock)] == [50]
    assert await left(shop, acme, "2026-11-21") == 69
