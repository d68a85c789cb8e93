"""Somebody removes or replaces files of a running agent: nobody does anything by hand, nothing acknowledged is lost."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import eventually
from processes import AgentProcess, ControlPlane, agent, control_plane

USAGE = """{ usage(meter: "calls", from: "1970-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z") { events } }"""


def remove(data: Path) -> None:
    shutil.rmtree(data)


def rename(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))


def empty(data: Path) -> None:
    for each in data.iterdir():
        each.unlink()


async def used(plane: ControlPlane) -> int:
    rows = (await plane.ask(USAGE))["usage"]
    return int(rows[0]["events"]) if rows else 0


async def record(process: AgentProcess, events: int = 1) -> None:
    taken: dict[str, Any] = await process.post("/v1/events", [{"type": "call", "subject": "acme"}] * events)
    assert (taken["accepted"], taken["durability"]) == (events, "disk")


@pytest.mark.parametrize("fault", [remove, rename, empty])
async def test_the_directory_of_a_running_agent_is_taken_away_and_nothing_is_lost(
    tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    async with control_plane(tmp_path) as plane:
        await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
        async with agent(tmp_path / "data", plane, SIDEMETER_FLUSH_AFTER_S="60") as process:
            await record(process, 10)
            fault(process.data)
            await record(process)  # by a connection that was open before
            process.kill()
            await process.start()
            assert await process.stop() == 0
            assert await used(plane) == 11


async def test_callers_find_the_socket_again_after_it_was_taken_away(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane, agent(tmp_path / "data", plane) as process:
        for fault in (remove, lambda _: process.socket.unlink()):
            await asyncio.to_thread(fault, process.data)
            fresh = httpx.AsyncHTTPTransport(uds=str(process.socket))
            async with httpx.AsyncClient(transport=fresh, base_url="http://agent") as caller:
                await eventually(lambda caller=caller: answers(caller), 20)
            await record(process)
        assert await process.stop() == 0


async def answers(caller: httpx.AsyncClient) -> bool:
    try:
        return (await caller.post("/v1/events", json={"type": "call", "subject": "acme"})).status_code == 202
    except httpx.TransportError:
        return False
