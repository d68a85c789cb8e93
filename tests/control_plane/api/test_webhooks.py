"""Webhooks over HTTP: set with a secret that is shown once, listed, their deliveries in pages, sent again, removed."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, call, open_doors, plane

from sidemeter_control.limits.alerting import sweep_once
from sidemeter_control.limits.delivering import Delivering
from sidemeter_control.limits.posting import Posted
from sidemeter_control.store.keys import Scope

URL = "https://example.com/hook"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
INGEST = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }"
DELIVERIES = """query($first: Int, $after: String, $state: DeliveryState) {
  webhookDeliveries(first: $first, after: $after, state: $state) {
    edges { node { id webhook message alert state attempts lastStatus lastError createdAt endedAt } }
    pageInfo { hasNextPage endCursor } } }"""
ENABLE = "mutation($id: ID!) { enableWebhook(id: $id) { id disabledAt } }"
TOMORROW = "2023-11-15T22:13:20Z"
NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", key="calls", eventType="call", aggregation="COUNT", unit="calls")
        await opened.make("upsertCustomer", key="acme")
        yield opened


async def alerts(control: Plane) -> None:
    """Two thresholds of a budget are reached."""
    of = {"customer": "acme", "unit": "METER", "meter": "calls"}
    await control.make("setBudget", key="b", amount="2", thresholds=[50, 100], **of)
    await control.ask(INGEST, events=[{"type": "call", "subject": "acme", "time": NOW}] * 2)
    await sweep_once(control.database, control.clock)


async def deliver(control: Plane, posted: Posted) -> None:
    async def post(_url: str, _headers: Mapping[str, str], _body: bytes) -> Posted:
        return posted

    await Delivering(control.database, control.clock, post).once()


async def deliveries(control: Plane, **asked: object) -> dict[str, Any]:
    return (await control.ask(DELIVERIES, **asked))["webhookDeliveries"]


async def test_a_secret_is_shown_when_it_is_new_and_never_again(control: Plane) -> None:
    made = await control.make("setWebhook", "secret webhook { id url events createdAt }", url=URL)
    assert made["secret"].startswith("whsec_")
    assert made["webhook"] == {"id": made["webhook"]["id"], "url": URL, "events": None, "createdAt": NOW}
    changed = await control.make("setWebhook", "secret webhook { id events }", url=URL, events=["limit_denied"])
    assert changed == {"secret": None, "webhook": {"id": made["webhook"]["id"], "events": ["limit_denied"]}}
    own = await control.make("setWebhook", "secret webhook { oldSecretUntil }", url=URL, secret=SECRET)
    assert own == {"secret": SECRET, "webhook": {"oldSecretUntil": TOMORROW}}
    assert (await control.ask("{ webhooks { url events } }"))["webhooks"] == [{"url": URL, "events": None}]
    log = (await control.ask("{ auditLog { edges { node { detail } } } }"))["auditLog"]["edges"]
    for secret in (made["secret"], SECRET):
        assert secret not in str(log)


async def test_deliveries_are_shown_newest_first_a_page_at_a_time_and_by_state(control: Plane) -> None:
    made = await control.make("setWebhook", "webhook { id }", url=URL)
    await alerts(control)
    await deliver(control, Posted(500))
    first = await deliveries(control, first=1)
    (edge,) = first["edges"]
    assert edge["node"] | {"id": "", "message": "", "alert": ""} == {
        "id": "",
        "webhook": made["webhook"]["id"],
        "message": "",
        "alert": "",
        "state": "PENDING",
        "attempts": 1,
        "lastStatus": 500,
        "lastError": "answered 500",
        "createdAt": NOW,
        "endedAt": None,
    }
    assert first["pageInfo"]["hasNextPage"] is True
    rest = await deliveries(control, after=first["pageInfo"]["endCursor"])
    assert (len(rest["edges"]), rest["pageInfo"]["hasNextPage"]) == (1, False)
    alert_ids = (await control.ask('{ customer(key: "acme") { alerts { id } } }'))["customer"]["alerts"]
    both = [each["node"]["alert"] for each in (*first["edges"], *rest["edges"])]
    assert both == [each["id"] for each in alert_ids]
    assert (await deliveries(control, state="DELIVERED"))["edges"] == []
    assert len((await deliveries(control, state="PENDING"))["edges"]) == 2


async def test_a_message_is_sent_once_more_when_somebody_asks_for_it(control: Plane) -> None:
    await control.make("setWebhook", url=URL)
    await alerts(control)
    await deliver(control, Posted(200))
    node = (await deliveries(control))["edges"][0]["node"]
    assert (node["state"], node["endedAt"]) == ("DELIVERED", NOW)
    again = "mutation($id: ID!) { redeliver(id: $id) { id message state attempts } }"
    repeat = (await control.ask(again, id=node["id"]))["redeliver"]
    assert repeat == {"id": repeat["id"], "message": node["message"], "state": "PENDING", "attempts": 0}
    assert repeat["id"] != node["id"]
    (entry, *_) = (await control.ask("{ auditLog { edges { node { action target detail } } } }"))["auditLog"]["edges"]
    repeats = {"repeats": node["id"]}
    assert entry["node"] == {"action": "redeliver", "target": f"delivery {repeat['id']}", "detail": repeats}
    error = await control.refusal(again, id="none")
    assert (error["extensions"]["code"], error["message"]) == ("NOT_FOUND", "there is no delivery 'none'")


async def test_a_secret_is_rotated_and_the_one_before_it_signs_for_a_day(control: Plane) -> None:
    made = await control.make("setWebhook", "secret webhook { id oldSecretUntil }", url=URL)
    rotate = "mutation($id: ID!) { rotateWebhookSecret(id: $id) { secret webhook { id oldSecretUntil } } }"
    rotated = (await control.ask(rotate, id=made["webhook"]["id"]))["rotateWebhookSecret"]
    assert rotated["webhook"] == made["webhook"] | {"oldSecretUntil": TOMORROW}
    assert rotated["secret"] not in {made["secret"], None}
    assert (await control.refusal(rotate, id="none"))["extensions"]["code"] == "NOT_FOUND"


async def test_a_receiver_that_is_gone_is_seen_and_its_webhook_enabled_again(control: Plane) -> None:
    made = await control.make("setWebhook", "webhook { id }", url=URL)
    await alerts(control)
    await deliver(control, Posted(410))
    assert (await control.ask("{ webhooks { disabledAt } }"))["webhooks"] == [{"disabledAt": NOW}]
    failed = (await deliveries(control, state="FAILED"))["edges"]
    assert [each["node"]["lastStatus"] for each in failed] == [410, 410]
    enabled = (await control.ask(ENABLE, **made["webhook"]))["enableWebhook"]
    assert enabled == made["webhook"] | {"disabledAt": None}
    (entry, gone, *_) = (await control.ask("{ auditLog { edges { node { action actor target } } } }"))["auditLog"][
        "edges"
    ]
    assert (entry["node"]["action"], entry["node"]["target"]) == ("enableWebhook", f"webhook {enabled['id']}")
    assert (gone["node"]["action"], gone["node"]["actor"]) == ("disableWebhook", "receiver")
    assert (await control.refusal(ENABLE, id="none"))["extensions"]["code"] == "NOT_FOUND"


async def test_a_webhook_is_removed_once(control: Plane) -> None:
    made = await control.make("setWebhook", "webhook { id }", url=URL)
    remove = "mutation($id: ID!) { removeWebhook(id: $id) }"
    assert [(await control.ask(remove, **made["webhook"]))["removeWebhook"] for _ in range(2)] == [True, False]
    assert await control.ask("{ webhooks { id } }") == {"webhooks": []}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "http://example.com/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["limit_denied", "x"]}, "events[1]"),
        ({"secret": "hunter2"}, "secret"),
    ],
)
async def test_a_wrong_webhook_names_its_field(control: Plane, fields: dict[str, object], field: str) -> None:
    error = await control.refusal(call("setWebhook", "secret"), input={"url": URL} | fields)
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": field}


async def test_private_webhooks_are_taken_where_that_is_set(tmp_path: Path) -> None:
    query = 'mutation { setWebhook(input: {url: "http://127.0.0.1:1/"}) { webhook { url } } }'
    async with open_doors(tmp_path, private_webhooks=True) as doors:
        answer = await doors.http.post("/graphql", json={"query": query}, headers=doors.key(Scope.WRITE))
    assert answer.json() == {"data": {"setWebhook": {"webhook": {"url": "http://127.0.0.1:1/"}}}}
