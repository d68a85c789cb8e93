"""The whole path over HTTP: a meter, a feature, a plan, a customer and its events become usage, cost and quota."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from planes import Plane, call, plane

TOKENS = {
    "key": "tokens",
    "eventType": "llm.completion",
    "aggregation": "SUM",
    "valueProperty": "usage.tokens",
    "groupBy": [{"key": "model", "property": "model"}],
    "filters": [{"property": "tier", "notIn": ["free"]}],
    "unit": "tokens",
}
PRO = {
    "key": "pro",
    "name": "Pro",
    "currency": "EUR",
    "charges": [
        {"key": "base", "name": "Base fee", "model": "FLAT", "amount": "9.90"},
        {
            "key": "tokens",
            "name": "Tokens",
            "meter": "tokens",
            "model": "GRADUATED",
            "tiers": [{"upTo": "1000", "unitPrice": "0.002"}, {"unitPrice": "0.0015"}],
        },
    ],
    "entitlements": [
        {"feature": "tokens", "kind": "METERED", "limit": "2000", "enforcement": "HARD"},
        {"feature": "seats", "kind": "STATIC", "value": {"max": 5}},
        {"feature": "sso", "kind": "BOOLEAN"},
    ],
}
INGEST = """
mutation($events: [EventInput!]!) {
  ingest(events: $events) { accepted duplicates rejected { index code message } }
}
"""
NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands


def completion(id_: str, tokens: object, subject: str = "acme", **more: object) -> dict[str, object]:
    data = {"usage": {"tokens": tokens}, "model": "large", **more}
    return {"id": id_, "type": "llm.completion", "subject": subject, "time": NOW, "data": data}


@pytest.fixture
async def sold(tmp_path: Path) -> AsyncIterator[Plane]:
    """A control plane on which Acme is subscribed to Pro."""
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", **TOKENS)
        await opened.make("createFeature", key="tokens", name="Tokens", meter="tokens")
        await opened.make("createFeature", key="seats")
        await opened.make("createFeature", key="sso")
        await opened.make("publishPlan", **PRO)
        await opened.make("upsertCustomer", key="acme", name="Acme", subjects=["acme", "acme-eu"])
        await opened.make("subscribe", customer="acme", plan="pro")
        yield opened


async def ingest(control: Plane, *events: dict[str, object]) -> dict[str, object]:
    return (await control.ask(INGEST, events=list(events)))["ingest"]


@pytest.mark.both_databases
async def test_events_become_usage_cost_and_quota(sold: Plane) -> None:
    events = [
        completion("1", 800),
        completion("2", "400.5", "acme-eu"),
        completion("3", 1_000_000, tier="free"),
        completion("4", 9, "globex", model="small"),
    ]
    assert await ingest(sold, *events) == {"accepted": 4, "duplicates": 0, "rejected": []}
    assert await ingest(sold, *events[:2]) == {"accepted": 0, "duplicates": 2, "rejected": []}

    interval = 'from: "2023-11-01T00:00:00Z", to: "2023-12-01T00:00:00Z"'
    answer = await sold.ask(
        f"""{{
          all: usage(meter: "tokens", {interval}) {{ customer value events }}
          split: usage(meter: "tokens", {interval}, groupBy: ["model"], filter: [{{key: "model", in: ["small"]}}],
                       window: DAY, timeZone: "Asia/Tokyo") {{ windowStart windowEnd dimensions value }}
          customer(key: "acme") {{
            usage(meter: "tokens", {interval}) {{ value }}
            cost {{
              total {{ amount rounded currency }}
              lines {{ charge text quantity amount {{ amount rounded }} parts {{ text tier quantity unitPrice amount {{ amount }} }} }}
            }}
            quota(feature: "tokens") {{ allowed used limit remaining overage enforcement resetsAt feature {{ name }} }}
          }}
        }}"""
    )
    assert sorted(answer["all"], key=str) == [
        {"customer": "acme", "value": "1200.5", "events": 2},
        {"customer": None, "value": "9", "events": 1},
    ]
    assert answer["split"] == [
        {
            "windowStart": "2023-11-14T15:00:00Z",
            "windowEnd": "2023-11-15T15:00:00Z",
            "dimensions": {"model": "small"},
            "value": "9",
        }
    ]
    customer = answer["customer"]
    assert customer["usage"] == [{"value": "1200.5"}]
    assert customer["cost"]["total"] == {"amount": "12.2", "rounded": "12.2", "currency": "EUR"}
    assert customer["cost"]["lines"][1] == {
        "charge": "tokens",
        "text": "Tokens",
        "quantity": "1200.5",
        "amount": {"amount": "2.30075", "rounded": "2.3"},
        "parts": [
            {
                "text": "first 1,000 tokens at 0.002 EUR",
                "tier": 1,
                "quantity": "1000",
                "unitPrice": "0.002",
                "amount": {"amount": "2"},
            },
            {
                "text": "next 200.5 tokens at 0.0015 EUR",
                "tier": 2,
                "quantity": "200.5",
                "unitPrice": "0.0015",
                "amount": {"amount": "0.30075"},
            },
        ],
    }
    assert customer["quota"] == {
        "allowed": True,
        "used": "1200.5",
        "limit": "2000",
        "remaining": "799.5",
        "overage": "0",
        "enforcement": "HARD",
        "resetsAt": "2023-12-14T22:13:20Z",
        "feature": {"name": "Tokens"},
    }


@pytest.mark.both_databases
async def test_a_line_leads_to_the_events_behind_it_page_by_page(sold: Plane) -> None:
    await ingest(
        sold,
        *(completion(str(n), n) for n in range(5)),
        completion("free", 1, tier="free"),
        completion("other", 1, "globex"),
        completion("uncounted", "many"),
    )
    query = """query($after: String) { customer(key: "acme") { cost { lines {
      charge explain(first: 2, after: $after) { edges { node { id data customer } } pageInfo { hasNextPage endCursor } }
    } } } }"""
    seen: list[str] = []
    after = None
    for _ in range(3):
        base, tokens = (await sold.ask(query, after=after))["customer"]["cost"]["lines"]
        assert base["explain"]["edges"] == []
        seen += [edge["node"]["id"] for edge in tokens["explain"]["edges"]]
        after = tokens["explain"]["pageInfo"]["endCursor"]
    assert seen == ["4", "3", "2", "1", "0"]
    assert tokens["explain"]["pageInfo"]["hasNextPage"] is False
    assert tokens["explain"]["edges"][0]["node"]["customer"] == "acme"


@pytest.mark.both_databases
async def test_each_bad_event_of_a_call_is_named_and_the_good_ones_count(sold: Plane) -> None:
    result = await ingest(
        sold,
        completion("1", 1),
        completion("2", 1) | {"subject": ""},
        completion("3", 1) | {"type": "x" * 129},
        completion("4", 1) | {"data": [1]},
        completion("5", 1) | {"data": {"x": "y" * 65_536}},
        completion("6", 1) | {"source": "x" * 257},
        completion("7", 7),
    )
    assert (result["accepted"], result["duplicates"]) == (2, 0)
    assert [(each["index"], each["code"]) for each in result["rejected"]] == [
        (1, "invalid_input"),
        (2, "invalid_input"),
        (3, "invalid_input"),
        (4, "too_large"),
        (5, "invalid_input"),
    ]
    assert "subject" in result["rejected"][0]["message"]


@pytest.mark.both_databases
async def test_events_keep_every_digit_and_get_source_id_and_time_where_they_have_none(sold: Plane) -> None:
    await ingest(sold, {"type": "t", "subject": "s", "data": {"cost": 0.1}})
    text = """mutation { ingest(events: [{id: "lit", type: "t", subject: "s", data: {cost: 1.10, big: 123456789012345678901}}]) {
      accepted } }"""
    await sold.ask(text)
    body = await sold.http.post(
        "/graphql", json={"query": "{ events { edges { node { id source time data customer } } } }"}
    )
    assert '"data":{"cost":1.10,"big":123456789012345678901}' in body.text
    assert '"data":{"cost":0.1}' in body.text
    literal, minted = (edge["node"] for edge in body.json()["data"]["events"]["edges"])
    assert literal | {"data": None} == {"id": "lit", "source": "graphql", "time": NOW, "data": None, "customer": None}
    assert len(minted["id"]) > 16


@pytest.mark.both_databases
async def test_what_a_meter_cannot_count_becomes_a_dead_letter_with_its_reason(sold: Plane) -> None:
    late = completion("future", 1) | {"time": "2030-01-01T00:00:00Z"}
    assert (await ingest(sold, completion("1", "many"), late))["accepted"] in {1, 2}
    page = await sold.ask(
        "{ deadLetters { edges { node { id reason raw meter receivedAt } } pageInfo { hasNextPage } } }"
    )
    letters = [edge["node"] for edge in page["deadLetters"]["edges"]]
    assert {(each["meter"], each["reason"].partition(":")[0]) for each in letters} == {
        ("tokens", "value_not_a_number"),
        (None, "time_in_future"),
    }
    assert all('"llm.completion"' in each["raw"] for each in letters)


@pytest.mark.both_databases
async def test_a_dead_letter_whose_time_has_come_is_replayed_and_leaves_the_list_with_a_trace(sold: Plane) -> None:
    await ingest(sold, completion("future", 7) | {"time": "2023-11-15T00:00:00Z"}, completion("1", "many"))
    listed = "{ node { id meter replayedAt replayedBy } }"
    page = await sold.ask(f"{{ deadLetters {{ edges {listed} }} }}")
    ids = [edge["node"]["id"] for edge in page["deadLetters"]["edges"] if edge["node"]["meter"] is None]
    ids += [edge["node"]["id"] for edge in page["deadLetters"]["edges"] if edge["node"]["meter"]]
    sold.clock.advance(86_400)
    mutation = "mutation($ids: [ID!]!) { replayDeadLetters(ids: $ids) { replayed failed { index code message } } }"
    result = (await sold.ask(mutation, ids=[*ids, "no such letter"]))["replayDeadLetters"]
    assert result["replayed"] == 1
    assert [(each["index"], each["code"]) for each in result["failed"]] == [(1, "value_not_a_number"), (2, "not_found")]
    page = await sold.ask(f"{{ deadLetters {{ edges {listed} }} replayedDeadLetters {{ edges {listed} }} }}")
    assert [edge["node"]["id"] for edge in page["deadLetters"]["edges"]] == ids[1:]
    (replayed,) = (edge["node"] for edge in page["replayedDeadLetters"]["edges"])
    assert (replayed["id"], replayed["replayedAt"]) == (ids[0], "2023-11-15T22:13:20Z")
    assert replayed["replayedBy"].startswith("key_")
    figures = (await sold.http.get("/metrics")).text
    assert "sidemeter_dead_letters 1.0" in figures
    assert 'sidemeter_events_total{outcome="replayed"} 1.0' in figures


@pytest.mark.both_databases
async def test_entitlements_of_every_kind_are_shown(sold: Plane) -> None:
    answer = await sold.ask("""{ customer(key: "acme") {
      quotas { feature { key meter { key } } kind allowed value limit }
      none: quota(feature: "nothing") { kind }
    } }""")
    assert answer["customer"]["none"] is None
    assert answer["customer"]["quotas"] == [
        {
            "feature": {"key": "seats", "meter": None},
            "kind": "STATIC",
            "allowed": True,
            "value": {"max": 5},
            "limit": None,
        },
        {"feature": {"key": "sso", "meter": None}, "kind": "BOOLEAN", "allowed": True, "value": True, "limit": None},
        {
            "feature": {"key": "tokens", "meter": {"key": "tokens"}},
            "kind": "METERED",
            "allowed": True,
            "value": None,
            "limit": "2000",
        },
    ]


@pytest.mark.both_databases
async def test_a_customer_at_the_limit_is_not_allowed_more(sold: Plane) -> None:
    await ingest(sold, completion("1", 2_500))
    answer = await sold.ask('{ customer(key: "acme") { quota(feature: "tokens") { allowed remaining overage } } }')
    assert answer["customer"]["quota"] == {"allowed": False, "remaining": "0", "overage": "500"}


@pytest.mark.both_databases
async def test_plans_have_versions_that_stay(sold: Plane) -> None:
    changed = PRO | {"charges": [{"key": "base", "model": "FLAT", "amount": "19"}]}
    assert await sold.make("publishPlan", "version subscribers", **changed) == {"version": 2, "subscribers": 0}
    answer = await sold.ask("""{
      plans { key version }
      old: plan(key: "pro", version: 1) { name interval intervalCount subscribers publishedAt charges { key model meter { key } definition } }
      new: plan(key: "pro") { version charges { definition } }
      none: plan(key: "pro", version: 3) { version }
      customer(key: "acme") { subscriptions { plan { version } status periodStart periodEnd endAt trialEnd } }
    }""")
    assert answer["plans"] == [{"key": "pro", "version": 2}]
    assert answer["none"] is None
    assert answer["old"]["subscribers"] == 1
    assert answer["old"]["charges"][1]["definition"] == PRO["charges"][1]
    assert answer["new"]["charges"] == [{"definition": {"key": "base", "model": "FLAT", "amount": "19"}}]
    assert answer["customer"]["subscriptions"] == [
        {
            "plan": {"version": 1},
            "status": "ACTIVE",
            "periodStart": NOW,
            "periodEnd": "2023-12-14T22:13:20Z",
            "endAt": None,
            "trialEnd": None,
        }
    ]


@pytest.mark.both_databases
async def test_customers_come_page_by_page_and_by_search(sold: Plane) -> None:
    for key in ("beta", "delta", "gamma"):
        await sold.make("upsertCustomer", key=key, metadata={"from": key})
    query = """query($after: String, $search: String) { customers(first: 2, after: $after, search: $search) {
      edges { node { key subjects subscriptions { id } cost { total { amount currency } } } cursor } pageInfo { hasNextPage endCursor }
    } }"""
    first = (await sold.ask(query))["customers"]
    assert [edge["node"]["key"] for edge in first["edges"]] == ["acme", "beta"]
    assert first["pageInfo"] == {"hasNextPage": True, "endCursor": first["edges"][-1]["cursor"]}
    assert first["edges"][1]["node"]["cost"]["total"] == {"amount": "0", "currency": "XXX"}
    second = (await sold.ask(query, after=first["pageInfo"]["endCursor"]))["customers"]
    assert [edge["node"]["key"] for edge in second["edges"]] == ["delta", "gamma"]
    assert second["pageInfo"]["hasNextPage"] is False
    found = (await sold.ask(query, search="ELT"))["customers"]
    assert [edge["node"]["subjects"] for edge in found["edges"]] == [["delta"]]


@pytest.mark.both_databases
async def test_several_mutations_of_one_request_see_each_other(sold: Plane) -> None:
    answer = await sold.ask("""mutation {
      a: upsertCustomer(input: {key: "new", name: "Before"}) { name cost { total { amount } } }
      b: subscribe(input: {customer: "new", plan: "pro"}) { status plan { subscribers } }
      c: upsertCustomer(input: {key: "new", name: "After"}) { name cost { total { amount } } }
    }""")
    assert answer == {
        "a": {"name": "Before", "cost": {"total": {"amount": "0"}}},
        "b": {"status": "ACTIVE", "plan": {"subscribers": 2}},
        "c": {"name": "After", "cost": {"total": {"amount": "9.9"}}},
    }


@pytest.mark.both_databases
async def test_a_price_can_be_tried_without_storing_anything(sold: Plane) -> None:
    query = """query($usage: UsageInput!) { pricePreview(currency: "JPY", usage: $usage, charge: {
      key: "x", meter: "m", model: PACKAGE, packageSize: "100", packagePrice: "150" }) { total { amount rounded } lines { text } } }"""
    price = (await sold.ask(query, usage={"quantity": "101"}))["pricePreview"]
    assert price == {
        "total": {"amount": "300", "rounded": "300"},
        "lines": [{"text": "2 packages of 100 units at 150 JPY"}],
    }
    more = (await sold.ask(query, usage={"quantity": "201", "previousQuantity": "101"}))["pricePreview"]
    assert more["total"]["amount"] == "150"
    error = await sold.refusal(query, usage={})
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "usage.quantity"}


@pytest.mark.both_databases
async def test_a_price_is_tried_from_events_and_lines_in_the_language_and_zone_that_are_asked_for(sold: Plane) -> None:
    query = """query($charge: ChargeInput!, $usage: UsageInput!, $zone: String) {
      pricePreview(currency: "EUR", usage: $usage, charge: $charge, language: DE, timeZone: $zone) {
        total { rounded } lines { text match } } }"""
    matrix = {
        "key": "x",
        "meter": "m",
        "model": "MATRIX",
        "rates": [{"match": {"region": ["eu", "us"]}, "unitPrice": "0.25"}],
        "defaultUnitPrice": "1",
    }
    lines = [{"dimensions": {"region": "us"}, "quantity": "3"}, {"dimensions": {}, "quantity": "1"}]
    assert (await sold.ask(query, charge=matrix, usage={"lines": lines}))["pricePreview"] == {
        "total": {"rounded": "1.75"},
        "lines": [
            {"text": "3 Einheiten (region: eu oder us) zu je 0,25 EUR", "match": {"region": ["eu", "us"]}},
            {"text": "1 Einheiten jeder anderen Art zu je 1 EUR", "match": {}},
        ],
    }
    night = {
        "key": "x",
        "meter": "m",
        "model": "TIME_OF_DAY",
        "bands": [{"from": "22:00", "to": "06:00", "unitPrice": "1"}],
        "defaultUnitPrice": "2",
    }
    at = [{"dimensions": {}, "quantity": "1", "at": "2026-07-01T20:30:00Z"}]
    for zone, owed in (("Europe/Berlin", "1"), ("UTC", "2")):
        found = await sold.ask(query, charge=night, usage={"lines": at}, zone=zone)
        assert found["pricePreview"]["total"]["rounded"] == owed
    rate = {"key": "x", "meter": "m", "model": "PERCENTAGE", "percentage": "2.9", "freeEvents": 1}
    found = await sold.ask(query, charge=rate, usage={"events": ["10", "100"]})
    assert [line["text"] for line in found["pricePreview"]["lines"]] == [
        "1 Vorgang kostenlos, zusammen 10 EUR",
        "2,9\xa0% von 100 EUR",
    ]


@pytest.mark.parametrize(
    ("match", "field"),
    [
        ("eu", "charge.rates[0].match"),
        ({"region": 7}, "charge.rates[0].match.region"),
        ({"region": [True]}, "charge.rates[0].match.region"),
    ],
)
async def test_a_match_that_is_no_object_of_texts_is_refused(sold: Plane, match: object, field: str) -> None:
    query = """query($match: JSON!) { pricePreview(currency: "EUR", usage: {lines: []}, charge: {
      key: "x", meter: "m", model: MATRIX, defaultUnitPrice: "1", rates: [{match: $match, unitPrice: "1"}] }) {
        total { rounded } } }"""
    error = await sold.refusal(query, match=match)
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": field}


@pytest.mark.both_databases
async def test_a_published_charge_shows_its_whole_definition(sold: Plane) -> None:
    charge = {
        "key": "deals",
        "meter": "tokens",
        "model": "PERCENTAGE",
        "percentage": "2.9",
        "freeEvents": 3,
        "discountPercentages": ["10"],
        "minimum": "5",
    }
    shown = await sold.make("publishPlan", "charges { definition }", key="new", currency="USD", charges=[charge])
    assert shown == {"charges": [{"definition": charge}]}


@pytest.mark.both_databases
async def test_an_archived_meter_is_shown_as_such(sold: Plane) -> None:
    archived = await sold.ask('mutation { archiveMeter(key: "tokens") { key archivedAt backfill { done fraction } } }')
    assert archived["archiveMeter"] == {"key": "tokens", "archivedAt": NOW, "backfill": {"done": True, "fraction": 1.0}}
    assert (await sold.ask("{ meters { key archivedAt } }"))["meters"] == [{"key": "tokens", "archivedAt": NOW}]


@pytest.mark.both_databases
async def test_a_new_key_works_at_once_and_a_revoked_one_no_more(sold: Plane) -> None:
    made = await sold.make("createApiKey", "id secret", name="dashboard", scopes=["READ"])
    assert "data" in await sold.post("{ meters { key } }", key=made["secret"])
    assert await sold.ask("mutation($id: ID!) { revokeApiKey(id: $id) }", id=made["id"]) == {"revokeApiKey": True}
    refused = await sold.http.post(
        "/graphql", json={"query": "{ meters { key } }"}, headers={"Authorization": f"Bearer {made['secret']}"}
    )
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("mutation", "fields", "code", "field"),
    [
        ("createMeter", TOKENS, "CONFLICT", None),
        ("createMeter", TOKENS | {"key": "!"}, "INVALID_INPUT", "key"),
        ("createMeter", TOKENS | {"key": "m", "valueProperty": None}, "INVALID_INPUT", "valueProperty"),
        ("createMeter", TOKENS | {"key": "m", "filters": [{"property": "p"}]}, "INVALID_INPUT", "filters[0]"),
        ("createFeature", {"key": "sso"}, "CONFLICT", None),
        ("createFeature", {"key": "f", "meter": "none"}, "NOT_FOUND", None),
        ("publishPlan", PRO | {"currency": "EURO"}, "INVALID_INPUT", "currency"),
        ("publishPlan", PRO | {"intervalCount": 0}, "INVALID_INPUT", "intervalCount"),
        (
            "publishPlan",
            PRO | {"charges": [{"key": "c", "model": "FLAT", "unitPrice": "1"}]},
            "INVALID_INPUT",
            "charges.c.unitPrice",
        ),
        ("upsertCustomer", {"key": "globex", "subjects": ["acme"]}, "CONFLICT", None),
        ("upsertCustomer", {"key": "globex", "timeZone": "Mars"}, "INVALID_INPUT", "timeZone"),
        ("upsertCustomer", {"key": "globex", "metadata": [1]}, "INVALID_INPUT", "metadata"),
        ("subscribe", {"customer": "nobody", "plan": "pro"}, "NOT_FOUND", None),
        ("subscribe", {"customer": "acme", "plan": "none"}, "NOT_FOUND", None),
        ("subscribe", {"customer": "acme", "plan": "pro", "version": 9}, "NOT_FOUND", None),
        ("subscribe", {"customer": "acme", "plan": "pro", "trialDays": -1}, "INVALID_INPUT", "trialDays"),
        ("createApiKey", {"name": "", "scopes": ["READ"]}, "INVALID_INPUT", "name"),
        ("createApiKey", {"name": "n", "scopes": []}, "INVALID_INPUT", "scopes"),
        ("createApiKey", {"name": "n", "scopes": ["READ"], "expiresAt": NOW}, "INVALID_INPUT", "expiresAt"),
    ],
)
async def test_what_cannot_be_is_refused_by_code_and_field(
    sold: Plane, mutation: str, fields: dict[str, object], code: str, field: str | None
) -> None:
    extensions = (await sold.refusal(call(mutation, "__typename"), input=fields))["extensions"]
    assert extensions == {"code": code} | ({} if field is None else {"field": field})


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ('usage(meter: "none", {interval}) { value }', "NOT_FOUND", None),
        ('usage(meter: "tokens", {interval}, customer: "none") { value }', "NOT_FOUND", None),
        ('usage(meter: "tokens", {interval}, timeZone: "Mars") { value }', "INVALID_INPUT", "timeZone"),
        ('usage(meter: "tokens", {interval}, groupBy: ["none"]) { value }', "INVALID_INPUT", "groupBy"),
        ('events(customer: "none") { edges { cursor } }', "NOT_FOUND", None),
        (
            'customer(key: "acme") { cost(from: "2023-12-01T00:00:00Z", to: "2023-11-01T00:00:00Z") { asOf } }',
            "INVALID_INPUT",
            "to",
        ),
        (
            'pricePreview(currency: "X", usage: {}, charge: {key: "k", model: FLAT, amount: "1"}) { total { amount } }',
            "INVALID_INPUT",
            "currency",
        ),
        (
            'pricePreview(currency: "EUR", usage: {}, charge: {key: "k", model: FLAT}) { total { amount } }',
            "INVALID_INPUT",
            "charge.amount",
        ),
    ],
)
async def test_a_question_without_an_answer_says_why(sold: Plane, query: str, code: str, field: str | None) -> None:
    interval = 'from: "2023-11-01T00:00:00Z", to: "2023-12-01T00:00:00Z"'
    body = await sold.post(f"{{ {query.replace('{interval}', interval)} }}")
    (error,) = body["errors"]
    assert error["extensions"]["code"] == code
    assert error["extensions"].get("field", "").startswith(field or "")


SIMULATE = """
query($plan: PlanInput!, $customers: [ID!]) {
  simulate(plan: $plan, from: "2023-11-01T00:00:00Z", to: "2023-12-14T22:13:20Z", customers: $customers) {
    total { amount currency } difference { amount }
    rows { customer current { amount } simulated { amount rounded } difference { amount } }
  }
}
"""


@pytest.mark.both_databases
async def test_a_draft_is_priced_on_the_usage_that_is_stored(sold: Plane) -> None:
    await sold.ask(INGEST, events=[completion("e1", 1500)])
    dearer = PRO | {"charges": [PRO["charges"][0] | {"amount": "12.90"}, PRO["charges"][1]]}  # type: ignore[index, operator]
    row = {
        "customer": "acme",
        "current": {"amount": "12.65"},
        "simulated": {"amount": "15.65", "rounded": "15.65"},
        "difference": {"amount": "3"},
    }
    total = {"total": {"amount": "15.65", "currency": "EUR"}, "difference": {"amount": "3"}, "rows": [row]}
    for customers in (None, ["acme"]):
        assert await sold.ask(SIMULATE, plan=dearer, customers=customers) == {"simulate": total}
    assert await sold.ask('{ plan(key: "pro") { version } }') == {"plan": {"version": 1}}


@pytest.mark.both_databases
async def test_a_draft_that_could_not_be_published_is_not_priced(sold: Plane) -> None:
    wrong = PRO | {"charges": [{"key": "base", "model": "FLAT"}]}
    error = await sold.refusal(SIMULATE, plan=wrong, customers=None)
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "charges.base.amount"}
