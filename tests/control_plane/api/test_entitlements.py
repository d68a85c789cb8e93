"""What a customer is given beside its plan, over HTTP: add-ons, overrides, and the parts of a quota."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, call, plane

from sidemeter_control.store.keys import Scope

NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands
PRO = {
    "key": "pro",
    "name": "Pro",
    "currency": "EUR",
    "charges": [{"key": "base", "model": "FLAT", "amount": "9.90"}],
    "entitlements": [
        {
            "feature": "tokens",
            "kind": "METERED",
            "limit": "2000",
            "enforcement": "HARD",
            "overageUpTo": "100.5",
            "rolloverMax": "300",
            "rolloverMin": "50",
        },
        {"feature": "seats", "kind": "STATIC", "value": 5},
    ],
}
QUOTA = "allowed limit ceiling remaining overage graceEndsAt parts { source text quantity }"
REVOKE = "mutation($id: ID!, $why: String!) { revokeAddOn(id: $id, reason: $why) { revokedAt revokeReason } }"
REMOVE = 'mutation { removeEntitlement(customer: "acme", feature: "tokens") }'


@pytest.fixture
async def sold(tmp_path: Path) -> AsyncIterator[Plane]:
    """A control plane on which Acme has been subscribed to Pro since September."""
    async with plane(tmp_path) as opened:
        await opened.make(
            "createMeter", key="tokens", eventType="llm", aggregation="SUM", valueProperty="tokens", unit="tokens"
        )
        await opened.make("createFeature", key="tokens", name="Tokens", meter="tokens")
        await opened.make("createFeature", key="seats")
        await opened.make("createFeature", key="sso", name="Single sign-on")
        await opened.make("publishPlan", **PRO)
        await opened.make("upsertCustomer", key="acme")
        await opened.make("subscribe", customer="acme", plan="pro", startAt="2023-09-10T00:00:00Z")
        yield opened


async def use(control: Plane, at: str, tokens: str) -> None:
    event = {"id": at, "type": "llm", "subject": "acme", "time": at, "data": {"tokens": tokens}}
    mutation = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }"
    assert await control.ask(mutation, events=[event]) == {"ingest": {"accepted": 1}}


async def quota(control: Plane, feature: str = "tokens") -> Any:
    query = f'query($feature: ID!) {{ customer(key: "acme") {{ quota(feature: $feature) {{ {QUOTA} }} }} }}'
    return (await control.ask(query, feature=feature))["customer"]["quota"]


def part(source: str, text: str, quantity: str | None) -> dict[str, object]:
    return {"source": source, "text": text, "quantity": quantity}


PLAN = part("PLAN", "Plan Pro, version 1", "2000")


async def test_a_quota_says_where_its_limit_comes_from(sold: Plane) -> None:
    await use(sold, "2023-09-20T00:00:00Z", "1800")
    await use(sold, "2023-10-20T00:00:00Z", "1900.25")
    await sold.make("grantAddOn", customer="acme", feature="tokens", quantity="500")
    await use(sold, "2023-11-12T00:00:00Z", "2810")
    assert await quota(sold) == {
        "allowed": True,
        "limit": "2799.75",
        "ceiling": "2900.25",
        "remaining": "0",
        "overage": "10.25",
        "graceEndsAt": None,
        "parts": [PLAN, part("ROLLOVER", "Left over from earlier periods", "299.75"), part("ADD_ON", "Add-on", "500")],
    }
    await use(sold, "2023-11-13T00:00:00Z", "90.25")
    assert (await quota(sold))["allowed"] is False


async def test_an_add_on_is_shown_until_it_is_revoked_and_gives_what_the_plan_does_not(sold: Plane) -> None:
    assert await quota(sold, "sso") is None
    fields = {"customer": "acme", "feature": "sso", "expiresAt": "2024-01-01T00:00:00Z", "idempotencyKey": "order-7"}
    shown = "id quantity effectiveAt expiresAt grantedAt revokedAt feature { name }"
    granted = await sold.make("grantAddOn", shown, **fields)
    assert await sold.make("grantAddOn", shown, **fields) == granted
    assert granted | {"id": ""} == {
        "id": "",
        "quantity": None,
        "effectiveAt": NOW,
        "expiresAt": "2024-01-01T00:00:00Z",
        "grantedAt": NOW,
        "revokedAt": None,
        "feature": {"name": "Single sign-on"},
    }
    assert (await quota(sold, "sso"))["parts"] == [part("ADD_ON", "Add-on", None)]
    listed = f'{{ customer(key: "acme") {{ addOns {{ {shown} }} quotas {{ feature {{ key }} value }} }} }}'
    assert (await sold.ask(listed))["customer"] == {
        "addOns": [granted],
        "quotas": [
            {"feature": {"key": "seats"}, "value": 5},
            {"feature": {"key": "sso"}, "value": True},
            {"feature": {"key": "tokens"}, "value": None},
        ],
    }
    ended = await sold.ask(REVOKE, id=granted["id"], why="not paid")
    assert ended == {"revokeAddOn": {"revokedAt": NOW, "revokeReason": "not paid"}}
    assert (await sold.ask(listed))["customer"]["addOns"] == []
    assert await quota(sold, "sso") is None


async def test_an_add_on_counts_from_its_first_instant_to_its_last(sold: Plane) -> None:
    await sold.make(
        "grantAddOn",
        customer="acme",
        feature="tokens",
        quantity="1",
        effectiveAt="2023-11-14T22:14:20Z",
        expiresAt="2023-11-14T22:15:20Z",
    )
    limits = []
    for _ in range(3):
        limits.append((await quota(sold))["limit"])
        sold.clock.advance(60)
    assert limits == ["2300", "2301", "2300"]


async def test_an_entitlement_of_a_customers_own_replaces_the_plans_until_it_is_removed(sold: Plane) -> None:
    select = """effectiveAt expiresAt setAt
      entitlement { feature { key } kind limit enforcement reset overageUpTo graceDays rolloverMax rolloverMin }"""
    own = {"customer": "acme", "feature": "tokens", "kind": "METERED", "limit": "10"}
    made = await sold.make("setEntitlement", select, **own, enforcement="HARD", reset="DAY", graceDays=2)
    assert made == {
        "effectiveAt": NOW,
        "expiresAt": None,
        "setAt": NOW,
        "entitlement": {
            "feature": {"key": "tokens"},
            "kind": "METERED",
            "limit": "10",
            "enforcement": "HARD",
            "reset": "DAY",
            "overageUpTo": None,
            "graceDays": 2,
            "rolloverMax": None,
            "rolloverMin": None,
        },
    }
    listed = f'{{ customer(key: "acme") {{ entitlementOverrides {{ {select} }} }} }}'
    assert (await sold.ask(listed))["customer"]["entitlementOverrides"] == [made]
    await use(sold, "2023-11-14T11:30:00.000001Z", "10")
    assert await quota(sold) == {
        "allowed": True,
        "limit": "10",
        "ceiling": None,
        "remaining": "0",
        "overage": "0",
        "graceEndsAt": "2023-11-16T11:30:00.000001Z",
        "parts": [part("OVERRIDE", "Agreed with this customer", "10")],
    }
    assert await sold.ask(REMOVE) == {"removeEntitlement": True}
    assert await sold.ask(REMOVE) == {"removeEntitlement": False}
    assert (await quota(sold))["parts"][0] == PLAN
    assert (await sold.ask(listed))["customer"]["entitlementOverrides"] == []


async def test_a_plan_shows_what_it_allows_beyond_its_limit(sold: Plane) -> None:
    query = '{ plan(key: "pro") { entitlements { overageUpTo graceDays rolloverMax rolloverMin } } }'
    assert (await sold.ask(query))["plan"]["entitlements"] == [
        {"overageUpTo": "100.5", "graceDays": 0, "rolloverMax": "300", "rolloverMin": "50"},
        {"overageUpTo": None, "graceDays": 0, "rolloverMax": None, "rolloverMin": None},
    ]


@pytest.mark.parametrize(
    ("mutation", "fields", "code", "field"),
    [
        ("grantAddOn", {"customer": "nobody", "feature": "sso"}, "NOT_FOUND", None),
        ("grantAddOn", {"customer": "acme", "feature": "none"}, "NOT_FOUND", None),
        ("grantAddOn", {"customer": "acme", "feature": "tokens"}, "INVALID_INPUT", "quantity"),
        ("grantAddOn", {"customer": "acme", "feature": "sso", "expiresAt": NOW}, "INVALID_INPUT", "expiresAt"),
        ("grantAddOn", {"customer": "acme", "feature": "sso", "idempotencyKey": ""}, "INVALID_INPUT", "idempotencyKey"),
        ("setEntitlement", {"customer": "acme", "feature": "sso", "kind": "METERED"}, "INVALID_INPUT", "kind"),
        ("setEntitlement", {"customer": "acme", "feature": "sso", "kind": "STATIC"}, "INVALID_INPUT", "value"),
        (
            "setEntitlement",
            {"customer": "acme", "feature": "tokens", "kind": "METERED", "limit": "1", "graceDays": 1},
            "INVALID_INPUT",
            "graceDays",
        ),
    ],
)
async def test_what_cannot_be_given_is_refused_by_code_and_field(
    sold: Plane, mutation: str, fields: dict[str, object], code: str, field: str | None
) -> None:
    extensions = (await sold.refusal(call(mutation, "__typename"), input=fields))["extensions"]
    assert extensions == {"code": code} | ({} if field is None else {"field": field})


async def test_an_add_on_is_revoked_with_a_reason_and_by_those_who_may_write(sold: Plane) -> None:
    refused = await sold.refusal(REVOKE, id="none", why=" ")
    assert refused["extensions"] == {"code": "INVALID_INPUT", "field": "reason"}
    assert (await sold.refusal(REVOKE, id="none", why="w"))["extensions"]["code"] == "NOT_FOUND"
    body = await sold.post(REMOVE, key=await sold.key(Scope.READ))
    assert body["errors"][0]["extensions"]["code"] == "FORBIDDEN"
