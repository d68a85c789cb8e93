"""Closed billing periods: frozen once, adjusted later, and never a cent more or less than everything comes to."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from fakes import eventually
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us
from sqlalchemy import event, text

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import loops, repeat
from sidemeter_control.clock import MAX_STEP_S
from sidemeter_control.metering.catalogue import create_meter, update_meter
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.pricing.catalogue import publish_plan, subscribe, subscribed
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.closing import MAX_CLOSED_AT_ONCE, Closing, close_once
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.cost import Cost, cost, cost_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.lifecycle import cancel, change_plan, pause, resume
from sidemeter_control.pricing.periods import Interval, Period
from sidemeter_control.pricing.plans import PlanSpec
from sidemeter_control.pricing.subscriptions import SubscribeSpec, Subscription
from sidemeter_control.settings import Settings
from sidemeter_control.store import closed_periods, state

pytestmark = [pytest.mark.both_databases, pytest.mark.spread]

HOUR_S = 3600
AHEAD = msgspec.structs.replace(BASE, in_advance=True)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def close(shop: Shop, now: str | None = None, at_once: int = MAX_CLOSED_AT_ONCE) -> int:
    if now is not None:
        shop.clock.set_wall(us(now))
    return await close_once(shop.database, shop.clock, HOUR_S, at_once=at_once)


async def owed(shop: Shop, customer: Customer, start: str, end: str) -> Cost:
    async with shop.database.read() as conn:
        return await cost(conn, customer, shop.clock.now_us(), us(start), us(end))


async def everything(shop: Shop, customer: Customer, asked: Period) -> tuple[Cost, Cost]:
    """The cost of an interval, and what it would be had nothing ever been closed."""
    async with shop.database.read() as conn:
        own = (await subscribed(conn, [customer]))[customer.key]
        now_us = shop.clock.now_us()
        found = await cost(conn, customer, now_us, asked.start_us, asked.end_us)
        return found, await cost_of(conn, customer, own, asked, now_us)


def shown(found: Cost) -> list[tuple[str, str, str]]:
    return [(line.text, str(line.quantity), str(line.amount.rounded)) for line in found.lines]


async def test_a_period_is_closed_once_some_time_after_its_end(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    assert await close(shop, "2026-12-01T00:59:59") == 0
    assert await close(shop, "2026-12-01T01:00:00") == 1
    assert await close(shop) == 0
    async with shop.database.read() as conn:
        (closed,) = await closed_periods.ending_after(conn, "acme", 0)
        assert (await state.get(conn)).closed_until_us == us("2026-12-01")
    assert closed.period == Period(us("2026-11-01"), us("2026-12-01"))
    assert (closed.closed_at_us, closed.total) == (us("2026-12-01T01:00:00"), Decimal("49.00"))


async def test_what_was_over_when_it_was_subscribed_to_waits_for_its_usage(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, TOKENS, start="2026-09-01")
    assert await close(shop, "2026-11-21T00:59:59") == 0
    await shop.use("acme", "2026-09-05", "100")
    assert await close(shop, "2026-11-21T01:00:00") == 2
    assert shown(await owed(shop, acme, "2026-09-01", "2026-10-01")) == [("Tokens", "100", "1.00")]


async def test_a_clock_that_is_set_wrong_closes_nothing_until_it_has_stood(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE)
    assert MAX_STEP_S == 60
    closing_ = Closing(shop.database, shop.clock, HOUR_S)
    shop.clock.advance(HOUR_S)
    shop.clock.set_wall(us("2030-01-01"))
    assert await closing_.once() == 0
    shop.clock.advance(HOUR_S - 1)
    shop.clock.set_wall(us("2026-12-02"))
    assert await closing_.once() == 0
    shop.clock.advance(HOUR_S - 1)
    assert await closing_.once() == 0
    shop.clock.advance(1)
    assert await closing_.once() == 1


async def test_the_loop_closes_what_is_over_and_goes_on_until_it_is_cancelled(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE)
    shop.clock.set_wall(us("2027-02-02"))
    _, closing_loop, *_ = loops(shop.database, Settings(close_after_s=0), shop.clock, Gate(shop.database, shop.clock))
    loop = asyncio.create_task(repeat(closing_loop, shop.clock))

    async def closed() -> bool:
        async with shop.database.read() as conn:
            return len(await closed_periods.ending_after(conn, "acme", 0)) == 3

    await eventually(closed)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_a_live_cost_looks_up_only_whether_anything_came_late(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    await owed(shop, acme, "2026-11-01", "2026-12-01")
    before = await statements(shop, acme)
    await close(shop, "2026-12-02")
    await owed(shop, acme, "2026-12-01", "2027-01-01")
    assert await statements(shop, acme) == before + 1


async def statements(shop: Shop, customer: Customer) -> int:
    """How many a live cost takes."""
    asked: list[str] = []
    async with shop.database.read() as conn:
        assert conn.sync_connection is not None
        event.listen(conn.sync_connection, "before_cursor_execute", lambda *args: asked.append(args[2]))
        await cost(conn, customer, shop.clock.now_us())
    return len(asked)


async def test_many_periods_of_many_customers_are_closed_in_turns_that_are_bounded(shop: Shop) -> None:
    assert MAX_CLOSED_AT_ONCE == 200
    for key in ("acme", "globex"):
        await shop.sell(await shop.customer(key), BASE, plan=key)
    shop.clock.set_wall(us("2027-03-01T12:00:00"))
    assert [await close(shop, at_once=5) for _ in range(3)] == [5, 3, 0]


async def test_what_is_closed_answers_its_lines_for_ever(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    await shop.use("acme", "2026-11-05", "100")
    await close(shop, "2026-12-02")
    before = await owed(shop, acme, "2026-11-01", "2026-12-01")
    await shop.use("acme", "2026-11-06", "50")
    assert await owed(shop, acme, "2026-11-01", "2026-12-01") == before
    assert shown(before) == [("Base fee", "None", "49.00"), ("Tokens", "100", "1.00")]


async def test_late_usage_is_an_adjustment_in_the_next_open_period(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    await shop.use("acme", "2026-11-05", "100")
    await close(shop, "2026-12-02")
    await shop.use("acme", "2026-11-06", "50")
    await shop.use("acme", "2026-12-01", "7")
    found = await owed(shop, acme, "2026-12-01", "2027-01-01")
    assert shown(found) == [
        ("Base fee", "None", "49.00"),
        ("Tokens", "7", "0.07"),
        ("Tokens, 2026-11-01 to 2026-11-30, counted late", "50", "0.50"),
    ]
    late = found.lines[2]
    assert [(part.text, part.amount) for part in late.parts] == [
        ("first 150 tokens at 0.01 USD", Decimal("1.50")),
        ("less what is billed already", Decimal("-1.00")),
    ]
    assert late.events is not None
    assert (late.events.from_us, late.events.to_us) == (us("2026-11-01"), us("2026-12-01"))


async def test_an_adjustment_is_frozen_with_the_period_it_stands_in_and_not_owed_twice(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, TOKENS)
    await close(shop, "2026-12-02")
    await shop.use("acme", "2026-11-06", "50")
    december = await owed(shop, acme, "2026-12-01", "2027-01-01")
    assert await close(shop, "2027-01-02") == 1
    assert (await owed(shop, acme, "2026-12-01", "2027-01-01")).lines == december.lines
    assert shown(await owed(shop, acme, "2027-01-01", "2027-02-01")) == [("Tokens", "0", "0.00")]
    await shop.use("acme", "2026-11-07", "5")
    await shop.use("acme", "2026-12-07", "6")
    assert shown(await owed(shop, acme, "2027-01-01", "2027-02-01")) == [
        ("Tokens", "0", "0.00"),
        ("Tokens, 2026-11-01 to 2026-11-30, counted late", "5", "0.05"),
        ("Tokens, 2026-12-01 to 2026-12-31, counted late", "6", "0.06"),
    ]


async def test_parts_of_a_closed_period_add_up_to_what_is_frozen(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, AHEAD, TOKENS)
    await shop.use("acme", "2026-11-05", "100")
    await close(shop, "2026-12-02")
    await shop.use("acme", "2026-11-06", "50")
    cuts = ["2026-11-01", "2026-11-07", "2026-11-20", "2026-12-01"]
    parts = [await owed(shop, acme, *cut) for cut in itertools.pairwise(cuts)]
    assert sum(part.total.rounded for part in parts) == Decimal("50.00")
    assert shown(parts[2]) == [("Base fee", "None", "0.00"), ("Tokens", "-50", "-0.50")]


async def test_without_an_open_period_what_is_late_stands_at_this_moment(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, TOKENS)
    await cancel(shop.database, shop.clock, own.id, ChangeAt.NOW)
    assert await close(shop, "2026-12-05") == 1
    await shop.use("acme", "2026-11-06", "50")
    assert shown(await owed(shop, acme, "2026-11-01", "2026-12-01")) == [("Tokens", "0", "0.00")]
    assert [line[2] for line in shown(await owed(shop, acme, "2026-12-01", "2027-01-01"))] == ["0.50"]


async def test_late_usage_below_a_minimum_moves_the_minimum_and_not_the_total(shop: Shop) -> None:
    acme = await shop.customer("acme")
    spec = PlanSpec(key="least", currency="USD", charges=(TOKENS,), minimum_spend=Decimal(10))
    await publish_plan(shop.database, shop.clock, spec)
    await subscribe(
        shop.database, shop.clock, SubscribeSpec(customer="acme", plan="least", start_at_us=us("2026-11-01"))
    )
    await close(shop, "2026-12-02")
    await shop.use("acme", "2026-11-06", "50")
    adjusted = shown(await owed(shop, acme, "2026-12-01", "2027-01-01"))[2:]
    assert [(text.partition(",")[0], amount) for text, _, amount in adjusted] == [
        ("Tokens", "0.50"),
        ("Minimum spend", "-0.50"),
    ]


async def test_usage_of_another_customers_closed_day_changes_nothing(shop: Shop) -> None:
    acme, globex = await shop.customer("acme"), await shop.customer("globex")
    await shop.sell(acme, TOKENS, plan="a")
    await shop.sell(globex, TOKENS, plan="g", start="2026-11-15")
    await close(shop, "2026-12-02")
    await shop.use("globex", "2026-11-20", "50")
    async with shop.database.read() as conn:
        found = await cost(conn, globex, shop.clock.now_us())
    assert shown(found) == [("Tokens", "50", "0.50")]


async def test_a_customer_who_cannot_be_billed_stops_nobody_else(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("acme", "globex"):
        await shop.sell(await shop.customer(key), TOKENS, plan=key)
        await shop.use(key, "2026-11-05", "100")
    async with shop.database.write() as conn:
        await conn.execute(text("UPDATE customers SET language = 'XX' WHERE key = 'acme'"))
    assert await close(shop, "2026-12-02") == 1
    assert "the periods of customer 'acme' could not be closed" in caplog.text


@pytest.mark.parametrize("made", ["new", "changed"])
async def test_a_period_waits_until_the_meters_it_prices_have_counted_what_was_stored_before_them(
    shop: Shop, caplog: pytest.LogCaptureFixture, made: str
) -> None:
    acme, globex = await shop.customer("acme"), await shop.customer("globex")
    for at in ("2026-11-02", "2026-11-03", "2026-11-04"):
        await shop.use("acme", at, "10")
    sums = new_meter("late", "llm", Aggregation.SUM, value_property="tokens", now_us=0)
    if made == "new":
        await create_meter(shop.database, sums, at_once=1)
    else:
        await create_meter(shop.database, new_meter("late", "llm", Aggregation.COUNT, now_us=0))
        await update_meter(shop.database, sums, at_once=1)
    late = ChargeSpec(key="late", meter="late", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
    await shop.sell(acme, late, plan="late")
    await shop.sell(globex, BASE, plan="base")
    assert await close(shop, "2026-12-02") == 1
    assert await close(shop) == 0
    assert not caplog.records
    while await fill_once(shop.database, shop.clock, 1):
        pass
    assert await close(shop) == 0
    assert await close(shop, "2026-12-02T00:00:01") == 1
    assert shown(await owed(shop, acme, "2026-11-01", "2026-12-01")) == [("late", "30", "30.00")]


async def test_however_many_wait_for_a_meter_the_others_have_their_turn(shop: Shop) -> None:
    for at in ("2026-11-02", "2026-11-03"):
        await shop.use("acme", at, "10")
    await create_meter(shop.database, new_meter("late", "llm", Aggregation.COUNT, now_us=0), at_once=1)
    late = ChargeSpec(key="late", meter="late", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
    for number in range(3):
        await shop.sell(await shop.customer(f"waits-{number}"), late, plan="late")
    await shop.sell(await shop.customer("zoe"), BASE, plan="base", start="2026-11-02")
    assert await close(shop, "2026-11-25") == 0
    closed = [await close(shop, f"2026-12-03T00:00:0{second}", at_once=2) for second in range(3)]
    assert sum(closed) == 1


async def test_a_change_takes_effect_after_what_is_closed_wherever_the_clock_stands(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, BASE)
    await close(shop, "2026-12-02")
    shop.clock.set_wall(us("2026-11-20"))
    assert (await cancel(shop.database, shop.clock, own.id, ChangeAt.NOW)).end_at_us == us("2026-12-01")


@dataclass
class Life:
    """A customer whose time goes on at random: usage, late usage, changes, pauses, ends, and closings between."""

    shop: Shop
    customer: Customer
    dice: random.Random
    own: Subscription

    async def step(self) -> None:
        shop, clock, dice = self.shop, self.shop.clock, self.dice
        match dice.choice(["use", "use", "late", "late", "close", "close", "change", "pause", "resume", "again"]):
            case "use":
                await self.use(dice.randrange(0, 3 * DAY_US))
            case "late":
                await self.use(dice.randrange(0, 80 * DAY_US))
            case "close":
                clock.set_wall(clock.now_us() + dice.randrange(0, 20 * DAY_US))
                await close_once(shop.database, clock, HOUR_S)
            case "pause" if self.status() == "ACTIVE":
                await pause(shop.database, clock, self.own.id, dice.choice([None, clock.now_us() + 3 * DAY_US]))
            case "resume" if self.status() == "PAUSED":
                await resume(shop.database, clock, self.own.id)
            case "change" if self.status() == "ACTIVE":
                other = dice.choice([plan for plan in ("small", "large", "weekly") if plan != self.own.plan_key])
                self.own = await change_plan(shop.database, clock, self.own.id, plan=other, at=ChangeAt.NOW)
            case "again" if self.status() == "ACTIVE":
                await cancel(shop.database, clock, self.own.id, ChangeAt.NOW)
                spec = SubscribeSpec(customer=self.customer.key, plan="large")
                self.own = await subscribe(shop.database, clock, spec)
        async with shop.database.read() as conn:
            every = (await subscribed(conn, [self.customer]))[self.customer.key]
        (self.own,) = (each.subscription for each in every if each.subscription.id == self.own.id)

    def status(self) -> str:
        return self.own.status_at(self.shop.clock.now_us()).value

    async def use(self, before_us: int) -> None:
        at_us = max(self.shop.clock.now_us() - before_us, us("2026-11-01"))
        at = datetime.fromtimestamp(at_us // 1_000_000, UTC)
        await self.shop.use("acme", at.isoformat(), str(self.dice.randrange(-50, 900)))


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(2))
async def test_what_is_frozen_adjusted_and_open_is_the_bill_of_everything(shop: Shop, seed: int) -> None:
    acme = await shop.customer("acme")
    smoothed = CommitmentSpec(amount=Decimal(5), smoothing_months=2, overage_factor=Decimal("1.5"))
    for spec in (
        PlanSpec(key="small", currency="USD", charges=(BASE, TOKENS), minimum_spend=Decimal(52)),
        PlanSpec(key="large", currency="USD", charges=(AHEAD, TOKENS, CALLS), commitment=smoothed),
        PlanSpec(key="weekly", currency="USD", charges=(AHEAD, TOKENS), interval=Interval.WEEK),
    ):
        await publish_plan(shop.database, shop.clock, spec)
    spec = SubscribeSpec(customer="acme", plan="large", start_at_us=us("2026-11-01"))
    life = Life(shop, acme, random.Random(seed), await subscribe(shop.database, shop.clock, spec))
    ever = Period(us("2026-10-01"), us("2028-01-01"))
    frozen: dict[tuple[str, int], object] = {}
    for _ in range(30):
        await life.step()
        found, live = await everything(shop, acme, ever)
        assert found.total.rounded == live.total.rounded
        async with shop.database.read() as conn:
            for closed in await closed_periods.ending_after(conn, "acme", 0):
                place = closed.subscription_id, closed.period.start_us
                assert frozen.setdefault(place, closed.lines) == closed.lines
    cuts = [ever.start_us, *sorted(life.dice.randrange(ever.start_us, ever.end_us) for _ in range(6)), ever.end_us]
    parts = [(await everything(shop, acme, Period(*cut)))[0] for cut in itertools.pairwise(cuts)]
    assert sum(part.total.rounded for part in parts) == found.total.rounded
    assert frozen
