"""The middleware, in the sample service, over real HTTP."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fakes import eventually
from processes import URL, ControlPlane, Program, control_plane

LIMIT = 3
CALL = {"model": "small", "prompt": "la la", "max_tokens": 4}
COUNTED = """
query($from: DateTime!, $to: DateTime!) {
  usage(meter: "requests", from: $from, to: $to, groupBy: ["method", "route", "status"]) { dimensions value }
}
"""
EVER = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


async def sell(plane: ControlPlane) -> None:
    dimensions = [{"key": each, "property": each} for each in ("method", "route", "status")]
    meter = {"key": "requests", "eventType": "http.request", "aggregation": "COUNT", "groupBy": dimensions}
    await plane.make("createMeter", "MeterInput", **meter)
    await plane.make("createFeature", "FeatureInput", key="chat", meter="requests")
    chat = {"feature": "chat", "kind": "METERED", "limit": str(LIMIT), "enforcement": "HARD"}
    await plane.make("publishPlan", "PlanInput", key="trial", currency="USD", charges=[], entitlements=[chat])
    await plane.make("upsertCustomer", "CustomerInput", key="acme", currency="USD")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="trial")


@asynccontextmanager
async def service(tmp_path: Path, plane: ControlPlane) -> AsyncIterator[httpx.AsyncClient]:
    environ = {
        "SIDEMETER_CONTROL_PLANE": plane.url,
        "SIDEMETER_API_KEY": await plane.new_key("AGENT"),
        "SIDEMETER_DATA_DIR": str(tmp_path / "chat"),
    }
    with Program(["examples/sample_service.py", "--port", "0"], tmp_path / "service.log", **environ) as program:
        program.spawn()
        url = (await program.says(URL))[0]
        async with httpx.AsyncClient(base_url=url, headers={"X-Customer": "acme"}, timeout=30) as http:
            yield http
        # uvicorn, once it has shut down, ends by the signal that asked it to
        assert await program.stop() in {0, -signal.SIGTERM}


async def test_answered_requests_are_recorded_and_the_one_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with service(tmp_path, plane) as http:
            answers = [await http.post("/chat", json=CALL) for _ in range(LIMIT - 1)]
            assert [answer.status_code for answer in answers] == [200] * (LIMIT - 1)
            assert answers[0].json()["usage"] == {"prompt_tokens": 2, "completion_tokens": 4}
            assert (await http.get("/nothing/here")).status_code == 404

            refused = await http.post("/chat", json=CALL)
            assert refused.status_code == 429
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json() == {
                "type": "urn:sidemeter:problem:limit_reached",
                "title": "Limit reached",
                "status": 429,
                "code": "limit_reached",
                "feature": "chat",
                "used": "3",
                "limit": "3",
            }
        rows = (await plane.ask(COUNTED, **EVER))["usage"]
    counted = {tuple(row["dimensions"][key] for key in ("method", "route", "status")): row["value"] for row in rows}
    assert counted == {("POST", "/chat", "200"): str(LIMIT - 1), ("GET", "unmatched", "404"): "1"}


async def test_a_request_of_nobody_is_passed_on_and_not_metered(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with service(tmp_path, plane) as http:
            del http.headers["X-Customer"]
            assert (await http.get("/nothing/here")).status_code == 404
        assert (await plane.ask(COUNTED, **EVER))["usage"] == []


async def test_without_the_control_plane_customers_are_served_from_the_lease_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with service(tmp_path, plane) as http:
            assert (await http.post("/chat", json=CALL)).status_code == 200
            plane.kill()
            statuses = [(await http.post("/chat", json=CALL)).status_code for _ in range(LIMIT)]
            served = 1 + statuses.count(200)
            assert served <= LIMIT, "no more than the lease that it has"
            await plane.start()

            async def all_served() -> bool:
                nonlocal served
                served += (await http.post("/chat", json=CALL)).status_code == 200
                return served == LIMIT

            await eventually(all_served, 90)
            assert (await http.post("/chat", json=CALL)).status_code == 429

            async def counted() -> bool:
                rows = (await plane.ask(COUNTED, **EVER))["usage"]
                return [row["value"] for row in rows] == [str(LIMIT)]

            await eventually(counted, 30)
