"""Credits as the limit of a prepaid customer over the real store: whatever agents debit, the bill is what credits pay."""

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lessees import PLENTY, Lessee, Spender, spend_all
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.alerting import look
from sidemeter_control.limits.denying import raise_denied
from sidemeter_control.limits.handed_out import limit_as_held
from sidemeter_control.limits.prepaid import Prepaid, prepaid
from sidemeter_control.limits.sync_messages import Denied
from sidemeter_control.metering import holders
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.credits.balances import CreditBalance, balance
from sidemeter_control.pricing.credits.granting import grant_credits, set_top_up, void_credits
from sidemeter_control.pricing.credits.grants import MONEY, CreditGrant, GrantSpec, TopUp
from sidemeter_control.pricing.credits.owed import owed_between
from sidemeter_control.pricing.credits.topping_up import top_up_once
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.store import leases

LIMIT = ("acme/$", 0)
FREE = ChargeSpec(key="share", meter="tokens", model=PricingModel.PERCENTAGE, percentage=Decimal(3), free_events=2)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def sold(shop: Shop, *charges: ChargeSpec) -> None:
    """Acme is prepaid, and pays these charges from November on."""
    acme = await shop.customer("acme", subjects=("a", "b"), prepaid=True)
    await shop.sell(acme, *charges)


async def grant(shop: Shop, amount: str, **more: Any) -> CreditGrant:
    return await grant_credits(shop.database, shop.clock, GrantSpec(customer="acme", amount=Decimal(amount), **more))


async def spender(shop: Shop, name: str = "agent-1") -> Spender:
    return Spender(await Lessee(shop, name).hello(), LIMIT)


async def left(shop: Shop) -> Decimal:
    """What an agent could still be granted, and what all have."""
    covered = await stands(shop)
    return covered.covers - covered.taken


async def stands(shop: Shop) -> Prepaid:
    acme = await shop.customer("acme", subjects=("a", "b"), prepaid=True)
    async with shop.database.read() as conn:
        return (await prepaid(conn, [acme], shop.clock.now_us()))["acme"]


async def stood(shop: Shop) -> CreditBalance:
    """What credits stand at, with what is used at this instant."""
    acme, now_us = await shop.customer("acme", subjects=("a", "b"), prepaid=True), shop.clock.now_us()
    async with shop.database.read() as conn:
        return await balance(conn, acme, MONEY, now_us + 1, owed_between(conn, acme, now_us + 1))


async def unpaid(shop: Shop) -> Decimal:
    """What is owed and no grant has paid."""
    return (await stood(shop)).overage


async def drain(shop: Shop, *agents: Spender) -> None:
    """Spend all that can be had; nothing is owed meanwhile that credits do not pay."""
    async for _ in spend_all(agents, (400, 40, 1), rounds=30):
        assert await unpaid(shop) == 0


def after(shop: Shop, text: str) -> None:
    shop.clock.set_wall(us(text))


async def test_agents_are_told_what_credits_cover_with_price_caps_and_no_period(shop: Shop) -> None:
    await sold(shop, CALLS)
    await grant(shop, "20")
    await shop.use("b", "2026-11-20", "5")
    answer = await (await Lessee(shop).hello()).sync(subjects=("a",), knows_prices=True)
    (limit,) = answer.limits
    assert (limit.id, limit.feature, limit.enforcement, limit.limit, limit.used) == (
        "acme/$",
        "credits/money",
        "HARD",
        "20",
        "0.03",
    )
    assert (limit.period_start_us, limit.resets_at_us, limit.period, limit.scale) == (None, None, 0, 9)
    assert [each.per_unit for each in limit.prices] == ["0.0333"]


async def test_without_credits_nothing_that_has_a_price_may_be_used(shop: Shop) -> None:
    await sold(shop, CALLS)
    one = await spender(shop)
    await one.hear()
    assert not one.consume(1)
    await grant(shop, "0.10")
    await one.hear()
    assert [one.consume(1) for _ in range(3)] == [
        True,
        True,
        False,
    ]  # a cent is for rounding in this month and the next


@pytest.mark.no_cover
@pytest.mark.parametrize("charges", [(CALLS,), (TOKENS, CALLS)], ids=["one charge", "two charges"])
async def test_nothing_is_ever_owed_that_credits_do_not_pay_and_nearly_all_of_them_are_used(
    shop: Shop, charges: tuple[ChargeSpec, ...]
) -> None:
    await sold(shop, *charges)
    await grant(shop, "1.5")
    agents = [await spender(shop, f"agent-{index}") for index in range(2)]
    chance = random.Random(1)
    for turn in range(8):
        chosen = chance.sample(agents, 2)
        await asyncio.gather(chosen[0].hear(chance.choice([PLENTY, 10**9])), chosen[1].send())
        for each in chosen:
            for _ in range(chance.randrange(6)):
                each.consume(chance.choice([1, 10, 40]))
        if turn == 4:
            await grant(shop, "2", priority=1)
        assert await unpaid(shop) == 0
    await drain(shop, *agents)
    acme = await shop.customer("acme", subjects=("a", "b"), prepaid=True)
    async with shop.database.read() as conn:
        owed = (await cost(conn, acme, shop.clock.now_us())).total.rounded
    assert Decimal("3.3") <= owed <= Decimal("3.5")


@pytest.mark.no_cover
async def test_what_a_month_leaves_may_be_spent_in_the_next_and_a_lease_that_is_out_goes_on_counting(
    shop: Shop,
) -> None:
    await sold(shop, CALLS)
    await grant(shop, "4")
    one, other = await spender(shop), await spender(shop, "agent-2")
    await one.hear(3 * 10**9)
    assert one.consume(1)
    after(shop, "2026-12-02")
    await drain(shop, other)
    while one.consume(1):
        pass
    await drain(shop, one, other)
    assert await unpaid(shop) == 0
    assert (await stood(shop)).balance <= Decimal("0.1")


async def test_an_expiry_while_a_lease_is_out_is_a_limit_that_is_cut(shop: Shop) -> None:
    await sold(shop, CALLS)
    await grant(shop, "6", expires_at_us=us("2026-11-25"))
    await grant(shop, "3")
    one, other = await spender(shop), await spender(shop, "agent-2")
    await one.hear(5 * 10**9)
    held = one.counts.free
    after(shop, "2026-11-26")
    await other.hear()
    assert other.counts.free == 0  # what is out counts, and is more than there is now
    while one.consume(1):
        pass
    await one.send()
    assert await unpaid(shop) <= Decimal(held).scaleb(-9) - 3  # no more than was out already
    await one.hear()
    await drain_nothing(one)


async def drain_nothing(one: Spender) -> None:
    await one.hear()
    assert not one.consume(1)


@pytest.mark.no_cover
@pytest.mark.parametrize("way", ["voided", "granted", "topped up"])
async def test_grants_and_their_ends_change_what_is_left_while_agents_are_away(shop: Shop, way: str) -> None:
    await sold(shop, CALLS)
    made = await grant(shop, "6")
    one, other = await spender(shop), await spender(shop, "agent-2")
    await one.hear(2 * 10**9)
    held = one.counts.free
    if way == "voided":
        await void_credits(shop.database, shop.clock, made.id, "a mistake")
        await other.hear()
        assert other.counts.free == 0
        return
    if way == "granted":
        await grant(shop, "2")
    else:
        rule = TopUp("acme", MONEY, Decimal(7), Decimal(2), 1, shop.clock.now_us())
        await set_top_up(shop.database, rule)
        assert len(await top_up_once(shop.database, shop.clock)) == 1
    assert await left(shop) == Decimal("7.99")
    for _ in range(12):
        await other.hear()
    assert other.counts.free + held > 7 * 10**9
    await drain(shop, one, other)


async def test_a_grant_that_recurs_fills_the_limit_up_again(shop: Shop) -> None:
    await sold(shop, CALLS)
    await grant(shop, "1", recurrence=Interval.WEEK)
    one = await spender(shop)
    await one.hear()
    await drain(shop, one)
    assert (await stood(shop)).balance < Decimal("0.05")
    after(shop, "2026-11-29")
    assert Decimal("0.98") < await left(shop) < 1
    await drain(shop, one)
    assert (await stood(shop)).balance < Decimal("0.05")


async def test_what_is_still_to_come_of_the_months_fees_is_set_aside(shop: Shop) -> None:
    await sold(shop, BASE, CALLS)
    await grant(shop, "50")
    assert await left(shop) == Decimal("0.99")


async def test_a_grant_for_some_charges_only_allows_nothing_that_others_cost(shop: Shop) -> None:
    await sold(shop, TOKENS, CALLS)
    await grant(shop, "50", charges=("calls",))
    assert await left(shop) == 0
    await grant(shop, "50", charges=("calls", "tokens"))
    assert await left(shop) == Decimal("49.98")


async def test_a_plan_whose_usage_has_no_price_cap_is_refused_by_name_and_reason(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), FREE)
    with pytest.raises(InvalidInput, match="prepaid: must be false: charge 'share' of plan 'pro' has free events"):
        await shop.customer("acme", prepaid=True)


async def test_an_older_copy_sets_aside_what_was_settled_since_until_the_billing_period_ends(shop: Shop) -> None:
    await sold(shop, CALLS)
    await grant(shop, "60")
    one = await spender(shop)
    await one.hear(10**9)
    settled = 40 * 10**9
    async with shop.database.write() as conn:
        await holders.begin(conn, one.agent.seen.generation if one.agent.seen else "", 1, shop.clock.now_us())
    one.counts.granted += settled
    one.counts.used = one.counts.returned = one.counts.refunded = settled
    await one.hear()
    await one.hear()
    assert one.counts.free <= 20 * 10**9
    async with shop.database.read() as conn:
        held = await limit_as_held(conn, "acme/$", shop.clock.now_us())
    assert (held.limit, held.outside) == (60, settled + 10**7)
    after(shop, "2026-12-02")
    for _ in range(12):
        await one.hear()
    assert one.counts.free > 50 * 10**9
    async with shop.database.read() as conn:
        assert {key for _, _, key in await leases.pools(conn, [("acme", "$", us("2026-11-01"))])} == {us("2026-11-01")}


async def test_what_is_burned_and_what_was_refused_is_told_once(shop: Shop) -> None:
    await sold(shop, CALLS)
    await grant(shop, "1")
    for at in range(16):
        await shop.use("b", f"2026-11-20T00:00:{at:02}", "5")
    raised = await look(shop.database, shop.clock, "acme")
    assert [(each.kind.value, each.threshold) for each in raised] == [("credits_threshold", 50)]
    assert raised[0].text == "50 % of the credits are spent: $0.53 of $1.00" or "53" in raised[0].text
    assert await look(shop.database, shop.clock, "acme") == []
    denied = Denied("acme/$", 0, "1")
    (said,) = await raise_denied(shop.database, shop.clock, [denied])
    assert (said.kind.value, said.what, said.amount) == ("limit_denied", "credits:money", 1)
    assert await raise_denied(shop.database, shop.clock, [denied]) == []
    await grant(shop, "0.02")
    assert [each.threshold for each in await look(shop.database, shop.clock, "acme")] == [50]
