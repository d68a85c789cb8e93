"""What is spent of budgets: exactly what is counted, of each slice and period, and what the bill says."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import BASE, TOKENS, Shop, open_shop, us

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.limits.budgeting import remove_budget, set_budget
from sidemeter_control.limits.budgets import MAX_BUDGETS, BudgetAnswer, BudgetSpec, BudgetUnit, new_budget
from sidemeter_control.limits.spending import enforced, spending
from sidemeter_control.metering.catalogue import create_meter, update_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, Meter, new_meter
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.credits.granting import grant_credits
from sidemeter_control.pricing.credits.grants import GrantSpec
from sidemeter_control.pricing.lifecycle import change_plan
from sidemeter_control.pricing.plans import Enforcement, ResetPeriod
from sidemeter_control.store import budgets, customers

NOW = "2026-11-21"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, NOW) as opened:
        await create_meter(opened.database, llm())
        yield opened


def llm(*dimensions: str, aggregation: Aggregation = Aggregation.SUM) -> Meter:
    """Tokens by team and model."""
    split = [Dimension(each, each) for each in dimensions or ("team", "model")]
    return new_meter("llm", "call", aggregation, value_property="n", dimensions=split, unit="tokens", now_us=0)


def called(number: int, n: object, at: str = NOW, subject: str = "acme", **data: object) -> Event:
    text = "{" + ", ".join([f'"n": {n}', *(f'"{key}": "{value}"' for key, value in data.items())]) + "}"
    return Event(f"c{number}", "s", "call", subject, us(at), text)


async def call(shop: Shop, n: object, at: str = NOW, subject: str = "acme", **data: object) -> None:
    event = called(next(iter(shop.numbers)), n, at, subject, **data)
    await Ingest(shop.database, shop.clock).record([event])


async def budget(shop: Shop, key: str, amount: object = 100, *, meter: str | None = "llm", **fields: Any) -> None:
    unit = BudgetUnit.MONEY if meter is None else BudgetUnit.METER
    spec = BudgetSpec(
        key=key, amount=Decimal(str(amount)), **({"customer": "acme", "unit": unit, "meter": meter} | fields)
    )
    await set_budget(shop.database, shop.clock, spec)


async def answers(shop: Shop, customer: str = "acme", at: str | None = None) -> Sequence[BudgetAnswer]:
    async with shop.database.read() as conn:
        found = (await customers.get(conn, [customer]))[customer]
        return await spending(conn, found, shop.clock.now_us(), None if at is None else us(at))


async def spent(shop: Shop, customer: str = "acme", at: str | None = None) -> dict[str, Decimal]:
    return {each.budget.key: each.spent for each in await answers(shop, customer, at)}


async def test_money_of_slices_is_what_their_usage_costs_in_each_period_and_no_fee(shop: Shop) -> None:
    of_llm = msgspec.structs.replace(TOKENS, meter="llm")
    await shop.sell(await shop.customer("acme"), BASE, of_llm)
    for team, reset in (("a", "DAY"), ("a", "BILLING_PERIOD"), ("b", "BILLING_PERIOD"), ("c", "MONTH")):
        await budget(shop, f"{team}-{reset}", meter=None, period=ResetPeriod(reset), slice={"team": team})
    for n, at, data in (
        (600, "2026-11-20", {"team": "a"}),
        (600, NOW, {"team": "a"}),
        (50, NOW, {"team": "b", "model": "x"}),
        (9, NOW, {}),
    ):
        await call(shop, n, at, **data)
    found = {each.budget.key: (each.spent, each.measured_in) for each in await answers(shop)}
    assert found == {
        "a-BILLING_PERIOD": (Decimal("10.80"), "USD"),
        "a-DAY": (Decimal("4.80"), "USD"),  # 400 at a cent, then the cheaper tier
        "b-BILLING_PERIOD": (Decimal("0.50"), "USD"),
        "c-MONTH": (Decimal(0), "USD"),
    }


async def test_each_level_of_a_hierarchy_counts_what_is_its_own(shop: Shop) -> None:
    await shop.customer("acme", subjects=("a", "b"))
    await shop.customer("other")
    await budget(shop, "all")
    await budget(shop, "team-x", slice={"team": "x"})
    await budget(shop, "team-y", slice={"team": "y"})
    await budget(shop, "x-opus", slice={"team": "x", "model": "opus"})
    await budget(shop, "opus", slice={"model": "opus"})
    await call(shop, "1.5", subject="a", team="x", model="opus")
    await call(shop, 2, subject="b", team="x", model="haiku")
    await call(shop, 4, subject="b", team="z", model="opus")
    await call(shop, 8, subject="a")
    await call(shop, 100, subject="other", team="x", model="opus")
    assert await spent(shop) == {
        "all": Decimal("15.5"),
        "team-x": Decimal("3.5"),
        "team-y": 0,
        "x-opus": Decimal("1.5"),
        "opus": Decimal("5.5"),
    }


@pytest.mark.parametrize(
    ("reset", "begins", "ends", "counts"),
    [
        (ResetPeriod.DAY, "2026-11-21", "2026-11-22", 1),
        (ResetPeriod.WEEK, "2026-11-16", "2026-11-23", 11),
        (ResetPeriod.MONTH, "2026-11-01", "2026-12-01", 111),
        (ResetPeriod.YEAR, "2026-01-01", "2027-01-01", 1111),
        (ResetPeriod.NEVER, None, None, 11111),
        (ResetPeriod.BILLING_PERIOD, "2026-10-30", "2026-11-30", 111),
    ],
    ids=lambda value: value.value if isinstance(value, ResetPeriod) else None,
)
@pytest.mark.parametrize("sliced", [False, True])
async def test_a_period_begins_anew_on_the_customers_calendar(
    shop: Shop, reset: ResetPeriod, begins: str | None, ends: str | None, counts: int, *, sliced: bool
) -> None:
    await shop.sell(await shop.customer("acme"), BASE, start="2026-08-30")
    await budget(shop, "b", period=reset, slice={"team": "x"} if sliced else None)
    for amount, at in (
        (1, "2026-11-21"),
        (10, "2026-11-20"),
        (100, "2026-11-10"),
        (1000, "2026-09-01"),
        (10_000, "2025-01-01"),
    ):
        await call(shop, amount, at, team="x")
    (answer,) = await answers(shop)
    assert answer.spent == counts
    assert (answer.period_start_us, answer.resets_at_us) == (begins and us(begins), ends and us(ends))


async def test_midnight_is_the_customers(shop: Shop) -> None:
    await shop.customer("acme", time_zone="America/New_York")
    await budget(shop, "b", period=ResetPeriod.DAY)
    await call(shop, 1, "2026-11-20T04:59:59")
    await call(shop, 2, "2026-11-20T05:00:00")
    assert await spent(shop) == {"b": 2}  # it is still the 20th there


async def test_what_is_spent_of_money_is_what_the_bill_says_before_credits(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    await budget(shop, "bill", meter=None, period=ResetPeriod.BILLING_PERIOD)
    await budget(shop, "day", meter=None, period=ResetPeriod.DAY)
    await shop.use("acme", "2026-11-20", "1500")
    await shop.use("acme", NOW, "100")
    await grant_credits(shop.database, shop.clock, GrantSpec(customer="acme", amount=Decimal(50)))
    async with shop.database.read() as conn:
        owed = await cost(conn, acme, shop.clock.now_us())
    bill, day = await answers(shop)
    assert (bill.spent, bill.measured_in, bill.period.start_us) == (owed.total.amount, "USD", owed.from_us)
    assert bill.spent == Decimal("61.4")  # 49 + 1,000 at 0.01 + 600 at 0.004
    assert day.spent == Decimal("0.4")


async def test_a_change_of_plan_within_a_period_takes_nothing_from_what_is_spent(shop: Shop) -> None:
    acme = await shop.customer("acme")
    old = await shop.sell(acme, TOKENS)
    await budget(shop, "bill", meter=None, period=ResetPeriod.BILLING_PERIOD)
    await shop.use("acme", "2026-11-20", "1000")
    assert await spent(shop) == {"bill": 10}
    await shop.sell(await shop.customer("other"), TOKENS)  # as version 2
    await change_plan(shop.database, shop.clock, old.id, plan="pro", version=None, at=ChangeAt.NOW)
    shop.clock.advance(60)
    assert await spent(shop) == {"bill": 10}


async def test_an_earlier_period_is_answered_as_well(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE, TOKENS, start="2026-10-01")
    await budget(shop, "meter")
    await budget(shop, "money", meter=None)
    await call(shop, 7, "2026-10-31T23:00:00")
    await shop.use("acme", "2026-10-31T23:00:00", "100")
    assert await spent(shop) == {"meter": 0, "money": 49}
    assert await spent(shop, at="2026-10-31") == {"meter": 7, "money": 50}


async def test_a_budget_is_replaced_and_taken_away_by_its_key(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "b", 100)
    await budget(shop, "b", 200, slice={"team": "x"}, thresholds=(80,))
    (answer,) = await answers(shop)
    assert (answer.budget.amount, answer.budget.slice, answer.budget.thresholds) == (200, (("team", "x"),), (80,))
    assert await remove_budget(shop.database, shop.clock, "b") is True
    assert await remove_budget(shop.database, shop.clock, "b") is False
    assert await answers(shop) == ()


async def test_a_key_belongs_to_one_customer(shop: Shop) -> None:
    await shop.customer("acme")
    await shop.customer("other")
    await budget(shop, "b")
    with pytest.raises(Conflict, match="there is a budget 'b' of another customer already"):
        await budget(shop, "b", customer="other")
    assert await answers(shop, "other") == ()


async def test_a_budget_of_nobody_or_of_nothing_is_refused(shop: Shop) -> None:
    with pytest.raises(NotFound, match="there is no customer 'acme'"):
        await budget(shop, "b")
    await shop.customer("acme")
    with pytest.raises(NotFound, match="there is no meter 'nothing'"):
        await budget(shop, "b", meter="nothing")


async def test_a_customer_has_only_so_many_budgets(shop: Shop) -> None:
    """MAX_BUDGETS; one that is there already can still be changed."""
    await shop.customer("acme")
    spec = BudgetSpec(key="b", customer="acme", amount=Decimal(1))
    async with shop.database.write() as conn:
        for number in range(MAX_BUDGETS):
            made = new_budget(replace(spec, key=f"b{number}"), meter=None, currency="USD", now_us=0)
            await budgets.put(conn, made, 0)
    with pytest.raises(Conflict, match="has 200 budgets, and no more are allowed"):
        await budget(shop, "one-more")
    await budget(shop, "b0", 7)
    async with shop.database.read() as conn:
        assert await budgets.count(conn, "acme") == MAX_BUDGETS


async def test_a_meter_that_is_capped_is_not_changed_into_what_the_budget_cannot_cap(shop: Shop) -> None:
    await shop.customer("acme")
    await budget(shop, "team", slice={"team": "x"}, enforcement=Enforcement.HARD)
    for change, why in (
        (llm("model"), "needs its dimension 'team'"),
        (llm("team", aggregation=Aggregation.MAX), "is HARD"),
    ):
        with pytest.raises(Conflict, match=f"budget 'team' caps meter 'llm' and {why}"):
            await update_meter(shop.database, change)
    await update_meter(shop.database, llm("team"))


async def test_agents_enforce_the_hard_budgets_alone(shop: Shop) -> None:
    acme, other = await shop.customer("acme"), await shop.customer("other")
    await budget(shop, "hard", slice={"team": "x"}, enforcement=Enforcement.HARD)
    await budget(shop, "soft")
    await call(shop, 3, team="x")
    async with shop.database.read() as conn:
        found = await enforced(conn, [acme, other], shop.clock.now_us())
    (own,) = found["acme"]
    assert (own.answer.budget.key, own.answer.spent, own.meter and own.meter.key) == ("hard", 3, "llm")
    assert (own.taken, own.caps) == (3, None)
    assert found["other"] == ()


TEAMS = st.sampled_from(["x", "y", "z"])
CALLS = st.lists(st.tuples(TEAMS, TEAMS, st.decimals("-1000", "1000", places=3)), max_size=12)
SLICES = st.dictionaries(st.sampled_from(["team", "model"]), TEAMS)


@settings(max_examples=10)
@given(calls=CALLS, slices=st.lists(SLICES, min_size=1, max_size=4))
async def test_every_slice_is_the_sum_of_the_events_in_it(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, str, Decimal]], slices: list[dict[str, str]]
) -> None:
    async with open_shop(tmp_path_factory.mktemp("db"), NOW) as shop:
        await create_meter(shop.database, llm())
        await shop.customer("acme")
        for number, sliced in enumerate(slices):
            await budget(shop, f"b{number}", slice=sliced)
        made = [called(place, n, team=team, model=model) for place, (team, model, n) in enumerate(calls)]
        await Ingest(shop.database, shop.clock).record(made)
        expected = {
            f"b{number}": sum(
                (n for team, model, n in calls if {"team": team, "model": model}.items() >= sliced.items()), Decimal(0)
            )
            for number, sliced in enumerate(slices)
        }
        assert await spent(shop) == expected
