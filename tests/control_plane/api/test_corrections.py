"""Corrections, changed meters and the audit log, as a person sees them over GraphQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from planes import Plane, plane

from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.meters import Progress
from sidemeter_control.store import meters
from sidemeter_control.store.keys import Scope

TOKENS = {"key": "tokens", "eventType": "llm", "aggregation": "SUM", "valueProperty": "n"}
PLAN = {
    "key": "pro",
    "currency": "EUR",
    "charges": [{"key": "tokens", "meter": "tokens", "model": "PER_UNIT", "unitPrice": "0.5"}],
    "entitlements": [{"feature": "tokens", "kind": "METERED", "limit": "100", "enforcement": "HARD"}],
}
EVENT = "id data voided corrections { kind reason at actor }"
VOID = f'mutation {{ voidEvent(source: "graphql", id: "1", reason: "a test") {{ {EVENT} }} }}'
CORRECT = f"""mutation($data: JSON!) {{
  correctEvent(source: "graphql", id: "1", data: $data, reason: "wrong") {{ {EVENT} }}
}}"""
BILL = """{ customer(key: "acme") {
  cost { total { amount } lines { explain { edges { node { id data } } } } }
  quota(feature: "tokens") { used remaining }
  usage(meter: "tokens", from: "2020-01-01T00:00:00Z", to: "2030-01-01T00:00:00Z") { value events }
} }"""


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", **TOKENS)
        await opened.make("createFeature", key="tokens", meter="tokens")
        await opened.make("publishPlan", **PLAN)
        await opened.make("upsertCustomer", key="acme")
        await opened.make("subscribe", customer="acme", plan="pro")
        await send(opened, "1", '{"n": 30}')
        yield opened


async def send(control: Plane, id_: str, data: str) -> None:
    event = f'{{id: "{id_}", type: "llm", subject: "acme", data: {data.replace(chr(34), "")}}}'
    await control.ask(f"mutation {{ ingest(events: [{event}]) {{ accepted }} }}")


async def bill(control: Plane) -> tuple[object, ...]:
    """What it costs, what is used and left, the value and its events, and what the line's events say."""
    customer = (await control.ask(BILL))["customer"]
    edges = customer["cost"]["lines"][0]["explain"]["edges"]
    (row,) = customer["usage"] or [{"value": None, "events": 0}]
    return (
        customer["cost"]["total"]["amount"],
        customer["quota"]["used"],
        customer["quota"]["remaining"],
        row["value"],
        row["events"],
        [edge["node"]["data"] for edge in edges],
    )


async def test_usage_cost_quota_and_explanation_follow_a_correction_and_a_void_at_once(control: Plane) -> None:
    assert await bill(control) == ("15", "30", "70", "30", 1, [{"n": 30}])
    corrected = (await control.ask(CORRECT, data={"n": 80}))["correctEvent"]
    assert (corrected["data"], corrected["voided"]) == ({"n": 80}, False)
    assert await bill(control) == ("40", "80", "20", "80", 1, [{"n": 80}])
    voided = (await control.ask(VOID))["voidEvent"]
    assert (voided["data"], voided["voided"]) == ({"n": 80}, True)
    assert [(each["kind"], each["reason"]) for each in voided["corrections"]] == [
        ("CORRECT", "wrong"),
        ("VOID", "a test"),
    ]
    assert await bill(control) == ("0", "0", "100", None, 0, [])
    (shown,) = (await control.ask(f"{{ events {{ edges {{ node {{ {EVENT} }} }} }} }}"))["events"]["edges"]
    assert shown["node"] == voided


async def test_a_correction_that_a_meter_cannot_count_names_the_field(control: Plane) -> None:
    error = await control.refusal(CORRECT, data={"n": "many"})
    assert (error["extensions"], error["message"]) == (
        {"code": "INVALID_INPUT", "field": "data.n"},
        "data.n: must be a number: meter 'tokens' could not count it",
    )
    assert (await control.refusal(CORRECT, data=[]))["extensions"]["field"] == "data"
    assert await bill(control) == ("15", "30", "70", "30", 1, [{"n": 30}])


async def test_every_change_is_in_the_audit_log_with_the_key_that_made_it(control: Plane) -> None:
    await control.ask(VOID)
    await control.make("updateMeter", **TOKENS | {"valueProperty": "m"})
    await control.ask('mutation { archiveMeter(key: "tokens") { key } }')
    made = await control.make("createApiKey", "id", name="second", scopes=["READ"])
    await control.ask("mutation($id: ID!) { revokeApiKey(id: $id) }", id=made["id"])
    found: list[dict[str, object]] = []
    after = None
    while after is not None or not found:
        page = await control.ask(
            """query($after: String) { auditLog(first: 4, after: $after) {
              edges { node { actorName action target detail } } pageInfo { hasNextPage endCursor }
            } }""",
            after=after,
        )
        found += [edge["node"] for edge in page["auditLog"]["edges"]]
        after = page["auditLog"]["pageInfo"]["endCursor"] if page["auditLog"]["pageInfo"]["hasNextPage"] else None
    assert [(each["action"], str(each["target"]).split("_")[0]) for each in found] == [
        ("revokeApiKey", "key key"),
        ("createApiKey", "key key"),
        ("archiveMeter", "meter tokens"),
        ("updateMeter", "meter tokens"),
        ("voidEvent", "event graphql/1"),
        ("subscribe", "subscription sub"),
        ("upsertCustomer", "customer acme"),
        ("publishPlan", "plan pro"),
        ("createFeature", "feature tokens"),
        ("createMeter", "meter tokens"),
        ("createApiKey", "key key"),
    ]
    assert {each["actorName"] for each in found} == {"first admin", None}
    assert found[-1]["detail"] == {"name": "first admin", "scopes": ["ADMIN"], "expiresAtUs": None}


async def test_what_is_refused_is_not_in_the_audit_log(control: Plane) -> None:
    count = "{ auditLog(first: 50) { edges { cursor } } }"
    before = await control.ask(count)
    await control.refusal(CORRECT, data={"n": "many"})
    await control.post(VOID, key=await control.key(Scope.READ))
    await control.post('mutation { archiveMeter(key: "none") { key } }')
    after = await control.ask(count)
    assert len(after["auditLog"]["edges"]) == len(before["auditLog"]["edges"]) + 1  # the key with the scope READ


async def test_a_meter_says_how_far_it_is_filled_and_a_changed_one_how_far_its_new_definition_is(
    control: Plane,
) -> None:
    progress = '{ meter(key: "tokens") { valueProperty backfill { done fraction } } }'
    await send(control, "2", '{"m": 7}')
    assert (await control.ask(progress))["meter"]["backfill"] == {"done": True, "fraction": 1}
    async with control.database.write() as conn:
        (meter,) = await meters.list_all(conn)
        await meters.put_change(conn, replace(meter, value_property="m", progress=Progress(1, 2)), "key_1")
    assert (await control.ask(progress))["meter"] == {
        "valueProperty": "n",
        "backfill": {"done": False, "fraction": 0.5},
    }
    while await fill_once(control.database, control.clock):
        pass
    assert (await control.ask(progress))["meter"] == {"valueProperty": "m", "backfill": {"done": True, "fraction": 1}}
    assert (await bill(control))[:2] == ("3.5", "7")
