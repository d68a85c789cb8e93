"""POST /v1/events: the forms an event is written in, and each rule that one can break."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from planes import NOW_US, Doors, open_doors

from sidemeter_control.api.events import MAX_BODY_BYTES
from sidemeter_control.metering.formats import MAX_EVENTS
from sidemeter_control.store import events
from sidemeter_control.store.events import StoredEvent
from sidemeter_control.store.keys import Scope

JSON, PACKED = "application/json", "application/msgpack"
ONE, MANY = "application/cloudevents+json", "application/cloudevents-batch+json"
PLAIN = {"type": "call", "subject": "acme"}
CLOUD = {"specversion": "1.0", "id": "1", "source": "chat", "type": "call", "subject": "acme", "extension": "ignored"}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


async def post(plane: Doors, body: object, form: str = JSON, **headers: str) -> httpx.Response:
    if not isinstance(body, bytes):
        body = msgspec.msgpack.encode(body) if form == PACKED else json.dumps(body).encode()
    given = plane.key(Scope.WRITE) | {"Content-Type": form} | headers
    return await plane.http.post("/v1/events", content=body, headers=given)


async def stored(plane: Doors) -> list[StoredEvent]:
    async with plane.database.read() as conn:
        return await events.page(conn, 100)


FULL = PLAIN | {"id": "1", "source": "chat", "time": "1970-01-01T00:00:01.5+00:00", "data": {"n": 1.5}}


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (FULL, JSON),
        ([FULL], "application/json; charset=utf-8"),
        (b" [ " + json.dumps(FULL).encode() + b" ] ", JSON),
        (FULL, PACKED),
        ([FULL], "application/x-msgpack"),
        (CLOUD | {"time": "1970-01-01T01:00:01.5+01:00", "data": {"n": 1.5}}, ONE),
        ([CLOUD | {"time": "1970-01-01T00:00:01.5Z", "data": {"n": 1.5}}], MANY),
    ],
)
async def test_every_form_is_the_same_event(plane: Doors, body: object, form: str) -> None:
    if "msgpack" in form and not isinstance(body, bytes):
        body = msgspec.msgpack.encode(body)
    response = await post(plane, body, form)
    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "duplicates": 0, "rejected": [], "durability": "disk"}
    (event,) = await stored(plane)
    assert (event.id, event.source, event.type, event.subject) == ("1", "chat", "call", "acme")
    assert event.time_us == 1_500_000
    assert json.loads(event.data or "") == {"n": 1.5}
    assert (await post(plane, body, form)).json()["duplicates"] == 1


async def test_a_binary_cloud_event_has_its_attributes_in_headers(plane: Doors) -> None:
    attributes = {f"ce-{name}": text for name, text in CLOUD.items()} | {"ce-subject": "caf%C3%A9"}
    assert (await post(plane, {"n": 2}, **attributes)).status_code == 202
    (event,) = await stored(plane)
    assert (event.subject, event.data) == ("café", '{"n": 2}')
    missing = await post(plane, {}, **{"ce-specversion": "1.0", "ce-id": "1"})
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (422, "missing")


async def test_what_an_event_leaves_out_is_filled_in_and_numbers_keep_their_digits(plane: Doors) -> None:
    body = b'{"type":"call","subject":"acme","data":{"cost":0.10,"big":12345678901234567890.5,"e":1e400}}'
    assert (await post(plane, body)).status_code == 202
    (event,) = await stored(plane)
    assert (event.source, event.time_us) == ("http", NOW_US)
    assert event.id
    assert event.data == '{"cost":0.10,"big":12345678901234567890.5,"e":1e400}'


def deep(levels: int) -> object:
    return {} if levels == 1 else {"a": deep(levels - 1)}


REJECTED = [
    (JSON, PLAIN | {"Subject": "x"}, "unknown_field", "Subject"),
    (JSON, {"type": "call"}, "missing", "subject"),
    (JSON, 7, "invalid_input", "event"),
    (JSON, PLAIN | {"id": 7}, "invalid_input", "id"),
    (JSON, PLAIN | {"id": ""}, "invalid_input", "id"),
    (JSON, PLAIN | {"id": "x" * 257}, "invalid_input", "id"),
    (JSON, PLAIN | {"source": "a\0"}, "invalid_input", "source"),
    (JSON, PLAIN | {"type": "x" * 129}, "invalid_input", "type"),
    (JSON, PLAIN | {"time": "2026-01-01T00:00:00"}, "invalid_input", "time"),
    (JSON, PLAIN | {"time": "2026-13-01T00:00:00Z"}, "invalid_input", "time"),
    (JSON, PLAIN | {"time": 7}, "invalid_input", "time"),
    (JSON, PLAIN | {"data": [1]}, "invalid_input", "data"),
    (JSON, PLAIN | {"data": "x"}, "invalid_input", "data"),
    (JSON, PLAIN | {"data": {"x": "y" * 65536}}, "too_large", "data"),
    (JSON, PLAIN | {"data": deep(17)}, "too_deep", "data"),
    (PACKED, PLAIN | {"data": deep(17)}, "too_deep", "data"),
    (PACKED, PLAIN | {"data": {"x": float("nan")}}, "invalid_input", "data"),
    (PACKED, PLAIN | {"data": {"x": b"bytes"}}, "invalid_input", "data"),
    (PACKED, PLAIN | {"data": {"x": msgspec.msgpack.Ext(5, b"x")}}, "invalid_input", "data"),
    (PACKED, PLAIN | {"data": {1: "x"}}, "invalid_input", "data"),
    (ONE, CLOUD | {"specversion": "0.3"}, "invalid_input", "specversion"),
    (ONE, CLOUD | {"datacontenttype": "text/xml", "data": "<x/>"}, "invalid_input", "datacontenttype"),
    (ONE, CLOUD | {"data_base64": "eA=="}, "invalid_input", "datacontenttype"),
    (ONE, {name: text for name, text in CLOUD.items() if name != "id"}, "missing", "id"),
]


@pytest.mark.parametrize(("form", "event", "code", "field"), REJECTED)
async def test_an_event_that_breaks_a_rule_is_named_and_stops_no_other(
    plane: Doors, form: str, event: object, code: str, field: str
) -> None:
    alone = await post(plane, event, form)
    assert (alone.status_code, alone.headers["content-type"]) == (422, "application/problem+json")
    (error,) = alone.json()["errors"]
    assert (error["index"], error["code"], error["message"].split(":")[0]) == (0, code, field)
    good, form = (CLOUD, MANY) if form == ONE else (PLAIN, form)
    mixed = await post(plane, [good, event, good | {"id": "2"}], form)
    assert mixed.status_code == 202
    assert (mixed.json()["accepted"], [each["index"] for each in mixed.json()["rejected"]]) == (2, [1])


REFUSED = [
    (b"", JSON, 400, "malformed"),
    (b"{", JSON, 400, "malformed"),
    (b"[{}", JSON, 400, "malformed"),
    (b"[{},]", JSON, 400, "malformed"),
    (b"[{}] x", JSON, 400, "malformed"),
    (b'[{"data":{"n":NaN}}]', JSON, 400, "malformed"),
    (b"\xff\xfe", JSON, 400, "malformed"),
    (b"[" * 100_000, JSON, 400, "malformed"),
    (b"\xc1", PACKED, 400, "malformed"),
    (b"\xdc\x00\x02\xc0", PACKED, 400, "malformed"),
    (b"\xdd\xff\xff\xff\xff", PACKED, 413, "too_many"),
    (b"[" + b"1," * MAX_EVENTS + b"1]", JSON, 413, "too_many"),
    (b"[]", ONE, 400, "malformed"),
    (b"{}", MANY, 400, "malformed"),
    (b" " * (MAX_BODY_BYTES + 1), JSON, 413, "too_large"),
    (b"{}", "text/plain", 415, "unsupported_media_type"),
    (b"{}", "", 415, "unsupported_media_type"),
]


@pytest.mark.parametrize(("body", "form", "status", "code"), REFUSED, ids=lambda each: str(each)[:24])
async def test_a_body_that_is_no_body_is_a_problem_and_a_good_event_still_gets_through(
    plane: Doors, body: bytes, form: str, status: int, code: str
) -> None:
    response = await post(plane, body, form)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await post(plane, PLAIN)).status_code == 202


async def test_an_empty_array_is_no_error(plane: Doors) -> None:
    assert (await post(plane, [])).json()["accepted"] == 0
