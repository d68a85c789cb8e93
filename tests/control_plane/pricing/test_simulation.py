"""What a draft would change: who would pay more, and by how much, priced by the code of the live cost."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from shop import BASE as IN_ARREARS
from shop import CALLS, TOKENS, Shop, open_shop, us
from sqlalchemy import insert

from sidemeter_control.errors import ControlError
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.money import Money
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, TierSpec
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.drafts import MAX_SIMULATED, Simulation
from sidemeter_control.pricing.periods import Interval, Period
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, PlanSpec
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.pricing.simulation import simulate
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.store import plans
from sidemeter_control.store.tables import customer_subjects, customers, subscriptions

BASE = replace(IN_ARREARS, in_advance=True)
PRO = PlanSpec(key="pro", currency="USD", charges=(BASE, CALLS))
DEARER = replace(PRO, charges=(replace(BASE, amount=Decimal(50)), replace(CALLS, unit_price=Decimal("0.05"))))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def simulated(
    shop: Shop,
    draft: PlanSpec,
    keys: Sequence[str] | None = None,
    start: str = "2026-11-01",
    end: str = "2026-12-01",
) -> Simulation:
    async with shop.database.snapshot() as snapshot:
        return await simulate(snapshot.ask, draft, Period(us(start), us(end)), keys, shop.clock.now_us())


def shown(found: Simulation) -> list[tuple[str, str, str, str]]:
    return [
        (row.customer, *(str(each.rounded) for each in (row.current, row.simulated, row.difference)))
        for row in found.rows
    ]


async def test_it_says_who_would_pay_more_and_by_how_much_most_first(shop: Shop) -> None:
    for key, calls in (("small", 1), ("large", 100), ("none", 0)):
        await shop.sell(await shop.customer(key), BASE, CALLS)
        for _ in range(calls):
            await shop.use(key, "2026-11-03", "1")
    cheaper = replace(CALLS, unit_price=Decimal("0.01"))
    found = await simulated(shop, replace(PRO, charges=(replace(BASE, amount=Decimal(50)), cheaper)))
    assert shown(found) == [
        ("none", "49.00", "50.00", "1.00"),
        ("small", "49.03", "50.01", "0.98"),
        ("large", "52.33", "51.00", "-1.33"),
    ]
    assert (found.total, found.difference) == (
        Money(Decimal("151.01"), "USD", Decimal("151.01")),
        Money(Decimal("0.65"), "USD", Decimal("0.65")),
    )


async def test_by_default_all_who_were_on_any_version_of_the_plan_in_that_time_are_meant(shop: Shop) -> None:
    await shop.sell(await shop.customer("first"), BASE, start="2026-10-01")
    await shop.sell(await shop.customer("second"), BASE, CALLS, start="2026-11-01")
    await shop.sell(await shop.customer("late"), BASE, start="2026-12-01")
    await shop.sell(await shop.customer("other"), BASE, plan="team")
    assert [row.customer for row in (await simulated(shop, DEARER)).rows] == ["first", "second"]
    october = await simulated(shop, DEARER, start="2026-10-01", end="2026-11-01")
    assert [row.customer for row in october.rows] == ["first"]


async def test_a_plan_that_nobody_was_on_in_that_time_has_no_rows(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE)
    found = await simulated(shop, DEARER, start="2026-09-01", end="2026-10-01")
    assert found == Simulation(Money.of(Decimal(0), "USD"), Money.of(Decimal(0), "USD"), ())


async def test_other_plans_of_a_customer_stay_as_they_are(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE)
    await shop.sell(acme, TOKENS, plan="addon")
    await shop.use("acme", "2026-11-03", "100")
    assert shown(await simulated(shop, DEARER)) == [("acme", "50.00", "51.05", "1.05")]


async def test_a_customer_who_is_named_is_priced_on_the_draft_whatever_plan_they_are_on(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), TOKENS, plan="team", start="2026-11-10")
    for day in ("2026-11-09", "2026-11-10"):
        await shop.use("acme", day, "100")
    await shop.customer("guest")
    await shop.use("guest", "2026-11-20", "100")
    assert shown(await simulated(shop, DEARER, ["acme", "guest", "acme"])) == [
        ("guest", "0.00", "50.05", "50.05"),
        ("acme", "1.00", "50.05", "49.05"),
    ]


async def test_a_customer_on_several_other_plans_at_once_is_refused_by_name(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, plan="team")
    await shop.sell(acme, TOKENS, plan="addon")
    with pytest.raises(ControlError, match="customers: 'acme' is on several plans at once, none of them 'pro'"):
        await simulated(shop, DEARER, ["acme"])


async def test_what_was_agreed_with_one_customer_stays_where_the_draft_has_the_charge(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await publish_plan(shop.database, shop.clock, replace(PRO, charges=(BASE, CALLS, TOKENS)))
    tokens = ChargeSpec(key="tokens", meter="tokens", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
    overrides = (replace(BASE, amount=Decimal(10)), tokens)
    start_us = us("2026-11-01")
    wanted = SubscribeSpec(customer=acme.key, plan="pro", start_at_us=start_us, overrides=overrides)
    await subscribe(shop.database, shop.clock, wanted)
    await shop.use("acme", "2026-11-03", "7")
    assert shown(await simulated(shop, DEARER)) == [("acme", "17.03", "10.05", "-6.98")]


async def test_a_trial_stays_free_and_periods_stay_where_they_are_anchored(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE, start="2026-11-01", trial_days=14)
    weekly = replace(DEARER, interval=Interval.WEEK)
    assert shown(await simulated(shop, weekly)) == [("acme", "49.00", "150.00", "101.00")]


async def test_nothing_is_stored(shop: Shop) -> None:
    await shop.sell(await shop.customer("acme"), BASE)
    await simulated(shop, DEARER)
    async with shop.database.read() as conn:
        assert await plans.newest_versions(conn, ["pro"]) == {"pro": 1}


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (replace(DEARER, currency="EUR"), "customers: 'acme' pays in USD, and the draft is in EUR"),
        (replace(DEARER, currency="???"), "currency: must be the ISO 4217 code"),
        (
            replace(DEARER, charges=(replace(CALLS, meter="nope"),)),
            "charges.calls.meter: must be a meter: there is no 'nope'",
        ),
        (replace(DEARER, charges=(replace(BASE, amount=None),)), "charges.base.amount: "),
        (
            replace(DEARER, entitlements=(EntitlementSpec(feature="sso", kind=EntitlementKind.METERED),)),
            "entitlements.sso.kind: must not be METERED",
        ),
        (replace(DEARER, key="new"), "customers: must be given: no plan 'new' was ever published"),
    ],
)
async def test_a_draft_is_refused_as_it_would_be_when_published(shop: Shop, draft: PlanSpec, message: str) -> None:
    await shop.sell(await shop.customer("acme"), BASE)
    with pytest.raises(ControlError) as caught:
        await simulated(shop, draft)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("keys", "start", "end", "message"),
    [
        (["nobody"], "2026-11-01", "2026-12-01", "there is no customer 'nobody'"),
        (["dane"], "2026-11-01", "2026-12-01", "customers: 'dane' pays in DKK, and the draft is in USD"),
        (None, "2026-11-01", "2026-11-01", "to: must be after from"),
        (None, "1969-11-01", "2026-11-01", "from: must lie between"),
        (None, "2026-11-01", "2062-12-01", "to: must be within 400 billing periods of from"),
        (["acme"] * (MAX_SIMULATED + 1), "2026-11-01", "2026-12-01", "customers: must be at most 5000"),
    ],
)
async def test_a_question_without_an_answer_is_refused(
    shop: Shop, keys: list[str] | None, start: str, end: str, message: str
) -> None:
    await shop.sell(await shop.customer("acme"), BASE)
    await upsert_customer(shop.database, Customer("dane", currency="DKK"))
    with pytest.raises(ControlError) as caught:
        await simulated(shop, DEARER, keys, start, end)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("count", "refused"), [(MAX_SIMULATED, False), (MAX_SIMULATED + 1, True)])
async def test_more_subscribers_than_one_answer_takes_are_to_be_named(shop: Shop, count: int, refused: bool) -> None:
    await publish_plan(shop.database, shop.clock, replace(PRO, charges=()))
    keys = [f"c{n}" for n in range(count)]
    row = {"plan_key": "pro", "plan_version": 1, "start_at_us": 0, "anchor_at_us": us("2026-11-01"), "created_at_us": 0}
    async with shop.database.write() as conn:
        await conn.execute(insert(customers), [{"key": key, "time_zone": "UTC", "created_at_us": 0} for key in keys])
        await conn.execute(insert(customer_subjects), [{"customer_key": key, "subject": key} for key in keys])
        await conn.execute(insert(subscriptions), [{"id": key, "customer_key": key} | row for key in keys])
    question = simulated(shop, replace(PRO, charges=()), None, "2026-11-01", "2026-11-02")
    if refused:
        with pytest.raises(ControlError, match="customers: must be given: more than 5000 are on plan 'pro'"):
            await question
    else:
        assert len((await question).rows) == count


async def test_the_loop_is_free_between_one_customer_and_the_next(shop: Shop) -> None:
    for number in range(5):
        await shop.sell(await shop.customer(f"c{number}"), BASE, CALLS)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    found = await simulated(shop, DEARER)
    counting.cancel()
    assert turns >= len(found.rows) == 5


fees = st.integers(0, 100).map(Decimal)
prices = st.decimals(0, 10, places=4)
amounts = st.decimals(-50, 5000, places=3)
charges = st.one_of(
    st.builds(ChargeSpec, key=st.just("base"), model=st.just(PricingModel.FLAT), amount=fees),
    st.builds(
        ChargeSpec,
        key=st.just("calls"),
        meter=st.just("calls"),
        model=st.just(PricingModel.PACKAGE),
        package_price=prices,
        package_size=st.just(Decimal(3)),
        minimum=st.none() | fees,
    ),
    st.builds(
        ChargeSpec,
        key=st.just("tokens"),
        meter=st.just("tokens"),
        model=st.sampled_from([PricingModel.GRADUATED, PricingModel.VOLUME]),
        tiers=st.tuples(
            st.builds(TierSpec, up_to=st.just(Decimal(1000)), unit_price=prices, flat_fee=fees),
            st.builds(TierSpec, unit_price=prices),
        ),
    ),
)
drafts = st.builds(
    PlanSpec,
    key=st.just("pro"),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
    interval=st.sampled_from([Interval.DAY, Interval.WEEK, Interval.MONTH]),
    charges=st.lists(charges, max_size=3, unique_by=lambda charge: charge.key).map(tuple),
)
minutes = st.integers(0, 60 * 24 * 60)
events = st.lists(st.tuples(st.sampled_from(["a", "b"]), minutes, amounts), max_size=30)


@settings(deadline=None, max_examples=15)
@given(drafts, events, st.lists(minutes, min_size=4, max_size=4), st.sampled_from(["UTC", "Europe/Berlin"]))
def test_the_current_plan_simulated_is_the_cost(
    plan: PlanSpec, used: list[tuple[str, int, Decimal]], instants: list[int], time_zone: str
) -> None:
    asyncio.run(_compare(plan, used, instants, time_zone))


async def _compare(plan: PlanSpec, used: list[tuple[str, int, Decimal]], instants: list[int], time_zone: str) -> None:
    first_us = us("2026-10-01")
    starts = dict(zip("ab", instants, strict=False))
    asked = Period(first_us + min(instants[2:]) * 60_000_000, first_us + (max(instants[2:]) + 1) * 60_000_000)
    with tempfile.TemporaryDirectory() as directory:
        async with open_shop(Path(directory), now="2026-12-15") as shop:
            await publish_plan(shop.database, shop.clock, plan)
            for key, start in starts.items():
                await shop.customer(key, time_zone=time_zone)
                start_us = first_us + start * 60_000_000
                await subscribe(
                    shop.database, shop.clock, SubscribeSpec(customer=key, plan="pro", start_at_us=start_us)
                )
            made = [
                Event(
                    f"e{n}", "s", "llm", subject, first_us + at * 60_000_000, f'{{"tokens": {tokens}, "mode": "live"}}'
                )
                for n, (subject, at, tokens) in enumerate(used)
            ]
            if made:
                assert (await Ingest(shop.database, shop.clock).record(made)).accepted == len(made)
            async with shop.database.snapshot() as snapshot:
                found = await simulate(snapshot.ask, plan, asked, list(starts), shop.clock.now_us())
                for row in found.rows:
                    owed = await snapshot.ask(
                        lambda conn, key=row.customer: cost(  # type: ignore[misc]
                            conn,
                            Customer(key, time_zone=time_zone),
                            shop.clock.now_us(),
                            asked.start_us,
                            asked.end_us,
                        )
                    )
                    assert (row.current.amount, row.simulated, row.difference.amount) == (
                        owed.total.amount,
                        owed.total,
                        0,
                    )
