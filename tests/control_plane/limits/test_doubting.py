"""What an agent had and nobody says anything of is an alert, once in a period, and not at once."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lessees import Lessee
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.alerts import Alert, AlertKind
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import Budget, BudgetSpec, BudgetUnit
from sidemeter_control.limits.doubting import DOUBTED_AFTER_S, MAX_DOUBTED, Doubting
from sidemeter_control.limits.handed_out import write_off
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import leases
from sidemeter_control.store.agents import PENDING_WITHIN_US

NOVEMBER = us("2026-11-01")
CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(100), enforcement=Enforcement.HARD)
NOW = ("acme/calls", NOVEMBER)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.sell(await opened.customer("acme"), BASE, entitlements=(CALLS,))
        yield opened


async def looked(shop: Shop, doubting: Doubting) -> list[Alert]:
    """What is raised by one look, and one when the wait is over."""
    found = await doubting.once()
    shop.clock.advance(DOUBTED_AFTER_S)
    return found + await doubting.once()


async def lost(shop: Shop, units: int, lease: tuple[str, int] = NOW, **told: int) -> Lessee:
    """An agent that began anew, and left so many units."""
    agent = await Lessee(shop).hello()
    await agent.sync({lease: units})
    for name, value in told.items():
        setattr(agent.leases[lease], name, value)
    await agent.sync()
    return await agent.hello()


async def test_what_a_holder_left_is_told_once_in_a_period_after_a_minute(shop: Shop) -> None:
    await lost(shop, 40, used=10)
    doubting = Doubting(shop.database, shop.clock)
    assert await doubting.once() == []
    shop.clock.advance(DOUBTED_AFTER_S - 1)
    assert await doubting.once() == []
    shop.clock.advance(1)
    (alert,) = await doubting.once()
    assert (alert.kind, alert.what, alert.used, alert.amount) == (AlertKind.LEASE_IN_DOUBT, "quota:calls", 30, 100)
    assert alert.period_start_us == NOVEMBER
    assert alert.text == "30 calls of calls (100 calls) are held by an agent that does not answer"
    await lost(shop, 20)
    assert await looked(shop, doubting) == []


async def test_the_next_period_tells_it_anew(shop: Shop) -> None:
    await lost(shop, 40)
    doubting = Doubting(shop.database, shop.clock)
    assert len(await looked(shop, doubting)) == 1
    shop.clock.advance((us("2026-12-02") - shop.clock.now_us()) // 1_000_000)
    assert await looked(shop, doubting) == []  # of a period that is over nothing is missing any more
    await lost(shop, 40, ("acme/calls", us("2026-12-01")))
    assert len(await looked(shop, doubting)) == 1


async def test_who_says_soon_what_became_of_it_is_no_reason_for_an_alert(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({NOW: 40})
    agent.leases[NOW].used, agent.leases[NOW].returned = 10, 30
    last_word = agent.question()
    await agent.hello()
    doubting = Doubting(shop.database, shop.clock)
    assert await doubting.once() == []
    await agent.put(last_word)
    shop.clock.advance(DOUBTED_AFTER_S)
    assert await doubting.once() == []


async def test_neither_is_a_current_holder_nor_what_was_written_off(shop: Shop) -> None:
    await (await Lessee(shop, "other").hello()).sync({NOW: 10})
    agent = await lost(shop, 40)
    await write_off(shop.database, "acme/calls", (agent.agent_id, 1), "gone", by="key", now_us=shop.clock.now_us())
    assert await looked(shop, Doubting(shop.database, shop.clock)) == []


async def test_a_wall_clock_that_is_set_brings_it_no_sooner(shop: Shop) -> None:
    await lost(shop, 40)
    doubting = Doubting(shop.database, shop.clock)
    await doubting.once()
    shop.clock.set_wall(shop.clock.now_us() + 3_600_000_000)
    assert await doubting.once() == []


async def test_a_budget_is_told_by_its_key(shop: Shop) -> None:
    of: dict[str, Any] = {"unit": BudgetUnit.METER, "meter": "calls", "enforcement": Enforcement.HARD}
    made: Budget = await set_budget(
        shop.database, shop.clock, BudgetSpec(key="team", customer="acme", amount=Decimal(50), **of)
    )
    await lost(shop, 20, (made.limit_id or "", NOVEMBER))
    (alert,) = await looked(shop, Doubting(shop.database, shop.clock))
    assert (alert.what, alert.used, alert.amount) == ("budget:team", 20, 50)


@pytest.mark.parametrize(("at_once", "told"), [(1, 1), (2, 2), (3, 2)])
async def test_one_turn_looks_at_so_many(shop: Shop, at_once: int, told: int) -> None:
    """MAX_DOUBTED of them."""
    other = await shop.customer("other")
    await shop.sell(other, BASE, entitlements=(CALLS,), plan="other")
    for customer in ("acme", "other"):
        await lost(shop, 10, (f"{customer}/calls", NOVEMBER))
    assert len(await looked(shop, Doubting(shop.database, shop.clock, at_once=at_once))) == told
    assert MAX_DOUBTED == 1_000


async def test_figures_tell_what_is_held_what_is_in_doubt_and_what_nobody_is_left_to_return(shop: Shop) -> None:
    async def figures() -> tuple[int, int, int]:
        async with shop.database.read() as conn:
            found = await leases.figures(conn, shop.clock.now_us() - PENDING_WITHIN_US)
        return found.held, found.in_doubt, found.stranded

    assert await figures() == (0, 0, 0)
    agent = await lost(shop, 40)
    await agent.sync({NOW: 10})
    assert await figures() == (1, 1, 0)
    shop.clock.advance(PENDING_WITHIN_US // 1_000_000 + 1)
    assert await figures() == (1, 1, 1)
    await agent.sync()
    assert await figures() == (1, 1, 0)
