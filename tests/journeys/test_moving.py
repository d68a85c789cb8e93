"""A control plane moves from its file to PostgreSQL while two services are metered: nobody notices more than a restart."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest
from fakes import eventually
from postgres import PASSWORD, Kind, Server, in_use
from processes import AgentProcess, ControlPlane, Program, agent, control_plane

pytestmark = pytest.mark.postgres

LIMIT = 600
SET_UP = f"""mutation {{
  calls: createMeter(input: {{key: "calls", eventType: "call", aggregation: COUNT}}) {{ key }}
  posts: createMeter(input: {{key: "posts", eventType: "post", aggregation: COUNT}}) {{ key }}
  createFeature(input: {{key: "calls", meter: "calls"}}) {{ key }}
  publishPlan(input: {{key: "pro", currency: "EUR", charges: [], entitlements: [
    {{feature: "calls", kind: METERED, limit: "{LIMIT}", enforcement: HARD, reset: NEVER}}]}}) {{ key }}
  upsertCustomer(input: {{key: "acme"}}) {{ key }}
  subscribe(input: {{customer: "acme", plan: "pro"}}) {{ id }}
}}"""
USAGE = """{ usage(meter: "%s", from: "2000-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z") { events } }"""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An empty database to move to, while control planes start on files."""
    server: Server | None = Kind.server
    assert server is not None
    with in_use(None):
        async with server.empty() as made:
            yield made


class Service:
    """One that asks its agent before each call, and counts what it was allowed."""

    def __init__(self, process: AgentProcess) -> None:
        self._process = process
        self.allowed = 0

    async def call_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            decision = await self._process.post("/v1/consume", {"type": "call", "subject": "acme"})
            self.allowed += decision["allowed"]


class Poster:
    """One without an agent, which sends each event until it is answered."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.acknowledged = 0

    async def post_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            event = {"id": str(self.acknowledged), "source": "poster", "type": "post", "subject": "acme"}
            with suppress(httpx.TransportError):
                answer = await self._plane.http.post(f"{self._plane.url}/v1/events", json=event)
                self.acknowledged += answer.status_code == 202


async def counted(plane: ControlPlane, meter: str) -> int:
    rows = (await plane.ask(USAGE % meter))["usage"]
    return int(rows[0]["events"]) if rows else 0


async def test_everything_acknowledged_is_counted_once_and_no_lease_is_handed_out_twice(
    tmp_path: Path, url: str
) -> None:
    async with AsyncExitStack() as undo:
        plane = await undo.enter_async_context(control_plane(tmp_path))
        await plane.ask(SET_UP)
        services = [Service(await undo.enter_async_context(agent(tmp_path / name, plane))) for name in ("one", "two")]
        poster, stop = Poster(plane), asyncio.Event()
        flowing = [asyncio.create_task(each.call_until(stop)) for each in services]
        flowing.append(asyncio.create_task(poster.post_until(stop)))

        def allowed() -> int:
            return sum(each.allowed for each in services)

        await eventually(lambda: all(each.allowed > 10 for each in services) and poster.acknowledged > 10, 60)
        witness = tmp_path / "moved.holders"
        where = ["--to", url, "--database", f"sqlite:///{plane.database}", "--witness", str(witness)]
        stop_it_now = re.compile(r"\d+ events are copied, and the control plane goes on: stop it now")
        command = ["-m", "sidemeter_control.cli", "move", *where]
        with Program(command, tmp_path / "killed.log") as first:
            first.spawn()
            await first.says(stop_it_now)
            first.kill()
        with Program([*command, "--replace"], tmp_path / "move.log") as move:
            move.spawn()
            await move.says(stop_it_now)
            before = poster.acknowledged
            await eventually(lambda: poster.acknowledged > before, 60)  # it does go on
            assert await plane.stop() == 0
            assert await move.exit_code() == 0
            assert PASSWORD not in move.log.read_text()
        before = allowed()
        plane._server_url = url
        plane.database = tmp_path / "moved"  # whose witness is the one that the move wrote
        await plane.start()
        await eventually(lambda: allowed() >= min(before + 100, LIMIT - 50), 120)
        stop.set()
        await asyncio.gather(*flowing)

        async def all_counted() -> bool:
            return (await counted(plane, "calls"), await counted(plane, "posts")) == (allowed(), poster.acknowledged)

        await eventually(all_counted, 120)
        assert allowed() <= LIMIT
        assert "nothing is granted" not in plane.log.read_text()  # what was granted is known to the last unit
