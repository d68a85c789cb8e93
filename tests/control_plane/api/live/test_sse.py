"""Subscriptions as server-sent events, asked for with plain HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from fakes import eventually
from streams import Served, calls_of, events_of, served

from sidemeter_control.api.live.bounds import Waits
from sidemeter_control.store.keys import Scope

TOTAL = 'subscription { costChanged(customer: "acme") { total { amount } } }'
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as opened:
        yield opened


def of(amount: str) -> tuple[str, object]:
    return "next", {"data": {"costChanged": {"total": {"amount": amount}}}}


async def test_the_state_now_then_every_change(control: Served) -> None:
    async with control.stream(TOTAL) as events:
        assert await anext(events) == of("0")
        await calls_of(control, "acme")
        assert await anext(events) == of("1")
    await eventually(lambda: control.hub.watched == 0)
    assert control.hub.places.streams == 0


async def test_a_subscription_may_come_by_get(control: Served) -> None:
    async with control.http.stream("GET", "/graphql", params={"query": TOTAL}, headers=SSE) as answer:
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert await anext(events_of(answer)) == of("0")


async def test_a_query_is_answered_once_and_the_answer_is_complete(control: Served) -> None:
    async with control.stream("{ __typename }") as events:
        assert [each async for each in events] == [("next", {"data": {"__typename": "Query"}}), ("complete", None)]


async def test_a_mutation_may_not_come_by_get_here_either(control: Served) -> None:
    text = 'mutation { createFeature(input: {key: "sso"}) { key } }'
    answer = await control.http.get("/graphql", params={"query": text}, headers=SSE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert await control.ask("{ features { key } }") == {"features": [{"key": "calls"}]}


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
async def test_who_does_not_take_events_is_told_how_to_ask(control: Served, accept: str) -> None:
    answer = await control.http.post("/graphql", json={"query": TOTAL}, headers={"Accept": accept})
    assert "Accept: text/event-stream" in answer.json()["errors"][0]["message"]


async def test_without_a_key_there_is_no_stream(control: Served) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(control.url, json={"query": TOTAL}, headers=SSE)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_a_request_that_is_none_is_refused_as_ever(control: Served) -> None:
    answer = await control.http.post("/graphql", content=b"{", headers=SSE | {"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


async def test_a_comment_says_that_it_still_listens(tmp_path: Path) -> None:
    async with served(tmp_path, waits=Waits(still_s=0.05)) as control, control.stream(TOTAL) as events:
        assert await anext(events) == of("0")
        assert await anext(events) == ("", None)
        assert await anext(events) == ("", None)
        await calls_of(control, "acme")
        while (event := await anext(events)) == ("", None):
            pass
        assert event == of("1")
    assert Waits().still_s == 15


async def test_a_key_that_is_revoked_hears_nothing_more(tmp_path: Path) -> None:
    async with served(tmp_path, waits=Waits(still_s=0.05)) as control:
        key, secret = await control.gate.make("page", frozenset({Scope.READ}), None)
        headers = SSE | {"Authorization": f"Bearer {secret}"}
        async with control.http.stream("POST", "/graphql", json={"query": TOTAL}, headers=headers) as answer:
            events = events_of(answer)
            await anext(events)
            await control.gate.revoke(key.id)
            *_, (name, said), last = [each async for each in events]
            assert (name, last) == ("next", ("complete", None))
            assert said["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


async def test_a_stream_ends_with_the_control_plane_and_is_not_complete(control: Served) -> None:
    async with control.stream(TOTAL) as events:
        await anext(events)
        await control.hub.close()
        assert [each async for each in events] == []


@pytest.mark.no_cover
async def test_who_takes_events_slower_than_they_come_is_told_so_at_the_end(tmp_path: Path) -> None:
    async with served(tmp_path, every_s=0.001, waits=Waits(slow_s=0.3)) as control:
        parts = " ".join(f"l{n}: lines {{ text parts {{ text }} }}" for n in range(20))
        charges = [
            {"key": f"c{n}", "name": "x" * 200, "meter": "calls", "model": "PER_UNIT", "unitPrice": "1"}
            for n in range(50)
        ]
        await control.make("upsertCustomer", key="big", currency="EUR")
        await control.make("publishPlan", key="big", currency="EUR", charges=charges)
        await control.make("subscribe", customer="big", plan="big")
        async with control.stream(f'subscription {{ costChanged(customer: "big") {{ {parts} }} }}') as events:
            await anext(events)
            async with asyncio.timeout(100):
                while control.hub.watched:
                    await calls_of(control, "big")
            *_, (_, said), last = [each async for each in events]
            assert last == ("complete", None)
            assert said["errors"][0]["extensions"] == {"code": "SLOW_CONSUMER"}


async def test_a_body_that_was_read_takes_no_room_while_the_answer_goes_on(control: Served) -> None:
    """Forty streams, each asked for with a body of a mebibyte: together more than there is room for."""
    padding = "x" * (1024 * 1024 - 300)
    async with asyncio.timeout(100), AsyncExitStack() as stack:
        for _ in range(40):
            events = await stack.enter_async_context(control.stream(TOTAL, padding=padding))
            assert await anext(events) == of("0")
