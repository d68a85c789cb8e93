"""graphql-transport-ws, word for word: who is let in, which messages there are, and which close the connection."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import eventually
from streams import COST, Served, Talk, calls_of, served
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sidemeter_control.api.live.bounds import MAX_OPERATIONS, MAX_STREAMS, MAX_SUBSCRIPTIONS, Places, Waits
from sidemeter_control.connections import MAX_MESSAGE_BYTES, PING_S, Bounds
from sidemeter_control.errors import Busy
from sidemeter_control.store.keys import Scope

TOTAL = 'subscription { costChanged(customer: "acme") { total { amount } } }'
INIT = {"type": "connection_init"}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as opened:
        yield opened


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """The code and reason the other side closes with, whatever it still says before."""
    async with asyncio.timeout(60):
        with pytest.raises(ConnectionClosed) as raised:
            await listen(socket)
    assert raised.value.rcvd
    return raised.value.rcvd.code, raised.value.rcvd.reason


async def listen(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


def with_key(control: Served) -> dict[str, Any]:
    return INIT | {"payload": {"authorization": f"Bearer {control.secret}"}}


BEFORE_INIT = {
    "no JSON": ("{", 4400),
    "no object": ("[]", 4400),
    "no type": ('{"id": "1"}', 4400),
    "nested without end": ('{"type": "connection_init", "payload": ' + "[" * 100_000, 4400),
    "a subscription": (json.dumps({"type": "subscribe", "id": "1", "payload": {"query": TOTAL}}), 4401),
    "something else": ('{"type": "hello"}', 4401),
    "no payload": (json.dumps(INIT), 4401),
    "an empty payload": (json.dumps(INIT | {"payload": {}}), 4401),
    "a payload of null": (json.dumps(INIT | {"payload": None}), 4401),
    "a payload that is none": (json.dumps(INIT | {"payload": "x"}), 4400),
    "a wrong key": (json.dumps(INIT | {"payload": {"authorization": "Bearer smk_wrong"}}), 4401),
    "a key that is no text": (json.dumps(INIT | {"payload": {"authorization": 1}}), 4401),
    "bytes": (b"\x00", 4400),
}


@pytest.mark.parametrize("what", BEFORE_INIT)
async def test_who_does_not_begin_as_the_protocol_says_is_closed_on(control: Served, what: str) -> None:
    text, code = BEFORE_INIT[what]
    async with control.socket() as socket:
        await socket.send(text)
        assert (await closed(socket))[0] == code
    await eventually(lambda: control.hub.places.streams == 0)


async def test_a_key_may_come_as_a_header_and_a_payload_goes_before_it(control: Served) -> None:
    headers = {"Authorization": f"Bearer {control.secret}"}
    async with control.socket(additional_headers=headers) as socket:
        await socket.send(json.dumps(INIT))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
    async with control.socket(additional_headers=headers) as socket:
        await socket.send(json.dumps(INIT | {"payload": {"Authorization": "Bearer smk_wrong"}}))
        assert await closed(socket) == (4401, "the key is unknown, expired or revoked")


async def test_another_protocol_is_not_spoken(control: Served) -> None:
    for options in ({"subprotocols": ["graphql-ws"]}, {"subprotocols": None}):
        async with control.socket(**options) as socket:
            assert await closed(socket) == (4406, "Subprotocol not acceptable")


async def test_who_says_nothing_has_so_much_time(tmp_path: Path) -> None:
    async with served(tmp_path, waits=Waits(init_within_s=0.1)) as control, control.socket() as socket:
        assert await closed(socket) == (4408, "Connection initialisation timeout")
    assert Waits().init_within_s == 10


AFTER_INIT = {
    "a second init": (INIT, 4429),
    "a subscription without an id": ({"type": "subscribe", "payload": {"query": TOTAL}}, 4400),
    "an empty id": ({"type": "subscribe", "id": "", "payload": {"query": TOTAL}}, 4400),
    "an id that is no text": ({"type": "subscribe", "id": 1, "payload": {"query": TOTAL}}, 4400),
    "a subscription without a payload": ({"type": "subscribe", "id": "1"}, 4400),
    "a payload without a query": ({"type": "subscribe", "id": "1", "payload": {}}, 4400),
    "a query that is no text": ({"type": "subscribe", "id": "1", "payload": {"query": 1}}, 4400),
    "what only a server says": ({"type": "next", "id": "1", "payload": {}}, 4400),
    "complete without an id": ({"type": "complete"}, 4400),
    "something unknown": ({"type": "hello"}, 4400),
}


@pytest.mark.parametrize("what", AFTER_INIT)
async def test_a_message_that_the_protocol_does_not_know_closes_the_connection(control: Served, what: str) -> None:
    message, code = AFTER_INIT[what]
    async with control.talk() as talk:
        await talk.say(**message)
        assert (await closed(talk.socket))[0] == code


async def test_an_id_is_of_one_operation_at_a_time(control: Served) -> None:
    async with control.talk() as talk:
        ask = {"type": "subscribe", "id": "mine", "payload": {"query": TOTAL}}
        await talk.say(**ask)
        await talk.next()
        await talk.say(type="complete", id="mine")
        await talk.say(type="complete", id="mine")
        await talk.say(**ask)
        await talk.next()
        await talk.say(**ask)
        assert await closed(talk.socket) == (4409, "Subscriber for mine already exists")


async def test_a_ping_is_answered_at_any_time_and_a_pong_is_not(control: Served) -> None:
    async with control.socket() as socket:
        talk = Talk(socket)
        await talk.say(type="ping")
        assert await talk.hear() == {"type": "pong"}
        await talk.say(type="pong", payload={"a": 1})
        await talk.say(**with_key(control))
        assert await talk.hear() == {"type": "connection_ack"}
        await talk.say(type="ping", payload={"a": 1})
        assert await talk.hear() == {"type": "pong"}


async def test_queries_and_mutations_are_answered_once(control: Served) -> None:
    async with control.talk() as talk:
        query = await talk.subscribe("query($k: ID!) { meter(key: $k) { key } }", k="calls")
        data = {"meter": {"key": "calls"}}
        assert await talk.hear() == {"id": query, "type": "next", "payload": {"data": data}}
        assert await talk.hear() == {"type": "complete", "id": query}
        mutation = await talk.subscribe('mutation { createFeature(input: {key: "sso"}) { key } }')
        assert (await talk.hear())["payload"] == {"data": {"createFeature": {"key": "sso"}}}
        assert (await talk.hear())["type"] == "complete"
        again = await talk.subscribe('mutation { createFeature(input: {key: "sso"}) { key } }')
        said = await talk.hear()  # it was executed: its error is in a response
        assert (said["id"], said["payload"]["errors"][0]["extensions"]) == (again, {"code": "CONFLICT"})
        assert (await talk.hear())["type"] == "complete"
        wrong = await talk.subscribe("{ nothing }")
        said = await talk.hear()
        assert (said["id"], said["type"], said["payload"][0]["extensions"]["code"]) == (wrong, "error", "INVALID_QUERY")
        assert mutation != query


async def test_a_key_without_the_scope_may_not_change_anything(control: Served) -> None:
    async with control.talk(authorization=f"Bearer {await control.key(Scope.READ)}") as talk:
        await talk.subscribe('mutation { createFeature(input: {key: "sso"}) { key } }')
        said = await talk.hear()
        assert (said["type"], said["payload"][0]["extensions"]["code"]) == ("error", "FORBIDDEN")


async def test_a_key_that_is_revoked_hears_nothing_more(control: Served) -> None:
    key, secret = await control.gate.make("page", frozenset({Scope.READ}), None)
    async with control.talk(authorization=f"Bearer {secret}") as talk:
        await talk.subscribe(TOTAL)
        await talk.next()
        await control.gate.revoke(key.id)
        await calls_of(control, "acme")
        assert await closed(talk.socket) == (4401, "the key is unknown, expired or revoked")


async def test_a_key_that_is_revoked_hears_nothing_more_also_where_nothing_happens(tmp_path: Path) -> None:
    async with served(tmp_path, waits=Waits(still_s=0.05)) as control:
        key, secret = await control.gate.make("page", frozenset({Scope.READ}), None)
        async with control.talk(authorization=f"Bearer {secret}") as talk:
            await control.gate.revoke(key.id)
            assert (await closed(talk.socket))[0] == 4401


async def test_subscriptions_end_with_the_control_plane(control: Served) -> None:
    async with control.talk() as talk:
        await talk.subscribe(TOTAL)
        await talk.subscribe("subscription { alertRaised { id } }")
        await talk.next()
        await control.hub.close()
        assert await closed(talk.socket) == (1001, "the control plane stops")


async def test_a_message_is_as_large_as_a_body_and_no_larger(control: Served) -> None:
    fits = {"type": "ping", "payload": {"x": ""}}
    room = MAX_MESSAGE_BYTES - len(json.dumps(fits))
    async with control.talk() as talk:
        await talk.say(type="ping", payload={"x": "x" * room})
        assert await talk.hear() == {"type": "pong"}
        await talk.say(type="ping", payload={"x": "x" * (room + 1)})
        assert (await closed(talk.socket))[0] == 1009


async def test_a_connection_has_so_many_operations_at_once(control: Served) -> None:
    async with control.talk() as talk:
        ids = [await talk.subscribe("subscription { alertRaised { id } }") for _ in range(MAX_OPERATIONS)]
        await eventually(lambda: control.hub.places.subscriptions == MAX_OPERATIONS)
        one_more = await talk.subscribe(TOTAL)
        said = await talk.hear()
        assert (said["id"], said["type"], said["payload"][0]["extensions"]) == (one_more, "error", {"code": "BUSY"})
        await talk.say(type="complete", id=ids[0])
        await talk.subscribe(TOTAL)
        await talk.next()


async def test_there_are_so_many_connections_that_go_on_and_the_next_is_told_to_come_later(control: Served) -> None:
    places = control.hub.places
    places.streams = MAX_STREAMS - 1
    async with control.talk():
        with pytest.raises(InvalidStatus) as raised:
            async with control.socket():
                pass
        assert raised.value.response.status_code == 503
        assert raised.value.response.headers["retry-after"] == "1"
        asked = {"json": {"query": TOTAL}, "headers": {"Accept": "text/event-stream"}}
        answer = await control.http.post("/graphql", **asked)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert (await control.ask("{ __typename }")) == {"__typename": "Query"}
    await eventually(lambda: places.streams == MAX_STREAMS - 1)
    async with control.talk():
        pass


async def test_there_are_so_many_subscriptions(control: Served) -> None:
    control.hub.places.subscriptions = MAX_SUBSCRIPTIONS - 1
    async with control.talk() as talk:
        await talk.subscribe(TOTAL)
        await talk.next()
        await talk.subscribe(TOTAL)
        assert (await talk.hear())["payload"][0]["extensions"] == {"code": "BUSY"}


@pytest.mark.parametrize(("kind", "most"), [("stream", MAX_STREAMS), ("subscription", MAX_SUBSCRIPTIONS)])
def test_places_are_given_back(kind: str, most: int) -> None:
    places = Places()
    for free in (0, 1):
        setattr(places, f"{kind}s", most - free)
        try:
            with getattr(places, kind)():
                assert getattr(places, f"{kind}s") == most
        except Busy:
            assert not free
        assert getattr(places, f"{kind}s") == most - free


@asynccontextmanager
async def who_takes_nothing(control: Served) -> AsyncIterator[ClientConnection]:
    """A subscriber with little room, of which nobody takes anything out, and answers that fill all there is."""
    await control.make("upsertCustomer", key="big", currency="EUR")
    charges = [
        {"key": f"c{n}", "name": "x" * 200, "meter": "calls", "model": "PER_UNIT", "unitPrice": "1"} for n in range(50)
    ]
    await control.make("publishPlan", key="big", currency="EUR", charges=charges)
    await control.make("subscribe", customer="big", plan="big")
    parts = " ".join(f"l{n}: lines {{ text parts {{ text }} }}" for n in range(20))
    query = f'subscription {{ costChanged(customer: "big") {{ {parts} }} }}'
    async with control.socket(max_queue=1, max_size=None, close_timeout=1, ping_interval=None) as socket:
        talk = Talk(socket)
        await talk.say(**with_key(control))
        await talk.hear()
        await talk.subscribe(query)
        yield socket


@pytest.mark.no_cover
async def test_who_takes_messages_slower_than_they_come_is_closed_on_with_the_reason(tmp_path: Path) -> None:
    waits = Waits(slow_s=0.3)
    async with served(tmp_path, every_s=0.001, waits=waits) as control, who_takes_nothing(control) as socket:
        await use_until(control, lambda: control.hub.watched == 0)
        assert await closed(socket) == (1013, "a message was not taken within 0.3 s: subscribe again")
    assert Waits().slow_s == 10


async def use_until(control: Served, condition: Callable[[], bool]) -> None:
    """Once it is watched, change it again and again until then."""
    await eventually(lambda: control.hub.watched == 1)
    async with asyncio.timeout(100):
        while not condition():
            await calls_of(control, "big")


async def test_who_takes_nothing_at_all_is_hung_up_on(tmp_path: Path) -> None:
    bounds = Bounds(100, taken_within_s=0.3)
    waits = Waits(slow_s=0.1)
    async with (
        served(tmp_path, every_s=0.001, waits=waits, bounds=bounds) as control,
        who_takes_nothing(control) as socket,
    ):
        await use_until(control, lambda: control.hub.places.streams == 0)
        socket.transport.abort()


async def test_a_web_socket_is_asked_whether_it_lives(control: Served) -> None:
    """As uvicorn does, by pings of the protocol below; here it is only looked at that it is told to."""
    assert PING_S == 20
    async with control.socket() as socket:
        await (await socket.ping())


async def test_a_connection_that_became_a_web_socket_is_no_request_that_does_not_arrive(tmp_path: Path) -> None:
    bounds = Bounds(100, arrives_within_s=1.0)
    async with served(tmp_path, bounds=bounds, again_s=0.2) as control, control.talk() as talk:
        await talk.subscribe(COST, customer="acme")
        await talk.next()
        looks = control.hub.looks
        await eventually(lambda: control.hub.looks > looks + 8, 60)  # longer than a request may take to arrive
        await calls_of(control, "acme")
        await talk.next()


async def test_a_web_socket_is_one_of_the_connections_that_there_may_be(tmp_path: Path) -> None:
    async with served(tmp_path, bounds=Bounds(2)) as control, control.talk():
        async with httpx.AsyncClient() as one_more:
            answer = await one_more.get(f"http://127.0.0.1:{control.port}/healthz")
            assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert await control.ask("{ __typename }") == {"__typename": "Query"}


async def test_other_paths_have_no_web_socket(control: Served) -> None:
    with pytest.raises(InvalidStatus) as raised:
        async with control.socket(uri=f"ws://127.0.0.1:{control.port}/healthz"):
            pass
    assert raised.value.response.status_code in {403, 404}
