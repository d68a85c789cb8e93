"""Credits over HTTP: given, burned by real events, shown on the bill, voided, reset, bought when they run low."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, call, plane

from sidemeter_control.pricing.credits.topping_up import top_up_once

NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands
INGEST = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }"
CREDITS = """
query($at: DateTime, $unit: CreditUnit, $feature: ID) {
  customer(key: "acme") {
    credits(at: $at, unit: $unit, feature: $feature) {
      at balance overage used
      grants { id amount balance burned unit purchased automatic feature { key } }
      allocations { grant from to charge amount }
    }
  }
}
"""
COST = """{ customer(key: "acme") { cost {
  beforeCredits { amount rounded currency } credits { amount } total { amount rounded currency }
} } }"""
UNITS = {"unit": "FEATURE", "feature": "tokens"}


@pytest.fixture
async def sold(tmp_path: Path) -> AsyncIterator[Plane]:
    """Acme pays 10 EUR a month, from 1 November on, and a cent for each token."""
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", key="tokens", eventType="llm", aggregation="SUM", valueProperty="n")
        await opened.make("createFeature", key="tokens", meter="tokens")
        await opened.make("createFeature", key="sso")
        charges = [
            {"key": "base", "model": "FLAT", "amount": "10", "inAdvance": True},
            {"key": "tokens", "meter": "tokens", "model": "PER_UNIT", "unitPrice": "0.01"},
        ]
        await opened.make("publishPlan", key="pro", currency="EUR", charges=charges)
        await opened.make("upsertCustomer", key="acme")
        await opened.make("subscribe", customer="acme", plan="pro", startAt="2023-11-01T00:00:00Z")
        yield opened


async def use(control: Plane, tokens: int, at: str = NOW) -> None:
    event = {"type": "llm", "subject": "acme", "time": at, "data": {"n": tokens}}
    await control.ask(INGEST, events=[event])


async def credits(control: Plane, **asked: object) -> dict[str, Any]:
    return (await control.ask(CREDITS, **asked))["customer"]["credits"]


async def test_prepaid_money_is_taken_off_the_bill_and_says_who_paid_what(sold: Plane) -> None:
    await use(sold, 300, "2023-11-05T00:00:00Z")
    first = await sold.make(
        "grantCredits", "id balance", customer="acme", amount="11.50", effectiveAt="2023-11-01T00:00:00Z"
    )
    assert first["balance"] == "0"
    second = await sold.make("grantCredits", "id balance burned", customer="acme", amount="0.50", purchased=True)
    assert (second["balance"], second["burned"]) == ("0", "0.5")
    assert (await sold.ask(COST))["customer"]["cost"] == {
        "beforeCredits": {"amount": "13", "rounded": "13", "currency": "EUR"},
        "credits": {"amount": "12"},
        "total": {"amount": "1", "rounded": "1", "currency": "EUR"},
    }
    stands = await credits(sold)
    assert (stands["at"], stands["balance"], stands["overage"], stands["used"]) == (NOW, "0", "1", "13")
    assert [(each["grant"], each["charge"], each["amount"]) for each in stands["allocations"]] == [
        (first["id"], "base", "10"),
        (first["id"], "tokens", "1.5"),
        (second["id"], "tokens", "0.5"),
    ]
    assert stands["allocations"][2]["from"] == stands["allocations"][2]["to"] == NOW


async def test_the_bill_of_a_customer_without_credits_is_what_is_owed(sold: Plane) -> None:
    assert (await sold.ask(COST))["customer"]["cost"] == {
        "beforeCredits": {"amount": "10", "rounded": "10", "currency": "EUR"},
        "credits": {"amount": "0"},
        "total": {"amount": "10", "rounded": "10", "currency": "EUR"},
    }


async def test_units_of_a_feature_are_given_used_and_shown_apart_from_money(sold: Plane) -> None:
    await sold.make("grantCredits", customer="acme", **UNITS, amount="100.5", effectiveAt="2023-11-14T00:00:00Z")
    await use(sold, 40, "2023-11-14T12:00:00Z")
    units = await credits(sold, **UNITS)
    assert (units["balance"], units["overage"], units["used"]) == ("60.5", "0", "40")
    assert [(each["unit"], each["feature"], each["burned"]) for each in units["grants"]] == [
        ("FEATURE", {"key": "tokens"}, "40")
    ]
    assert (await credits(sold, at="2023-11-14T12:00:00Z", **UNITS))["balance"] == "100.5"
    assert (await credits(sold))["grants"] == []


QUOTA = """{ customer(key: "acme") { quota(feature: "tokens") {
  limit used remaining overage ceiling allowed parts { source quantity }
} } }"""


async def test_units_pay_what_goes_beyond_the_plan_and_the_quota_shows_both(sold: Plane) -> None:
    entitlement = {"feature": "tokens", "kind": "METERED", "limit": "100", "enforcement": "HARD"}
    await sold.make("publishPlan", key="more", currency="EUR", charges=[], entitlements=[entitlement])
    await sold.make("subscribe", customer="acme", plan="more", startAt="2023-11-01T00:00:00Z")
    made = await sold.make("grantCredits", "id", customer="acme", amount="50", purchased=True, **UNITS)
    await use(sold, 80)
    sold.clock.advance(60)
    stood = await credits(sold, **UNITS)
    assert (stood["balance"], stood["used"], stood["allocations"]) == ("50", "0", [])
    await use(sold, 60, "2023-11-14T22:14:00Z")
    stood = await credits(sold, **UNITS)
    assert (stood["balance"], stood["overage"], stood["used"]) == ("10", "0", "40")
    assert [(each["grant"], each["amount"], each["charge"]) for each in stood["allocations"]] == [
        (made["id"], "40", None)
    ]
    assert (await sold.ask(QUOTA))["customer"]["quota"] == {
        "limit": "150",
        "used": "140",
        "remaining": "10",
        "overage": "0",
        "ceiling": "150",
        "allowed": True,
        "parts": [{"source": "PLAN", "quantity": "100"}, {"source": "CREDITS", "quantity": "50"}],
    }


async def test_the_same_key_answers_the_same_grant_and_another_grant_is_a_conflict(sold: Plane) -> None:
    asked = {"customer": "acme", "amount": "5", "idempotencyKey": "order-7"}
    first = await sold.make("grantCredits", "id", **asked)
    sold.clock.advance(60)
    assert await sold.make("grantCredits", "id", **asked) == first
    error = await sold.refusal(call("grantCredits", "id"), input=asked | {"amount": "6"})
    assert (error["extensions"]["code"], error["message"]) == (
        "CONFLICT",
        "idempotency key 'order-7' was used for another grant",
    )


async def test_a_voided_grant_pays_no_more(sold: Plane) -> None:
    made = await sold.make("grantCredits", "id", customer="acme", amount="100")
    sold.clock.advance(60)
    void = 'mutation($id: ID!) { voidCredits(grant: $id, reason: "fraud") { balance burned voidedAt } }'
    assert (await sold.ask(void, id=made["id"]))["voidCredits"] == {
        "balance": "0",
        "burned": "10",
        "voidedAt": "2023-11-14T22:14:20Z",
    }
    error = await sold.refusal(void, id="nothing")
    assert (error["extensions"]["code"], error["message"]) == ("NOT_FOUND", "there is no credit grant 'nothing'")


async def test_a_reset_restarts_the_measuring(sold: Plane) -> None:
    await sold.make("grantCredits", customer="acme", **UNITS, amount="100", rolloverMax="30")
    await use(sold, 20)
    sold.clock.advance(60)
    reset = await sold.make("resetCredits", "balance used", customer="acme", **UNITS)
    assert reset == {"balance": "30", "used": "0"}


async def test_credits_are_bought_when_they_run_low(sold: Plane) -> None:
    rule = {"below": "5", "amount": "20", "maxPerPeriod": 3}
    await sold.make("setTopUp", customer="acme", **rule)
    own = '{ customer(key: "acme") { topUps { unit feature { key } below amount maxPerPeriod } } }'
    assert (await sold.ask(own))["customer"]["topUps"] == [{"unit": "MONEY", "feature": None, **rule}]
    await top_up_once(sold.database, sold.clock)
    await top_up_once(sold.database, sold.clock)
    stands = await credits(sold)
    assert [(each["amount"], each["purchased"], each["automatic"]) for each in stands["grants"]] == [("20", True, True)]
    assert stands["balance"] == "10"
    remove = 'mutation { removeTopUp(customer: "acme") }'
    assert [(await sold.ask(remove))["removeTopUp"] for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "1.001"}, "amount"),
        ({"amount": "1", "unit": "FEATURE"}, "feature"),
        ({"amount": "1", "unit": "FEATURE", "feature": "sso"}, "feature"),
        ({"amount": "1", "feature": "tokens"}, "feature"),
        ({"amount": "1", "expiresAt": NOW}, "expiresAt"),
        ({"amount": "1", "expiresAt": "2023-11-02T00:00:00Z", "effectiveAt": "2023-11-01T00:00:00Z"}, "expiresAt"),
        ({"amount": "1", "recurrenceAnchor": NOW}, "recurrenceAnchor"),
        ({"amount": "1", "rolloverMax": "1", "rolloverMin": "2"}, "rolloverMin"),
        ({"amount": "1", "charges": []}, "charges"),
    ],
)
async def test_a_wrong_grant_names_its_field(sold: Plane, fields: dict[str, object], field: str) -> None:
    error = await sold.refusal(call("grantCredits", "id"), input={"customer": "acme", **fields})
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": field}


async def test_credits_of_nothing_are_not_found(sold: Plane) -> None:
    error = await sold.refusal(CREDITS, unit="FEATURE", feature="nothing")
    assert (error["extensions"]["code"], error["message"]) == ("NOT_FOUND", "there is no feature 'nothing'")
    error = await sold.refusal(CREDITS, at="9500-01-01T00:00:00Z")
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "at"}
