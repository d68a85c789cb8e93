"""The door at /graphql: who gets in, how large a request may be, and what an answer says when something is wrong."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
import uvicorn
from fakes import eventually
from graphql import get_introspection_query
from planes import Plane, call, plane

from sidemeter_control.api.bounds import MAX_ALIASES, MAX_BODY_BYTES, MAX_DEPTH, MAX_PAGE, MAX_TOKENS
from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.store.keys import Scope
from sidemeter_control.store.tables import plans

FROM_TO = 'from: "2026-01-01T00:00:00Z", to: "2026-02-01T00:00:00Z"'
CHARGE = '{key: "k", model: FLAT, amount: "1"}'
PLAN, AT = '{key: "k", currency: "EUR", charges: []}', '"2026-01-01T00:00:00Z"'

# One call of every field of the schema's roots, and the least scope that it needs.
CALLS = {
    "meters": ("{ meters { key } }", Scope.READ),
    "meter": ('{ meter(key: "k") { key } }', Scope.READ),
    "meterPreview": (
        '{ meterPreview(meter: {key: "k", eventType: "t", aggregation: COUNT}) { value } }',
        Scope.READ,
    ),
    "features": ("{ features { key } }", Scope.READ),
    "plans": ("{ plans { key } }", Scope.READ),
    "plan": ('{ plan(key: "k") { key } }', Scope.READ),
    "planDiff": ('{ planDiff(plan: "k", from: 1, to: 2) { fields { field } } }', Scope.READ),
    "draftDiff": (f"{{ draftDiff(plan: {PLAN}) {{ fields {{ field }} }} }}", Scope.READ),
    "customers": ("{ customers { edges { cursor } } }", Scope.READ),
    "customer": ('{ customer(key: "k") { key } }', Scope.READ),
    "usage": (f'{{ usage(meter: "k", {FROM_TO}) {{ value }} }}', Scope.READ),
    "events": ("{ events { edges { cursor } } }", Scope.READ),
    "deadLetters": ("{ deadLetters { edges { cursor } } }", Scope.READ),
    "replayedDeadLetters": ("{ replayedDeadLetters { edges { cursor } } }", Scope.READ),
    "lossDeclarations": ("{ lossDeclarations { edges { cursor } } }", Scope.READ),
    "auditLog": ("{ auditLog { edges { cursor } } }", Scope.READ),
    "agents": ("{ agents { id } }", Scope.READ),
    "limit": ('{ limit(id: "k/k") { id } }', Scope.READ),
    "recovery": ("{ recovery { since } }", Scope.READ),
    "pricePreview": (
        f'{{ pricePreview(currency: "EUR", charge: {CHARGE}, usage: {{}}) {{ total {{ amount }} }} }}',
        Scope.READ,
    ),
    "simulate": (f"{{ simulate(plan: {PLAN}, from: {AT}, to: {AT}) {{ total {{ amount }} }} }}", Scope.READ),
    "createMeter": (
        'mutation { createMeter(input: {key: "k", eventType: "t", aggregation: COUNT}) { key } }',
        Scope.WRITE,
    ),
    "updateMeter": (
        'mutation { updateMeter(input: {key: "k", eventType: "t", aggregation: COUNT}) { key } }',
        Scope.WRITE,
    ),
    "archiveMeter": ('mutation { archiveMeter(key: "k") { key } }', Scope.WRITE),
    "createFeature": ('mutation { createFeature(input: {key: "k"}) { key } }', Scope.WRITE),
    "publishPlan": ('mutation { publishPlan(input: {key: "k", currency: "EUR", charges: []}) { key } }', Scope.WRITE),
    "upsertCustomer": ('mutation { upsertCustomer(input: {key: "k"}) { key } }', Scope.WRITE),
    "subscribe": ('mutation { subscribe(input: {customer: "k", plan: "k"}) { id } }', Scope.WRITE),
    "grantAddOn": ('mutation { grantAddOn(input: {customer: "k", feature: "k"}) { id } }', Scope.WRITE),
    "revokeAddOn": ('mutation { revokeAddOn(id: "k", reason: "r") { id } }', Scope.WRITE),
    "setEntitlement": (
        'mutation { setEntitlement(input: {customer: "k", feature: "k", kind: BOOLEAN}) { setAt } }',
        Scope.WRITE,
    ),
    "removeEntitlement": ('mutation { removeEntitlement(customer: "k", feature: "k") }', Scope.WRITE),
    "grantCredits": ('mutation { grantCredits(input: {customer: "k", amount: "1"}) { id } }', Scope.WRITE),
    "voidCredits": ('mutation { voidCredits(grant: "k", reason: "r") { id } }', Scope.WRITE),
    "resetCredits": ('mutation { resetCredits(input: {customer: "k"}) { balance } }', Scope.WRITE),
    "setTopUp": ('mutation { setTopUp(input: {customer: "k", below: "1", amount: "1"}) { below } }', Scope.WRITE),
    "writeOffLease": (
        'mutation { writeOffLease(limit: "k/k", agent: "a", epoch: 1, reason: "r") { id } }',
        Scope.WRITE,
    ),
    "endRecovery": ('mutation { endRecovery(reason: "r") }', Scope.ADMIN),
    "removeTopUp": ('mutation { removeTopUp(customer: "k") }', Scope.WRITE),
    "setBudget": ('mutation { setBudget(input: {key: "k", customer: "k", amount: "1"}) { key } }', Scope.WRITE),
    "removeBudget": ('mutation { removeBudget(key: "k") }', Scope.WRITE),
    "webhooks": ("{ webhooks { id } }", Scope.READ),
    "webhookDeliveries": ("{ webhookDeliveries { edges { cursor } } }", Scope.READ),
    "setWebhook": ('mutation { setWebhook(input: {url: "https://a.test/"}) { secret } }', Scope.WRITE),
    "rotateWebhookSecret": ('mutation { rotateWebhookSecret(id: "k") { secret } }', Scope.WRITE),
    "enableWebhook": ('mutation { enableWebhook(id: "k") { id } }', Scope.WRITE),
    "removeWebhook": ('mutation { removeWebhook(id: "k") }', Scope.WRITE),
    "redeliver": ('mutation { redeliver(id: "k") { id } }', Scope.WRITE),
    "changePlan": ('mutation { changePlan(subscription: "s", plan: "k") { id } }', Scope.WRITE),
    "cancelSubscription": ('mutation { cancelSubscription(subscription: "s") { id } }', Scope.WRITE),
    "pauseSubscription": ('mutation { pauseSubscription(subscription: "s") { id } }', Scope.WRITE),
    "resumeSubscription": ('mutation { resumeSubscription(subscription: "s") { id } }', Scope.WRITE),
    "moveSubscribers": (
        'mutation { moveSubscribers(plan: "k", fromVersion: 1, toVersion: 2) { remaining } }',
        Scope.WRITE,
    ),
    "voidEvent": ('mutation { voidEvent(source: "s", id: "1", reason: "r") { id } }', Scope.WRITE),
    "correctEvent": ('mutation { correctEvent(source: "s", id: "1", data: {}, reason: "r") { id } }', Scope.WRITE),
    "ingest": ("mutation { ingest(events: []) { accepted } }", Scope.WRITE),
    "replayDeadLetters": ('mutation { replayDeadLetters(ids: ["1"]) { replayed } }', Scope.WRITE),
    "createApiKey": ('mutation { createApiKey(input: {name: "n", scopes: [READ]}) { id } }', Scope.ADMIN),
    "revokeApiKey": ('mutation { revokeApiKey(id: "k") }', Scope.ADMIN),
    "rotateApiKey": ('mutation { rotateApiKey(id: "k") { id } }', Scope.ADMIN),
    "apiKeys": ("{ apiKeys { edges { cursor } } }", Scope.ADMIN),
    "auditCheck": ("{ auditCheck { head } }", Scope.ADMIN),
    "createPortalLink": ('mutation { createPortalLink(customer: "k") }', Scope.WRITE),
    "endPortalLinks": ("mutation { endPortalLinks }", Scope.ADMIN),
}
INCLUDED = {
    Scope.AGENT: {Scope.AGENT},
    Scope.READ: {Scope.READ},
    Scope.WRITE: {Scope.READ, Scope.WRITE},
    Scope.ADMIN: set(Scope),
}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        yield opened


def test_the_scope_table_has_every_query_and_mutation() -> None:
    roots = (SCHEMA._schema.query_type, SCHEMA._schema.mutation_type)
    assert {name for root in roots for name in root.fields} == CALLS.keys()


@pytest.mark.parametrize("held", Scope, ids=lambda scope: scope.value)
async def test_a_key_may_do_what_its_scope_includes_and_nothing_else(control: Plane, held: Scope) -> None:
    key = await control.key(held)
    for name, (text, needed) in CALLS.items():
        body = await control.post(text, key=key)
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        assert "INTERNAL" not in codes, name
        assert ("FORBIDDEN" in codes) is (needed not in INCLUDED[held]), (name, codes)


async def test_a_forbidden_call_says_which_scope_it_lacks(control: Plane) -> None:
    error = (await control.post(CALLS["createFeature"][0], key=await control.key(Scope.READ)))["errors"][0]
    assert error == {"message": "the key lacks the scope WRITE", "extensions": {"code": "FORBIDDEN"}}


async def test_a_mutation_that_is_forbidden_changes_nothing(control: Plane) -> None:
    await control.post(CALLS["createFeature"][0], key=await control.key(Scope.READ))
    assert await control.ask("{ features { key } }") == {"features": []}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "smk_x"])
async def test_without_a_valid_key_there_is_no_answer(control: Plane, authorization: str | None) -> None:
    del control.http.headers["Authorization"]
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await control.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"


async def test_introspection_is_answered_to_any_reader(control: Plane) -> None:
    body = await control.post("{ __schema { queryType { name } } }", key=await control.key(Scope.READ))
    assert body == {"data": {"__schema": {"queryType": {"name": "Query"}}}}


async def test_the_introspection_of_every_tool_is_within_the_bounds(control: Plane) -> None:
    text = get_introspection_query(
        schema_description=True, directive_is_repeatable=True, input_value_deprecation=True, specified_by_url=True
    )
    assert len((await control.ask(text))["__schema"]["types"]) > 50


async def test_a_query_may_come_by_get(control: Plane) -> None:
    parameters = {
        "query": "query A($k: ID!) { meter(key: $k) { key } }",
        "variables": '{"k": "x"}',
        "operationName": "A",
    }
    answer = await control.http.get("/graphql", params=parameters)
    assert (answer.status_code, answer.json()) == (200, {"data": {"meter": None}})


async def test_a_mutation_may_not_come_by_get(control: Plane) -> None:
    answer = await control.http.get("/graphql", params={"query": CALLS["createFeature"][0]})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert await control.ask("{ features { key } }") == {"features": []}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_are_refused(control: Plane, method: str) -> None:
    assert (await control.http.request(method, "/graphql")).status_code == 405


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'"query"', "application/json", 400),
        (b'{"query": 1}', "application/json", 400),
        (b'{"variables": {}}', "application/json", 400),
        (b'{"query": "{ __typename }", "variables": []}', "application/json", 400),
        (b'{"query": "{ __typename }", "variables": {"x": NaN}}', "application/json", 400),
        (b'{"query": "{ __typename }", "variables": {"x": 1e99999999999999999999}}', "application/json", 400),
        (b'[{"query": "{ __typename }"}]', "application/json", 400),
        (b'{"query": "{ __typename }", "variables": {"x": ' + b"[" * 100_000, "application/json", 400),
        (b'{"query": "{ __typename }"}', "text/plain", 415),
        (b"query=x", "application/x-www-form-urlencoded", 415),
        (b'{"query": "{ __typename }"}', "", 415),
    ],
)
async def test_what_is_no_request_is_refused_and_a_good_one_still_gets_through(
    control: Plane, body: bytes, media_type: str, status: int
) -> None:
    answer = await control.http.post("/graphql", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await control.ask("{ __typename }") == {"__typename": "Query"}


async def test_a_request_has_a_largest_size(control: Plane) -> None:
    fits = json.dumps({"query": "{ __typename }"}).encode()
    headers = {"Content-Type": "application/json"}
    fitting = await control.http.post("/graphql", content=fits.ljust(MAX_BODY_BYTES), headers=headers)
    assert fitting.status_code == 200
    above = await control.http.post("/graphql", content=fits.ljust(MAX_BODY_BYTES + 1), headers=headers)
    assert (above.status_code, above.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ meters { " + "... { " * 3 + "key " * MAX_TOKENS + "}}}}}", "token"),
        ("{" + " ".join(f"m{n}: __typename" for n in range(MAX_ALIASES + 1)) + "}", f"{MAX_ALIASES} are allowed"),
        ("{" * 900, "Syntax Error"),
        ("[" * 900, "Syntax Error"),
        ("{ meter(key: " + "[" * 900 + "]" * 900 + ") { key } }", ""),
        ("", "no query"),
        ("{ nothing }", "Cannot query field 'nothing'"),
        ("fragment F on Query { __typename }", "Fragment 'F' is never used"),
        ("query A { __typename } query B { __typename }", "Must provide operation name"),
        ("subscription { alertRaised { id } }", "Accept: text/event-stream"),
    ],
)
async def test_a_query_that_is_wrong_or_exceeds_a_bound_is_answered_with_the_reason(
    control: Plane, text: str, message: str
) -> None:
    body = await control.post(text)
    assert body["data"] is None
    assert {error["extensions"]["code"] for error in body["errors"]} == {"INVALID_QUERY"}
    assert message in body["errors"][0]["message"]


async def test_the_deepest_useful_query_is_within_the_bounds(control: Plane) -> None:
    lines = "cost { lines { explain { edges { node { id } } } } }"
    await control.ask(f"{{ customers {{ edges {{ node {{ {lines} }} }} }} }}")


async def test_the_depth_bound_holds_at_the_door(control: Plane) -> None:
    deep = "{ a " * MAX_DEPTH + "{ b }" + "}" * MAX_DEPTH
    messages = [error["message"] for error in (await control.post(deep))["errors"]]
    assert f"nested {MAX_DEPTH + 1} levels deep; {MAX_DEPTH} are allowed" in messages


@pytest.mark.parametrize("first", [0, -1, MAX_PAGE + 1])
@pytest.mark.parametrize("field", ["customers", "events", "deadLetters"])
async def test_a_page_is_bounded_by_name(control: Plane, field: str, first: int) -> None:
    error = await control.refusal(f"{{ {field}(first: {first}) {{ edges {{ cursor }} }} }}")
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "first"}


@pytest.mark.parametrize("after", ["!", "x", "w6Q", "AAAA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk6MQ=="])
@pytest.mark.parametrize("field", ["events", "deadLetters"])
async def test_a_cursor_that_no_page_gave_is_refused(control: Plane, field: str, after: str) -> None:
    error = await control.refusal(f'{{ {field}(after: "{after}") {{ edges {{ cursor }} }} }}')
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "after"}


async def test_an_expected_error_names_its_code_field_and_place(control: Plane) -> None:
    error = await control.refusal(call("upsertCustomer", "key"), input={"key": "acme", "currency": "EURO"})
    assert error == {
        "message": 'currency: must be the ISO 4217 code of a currency, like "EUR"',
        "locations": [{"line": 1, "column": 36}],
        "path": ["upsertCustomer"],
        "extensions": {"code": "INVALID_INPUT", "field": "currency"},
    }


async def test_an_unexpected_error_is_masked_and_its_id_is_in_the_log(
    control: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"key": "bad", "version": 1, "currency": "EUR", "interval": "MONTH", "interval_count": 1}
    async with control.database.write() as conn:
        await conn.execute(plans.insert().values(**values, definition="no JSON", published_at_us=0))
    with caplog.at_level(logging.ERROR):
        error = await control.refusal("{ plans { key } }")
    assert error["extensions"]["code"] == "INTERNAL"
    incident = error["extensions"]["id"]
    assert error["message"] == f"something failed on our side; its id is {incident}"
    (record,) = [each for each in caplog.records if incident in each.getMessage()]
    assert record.exc_info is not None
    assert issubclass(record.exc_info[0], msgspec.DecodeError)


async def test_expected_errors_leave_no_trace_in_the_log(control: Plane, caplog: pytest.LogCaptureFixture) -> None:
    await control.refusal("{ nothing }")
    await control.refusal(call("upsertCustomer", "key"), input={"key": ""})
    assert caplog.records == []


async def test_the_same_answers_come_over_a_real_socket(control: Plane) -> None:
    app = control.http._transport.app
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", ws="none", log_config=None))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=control.http.headers) as http:
        answer = await http.post("/graphql", json={"query": "{ __typename }"})
        assert (answer.status_code, answer.json()) == (200, {"data": {"__typename": "Query"}})
        page = await http.get("/graphql", headers={"Accept": "text/html"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
    server.should_exit = True
    await serving
