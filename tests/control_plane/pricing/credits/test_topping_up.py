"""Credits are bought when they run low: once each time, so often and no more, and never twice for one fall."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shop import BASE, Shop, open_shop, us

from sidemeter_control.errors import InvalidInput, NotFound
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.credits.balances import feature_credits
from sidemeter_control.pricing.credits.granting import grant_credits, remove_top_up, set_top_up
from sidemeter_control.pricing.credits.grants import (
    MAX_GRANTS,
    MONEY,
    CreditUnit,
    Denomination,
    GrantSpec,
    TopUp,
    new_grant,
)
from sidemeter_control.pricing.credits.topping_up import top_up_once
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import credits, top_ups

UNITS = Denomination(CreditUnit.FEATURE, "tokens")
PENNY = ChargeSpec(key="tokens", meter="tokens", model=PricingModel.PER_UNIT, unit_price=Decimal("0.01"))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def rule(shop: Shop, below: int, amount: int, most: int = 10, of: Denomination = UNITS) -> TopUp:
    made = TopUp("acme", of, Decimal(below), Decimal(amount), most, shop.clock.now_us())
    return await set_top_up(shop.database, made)


async def give(shop: Shop, amount: int, **fields: Any) -> None:
    spec = GrantSpec(customer="acme", amount=Decimal(amount), **({"denomination": UNITS} | fields))
    await grant_credits(shop.database, shop.clock, spec)


async def use(shop: Shop, tokens: int) -> None:
    """Use so many tokens now, and go on a minute later."""
    now = datetime.fromtimestamp(shop.clock.now_us() // 1_000_000, UTC)
    await shop.use("acme", now.isoformat(), str(tokens))
    shop.clock.advance(60)


async def bought(shop: Shop) -> list[int]:
    return [int(grant.amount) for grant in await top_up_once(shop.database, shop.clock)]


async def left(shop: Shop, customer: Customer) -> int:
    async with shop.database.read() as conn:
        return int((await feature_credits(conn, customer, "tokens", 0, shop.clock.now_us())).left)


async def test_a_purchased_grant_is_made_once_each_time_the_balance_falls_below(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await rule(shop, below=20, amount=100)
    await give(shop, 50)
    assert await bought(shop) == []
    await use(shop, 30)
    assert await bought(shop) == []
    await use(shop, 1)
    assert (await bought(shop), await bought(shop), await left(shop, acme)) == ([100], [], 119)
    await use(shop, 105)
    assert (await bought(shop), await bought(shop), await left(shop, acme)) == ([100], [], 114)
    async with shop.database.read() as conn:
        made = [each for each in await credits.of_customers(conn, ["acme"]) if each.automatic]
    assert [(each.purchased, each.denomination, each.rollover_max) for each in made] == [(True, UNITS, 100)] * 2


async def test_a_balance_that_stays_below_is_topped_up_again_only_when_more_is_used(shop: Shop) -> None:
    await shop.customer("acme")
    await rule(shop, below=20, amount=5)
    await give(shop, 10)
    assert (await bought(shop), await bought(shop)) == ([5], [])
    await use(shop, 3)
    assert (await bought(shop), await bought(shop)) == ([5], [])
    await give(shop, 30)
    assert await bought(shop) == []
    await use(shop, 30)
    assert (await bought(shop), await bought(shop)) == ([5], [])


async def test_a_top_up_that_overage_takes_at_once_is_followed_by_another_when_more_is_used(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await rule(shop, below=10, amount=50)
    await give(shop, 20)
    await use(shop, 100)
    assert (await bought(shop), await bought(shop), await left(shop, acme)) == ([50], [], -30)
    await use(shop, 1)
    assert (await bought(shop), await bought(shop), await left(shop, acme)) == ([50], [], 19)


async def test_a_rule_buys_so_many_times_a_billing_period_and_no_more(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, start="2026-11-01")
    await rule(shop, below=10, amount=50, most=2)
    assert [(await use(shop, 45), await bought(shop))[1] for _ in range(4)] == [[50], [50], [], []]
    shop.clock.set_wall(us("2026-12-01T00:00:01"))
    assert (await bought(shop), await bought(shop)) == ([50], [])


async def test_money_is_topped_up_by_what_is_owed(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, PENNY)
    await rule(shop, below=5, amount=20, of=MONEY)
    await give(shop, 10, denomination=MONEY)
    await use(shop, 400)
    assert await bought(shop) == []
    await use(shop, 200)
    assert await bought(shop) == [20]


async def test_a_rule_is_replaced_and_removed(shop: Shop) -> None:
    await shop.customer("acme")
    await rule(shop, below=20, amount=5)
    await rule(shop, below=20, amount=7)
    assert await bought(shop) == [7]
    assert await remove_top_up(shop.database, shop.clock, "acme", UNITS) is True
    assert await remove_top_up(shop.database, shop.clock, "acme", UNITS) is False
    await give(shop, 100)
    await use(shop, 100)
    assert await bought(shop) == []


async def test_every_rule_is_looked_at_however_many_there_are(shop: Shop) -> None:
    for number in range(3):
        await shop.customer(f"c{number}")
        for feature in ("calls", "tokens"):
            of = Denomination(CreditUnit.FEATURE, feature)
            await set_top_up(shop.database, TopUp(f"c{number}", of, Decimal(1), Decimal(number + 1), 1, 0))
    async with shop.database.read() as conn:
        first = await top_ups.page(conn, 4)
        rest = await top_ups.page(conn, 4, first[-1])
        own = await top_ups.of_customer(conn, "c1")
    assert [(each.customer_key, each.denomination.feature) for each in (*first, *rest)] == [
        (f"c{number}", feature) for number in range(3) for feature in ("calls", "tokens")
    ]
    assert own == [*first[2:4]]
    assert await bought(shop) == [1, 1, 2, 2, 3, 3]


async def test_a_rule_that_can_buy_no_more_stops_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    await shop.customer("acme")
    await rule(shop, below=1, amount=5)
    spec = GrantSpec(customer="acme", amount=Decimal(1), denomination=UNITS, expires_at_us=shop.clock.now_us() + 1)
    async with shop.database.write() as conn:
        for number in range(MAX_GRANTS):
            await credits.add(conn, new_grant(spec, f"g{number}", shop.clock.now_us(), None))
    await shop.customer("globex")
    await set_top_up(shop.database, TopUp("globex", UNITS, Decimal(1), Decimal(7), 1, 0))
    shop.clock.advance(1)
    assert await bought(shop) == [7]
    assert "the credits of customer 'acme' were left as they are" in caplog.text


async def test_a_rule_that_cannot_be_followed_is_refused(shop: Shop) -> None:
    with pytest.raises(NotFound, match="there is no customer 'acme'"):
        await rule(shop, below=1, amount=1)
    await shop.customer("acme")
    with pytest.raises(InvalidInput, match="unit: must not be MONEY"):
        await rule(shop, below=1, amount=1, of=MONEY)
