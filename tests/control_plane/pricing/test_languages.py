"""A customer's language: the whole bill is in it, what is open, what is closed and what came late, and quotas too."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from shop import BASE, TOKENS, Shop, open_shop, us

from sidemeter_control.limits.add_ons import AddOnSpec
from sidemeter_control.limits.given import grant_add_on, set_entitlement
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.quotas import quota
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.closing import close_once
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, PlanSpec
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.pricing.words import Language

LIMIT = EntitlementSpec(feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(5000), rollover_max=Decimal(9000))
PLAN = PlanSpec(
    key="pro",
    name="Profi",
    currency="USD",
    charges=(msgspec.structs.replace(BASE, name="Grundgebühr", amount=Decimal(30)), TOKENS),
    entitlements=(LIMIT,),
    minimum_spend=Decimal(80),
)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await publish_plan(opened.database, opened.clock, PLAN)
        yield opened


async def sold(shop: Shop, language: Language) -> Customer:
    """Acme from the middle of a period on, with 1,500.5 tokens used in it."""
    acme = await shop.customer("acme", language=language)
    spec = SubscribeSpec(customer="acme", plan="pro", start_at_us=us("2026-11-16"), anchor_us=us("2026-11-01"))
    await subscribe(shop.database, shop.clock, spec)
    await shop.use("acme", "2026-11-20", "1500.5")
    return acme


async def shown(shop: Shop, customer: Customer, start: str, end: str) -> list[tuple[str, list[str]]]:
    async with shop.database.read() as conn:
        found = await cost(conn, customer, shop.clock.now_us(), us(start), us(end))
    return [(line.text, [part.text for part in line.parts]) for line in found.lines]


NOVEMBER = [
    ("Grundgebühr", ["wiederkehrende Gebühr, 16.11.2026 bis 30.11.2026"]),
    ("Tokens", ["die ersten 1.000 tokens zu je 0,01 USD", "die nächsten 500,5 tokens zu je 0,004 USD"]),
    ("Mindestumsatz", ["bis zum Mindestumsatz von 40 USD, davon 27 USD erreicht"]),
]


async def test_a_german_customer_reads_a_german_bill_from_the_first_line_to_the_last(shop: Shop) -> None:
    acme = await sold(shop, Language.DE)
    assert await shown(shop, acme, "2026-11-01", "2026-12-01") == NOVEMBER
    shop.clock.set_wall(us("2026-12-02"))
    assert await close_once(shop.database, shop.clock, 3600) == 1
    await shop.use("acme", "2026-11-21", "100")
    assert await shown(shop, acme, "2026-11-01", "2026-12-01") == NOVEMBER
    late = (await shown(shop, acme, "2026-12-01", "2027-01-01"))[-2:]
    assert late[0] == (
        "Tokens, 16.11.2026 bis 30.11.2026, nachträglich erfasst",
        [
            "die ersten 1.000 tokens zu je 0,01 USD",
            "die nächsten 600,5 tokens zu je 0,004 USD",
            "abzüglich bereits Berechnetem",
        ],
    )


async def test_what_is_closed_stays_in_the_language_it_was_closed_in(shop: Shop) -> None:
    await sold(shop, Language.DE)
    shop.clock.set_wall(us("2026-12-02"))
    await close_once(shop.database, shop.clock, 3600)
    english = await shop.customer("acme", language=Language.EN)
    assert await shown(shop, english, "2026-11-01", "2026-12-01") == NOVEMBER
    both = await shown(shop, english, "2026-11-01", "2027-01-01")
    assert [text for text, _ in both] == [
        "Grundgebühr, 16.11.2026 bis 30.11.2026",
        "Tokens, 16.11.2026 bis 30.11.2026",
        "Mindestumsatz, 16.11.2026 bis 30.11.2026",
        "Grundgebühr, 2026-12-01 to 2026-12-31",
        "Tokens, 2026-12-01 to 2026-12-31",
        "Minimum spend, 2026-12-01 to 2026-12-31",
    ]


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        (
            Language.EN,
            ["Plan Profi, version 1", "Left over from earlier periods", "Add-on", "Agreed with this customer"],
        ),
        (
            Language.DE,
            [
                "Tarif Profi, Version 1",
                "Aus früheren Zeiträumen übrig",
                "Zusatzkontingent",
                "Mit diesem Kunden vereinbart",
            ],
        ),
    ],
)
async def test_the_parts_of_a_quota_are_in_the_customers_language(
    shop: Shop, language: Language, texts: list[str]
) -> None:
    acme = await sold(shop, language)
    shop.clock.set_wall(us("2026-12-02"))
    more = AddOnSpec(customer="acme", feature="tokens", quantity=Decimal(1))
    await grant_add_on(shop.database, shop.clock, more)
    own = EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN)
    await set_entitlement(shop.database, shop.clock, OverrideSpec(customer="acme", entitlement=own))
    async with shop.database.read() as conn:
        found = [await quota(conn, acme, feature, shop.clock.now_us()) for feature in ("tokens", "sso")]
    assert [part.text for each in found if each for part in each.parts] == texts
