"""Forecasts of cost: what is expected is priced by the plan itself, and never comes to less than is owed already."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from charges import charge
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us
from sqlalchemy import event

from sidemeter_control.errors import NotFound
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.forecasts import Refusal
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import NANO, Aggregation, Dimension, Meter, new_meter
from sidemeter_control.pricing.charges import (
    BandSpec,
    ChargeSpec,
    MatrixRateSpec,
    OutcomeSpec,
    PricingModel,
    TierSpec,
    Used,
)
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.credits.granting import grant_credits
from sidemeter_control.pricing.credits.grants import GrantSpec
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.forecasting import forecast
from sidemeter_control.pricing.forecasts import CostRange, Forecast
from sidemeter_control.pricing.projection import projected
from sidemeter_control.pricing.words import Language
from sidemeter_control.store import meters

NOW = "2026-11-21"
HOUR_US = 3_600_000_000


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, NOW) as opened:
        yield opened


async def use_hourly(
    shop: Shop, subject: str = "acme", *, days: int = 60, type_: str = "llm", data: str = '{"tokens": 10, "v": 10}'
) -> None:
    """Ten tokens, one call, every hour of so many days before now."""
    first, last = shop.clock.now_us() - days * 24 * HOUR_US, shop.clock.now_us()
    ingest = Ingest(shop.database, shop.clock)
    events = [Event(f"{type_}{at}{subject}", "s", type_, subject, at, data) for at in range(first, last, HOUR_US)]
    for begin in range(0, len(events), 1000):
        await ingest.record(events[begin : begin + 1000])


async def foretold(shop: Shop, customer: Customer, subscription: str | None = None) -> Forecast:
    async with shop.database.read() as conn:
        found = await forecast(conn, customer, shop.clock.now_us(), subscription)
    assert found is not None
    return found


async def owed(shop: Shop, customer: Customer, at: str) -> Decimal:
    async with shop.database.read() as conn:
        return (await cost(conn, customer, us(at))).total.amount


def ends(found: CostRange | None) -> list[str]:
    assert found is not None
    return [str(each.rounded) for each in (found.low, found.middle, found.high)]


async def meter(shop: Shop, aggregation: Aggregation = Aggregation.SUM, **fields: object) -> Meter:
    made = new_meter("m", "used", aggregation, value_property="v", now_us=0)
    made = replace(made, **fields)
    async with shop.database.write() as conn:
        await meters.add(conn, made)
    return made


async def test_what_is_used_evenly_comes_to_what_it_comes_to_in_the_end(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS, CALLS, start="2026-09-01")
    await use_hourly(shop)
    found = await foretold(shop, acme)
    assert (found.period.start_us, found.period.end_us) == (us("2026-11-01"), us("2026-12-01"))
    assert [(each.meter.key, each.so_far, each.low, each.middle, each.high) for each in found.meters] == [
        ("tokens", 4800, 7200, 7200, 7200),
        ("calls", 480, 720, 720, 720),
    ]
    # 49 + 1000 x 0.01 + 6200 x 0.004 + 720 x 0.0333
    assert ends(found.cost) == ["107.78"] * 3
    assert str(found.owed.rounded) == "90.18"
    assert found.refusal is None
    assert found.basis(Language.EN).startswith("From the use of the last 56 days: how it spreads over the week")
    assert found.basis(Language.DE).startswith("Aus der Nutzung der letzten 56 Tage")


async def test_an_hour_that_has_begun_counts_as_far_as_it_is_left(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, CALLS, start="2026-09-01")
    await use_hourly(shop)
    shop.clock.set_wall(us("2026-11-30T23:30:00"))
    async with shop.database.read() as conn:
        late = await forecast(conn, acme, us("2026-11-21T00:30:00"))
    assert late is not None
    assert late.meters[0].middle in {719, 720}


@pytest.mark.parametrize("days", [3, 13])
async def test_with_too_little_data_nothing_is_said_but_why(shop: Shop, days: int) -> None:
    acme = await shop.customer("acme", language=Language.DE)
    await shop.sell(acme, BASE, TOKENS)
    await use_hourly(shop, days=days)
    found = await foretold(shop, acme)
    (tokens,) = found.meters
    assert (tokens.refusal, tokens.low, tokens.so_far) == (Refusal.TOO_LITTLE_DATA, None, days * 240)
    assert (found.cost, found.refusal) == (None, Refusal.TOO_LITTLE_DATA)
    assert found.basis(acme.language) == ("Es gibt noch zu wenige Daten: Eine Prognose braucht zwei Wochen Nutzung.")


async def test_without_use_what_is_owed_anyway_is_expected(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    found = await foretold(shop, acme)
    assert ends(found.cost) == ["49.00"] * 3
    assert found.basis(Language.EN) == (
        "Nothing that counts was used in the last 8 weeks, so nothing more is expected."
    )


async def test_who_is_subscribed_to_nothing_has_no_forecast(shop: Shop) -> None:
    acme = await shop.customer("acme")
    async with shop.database.read() as conn:
        assert await forecast(conn, acme, shop.clock.now_us()) is None
        with pytest.raises(NotFound):
            await forecast(conn, acme, shop.clock.now_us(), "sub_x")


async def test_one_subscription_is_forecast_alone_and_by_its_own_period(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, start="2026-09-01")
    add_on = await shop.sell(acme, CALLS, plan="addon", start="2026-10-11")
    await use_hourly(shop)
    alone = await foretold(shop, acme, add_on.id)
    assert alone.period.end_us == us("2026-12-11")
    assert ends(alone.cost) == ["23.98"] * 3  # 720 calls
    both = await foretold(shop, acme)
    assert both.period.end_us == us("2026-12-01")
    assert ends(both.cost) == ["72.98"] * 3  # from 1 November: 720 calls, in two billing periods of the add-on


async def test_nothing_is_expected_to_be_owed_of_a_trial_and_all_of_what_follows(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, CALLS, start="2026-11-10", trial_days=15)
    shop.clock.set_wall(us("2026-11-26"))
    await use_hourly(shop)
    async with shop.database.read() as conn:
        on_trial = await forecast(conn, acme, us("2026-11-24"))
    assert on_trial is not None
    assert on_trial.period.end_us == us("2026-11-25")
    assert ends(on_trial.cost) == ["0.00"] * 3
    assert ends((await foretold(shop, acme)).cost) == ["23.98"] * 3


async def test_a_minimum_is_in_it_and_what_is_used_counts_toward_it(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, msgspec.structs.replace(CALLS, minimum=Decimal(20)), start="2026-09-01")
    await use_hourly(shop)
    assert str((await foretold(shop, acme)).owed.rounded) == "20.00"
    assert ends((await foretold(shop, acme)).cost) == ["23.98"] * 3


async def test_it_is_never_less_than_is_owed_already_where_more_use_costs_less(shop: Shop) -> None:
    acme = await shop.customer("acme")
    volume = ChargeSpec(
        key="tokens",
        meter="tokens",
        model=PricingModel.VOLUME,
        tiers=(TierSpec(up_to=Decimal(6000), unit_price=Decimal("0.01")), TierSpec(unit_price=Decimal("0.001"))),
    )
    await shop.sell(acme, volume, start="2026-09-01")
    await use_hourly(shop)
    found = await foretold(shop, acme)
    assert str(found.owed.rounded) == "48.00"  # and 7.20 in the end
    assert ends(found.cost) == ["48.00"] * 3


async def test_what_is_no_sum_is_taken_as_it_stands_and_named(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await meter(shop, Aggregation.MAX, name="Peak")
    peak = ChargeSpec(key="peak", meter="m", model=PricingModel.PER_UNIT, unit_price=Decimal(2))
    await shop.sell(acme, CALLS, peak, start="2026-09-01")
    await use_hourly(shop)
    await use_hourly(shop, type_="used", days=2, data='{"v": 7}')
    found = await foretold(shop, acme)
    assert [(each.refusal, each.so_far) for each in found.meters] == [(None, 480), (Refusal.NOT_ADDITIVE, 7)]
    assert ends(found.cost) == ["37.98"] * 3
    assert found.basis(Language.EN).endswith(" Taken as it stands now, because it is no sum over time: Peak.")


async def test_credits_pay_what_is_owed_and_do_not_make_it_less(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, CALLS, start="2026-09-01")
    await use_hourly(shop)
    before = ends((await foretold(shop, acme)).cost)
    await grant_credits(shop.database, shop.clock, GrantSpec(customer="acme", amount=Decimal(10)))
    assert ends((await foretold(shop, acme)).cost) == before


@pytest.mark.parametrize("charges", [1, 6])
async def test_more_charges_are_no_more_questions(shop: Shop, charges: int) -> None:
    keys = [f"m{number}" for number in range(charges)]
    async with shop.database.write() as conn:
        for key in keys:
            await meters.add(conn, new_meter(key, "llm", Aggregation.SUM, value_property="tokens", now_us=0))
    acme = await shop.customer("acme")
    specs = [ChargeSpec(key=key, meter=key, model=PricingModel.PER_UNIT, unit_price=Decimal(1)) for key in keys]
    await shop.sell(acme, *specs, start="2026-09-01")
    await use_hourly(shop, days=20)
    await foretold(shop, acme)  # what is remembered of plans is read
    asked: list[str] = []
    async with shop.database.read() as conn:
        engine = conn.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        await forecast(conn, acme, shop.clock.now_us())
    assert len(asked) <= 12


MODELS = {
    "percentage": ChargeSpec(
        key="x", meter="m", model=PricingModel.PERCENTAGE, percentage=Decimal(2), min_per_event=Decimal("0.05")
    ),
    "fixed": ChargeSpec(
        key="x", meter="m", model=PricingModel.PERCENTAGE, percentage=Decimal(2), fixed_per_event=Decimal("0.01")
    ),
    "free events": ChargeSpec(
        key="x", meter="m", model=PricingModel.PERCENTAGE, percentage=Decimal(2), free_events=600
    ),
    "free amount": ChargeSpec(
        key="x", meter="m", model=PricingModel.PERCENTAGE, percentage=Decimal(2), free_amount=Decimal(5000)
    ),
    "matrix": ChargeSpec(
        key="x",
        meter="m",
        model=PricingModel.MATRIX,
        rates=(MatrixRateSpec(match={"kind": "a"}, unit_price=Decimal("0.02")),),
        default_unit_price=Decimal("0.01"),
    ),
    "time of day": ChargeSpec(
        key="x",
        meter="m",
        model=PricingModel.TIME_OF_DAY,
        bands=(BandSpec(days=(1, 2, 3, 4, 5), from_="08:00", to="18:00", unit_price=Decimal("0.05")),),
        default_unit_price=Decimal("0.01"),
    ),
}


@pytest.mark.parametrize("model", MODELS)
async def test_what_comes_is_like_what_was_of_late_in_every_model(shop: Shop, model: str) -> None:
    acme = await shop.customer("acme", time_zone="Europe/Berlin")
    await meter(shop, dimensions=(Dimension("kind", "kind"),))
    await shop.sell(acme, MODELS[model], start="2026-09-01T00:00:00+02:00")
    await use_hourly(shop, type_="used", data='{"v": 10, "kind": "a"}')
    found = await foretold(shop, acme)
    rest = [
        Event(f"r{at}", "s", "used", "acme", at, '{"v": 10, "kind": "a"}')
        for at in range(us(NOW), found.period.end_us, HOUR_US)
    ]
    await Ingest(shop.database, shop.clock, max_future_s=10**9).record(rest)
    came = await owed(shop, acme, NOW)
    assert found.cost is not None
    assert abs(found.cost.middle.amount - came) <= came / 20
    assert found.owed.amount <= found.cost.low.amount <= found.cost.middle.amount <= found.cost.high.amount


async def test_what_is_charged_by_outcome_goes_on_as_it_ended_of_late(shop: Shop) -> None:
    acme = await shop.customer("acme")
    spec = ChargeSpec(
        key="x",
        meter="calls",
        model=PricingModel.OUTCOME,
        unit_price=Decimal("0.10"),
        outcome=OutcomeSpec(confirm_type="yes", reverse_type="no", window_hours=1),
    )
    await shop.sell(acme, spec, start="2026-09-01")
    await use_hourly(shop, data='{"tokens": 1, "id": "a"}')
    assert ends((await foretold(shop, acme)).cost) == ["72.00"] * 3


@settings(max_examples=200, deadline=None)
@given(
    so_far=st.lists(st.integers(0, 10**6), max_size=30),
    alike=st.lists(st.integers(0, 10**6), max_size=30),
    more=st.integers(0, 10**16),
    free=st.sampled_from([None, "free_events", "free_amount"]),
)
def test_what_is_projected_is_what_was_and_all_that_comes(
    so_far: list[int], alike: list[int], more: int, free: str | None
) -> None:
    allowance = {} if free is None else {free: 12 if free == "free_events" else "300000"}
    own = charge(
        "PERCENTAGE",
        percentage="2",
        minPerEvent="0.05",
        maxPerEvent="900",
        **{_camel(k): v for k, v in allowance.items()},
    )
    model = own.model
    used, like = (Used.of_pieces(model.pieces_of([Decimal(each) / 100 for each in some])) for some in (so_far, alike))
    found = projected(own, used, like, more, 0)
    assert found.quantity == used.quantity + Decimal(more) / NANO
    assert found.pieces is not None
    assert used.pieces is not None
    assert all(
        getattr(found.pieces, part).events >= getattr(used.pieces, part).events
        for part in ("free", "at_minimum", "between", "at_maximum")
    )


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(each.title() for each in rest)
