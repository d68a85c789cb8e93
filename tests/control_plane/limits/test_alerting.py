"""Alerts are raised soon after events arrive, each once: when two look at once, after a restart, and over many customers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from planes import older_database
from shop import BASE, TOKENS, Shop, open_shop, us

from sidemeter_control.limits.add_ons import AddOnSpec
from sidemeter_control.limits.alerting import MAX_LOOKED_AT_ONCE, MAX_SCANNED, Alerting, look, sweep_once
from sidemeter_control.limits.alerts import MAX_ALERTS, Alert, AlertKind, Finding
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import BudgetSpec, BudgetUnit
from sidemeter_control.limits.given import grant_add_on
from sidemeter_control.limits.raising import raise_alerts
from sidemeter_control.metering.correcting import correct_event
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.pricing.customers import new_customer
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.pricing.words import Language
from sidemeter_control.store import alerts, customers, state

NOW = "2026-11-21"
QUOTA = EntitlementSpec(feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(1000))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, NOW) as opened:
        yield opened


async def budget(shop: Shop, key: str, amount: int = 100, customer: str = "acme", **fields: Any) -> None:
    of = {"unit": BudgetUnit.METER, "meter": "tokens"} | fields
    await set_budget(shop.database, shop.clock, BudgetSpec(key=key, customer=customer, amount=Decimal(amount), **of))


async def crowd(shop: Shop, count: int) -> list[str]:
    """So many customers, each of whom used 50 tokens."""
    keys = [f"c{number:03}" for number in range(count)]
    async with shop.database.write() as conn:
        for key in keys:
            await customers.put(conn, new_customer(key, now_us=0))
        await state.config_changed(conn)
    used = [Event(key, "s", "llm", key, us(NOW), '{"tokens": 50}') for key in keys]
    await Ingest(shop.database, shop.clock).record(used)
    return keys


async def raised(shop: Shop, customer: str = "acme") -> list[Alert]:
    """Every alert of a customer, the oldest first."""
    async with shop.database.read() as conn:
        return (await alerts.page(conn, customer, 200))[::-1]


async def thresholds(shop: Shop, customer: str = "acme") -> list[tuple[str, int | None]]:
    return [(each.what, each.threshold) for each in await raised(shop, customer)]


async def test_a_threshold_is_said_once_however_often_it_is_looked_at(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "b")
    looking = Alerting(shop.database, shop.clock)
    await shop.use("acme", NOW, "49")
    assert await looking.once() == 1
    assert await thresholds(shop) == []
    for _ in range(2):
        await shop.use("acme", NOW, "1")
        await looking.once()
    assert await looking.once() == 0
    assert await thresholds(shop) == [("budget:b", 50)]
    (alert,) = await raised(shop)
    assert (alert.kind, alert.at_us) == (AlertKind.BUDGET_THRESHOLD, shop.clock.now_us())
    assert (alert.used, alert.amount, alert.period_start_us) == (50, 100, us("2026-11-01"))
    assert alert.text == "50% of the budget b is spent: 50 tokens of 100 tokens"


async def test_several_thresholds_that_are_crossed_at_once_are_each_said_once(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE, entitlements=(QUOTA,))
    await budget(shop, "b", 1000, thresholds=(25, 100, 200))
    await shop.use("acme", NOW, "1500")
    looking = Alerting(shop.database, shop.clock)
    await looking.once()
    await looking.once()
    assert await thresholds(shop) == [
        ("budget:b", 25),
        ("budget:b", 100),
        *(("quota:tokens", percent) for percent in (50, 75, 90, 100)),
        ("quota:tokens", None),
    ]
    assert (await raised(shop))[-1].kind is AlertKind.OVERAGE_STARTED


async def test_a_new_period_says_it_anew(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "b", period=ResetPeriod.DAY, thresholds=(100,))
    looking = Alerting(shop.database, shop.clock)
    for day in ("2026-11-21", "2026-11-22"):
        shop.clock.set_wall(us(f"{day}T12:00:00"))
        await shop.use("acme", day, "100")
        await looking.once()
    assert await thresholds(shop) == [("budget:b", 100)] * 2


async def test_who_raises_a_budget_or_buys_more_is_warned_anew(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE, entitlements=(QUOTA,))
    await budget(shop, "b", 1000, thresholds=(100,))
    await shop.use("acme", NOW, "1000")
    await sweep_once(shop.database, shop.clock)
    before = len(await raised(shop))
    await budget(shop, "b", 1200, thresholds=(100,))
    await grant_add_on(shop.database, shop.clock, AddOnSpec(customer="acme", feature="tokens", quantity=Decimal(200)))
    await shop.use("acme", NOW, "200")
    await sweep_once(shop.database, shop.clock)
    again = [(each.what, each.threshold) for each in (await raised(shop))[before:]]
    assert {("budget:b", 100), ("quota:tokens", 100)} <= set(again)


async def test_a_budget_that_is_raised_says_only_the_thresholds_that_are_ahead(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "b", 100)
    looking = Alerting(shop.database, shop.clock)
    await shop.use("acme", NOW, "95")
    await looking.once()
    told = [("budget:b", percent) for percent in (50, 75, 90)]
    assert await thresholds(shop) == told
    await budget(shop, "b", 110)
    await looking.once()
    assert await thresholds(shop) == told
    for used, more in (("3", []), ("1", [90]), ("11", [100])):
        await shop.use("acme", NOW, used)
        await looking.once()
        told += [("budget:b", percent) for percent in more]
        assert await thresholds(shop) == told


async def test_only_so_many_alerts_of_a_customer_are_kept_and_the_oldest_go(shop: Shop) -> None:
    """MAX_ALERTS of them."""
    acme, other = await shop.customer("acme"), await shop.customer("other")
    finding = Finding(
        kind=AlertKind.LIMIT_DENIED, what="0", period_start_us=0, name="n", used=Decimal(1), amount=Decimal(1)
    )
    async with shop.database.write() as conn:
        await raise_alerts(conn, shop.clock, other, [finding])
        for number in range(4):
            await raise_alerts(conn, shop.clock, acme, [replace(finding, what=str(number))], keep=3)
    assert [each.what for each in await raised(shop)] == ["1", "2", "3"]
    assert len(await raised(shop, "other")) == 1
    assert MAX_ALERTS == 10_000


async def test_money_is_looked_at_as_it_is_owed(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme", language=Language.DE), BASE, TOKENS)
    await budget(shop, "geld", 50, unit=BudgetUnit.MONEY, meter=None, thresholds=(100,))
    looking = Alerting(shop.database, shop.clock)
    await shop.use("acme", NOW, "99")
    await looking.once()
    assert await raised(shop) == []  # 49.99
    await shop.use("acme", NOW, "1")
    await looking.once()
    (alert,) = await raised(shop)
    assert alert.text.replace("\xa0", " ") == "100 % des Budgets geld sind ausgegeben: 50 USD von 50 USD"


async def test_what_arrives_after_its_period_is_said_of_that_period(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "b", period=ResetPeriod.DAY)
    await shop.use("acme", "2026-11-20T23:59:59", "60")
    await Alerting(shop.database, shop.clock).once()
    assert await thresholds(shop) == [("budget:b", 50)]


async def test_what_arrives_more_than_a_week_late_is_no_news(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "b", period=ResetPeriod.DAY, thresholds=(100,))
    looking = Alerting(shop.database, shop.clock)
    await shop.use("acme", "2026-11-13T12:00:00", "100")
    await looking.once()
    assert await raised(shop) == []
    await shop.use("acme", "2026-11-14T12:00:00", "100")
    await looking.once()
    assert [each.period_start_us for each in await raised(shop)] == [us("2026-11-14")]


async def test_only_customers_with_new_usage_or_new_budgets_are_looked_at(shop: Shop) -> None:
    for key in ("acme", "other"):
        await shop.customer(key)
        await budget(shop, f"of-{key}", customer=key)
    looking = Alerting(shop.database, shop.clock)
    assert await looking.once() == 0
    await shop.use("acme", NOW, "50")
    await shop.use("nobody", NOW, "50")
    assert await looking.once() == 1
    assert await looking.once() == 0
    await budget(shop, "new", 10, customer="other")
    assert await looking.once() == 1


def test_a_turn_is_bounded() -> None:
    assert (MAX_SCANNED, MAX_LOOKED_AT_ONCE) == (100_000, 100)


@pytest.mark.parametrize(("count", "turns"), [(1, [1, 0]), (2, [2, 0]), (3, [2, 1, 0])])
async def test_one_turn_looks_at_so_many_customers_and_the_next_at_the_others(
    shop: Shop, count: int, turns: list[int]
) -> None:
    keys = await crowd(shop, count)
    await budget(shop, "last", customer=keys[-1])
    looking = Alerting(shop.database, shop.clock, customers_at_once=2)
    assert [await looking.once() for _ in turns] == turns
    assert await thresholds(shop, keys[-1]) == [("budget:last", 50)]


@pytest.mark.parametrize(("count", "turns"), [(1, [1, 0]), (2, [2, 0]), (3, [2, 1, 0])])
async def test_one_turn_notices_so_many_events_and_the_next_the_others(
    shop: Shop, count: int, turns: list[int]
) -> None:
    await crowd(shop, count)
    looking = Alerting(shop.database, shop.clock, events_at_once=2)
    assert [await looking.once() for _ in turns] == turns


async def test_one_who_was_ended_before_all_were_looked_at_begins_with_those_events_again(shop: Shop) -> None:
    await crowd(shop, 3)
    await Alerting(shop.database, shop.clock, customers_at_once=2).once()
    again = Alerting(shop.database, shop.clock)
    assert await again.once() == 3
    assert await Alerting(shop.database, shop.clock).once() == 0


async def test_two_who_look_at_once_raise_each_alert_once(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE, entitlements=(QUOTA,))
    await budget(shop, "b", 1000)
    await shop.use("acme", NOW, "2000")
    found = await asyncio.gather(*(look(shop.database, shop.clock, "acme") for _ in range(4)))
    assert len(await raised(shop)) == 9
    assert sorted(map(len, found)) == [0, 0, 0, 9]


async def test_the_database_itself_holds_each_alert_once(shop: Shop) -> None:
    acme = await shop.customer("acme")
    finding = Finding(
        kind=AlertKind.LIMIT_DENIED, what="limit", period_start_us=0, name="n", used=Decimal(1), amount=Decimal(1)
    )
    others = [
        replace(finding, what="other"),
        replace(finding, kind=AlertKind.LEASE_IN_DOUBT),
        replace(finding, threshold=50),
        replace(finding, period_start_us=1),
        replace(finding, terms="2"),
    ]
    async with shop.database.write() as conn:
        new = await raise_alerts(conn, shop.clock, acme, [finding, finding, *others, finding, *others])
    assert len(new) == 6
    assert [each.id for each in new] == [each.id for each in await raised(shop)]


async def test_what_no_event_says_is_found_by_looking_at_everyone(shop: Shop) -> None:
    for key in ("acme", "other"):
        await shop.customer(key)
        await budget(shop, f"of-{key}", customer=key, thresholds=(100,))
    await shop.use("acme", NOW, "1")
    await Alerting(shop.database, shop.clock).once()
    now_us = shop.clock.now_us()
    await correct_event(shop.database, "shop", "e0", '{"tokens": 100}', "wrong", by="key", now_us=now_us)
    assert await sweep_once(shop.database, shop.clock) == 2
    assert await thresholds(shop) == [("budget:of-acme", 100)]
    assert await thresholds(shop, "other") == []


async def test_a_customer_who_cannot_be_looked_at_stops_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("acme", "other"):
        await shop.customer(key)
        await budget(shop, f"of-{key}", customer=key)
        await shop.use(key, NOW, "50")
    async with shop.database.write() as conn:
        await conn.exec_driver_sql("UPDATE budgets SET amount = 'no number' WHERE key = 'of-acme'")
    assert await Alerting(shop.database, shop.clock).once() == 2
    assert await thresholds(shop, "other") == [("budget:of-other", 50)]
    assert "customer 'acme' could not be looked at for alerts" in caplog.text


async def test_what_was_used_before_there_were_alerts_is_not_looked_at_event_by_event(tmp_path: Path) -> None:
    events = (
        "INSERT INTO events (seq, source, id, type, subject, time_us, received_at_us)"
        " VALUES (41, 's', '1', 'llm', 'a', 0, 0), (42, 's', '2', 'llm', 'a', 0, 0)"
    )
    async with older_database(tmp_path, "0009", events) as database, database.read() as conn:
        assert await alerts.looked_at(conn) == 42
