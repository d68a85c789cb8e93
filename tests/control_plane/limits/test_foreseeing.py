"""That a budget or a quota will be exceeded is said once, days before, and not when it may well not be."""

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shop import CALLS, TOKENS, Shop, open_shop, us

from sidemeter_control.limits.alerts import Alert, AlertKind
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import BudgetSpec, BudgetUnit
from sidemeter_control.limits.foreseeing import EVERY_S, MAX_FORESEEN_AT_ONCE, Foreseeing, foresee
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.pricing.words import Language
from sidemeter_control.store import alerts, meters

NOW = "2026-11-15"
HOUR_US = 3_600_000_000


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, NOW) as opened:
        yield opened


async def use_hourly(shop: Shop, days: int = 50, most: int = 12, type_: str = "llm") -> None:
    """Some ten tokens of team a every hour of so many days before now: 7,200 in 30 days."""
    rng, now_us = random.Random(7), shop.clock.now_us()
    hours = range(now_us - days * 24 * HOUR_US, now_us, HOUR_US)
    drawn = [(at, rng.randint(20 - most, most)) for at in hours]
    events = [
        Event(f"{type_}{at}", "s", type_, "acme", at, f'{{"tokens": {tokens}, "team": "a"}}') for at, tokens in drawn
    ]
    ingest = Ingest(shop.database, shop.clock)
    for begin in range(0, len(events), 1000):
        await ingest.record(events[begin : begin + 1000])


async def budget(shop: Shop, amount: int, key: str = "b", **fields: Any) -> None:
    of = {"unit": BudgetUnit.METER, "meter": "tokens"} | fields
    await set_budget(shop.database, shop.clock, BudgetSpec(key=key, customer="acme", amount=Decimal(amount), **of))


async def raised(shop: Shop) -> list[Alert]:
    async with shop.database.read() as conn:
        found = await alerts.page(conn, "acme", 200)
    return [each for each in found if each.kind is AlertKind.FORECAST_EXCEEDS][::-1]


async def test_it_is_said_once_with_the_day_on_which_it_comes(shop: Shop) -> None:
    await shop.customer("acme")
    await use_hourly(shop)
    await budget(shop, 6000)
    for _ in range(2):
        await foresee(shop.database, shop.clock, "acme")
    (alert,) = await raised(shop)
    assert (alert.what, alert.threshold, alert.amount) == ("budget:b", None, 6000)
    assert alert.text == (
        f"At this pace the budget b is exceeded on 2026-11-26: {alert.used:,f} tokens of 6,000 tokens so far"
    )
    assert alert.used == 3296  # in 14 of 30 days


async def test_a_customer_reads_it_in_the_own_language(shop: Shop) -> None:
    await shop.customer("acme", language=Language.DE)
    await use_hourly(shop)
    await budget(shop, 6000)
    (alert,) = await foresee(shop.database, shop.clock, "acme")
    assert alert.text.startswith("Bei diesem Tempo wird das Budget b am 26.11.2026 überschritten: bisher ")


@pytest.mark.parametrize("amount", [7250, 9000, 3000])
async def test_nothing_is_said_of_what_may_suffice_and_of_what_is_exceeded_already(shop: Shop, amount: int) -> None:
    await shop.customer("acme")
    await use_hourly(shop)
    await budget(shop, amount)
    assert await foresee(shop.database, shop.clock, "acme") == []


@pytest.mark.parametrize(("now", "said"), [("2026-11-08T11:00:00", False), ("2026-11-08T13:00:00", True)])
async def test_before_a_quarter_of_the_period_is_over_nothing_is_said(shop: Shop, now: str, said: bool) -> None:
    shop.clock.set_wall(us(now))
    await shop.customer("acme")
    await use_hourly(shop)
    await budget(shop, 3000)
    assert bool(await foresee(shop.database, shop.clock, "acme")) is said


async def test_too_little_data_says_nothing(shop: Shop) -> None:
    await shop.customer("acme")
    await use_hourly(shop, days=13)
    await budget(shop, 6000)
    assert await foresee(shop.database, shop.clock, "acme") == []


async def test_another_amount_is_another_budget_and_a_new_period_says_it_anew(shop: Shop) -> None:
    await shop.customer("acme")
    await use_hourly(shop)
    await budget(shop, 6000)
    await foresee(shop.database, shop.clock, "acme")
    await budget(shop, 6100)
    await foresee(shop.database, shop.clock, "acme")
    shop.clock.set_wall(us("2026-12-15"))
    await use_hourly(shop, days=29)
    await foresee(shop.database, shop.clock, "acme")
    assert [each.amount for each in await raised(shop)] == [6000, 6100, 6100]


async def test_a_budget_of_money_is_foreseen_by_what_the_plan_will_charge(shop: Shop) -> None:
    """7,200 tokens cost 34.80, and 720 calls 23.98; 40 of 58.78 are spent on the 20th or 21st."""
    await shop.sell(await shop.customer("acme"), TOKENS, CALLS, start="2026-09-01")
    await use_hourly(shop)
    await budget(shop, 58, "most", unit=BudgetUnit.MONEY, meter=None, period=ResetPeriod.BILLING_PERIOD)
    await budget(shop, 40, "few", unit=BudgetUnit.MONEY, meter=None, period=ResetPeriod.MONTH)
    (alert,) = await foresee(shop.database, shop.clock, "acme")
    assert (alert.what, alert.amount) == ("budget:few", 40)
    assert alert.text.startswith("At this pace the budget few is exceeded on 2026-11-2")
    assert "USD of 40 USD so far" in alert.text


async def test_a_slice_is_foreseen_by_its_own_use(shop: Shop) -> None:
    made = new_meter(
        "by-team", "split", Aggregation.SUM, value_property="tokens", dimensions=(Dimension("team", "team"),), now_us=0
    )
    async with shop.database.write() as conn:
        await meters.add(conn, made)
    await shop.customer("acme")
    await use_hourly(shop, type_="split")
    await budget(shop, 6000, "a", meter="by-team", slice={"team": "a"})
    await budget(shop, 6000, "b", meter="by-team", slice={"team": "b"})
    assert [each.what for each in await foresee(shop.database, shop.clock, "acme")] == ["budget:a"]


async def test_a_quota_is_foreseen_and_named_by_its_feature(shop: Shop) -> None:
    quota = EntitlementSpec(feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(6000))
    free = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=None)
    await shop.sell(await shop.customer("acme"), CALLS, entitlements=(quota, free), start="2026-09-01")
    await use_hourly(shop)
    (alert,) = await foresee(shop.database, shop.clock, "acme")
    assert (alert.what, alert.kind) == ("quota:tokens", AlertKind.FORECAST_EXCEEDS)
    assert alert.text.startswith("At this pace the quota tokens is used up on 2026-11-26: ")


async def test_what_never_resets_and_what_is_no_sum_is_not_foreseen(shop: Shop) -> None:
    async with shop.database.write() as conn:
        await meters.add(conn, new_meter("peak", "llm", Aggregation.MAX, value_property="tokens", now_us=0))
    await shop.customer("acme")
    await use_hourly(shop)
    await budget(shop, 20_000, "ever", period=ResetPeriod.NEVER)
    await budget(shop, 13, "peak", meter="peak")
    assert await foresee(shop.database, shop.clock, "acme") == []


async def test_every_customer_is_looked_at_once_an_hour_some_at_a_time(shop: Shop) -> None:
    for key in ("acme", "b", "c"):
        await shop.customer(key)
    await use_hourly(shop)
    await budget(shop, 6000)
    ahead = Foreseeing(shop.database, shop.clock, customers_at_once=2)
    assert [await ahead.once() for _ in range(3)] == [2, 1, 0]
    assert len(await raised(shop)) == 1
    shop.clock.advance(EVERY_S - 1)
    assert await ahead.once() == 0
    shop.clock.advance(1)
    assert [await ahead.once() for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(("more", "turns"), [(-1, [19, 0]), (0, [20, 0]), (1, [20, 1])])
async def test_a_turn_looks_at_so_many_and_the_next_goes_on(shop: Shop, more: int, turns: list[int]) -> None:
    for number in range(MAX_FORESEEN_AT_ONCE + more):
        await shop.customer(f"c{number:02}")
    ahead = Foreseeing(shop.database, shop.clock)
    assert [await ahead.once() for _ in turns] == turns
