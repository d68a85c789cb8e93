"""What charges are given to price is what their models need, of whatever events there are, over any period."""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from payments import BEGAN_US, CENT, CHARGES, HOUR_US, NOW_US, ZONE, events, percentage
from shop import open_shop

from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.charges import Charge, Outcome, PricingModel, Used, UsedLine
from sidemeter_control.pricing.consumption import used
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.words import Words
from sidemeter_control.store import meters


def naive(charge: Charge, events: Iterable[Event], period: Period) -> Used:
    """Every event by itself, in order; the models know from lines what they are about."""
    ours = sorted((e for e in events if e.subject != "other"), key=lambda e: (e.time_us, e.source, e.id))
    payments = [e for e in ours if e.type == "payment" and period.start_us <= e.time_us < period.end_us]
    match charge.spec.model:
        case PricingModel.PERCENTAGE:
            return Used.of_amounts(amount(event) for event in payments)
        case PricingModel.DYNAMIC:
            return Used.of(sum(map(amount, payments), Decimal(0)))
        case PricingModel.MATRIX:
            keys = ("region", "kind")
            return Used.of_lines(
                UsedLine(amount(e), {key: json.loads(e.data or "{}").get(key) for key in keys}) for e in payments
            )
        case PricingModel.TIME_OF_DAY:
            return Used.of_lines((UsedLine(Decimal(1), at_us=event.time_us) for event in payments), ZONE)
        case _:
            return Used.of_lines(UsedLine(Decimal(1), outcome=outcome(event, ours)) for event in payments)


def amount(event: Event) -> Decimal:
    return Decimal(json.loads(event.data or "{}")["amount"])


def outcome(use: Event, ours: Sequence[Event]) -> Outcome:
    order = json.loads(use.data or "{}").get("order")
    for event in ours:
        named = json.loads(event.data or "{}").get("order")
        in_window = use.time_us <= event.time_us < use.time_us + 5 * HOUR_US
        if order and named == order and event.subject == use.subject and event.type != "payment" and in_window:
            return Outcome.CONFIRMED if event.type == "kept" else Outcome.REVERSED
    return Outcome.PROVISIONAL if use.time_us + 5 * HOUR_US > NOW_US else Outcome.EXPIRED


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(sent=events(), data=st.data())
async def test_each_model_prices_what_single_events_come_to(sent: list[Event], data: st.DataObject) -> None:
    ends = sorted(BEGAN_US + data.draw(st.integers(0, 96)) * HOUR_US // 2 for _ in range(2))
    period = Period(ends[0], ends[1] + data.draw(st.sampled_from([1, HOUR_US])))
    with TemporaryDirectory() as directory:
        async with open_shop(Path(directory), "2026-10-26") as shop:
            shape = {"dimensions": [Dimension("region", "region"), Dimension("kind", "kind")], "now_us": 0}
            paid = new_meter("paid", "payment", Aggregation.SUM, value_property="amount", **shape)  # type: ignore[arg-type]
            await create_meter(shop.database, paid)
            await create_meter(shop.database, new_meter("payments", "payment", Aggregation.COUNT, now_us=0))
            acme = await shop.customer("acme", time_zone=ZONE, subjects=("acme", "acme-eu"))
            ingest, arrived = Ingest(shop.database, shop.clock, max_future_s=10**9), data.draw(st.permutations(sent))
            await ingest.record(arrived[::2])
            await shop.sell(acme, *CHARGES)
            await ingest.record(arrived[1::2])
            while data.draw(st.booleans()) and await fill_once(shop.database, shop.clock, most=9):
                pass
            async with shop.database.read() as conn:
                (own,) = (await subscribed(conn, [acme]))["acme"]
                found = await used(conn, own, acme, period, NOW_US)
    for charge in own.charges:
        words = Words("EUR", "units")
        expected = charge.price(naive(charge, sent, period), words)
        assert charge.price(found[charge.spec.key], words) == expected, charge.spec.key


async def test_a_fee_with_bounds_is_read_from_bands_once_the_meter_tells_values_apart(tmp_path: Path) -> None:
    async with open_shop(tmp_path, "2026-10-26") as shop:
        made = new_meter("paid", "payment", Aggregation.SUM, value_property="amount", now_us=0)
        await create_meter(shop.database, made)
        await shop.sell(
            await shop.customer("acme"), percentage("bounded", min_per_event=CENT, max_per_event=Decimal(1))
        )
        async with shop.database.read() as conn:
            split = (await meters.get(conn, ["paid"]))["paid"]
    low, high = Decimal(1) / Decimal("2.9"), Decimal(100) / Decimal("2.9")
    assert [Decimal(each).scaleb(-9) for each in split.breaks] == [round(low, 9) + Decimal("1e-9"), round(high, 9)]
