"""Moving the subscribers of a version, and what it would cost them."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from shop import BASE, CALLS, Shop, open_shop, us

from sidemeter_control.errors import NotFound
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.lifecycle import pause
from sidemeter_control.pricing.moves import MAX_MOVED_AT_ONCE, Moves, move_subscribers
from sidemeter_control.pricing.plans import PlanSpec
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.store import plans

DEARER = msgspec.structs.replace(BASE, amount=Decimal(59))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """Two customers on version 1, one of them paused; version 2 is dearer."""
    async with open_shop(tmp_path) as opened:
        for charges in ((BASE, CALLS), (DEARER, CALLS)):
            await publish_plan(opened.database, opened.clock, PlanSpec(key="pro", currency="USD", charges=charges))
        for key in ("acme", "globex"):
            customer = await opened.customer(key)
            spec = SubscribeSpec(customer=customer.key, plan="pro", version=1, start_at_us=us("2026-11-01"))
            made = await subscribe(opened.database, opened.clock, spec)
        await pause(opened.database, opened.clock, made.id, None)
        await opened.use("acme", "2026-11-05T00:00:00", "1")
        yield opened


async def move(shop: Shop, *, preview: bool, from_version: int = 1, at_once: int = MAX_MOVED_AT_ONCE) -> Moves:
    return await move_subscribers(
        shop.database,
        shop.clock,
        "pro",
        from_version=from_version,
        to_version=2,
        at=ChangeAt.PERIOD_END,
        preview=preview,
        at_once=at_once,
    )


async def on_each_version(shop: Shop) -> dict[tuple[str, int], int]:
    async with shop.database.read() as conn:
        return await plans.subscribers(conn, [("pro", 1), ("pro", 2)], us("2026-12-02"))


async def test_a_preview_tells_the_cost_of_each_and_moves_nobody(shop: Shop) -> None:
    found = await move(shop, preview=True)
    assert [(each.customer, str(each.current.rounded), str(each.new.rounded)) for each in found.moves] == [
        ("acme", "49.03", "59.03"),
        ("globex", "32.67", "39.33"),
    ]
    assert [(each.moved, each.problem and each.problem.partition("' ")[2]) for each in found.moves] == [
        (False, None),
        (False, "is paused: resume it first"),
    ]
    assert not found.remaining
    assert await on_each_version(shop) == {("pro", 1): 2}


async def test_a_move_takes_whoever_can_be_moved(shop: Shop) -> None:
    assert [each.moved for each in (await move(shop, preview=False)).moves] == [True, False]
    assert await on_each_version(shop) == {("pro", 1): 1, ("pro", 2): 1}
    assert [each.customer for each in (await move(shop, preview=False)).moves] == ["globex"]


async def test_a_version_that_does_not_exist_is_named(shop: Shop) -> None:
    with pytest.raises(NotFound, match="there is no plan 'pro version 7'"):
        await move(shop, preview=True, from_version=7)


async def test_so_many_are_moved_at_once_and_the_others_wait(shop: Shop) -> None:
    assert MAX_MOVED_AT_ONCE == 200
    found = await move(shop, preview=True, at_once=1)
    assert (len(found.moves), found.remaining) == (1, True)
