"""What a slice of a customer's use costs is what its events come to by themselves, by every model, over any period."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from payments import BEGAN_US, CENT, CHARGES, HOUR_US, NOW_US, ZONE, events
from shop import Shop, open_shop

from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.attribution import attributed
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, TierSpec
from sidemeter_control.pricing.cost import Cost, cost_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period

SPLIT = [Dimension("region", "region"), Dimension("kind", "kind")]
VISITS = ChargeSpec(key="visits", meter="visits", model=PricingModel.PER_UNIT, unit_price=Decimal(5))
BASE = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(49))
SLICES = {
    ("region",): [("eu",), ("us",)],
    ("kind", "region"): [("card", "eu"), ("cash", "eu"), ("card", "nowhere")],
}


async def pay(shop: Shop, sent: Sequence[Event], *charges: ChargeSpec, key: str = "acme", filled: int = 0) -> Customer:
    """A customer with these charges and events, the first half of which is there before its plan."""
    customer = await shop.customer(key, time_zone=ZONE, subjects=(key, f"{key}-eu"))
    ingest = Ingest(shop.database, shop.clock, max_future_s=10**9)
    await ingest.record(sent[::2])
    await shop.sell(customer, *charges, start="2026-10-01", plan=key)
    await ingest.record(sent[1::2])
    for _ in range(filled):
        await fill_once(shop.database, shop.clock, most=9)
    return customer


async def meters(shop: Shop) -> None:
    paid = new_meter("paid", "payment", Aggregation.SUM, value_property="amount", dimensions=SPLIT, now_us=0)
    payments = new_meter("payments", "payment", Aggregation.COUNT, dimensions=SPLIT, now_us=0)
    for each in (paid, payments, new_meter("visits", "payment", Aggregation.COUNT, now_us=0)):
        await create_meter(shop.database, each)


def slice_of(sent: Sequence[Event], chosen: dict[str, str]) -> list[Event]:
    """What another customer would have sent that used only the slice; what became of payments is known of all."""

    def is_in(event: Event) -> bool:
        data = json.loads(event.data or "{}")
        return event.type != "payment" or all(data.get(key) == value for key, value in chosen.items())

    return [
        Event(
            f"alone-{each.id}", each.source, each.type, each.subject.replace("acme", "alone"), each.time_us, each.data
        )
        for each in sent
        if is_in(each) and each.subject != "other"
    ]


def usage_of(found: Cost) -> dict[str, tuple[Decimal | None, Decimal]]:
    """What each charge comes to, as far as it comes to anything."""
    return {each.charge: (each.quantity, each.amount.rounded) for each in found.lines if each.amount.rounded}


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(sent=events(), data=st.data())
async def test_a_slice_costs_what_it_would_cost_a_customer_that_has_nothing_else(
    sent: list[Event], data: st.DataObject
) -> None:
    ends = sorted(BEGAN_US + data.draw(st.integers(0, 96)) * HOUR_US // 2 for _ in range(2))
    asked = Period(ends[0], ends[1] + data.draw(st.sampled_from([1, HOUR_US])))
    dimensions = data.draw(st.sampled_from(sorted(SLICES)))
    chosen = data.draw(st.sampled_from(SLICES[dimensions]))
    with TemporaryDirectory() as directory:
        async with open_shop(Path(directory), "2026-10-26") as shop:
            await meters(shop)
            arrived, filled = data.draw(st.permutations(sent)), data.draw(st.integers(0, 20))
            acme = await pay(shop, arrived, BASE, VISITS, *CHARGES, filled=filled)
            alone = slice_of(arrived, dict(zip(dimensions, chosen, strict=True)))
            other = await pay(shop, alone, *CHARGES, key="alone", filled=filled)
            async with shop.database.read() as conn:
                own = await subscribed(conn, [acme, other])
                found = await attributed(conn, acme, own["acme"], asked, dimensions, SLICES[dimensions], NOW_US)
                expected = await cost_of(conn, other, own["alone"], asked, NOW_US)
    assert usage_of(found[chosen]) == usage_of(expected)
    assert found[chosen].total == expected.total


async def test_a_slice_owes_no_fee_and_no_minimum_and_begins_the_tiers_anew(tmp_path: Path) -> None:
    tiers = (TierSpec(up_to=Decimal(2), unit_price=Decimal(1)), TierSpec(unit_price=CENT))
    graduated = ChargeSpec(key="tiers", meter="payments", model=PricingModel.GRADUATED, tiers=tiers, minimum=Decimal(7))
    async with open_shop(tmp_path, "2026-10-26") as shop:
        await meters(shop)
        sent = [
            Event(f"e{n}", "s", "payment", "acme", BEGAN_US, f'{{"region": "{where}"}}')
            for n, where in enumerate(["eu", "eu", "eu", "us"])
        ]
        acme = await pay(shop, sent, BASE, VISITS, graduated)
        async with shop.database.read() as conn:
            own = (await subscribed(conn, [acme]))["acme"]
            whole = own[0].period_at(BEGAN_US)
            found = await attributed(conn, acme, own, whole, ["region"], [("eu",), ("us",), ("mars",)], NOW_US)
    assert {values: each.total.amount for values, each in found.items()} == {
        ("eu",): Decimal("2.01"),
        ("us",): Decimal(1),
        ("mars",): Decimal(0),
    }
    assert found["mars",].lines == ()
