"""Publishing plans and subscribing customers, on a real database."""

import dataclasses
from decimal import Decimal

import pytest
from charges import spec as charge_of
from fakes import ManualClock
from msgspec.structs import replace

from sidemeter_control.errors import Conflict, ControlError, InvalidInput, NotFound
from sidemeter_control.limits.catalogue import create_feature
from sidemeter_control.limits.features import new_feature
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.catalogue import publish_plan, subscribe, subscribed
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, PlanSpec
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.store import meters, plans, state
from sidemeter_control.store.database import Database

FEE = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(49))
CALLS = ChargeSpec(key="calls", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.01"))
QUOTA = EntitlementSpec(feature="api", kind=EntitlementKind.METERED, limit=Decimal(1000))
PRO = PlanSpec(key="pro", currency="USD", charges=(FEE, CALLS), entitlements=(QUOTA,))
ACME = Customer("acme", time_zone="Europe/Berlin")


RULE = {"confirmType": "api.done", "reverseType": "api.failed", "windowHours": 24}


def on_meter(key: str) -> ChargeSpec:
    return ChargeSpec(key="calls", meter=key, model=PricingModel.PER_UNIT, unit_price=Decimal(1))


@pytest.fixture
async def database(database: Database) -> Database:
    async with database.write() as conn:
        await meters.add(conn, new_meter("calls", event_type="api.call", aggregation=Aggregation.COUNT, now_us=0))
        await meters.add(conn, new_meter("old", event_type="api.call", aggregation=Aggregation.COUNT, now_us=0))
        await meters.archive(conn, "old", 1)
        region = Dimension("region", "region")
        for key, aggregation in (("sales", Aggregation.SUM), ("peak", Aggregation.MAX)):
            meter = new_meter(key, "sale", aggregation, value_property="amount", dimensions=[region], now_us=0)
            await meters.add(conn, meter)
    await create_feature(database, new_feature("api", meter_key="calls", now_us=0))
    await create_feature(database, new_feature("sso", now_us=0))
    await upsert_customer(database, ACME)
    return database


async def test_every_publication_is_a_new_version_and_old_ones_stay(database: Database) -> None:
    clock = ManualClock()
    first = await publish_plan(database, clock, PRO)
    second = await publish_plan(database, clock, replace(PRO, charges=(FEE,)))
    assert (first.version, second.version) == (1, 2)
    async with database.read() as conn:
        assert await plans.get(conn, [("pro", 1), ("pro", 2), ("pro", 3)]) == {("pro", 1): first, ("pro", 2): second}
        assert await plans.list_newest(conn) == [second]


async def test_a_version_is_parsed_once(database: Database) -> None:
    await publish_plan(database, ManualClock(), PRO)
    async with database.read() as conn:
        one, other = [(await plans.get(conn, [("pro", 1)]))["pro", 1] for _ in range(2)]
    assert one is other


async def test_every_change_of_the_catalogue_raises_the_version_of_what_is_configured(database: Database) -> None:
    async with database.read() as conn:
        before = (await state.get(conn)).config_version
    await publish_plan(database, ManualClock(), PRO)
    await subscribe(database, ManualClock(), SubscribeSpec(customer="acme", plan="pro"))
    async with database.read() as conn:
        assert (await state.get(conn)).config_version == before + 2


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (
            replace(PRO, charges=(on_meter("nope"),)),
            InvalidInput,
            "charges.calls.meter: must be a meter: there is no 'nope'",
        ),
        (
            replace(PRO, charges=(on_meter("old"),)),
            InvalidInput,
            "charges.calls.meter: must not be archived: it counts nothing any more",
        ),
        (
            replace(PRO, entitlements=(EntitlementSpec(feature="nope", kind=EntitlementKind.BOOLEAN),)),
            NotFound,
            "there is no feature 'nope'",
        ),
        (
            replace(PRO, entitlements=(EntitlementSpec(feature="sso", kind=EntitlementKind.METERED),)),
            InvalidInput,
            "entitlements.sso.kind: must not be METERED: the feature has no meter",
        ),
        (replace(PRO, currency="XXX"), InvalidInput, 'currency: must be the ISO 4217 code of a currency, like "EUR"'),
    ],
)
async def test_a_plan_that_names_what_does_not_exist_is_refused_whole(
    database: Database, spec: PlanSpec, error: type[ControlError], message: str
) -> None:
    with pytest.raises(error) as caught:
        await publish_plan(database, ManualClock(), spec)
    assert str(caught.value) == message
    async with database.read() as conn:
        assert await plans.list_newest(conn) == []


@pytest.mark.parametrize(
    ("charge", "message"),
    [
        (
            charge_of("PERCENTAGE", meter="calls", percentage="1"),
            "meter: must be a SUM for PERCENTAGE: each event must have an amount",
        ),
        (charge_of("DYNAMIC", meter="calls"), "meter: must be a SUM for DYNAMIC: each event must have its price"),
        (
            charge_of(
                "MATRIX", meter="peak", rates=[{"match": {"region": "eu"}, "unitPrice": "1"}], defaultUnitPrice="1"
            ),
            "meter: must be a COUNT or SUM for MATRIX: its parts must add up to the whole",
        ),
        (
            charge_of("TIME_OF_DAY", meter="peak", bands=[{"from": "00:00", "to": "24:00", "unitPrice": "1"}]),
            "meter: must be a COUNT or SUM for TIME_OF_DAY: its parts must add up to the whole",
        ),
        (
            charge_of("OUTCOME", meter="sales", unitPrice="1", outcome=RULE),
            "meter: must be a COUNT for OUTCOME: it is events that are confirmed or reversed",
        ),
        (
            charge_of(
                "MATRIX", meter="sales", rates=[{"match": {"planet": "x"}, "unitPrice": "1"}], defaultUnitPrice="1"
            ),
            "rates: must match dimensions of the meter; it has no 'planet'",
        ),
        (
            charge_of("FLAT", amount="0.225"),
            "amount: must have at most 2 digits after the point: USD has nothing smaller",
        ),
        (
            charge_of("PER_UNIT", meter="calls", unitPrice="0.00001", minimum="0.001"),
            "minimum: must have at most 2 digits after the point: USD has nothing smaller",
        ),
        (
            charge_of("PER_UNIT", meter="calls", unitPrice="1", maximum="0.001"),
            "maximum: must have at most 2 digits after the point: USD has nothing smaller",
        ),
        (
            charge_of("VOLUME", meter="calls", tiers=[{"upTo": "1", "unitPrice": "1"}, {"flatFee": "0.001"}]),
            "tiers[1].flatFee: must have at most 2 digits after the point: USD has nothing smaller",
        ),
    ],
)
async def test_a_charge_that_its_meter_or_currency_cannot_bear_is_refused_in_a_plan_and_in_an_override(
    database: Database, charge: ChargeSpec, message: str
) -> None:
    clock = ManualClock()
    with pytest.raises(InvalidInput) as caught:
        await publish_plan(database, clock, replace(PRO, charges=(charge,)))
    assert str(caught.value) == f"charges.input.{message}"
    same_key = charge_of("FLAT", key="input", amount="1")
    await publish_plan(database, clock, replace(PRO, charges=(same_key,)))
    with pytest.raises(InvalidInput) as caught:
        await subscribe(database, clock, SubscribeSpec(customer="acme", plan="pro", overrides=(charge,)))
    assert str(caught.value) == f"overrides.input.{message}"


async def test_every_model_can_be_published_on_a_meter_that_gives_what_it_needs(database: Database) -> None:
    charges = (
        charge_of("STAIRSTEP", key="a", meter="peak", tiers=[{"flatFee": "1"}]),
        charge_of("PERCENTAGE", key="b", meter="sales", percentage="2.9", fixedPerEvent="0.0025"),
        charge_of("GRADUATED_PERCENTAGE", key="c", meter="peak", tiers=[{"percentage": "1"}]),
        charge_of(
            "MATRIX",
            key="d",
            meter="sales",
            rates=[{"match": {"region": ["eu", "us"]}, "unitPrice": "0.00001"}],
            defaultUnitPrice="1",
        ),
        charge_of("TIME_OF_DAY", key="e", meter="calls", bands=[{"from": "00:00", "to": "24:00", "unitPrice": "1"}]),
        charge_of("DYNAMIC", key="f", meter="sales"),
        charge_of("OUTCOME", key="g", meter="calls", unitPrice="1", outcome=RULE),
    )
    published = await publish_plan(database, ManualClock(), replace(PRO, charges=charges))
    async with database.read() as conn:
        (stored,) = await plans.list_newest(conn)
    assert stored == published
    assert tuple(each.spec for each in stored.charges) == charges


async def test_a_subscription_takes_the_newest_version_and_starts_now(database: Database) -> None:
    clock = ManualClock()
    await publish_plan(database, clock, PRO)
    await publish_plan(database, clock, PRO)
    made = await subscribe(database, clock, SubscribeSpec(customer="acme", plan="pro"))
    assert (made.plan_version, made.start_at_us, made.anchor_us) == (2, clock.now_us(), clock.now_us())
    async with database.read() as conn:
        (own,) = (await subscribed(conn, [ACME]))["acme"]
        assert own.subscription == made
        assert own.plan.version == 2
        assert await plans.subscribers(conn, [("pro", 1), ("pro", 2)], clock.now_us()) == {("pro", 2): 1}


async def test_a_subscription_keeps_its_version_and_its_overrides(database: Database) -> None:
    clock = ManualClock()
    await publish_plan(database, clock, PRO)
    own_price = ChargeSpec(key="calls", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.005"))
    spec = SubscribeSpec(customer="acme", plan="pro", version=1, start_at_us=5, anchor_us=3, overrides=(own_price,))
    made = await subscribe(database, clock, spec)
    await publish_plan(database, clock, replace(PRO, charges=(FEE,)))
    async with database.read() as conn:
        (own,) = (await subscribed(conn, [ACME]))["acme"]
    assert own.subscription == made
    assert [charge.spec for charge in own.charges] == [FEE, own_price]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SubscribeSpec(customer="nobody", plan="pro"), "there is no customer 'nobody'"),
        (SubscribeSpec(customer="acme", plan="nope"), "there is no plan 'nope'"),
        (SubscribeSpec(customer="acme", plan="pro", version=9), "there is no plan 'pro version 9'"),
    ],
)
async def test_what_is_unknown_cannot_be_subscribed(database: Database, spec: SubscribeSpec, message: str) -> None:
    await publish_plan(database, ManualClock(), PRO)
    with pytest.raises(NotFound) as caught:
        await subscribe(database, ManualClock(), spec)
    assert str(caught.value) == message


async def test_a_new_subscription_is_seen_at_once_though_the_ones_before_are_remembered(database: Database) -> None:
    clock = ManualClock()
    await publish_plan(database, clock, PRO)
    for count in range(3):
        async with database.read() as conn:
            seen = (await subscribed(conn, [ACME]))["acme"]
            assert len(seen) == count
            assert (await subscribed(conn, [ACME]))["acme"] is seen
        await subscribe(database, clock, SubscribeSpec(customer="acme", plan="pro"))


@pytest.mark.parametrize("currency", ["EUR", None], ids=["named", "of another subscription"])
async def test_a_customer_pays_in_one_currency(database: Database, currency: str | None) -> None:
    clock = ManualClock()
    await publish_plan(database, clock, PRO)
    await publish_plan(database, clock, replace(PRO, key="euro", currency="EUR"))
    await upsert_customer(database, dataclasses.replace(ACME, currency=currency))
    await subscribe(database, clock, SubscribeSpec(customer="acme", plan="euro"))
    with pytest.raises(Conflict, match="customer 'acme' pays in EUR, plan 'pro' is in USD"):
        await subscribe(database, clock, SubscribeSpec(customer="acme", plan="pro"))
