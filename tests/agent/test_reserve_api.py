"""Reservations from another process: over HTTP, and by the client."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import at
from doors import Sidecar, open_doors

from sidemeter import Agent, Client, InvalidInput

CALL = {"type": "call", "subject": "acme", "data": {"tokens": 8}}


@pytest.fixture
async def double() -> AsyncIterator[ControlPlaneDouble]:
    async with ControlPlaneDouble() as control_plane:
        control_plane.lease("acme", "tokens", 10)
        yield control_plane


@pytest.fixture
async def served(tmp_path: Path, double: ControlPlaneDouble) -> AsyncIterator[Sidecar]:
    chosen = at(tmp_path, double)
    async with Agent(chosen) as agent, open_doors(agent, chosen, tmp_path) as served:
        yield served


async def test_a_reservation_is_made_extended_and_committed(served: Sidecar, double: ControlPlaneDouble) -> None:
    made = (await served.unix.post("/v1/reservations", json=CALL | {"ttl_s": 5})).json()
    assert made["decision"]["allowed"]
    route = f"/v1/reservations/{made['id']}"
    assert (await served.unix.post(f"{route}/extend", json={"ttl_s": "60"})).json()["done"]
    denied = (await served.unix.post("/v1/reservations", json=CALL)).json()
    assert not denied["decision"]["allowed"]
    assert (await served.unix.post(f"{route}/commit", json={"data": {"tokens": 5}})).json()["done"]
    again = (await served.unix.post(f"{route}/commit", json={"data": {"tokens": 5}})).json()
    assert (again["done"], again["receipt"]["duplicate"]) == (False, True)
    assert not (await served.unix.post(f"{route}/release")).json()["done"]
    metrics = (await served.unix.get("/metrics")).text
    assert 'sidemeter_http_answers_total{route="/v1/reservations/{id}/commit",status="200"} 2.0' in metrics
    assert "sidemeter_agent_leases 1.0" in metrics
    assert 'sidemeter_agent_denied_total{reason="limit_reached"} 1.0' in metrics


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field"),
    [
        ("/v1/reservations", {"type": "call"}, 422, "missing", "subject"),
        ("/v1/reservations", CALL | {"ttl_s": 0}, 422, "invalid_input", "ttl_s"),
        ("/v1/reservations", CALL | {"ttl_s": "long"}, 422, "invalid_input", "ttl_s"),
        ("/v1/reservations", CALL | {"data": 1}, 422, "invalid_input", "data"),
        ("/v1/reservations/nobody/commit", {"data": 1}, 422, "invalid_input", "data"),
        ("/v1/reservations/nobody/commit", {"date": {}}, 422, "unknown_field", "date"),
        ("/v1/reservations/nobody/commit", {"data": {}}, 404, "unknown_reservation", None),
        ("/v1/reservations/nobody/extend", {"ttl_s": -1}, 422, "invalid_input", "ttl_s"),
        ("/v1/reservations/nobody/end", {}, 404, "not_found", None),
    ],
)
async def test_a_wrong_request_is_told_by_field_and_rule(
    served: Sidecar, path: str, body: Any, status: int, code: str, field: str | None
) -> None:
    answer = await served.unix.post(path, json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert [each["field"] for each in problem.get("errors", [])] == ([field] if field else [])


async def test_a_check_waits_for_a_grant(served: Sidecar) -> None:
    answer = await served.unix.post("/v1/check", json={"subject": "acme", "feature": "tokens", "quantity": 10})
    assert answer.json()["allowed"]


async def test_the_client_reserves_and_ends_as_in_process(served: Sidecar, double: ControlPlaneDouble) -> None:
    async with Client(socket=served.socket) as client:
        async with client.reserve("call", "acme", {"tokens": 8}) as held:
            assert held.allowed
            held.used = {"tokens": 3}
        assert not client.is_open(held.id)
        other = await client.reserve("call", "acme", {"tokens": 7})
        assert other.allowed
        assert await other.extend(30.0)
        assert [await other.release() for _ in range(2)] == [True, False]
        assert await client.commit("nobody") is None
        assert not (await client.reserve("call", "acme", {"tokens": 8})).allowed
        with pytest.raises(InvalidInput, match="ttl_s"):
            client.reserve("call", "acme", ttl_s=0)


async def test_a_cancelled_caller_of_the_client_leaves_nothing_reserved(
    served: Sidecar, double: ControlPlaneDouble
) -> None:
    async with Client(socket=served.socket) as client:
        streaming = asyncio.Event()

        async def call() -> None:
            async with client.reserve("call", "acme", {"tokens": 9}) as held:
                held.used = {"tokens": 2}
                streaming.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await streaming.wait()
        task.cancel()
        await asyncio.wait([task])
        assert (await client.reserve("call", "acme", {"tokens": 8})).allowed
