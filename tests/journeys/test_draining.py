"""After an outage: twenty real agents drain into one control plane, at the pace that it announces."""

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fakes import eventually
from processes import ControlPlane

from sidemeter import Agent, Event, Settings

RATE = 4000
AGENTS = 20
BACKLOG = 1000
USAGE = """{ usage(meter: "calls", from: "0001-01-01T00:00:00Z", to: "9999-01-01T00:00:00Z") { events } }"""


def settings(directory: Path, **uplink: Any) -> Settings:
    return Settings(service="chat", data_dir=directory, flush_after_s=0.05, drain_s=0.0, request_timeout_s=60, **uplink)


async def fill(directory: Path) -> None:
    """What an agent records while there is no control plane."""
    async with Agent(settings(directory)) as agent:
        await agent.record_many([Event.of("call", "acme") for _ in range(BACKLOG)])


def arrivals(database: Path) -> list[tuple[float, int]]:
    """When each batch came to be counted, and how large it was."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as conn:
        rows = conn.execute("SELECT received_at_us / 1e6, events FROM batches ORDER BY received_at_us").fetchall()
    conn.close()
    return rows


async def test_twenty_agents_drain_at_the_announced_rate_and_a_fresh_event_passes_them(tmp_path: Path) -> None:
    names = [tmp_path / f"agent-{n}" for n in range(AGENTS)]
    for name in names:
        await fill(name)
    with ControlPlane(tmp_path) as plane:
        plane.environ["SIDEMETER_RATE_EVENTS_PER_S"] = str(RATE)
        async with plane.http, AsyncExitStack() as opened:
            await plane.start()
            await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
            uplink = {"control_plane": plane.url, "api_key": await plane.new_key("AGENT")}
            fresh = await opened.enter_async_context(Agent(settings(tmp_path / "fresh", **uplink)))
            began_s = time.monotonic()
            drains = [await opened.enter_async_context(Agent(settings(name, **uplink))) for name in names]

            delays_s, count = [], 0
            while any(agent.status().backlog_events for agent in drains):
                sent_s = time.monotonic()
                await fresh.record("call", "acme")
                count += 1
                await eventually(lambda: fresh.status().backlog_events == 0, 30)
                delays_s.append(time.monotonic() - sent_s)
                assert time.monotonic() - began_s < 90
                await asyncio.sleep(0.05)
            took_s = time.monotonic() - began_s

            rows = (await plane.ask(USAGE))["usage"]
            assert sum(row["events"] for row in rows) == AGENTS * BACKLOG + count
            figures = (await plane.http.get(f"{plane.url}/metrics")).text
            assert f"sidemeter_announced_events_per_second {RATE}.0" in figures
        counted = arrivals(plane.database)

    assert max(events for _, events in counted) <= RATE // 10
    ideal_s = AGENTS * BACKLOG / RATE
    assert ideal_s * 0.85 <= took_s
    # What one second has admitted may be counted in the next: a tenth more is the batch that was under way.
    for start_s, _ in counted:
        within = sum(events for at_s, events in counted if start_s <= at_s < start_s + 1)
        assert within <= RATE * 1.2
    assert sorted(delays_s)[len(delays_s) // 2] < 1.0
