"""Live cost: what is owed of what is counted now, for any interval, with the lines that say why."""

import itertools
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from benchmarks.price_list import CHARGES, METERS, Expected, events
from planes import plane as open_plane
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.money import Money
from sidemeter_control.pricing.bills import CostLine, EventsBehind
from sidemeter_control.pricing.cost import Cost, cost
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import customers


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def owed(shop: Shop, customer: Customer, start: str | None = None, end: str | None = None) -> Cost:
    async with shop.database.read() as conn:
        return await cost(
            conn, customer, shop.clock.now_us(), None if start is None else us(start), None if end is None else us(end)
        )


def shown(lines: tuple[CostLine, ...]) -> list[tuple[str, str, str]]:
    return [(line.charge, str(line.quantity), str(line.amount.rounded)) for line in lines]


async def test_the_current_period_shows_the_fee_and_every_charge_with_its_parts(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS, CALLS)
    await shop.use("acme", "2026-11-03T10:30:00", "700")
    await shop.use("acme", "2026-11-20T23:59:59", "800.5")
    found = await owed(shop, acme)
    assert (found.from_us, found.to_us, found.as_of_us) == (us("2026-11-01"), us("2026-12-01"), us("2026-11-21"))
    assert shown(found.lines) == [("base", "None", "49.00"), ("tokens", "1500.5", "12.00"), ("calls", "2", "0.07")]
    assert [line.text for line in found.lines] == ["Base fee", "Tokens", "calls"]
    assert [(part.text, part.amount) for part in found.lines[1].parts] == [
        ("first 1,000 tokens at 0.01 USD", Decimal(10)),
        ("next 500.5 tokens at 0.004 USD", Decimal("2.002")),
    ]
    assert found.lines[1].amount == Money(Decimal("12.002"), "USD", Decimal("12.00"))
    assert found.total == Money(Decimal("61.07"), "USD", Decimal("61.07"))


async def test_what_is_counted_later_shows_at_once(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, CALLS)
    before = (await owed(shop, acme)).total.rounded
    await shop.use("acme", "2026-11-02T00:00:00", "1")
    assert (before, (await owed(shop, acme)).total.rounded) == (Decimal("0.00"), Decimal("0.03"))


async def test_the_usage_of_all_of_a_customers_subjects_is_one_quantity(shop: Shop) -> None:
    acme = await shop.customer("acme", subjects=("team-a", "team-b"))
    await shop.sell(acme, TOKENS)
    for subject in ("team-a", "team-b", "acme", "stranger"):
        await shop.use(subject, "2026-11-03T00:00:00", "600")
    assert shown((await owed(shop, acme)).lines) == [("tokens", "1200", "10.80")]


async def test_a_customer_without_a_subscription_owes_nothing_this_month(shop: Shop) -> None:
    acme = await shop.customer("acme", time_zone="Europe/Berlin")
    found = await owed(shop, acme)
    assert (found.lines, found.total) == ((), Money(Decimal(0), "XXX", Decimal(0)))
    assert (found.from_us, found.to_us) == (us("2026-11-01T00:00:00+01:00"), us("2026-12-01T00:00:00+01:00"))


async def test_slices_of_a_period_add_up_to_it_line_by_line(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS, CALLS)
    for day in range(1, 29):
        await shop.use("acme", f"2026-11-{day:02}T13:37:{day:02}", f"{day * 7}.{day:03}")
    cuts = [
        "2026-11-01",
        "2026-11-02T13:37:02",
        "2026-11-02T13:37:03",
        "2026-11-09T05:30:00",
        "2026-11-20",
        "2026-12-01",
    ]
    whole = await owed(shop, acme, cuts[0], cuts[-1])
    slices = [await owed(shop, acme, *cut) for cut in itertools.pairwise(cuts)]
    assert sum(part.total.rounded for part in slices) == whole.total.rounded
    for line in whole.lines:
        parts = [each for part in slices for each in part.lines if each.charge == line.charge]
        assert sum(each.amount.rounded for each in parts) == line.amount.rounded
        assert sum(each.amount.amount for each in parts) == line.amount.amount
        assert sum(each.quantity or 0 for each in parts) == (line.quantity or 0)
        assert all(sum(step.amount for step in each.parts) == each.amount.amount for each in parts)


async def test_a_minimum_is_owed_where_the_period_ends_and_slices_add_up_with_it(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, msgspec.structs.replace(CALLS, minimum=Decimal(5)))
    await shop.use("acme", "2026-11-02T00:00:00", "1")
    slices = [("2026-11-01", "2026-11-10"), ("2026-11-10", "2026-12-01")]
    assert [str((await owed(shop, acme, *each)).total.rounded) for each in slices] == ["0.03", "4.97"]
    assert str((await owed(shop, acme)).total.rounded) == "5.00"


@pytest.mark.parametrize(("in_advance", "slice_"), [(True, 1), (False, 3)])
async def test_a_fee_counts_where_its_period_begins_or_in_arrears_where_it_ends(
    shop: Shop, in_advance: bool, slice_: int
) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, msgspec.structs.replace(BASE, in_advance=in_advance), start="2026-11-10")
    days = ["2026-11-01", "2026-11-10", "2026-11-11", "2026-12-09", "2026-12-10"]
    found = [shown((await owed(shop, acme, *cut)).lines) for cut in itertools.pairwise(days)]
    assert found == [[("base", "None", "49.00")] if number == slice_ else [] for number in range(4)]


async def test_over_several_periods_each_is_priced_from_its_own_start_and_named_by_its_days(shop: Shop) -> None:
    acme = await shop.customer("acme", time_zone="America/New_York")
    await shop.sell(acme, TOKENS, start="2026-09-30T20:00:00-04:00")
    await shop.use("acme", "2026-10-05T00:00:00", "1000")
    await shop.use("acme", "2026-11-05T00:00:00", "1001")
    found = await owed(shop, acme, "2026-10-01", "2026-11-21")
    assert [(line.text, str(line.amount.rounded)) for line in found.lines] == [
        ("Tokens, 2026-09-30 to 2026-10-30", "10.00"),
        ("Tokens, 2026-10-30 to 2026-11-30", "10.00"),
    ]
    assert found.total.amount == 20


async def test_a_trial_owes_nothing_and_the_first_period_begins_after_it(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS, start="2026-11-15", trial_days=10)
    await shop.use("acme", "2026-11-16T00:00:00", "500")
    on_trial = await owed(shop, acme)
    assert (on_trial.lines, on_trial.to_us, on_trial.total.currency) == ((), us("2026-11-25"), "USD")
    await shop.use("acme", "2026-11-25T00:00:00", "3")
    first = await owed(shop, acme, "2026-11-01", "2026-12-25")
    assert shown(first.lines) == [("base", "None", "49.00"), ("tokens", "3", "0.03")]


async def test_every_subscription_of_a_customer_is_owed(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE)
    await shop.sell(acme, CALLS, plan="addon", start="2026-11-05")
    await shop.use("acme", "2026-11-04T00:00:00", "1")
    await shop.use("acme", "2026-11-06T00:00:00", "1")
    found = await owed(shop, acme)
    assert [(line.text, str(line.amount.rounded)) for line in found.lines] == [
        ("Base fee, 2026-11-01 to 2026-11-30", "49.00"),
        ("calls, 2026-11-05 to 2026-12-04", "0.03"),
    ]


async def test_a_line_leads_to_the_events_behind_it(shop: Shop) -> None:
    acme = await shop.customer("acme", subjects=("a", "b"))
    await shop.sell(acme, msgspec.structs.replace(BASE, in_advance=True), TOKENS)
    fee, tokens = (await owed(shop, acme, "2026-10-01", "2026-11-15")).lines
    assert fee.events is None
    assert tokens.events is not None
    assert tokens.events == EventsBehind(tokens.events.meter, ("a", "b"), us("2026-11-01"), us("2026-11-15"))
    assert tokens.events.meter.key == "tokens"


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-11-02", "2026-11-02", "to: must be after from"),
        ("1969-01-01", "2026-11-02", "from: must lie between the years 1970 and 9000"),
        ("2026-11-02", "9999-01-01", "to: must lie between the years 1970 and 9000"),
        ("2026-11-02", "2060-11-02", "to: must be within 400 billing periods of from"),
    ],
)
async def test_an_interval_that_has_no_answer_is_refused(shop: Shop, start: str, end: str, message: str) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE)
    with pytest.raises(InvalidInput) as caught:
        await owed(shop, acme, start, end)
    assert str(caught.value) == message


async def test_a_charge_of_every_model_is_priced_without_leaving_the_event_loop(tmp_path: Path) -> None:
    threads: list[int] = []

    async with open_plane(tmp_path) as plane:
        for meter in METERS:
            await plane.make("createMeter", **meter)
        await plane.make("publishPlan", key="all", currency="USD", charges=CHARGES)
        await plane.make("upsertCustomer", key="acme", currency="USD")
        await plane.make("subscribe", customer="acme", plan="all")
        began_us = plane.clock.now_us()
        now_us = began_us + 20 * DAY_US + 90 * 60_000_000
        used = [
            Event(id=id_, source=source, type=type_, subject="acme", time_us=at_us, data=data)
            for id_, source, type_, _, at_us, data in events(3000, began_us, Expected())
        ]
        assert (await Ingest(plane.database, plane.clock, max_future_s=10**9).record(used)).accepted == len(used)
        async with plane.database.read() as conn:
            customer = (await customers.get(conn, ["acme"]))["acme"]

        async def ask(conn: AsyncConnection) -> Cost:
            threads.append(threading.get_ident())
            return await cost(conn, customer, now_us)

        async with plane.database.snapshot() as snapshot:
            assert len((await snapshot.ask(ask)).lines) == len(CHARGES)
    assert threads == [threading.get_ident()]
