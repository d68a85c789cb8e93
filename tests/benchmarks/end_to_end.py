"""From a call in the service to what GraphQL answers: one agent in this process, one control plane beside it."""

import asyncio
import time

from fakes import eventually
from processes import control_plane

from .agent import BURST, connected, has_room
from .harness import Bench, Figure, at_least, at_most, latency, rate, timed
from .traffic import CUSTOMER, EVENT_TYPE, counted, data, prove_usage, sell

__all__ = ["lag", "throughput"]

EVENTS_PER_S = 40_000
LIGHT_EVENTS_PER_S = 20
DRAINED_WITHIN_S = 60.0


async def throughput(bench: Bench) -> list[Figure]:
    """So many events, from the first call until the last is counted."""
    events = round(EVENTS_PER_S * bench.seconds)
    async with control_plane(bench.directory) as plane:
        await sell(plane)
        async with connected(plane, bench.directory / "agent") as agent:
            with timed() as elapsed:
                for n in range(events):
                    agent.record_nowait(EVENT_TYPE, CUSTOMER, data(n))
                    if n % BURST == 0:
                        await has_room(agent)
                await agent.flush()
                await eventually(lambda: agent.status().backlog_events == 0, DRAINED_WITHIN_S)
        await prove_usage(bench, plane, events)
    return [rate("end to end, one agent, counted", events, elapsed(), reach=at_least(40_000), reference="sqlite-keys")]


async def lag(bench: Bench) -> list[Figure]:
    """Under light load, from the call until a usage query shows the event."""
    recorded: list[float] = []
    samples: list[float] = []
    events = max(2, round(LIGHT_EVENTS_PER_S * bench.seconds))
    async with control_plane(bench.directory) as plane:
        await sell(plane)

        async def look() -> None:
            while len(samples) < events:
                seen = (await counted(plane))["calls"][1]
                now = time.perf_counter()
                samples.extend(now - began for began in recorded[len(samples) : seen])

        async with connected(plane, bench.directory / "agent") as agent, asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            for n in range(events):
                recorded.append(time.perf_counter())
                await agent.record(EVENT_TYPE, CUSTOMER, data(n))
                await asyncio.sleep(1 / LIGHT_EVENTS_PER_S)
        await prove_usage(bench, plane, events)
    return [latency("record to visible in GraphQL", samples, "ms", of="p99", reach=at_most(1500), reference="commit")]
