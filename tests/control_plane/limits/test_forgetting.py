"""Leases of periods that are over are forgotten, once nobody has anything left of them."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from lessees import Lessee
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.forgetting import MAX_DELIVERIES, MAX_FORGOTTEN, forget_deliveries_once, forget_once
from sidemeter_control.limits.webhooks import DeliveryState
from sidemeter_control.metering.identity import SyncStatus
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import leases, recoveries, webhooks
from sidemeter_control.store.leases import StoredPool

CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(9), enforcement=Enforcement.HARD)
THEN = ("acme/calls", us("2026-11-01"))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.sell(await opened.customer("acme"), BASE, entitlements=(CALLS,))
        yield opened


async def pools(shop: Shop, after: str) -> int:
    """How many there are once it was looked for what is over, on that day."""
    shop.clock.advance((us(after) - shop.clock.now_us()) // 1_000_000)
    assert not await forget_once(shop.database, shop.clock)
    async with shop.database.read() as conn:
        return (await leases.figures(conn, 0)).pools


async def test_a_period_is_forgotten_a_day_after_its_end(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({THEN: 9})
    agent.leases[THEN].used = 9
    await agent.sync()
    assert await pools(shop, "2026-11-30") == 1
    assert await pools(shop, "2026-12-02") == 1
    assert await pools(shop, "2026-12-03") == 0


async def test_it_is_not_while_a_current_holder_has_something_left(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({THEN: 9})
    assert await pools(shop, "2026-12-20") == 1
    await agent.hello()
    assert await pools(shop, "2026-12-20") == 0


async def test_what_is_told_of_a_forgotten_period_changes_nothing_and_raises_no_alarm(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({THEN: 9})
    agent.leases[THEN].used = 9
    await agent.sync()
    assert await pools(shop, "2026-12-20") == 0
    answer = await agent.sync()
    assert (answer.status, [grant.mode for grant in answer.grants]) == (SyncStatus.OK, ["closed"])
    assert await pools(shop, "2026-12-20") == 0
    async with shop.database.read() as conn:
        assert await recoveries.current(conn) is None


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_so_many_are_forgotten_at_once_and_the_others_next_time(shop: Shop, more: int) -> None:
    async with shop.database.write() as conn:
        for period in range(MAX_FORGOTTEN + more):
            await leases.put_pool(conn, StoredPool(("acme", "calls", period), "calls", (), period + 1, 0, 0))
    assert await forget_once(shop.database, shop.clock) is (more >= 0)
    async with shop.database.read() as conn:
        assert (await leases.figures(conn, 0)).pools == max(more, 0)


async def deliveries(shop: Shop, count: int, first: int = 0) -> None:
    """So many, of which those with an odd number have ended."""
    async with shop.database.write() as conn:
        for number in range(first, first + count):
            what = {"delivery_id": f"d{number}", "message_id": "m", "alert_id": "a", "body": "{}", "now_us": 0}
            await webhooks.add_delivery(conn, webhook_id="even" if number % 2 == 0 else "odd", **what)
        await webhooks.give_up(conn, "odd", "gone", 0)


async def numbers(shop: Shop) -> list[int]:
    async with shop.database.read() as conn:
        return [int(each.id[1:]) for each in await webhooks.page(conn, 10_000)][::-1]


@pytest.mark.parametrize("keep", [9, 10, 11])
async def test_of_deliveries_that_have_ended_the_newest_are_kept(shop: Shop, keep: int) -> None:
    """MAX_DELIVERIES of them; those that are still to be sent stay, however old."""
    await deliveries(shop, 12)
    assert not await forget_deliveries_once(shop.database, keep=keep)
    left = await numbers(shop)
    assert left == [number for number in range(12) if number >= 12 - keep or number % 2 == 0]
    assert not await forget_deliveries_once(shop.database, keep=keep)
    assert await numbers(shop) == left
    async with shop.database.read() as conn:
        assert len(await webhooks.page(conn, 100, state=DeliveryState.PENDING)) == 6


async def test_very_many_old_deliveries_go_in_several_turns(shop: Shop) -> None:
    await deliveries(shop, 2_100)
    assert await forget_deliveries_once(shop.database, keep=0)
    assert not await forget_deliveries_once(shop.database, keep=0)
    assert len(await numbers(shop)) == 1_050
    assert MAX_DELIVERIES == 100_000
