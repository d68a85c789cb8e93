"""The agent in the process of a service: what a call costs it, and what one core makes durable."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgpack
from processes import ControlPlane, cells, control_plane

from sidemeter import Agent, Settings

from .harness import Bench, Figure, at_least, at_most, latency, rate, timed
from .traffic import CUSTOMER, EVENT_TYPE, FEATURE, counted, data, sell

__all__ = ["BURST", "check", "connected", "has_room", "prove_stored", "record", "sustained"]

BURST = 500
MOST_PENDING = 20_000
CALLS, MOST_EVENTS = 200_000, 2_000_000
SOME = {"input_tokens": 100, "output_tokens": 0}


async def record(bench: Bench) -> list[Figure]:
    """Time in the call, with the writer idle while a burst is made: what a request of the service pays."""
    samples: list[float] = []
    ids: list[str] = []
    async with Agent(Settings(service="bench", data_dir=bench.directory)) as agent:
        with timed() as elapsed:
            while elapsed() < bench.seconds and len(ids) < CALLS:
                for _ in range(BURST):
                    usage = data(len(ids))
                    began = time.perf_counter()
                    event_id = agent.record_nowait(EVENT_TYPE, CUSTOMER, usage)
                    samples.append(time.perf_counter() - began)
                    ids.append(event_id)
                await agent.flush()
    prove_stored(bench, bench.directory, len(ids), ids)
    beside = {"reference": "msgpack", "peers": ("prometheus", "opentelemetry")}
    return [latency("agent.record_nowait", samples, "µs", reach=at_most(5), **beside)]


async def sustained(bench: Bench) -> list[Figure]:
    """As many as become durable, from the first call to the last commit."""
    ids: list[str] = []
    async with Agent(Settings(service="bench", data_dir=bench.directory)) as agent:
        with timed() as elapsed:
            while elapsed() < bench.seconds and len(ids) < MOST_EVENTS:
                ids += [agent.record_nowait(EVENT_TYPE, CUSTOMER, data(n)) for n in range(BURST)]
                await has_room(agent)
            await agent.flush()
    prove_stored(bench, bench.directory, len(ids), ids)
    beside = {"reference": "sqlite-blobs", "peers": ("persist-queue", "litequeue")}
    return [rate("agent in process, durable", len(ids), elapsed(), reach=at_least(100_000), **beside)]


async def has_room(agent: Agent) -> None:
    """Let the writer go on, and wait for it while too much waits for the disk: a disk may be slower than the calls."""
    await asyncio.sleep(0)
    while agent.pending >= MOST_PENDING:  # noqa: ASYNC110 -- nobody tells when there is room
        await asyncio.sleep(0.001)


async def check(bench: Bench) -> list[Figure]:
    """Against a lease of a hard limit that is being spent, a little between one burst of checks and the next."""
    samples: list[float] = []
    denied: Counter[str] = Counter()
    async with control_plane(bench.directory) as plane:
        await sell(plane)
        async with connected(plane, bench.directory / "agent") as agent:
            spent = 0
            while not agent.check(CUSTOMER, FEATURE).allowed:  # a lease is granted to whoever spends
                spent += (await agent.consume(EVENT_TYPE, CUSTOMER, SOME, wait_s=5)).allowed
            with timed() as elapsed:
                while elapsed() < bench.seconds and len(samples) < CALLS:
                    spent += (await agent.consume(EVENT_TYPE, CUSTOMER, SOME, wait_s=5)).allowed
                    for _ in range(BURST):
                        began = time.perf_counter()
                        decision = agent.check(CUSTOMER, FEATURE)
                        samples.append(time.perf_counter() - began)
                        denied[decision.reason] += not decision.allowed
        bench.prove(
            "tokens spent", found=(await counted(plane))["input"], expected=(spent * SOME["input_tokens"], spent)
        )
        bench.prove("checks denied", found=+denied, expected=Counter())
    beside = {"reference": "prometheus", "peers": ("limits-memory", "redis")}
    return [latency("agent.check, hard limit", samples, "µs", reach=at_most(3), **beside)]


@asynccontextmanager
async def connected(plane: ControlPlane, directory: Path) -> AsyncIterator[Agent]:
    """An agent in this process that forwards to `plane`."""
    key = await plane.new_key("AGENT")
    uplink = {"control_plane": plane.url, "api_key": key}
    async with Agent(Settings(service="bench", data_dir=directory, cell_dir=cells(), **uplink)) as agent:
        yield agent


def prove_stored(bench: Bench, directory: Path, events: int, ids: Collection[str] = ()) -> None:
    """The buffer that a stopped agent left holds `events`, each id once; exactly `ids`, where they are known."""
    [file] = directory.glob("*.sqlite3")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        stored = [msgpack.unpackb(body)[0] for (body,) in connection.execute("SELECT body FROM events")]
    bench.prove("events in the buffer", found=len(stored), expected=events)
    bench.prove("different ids in the buffer", found=len(set(stored)), expected=events)
    if ids:
        bench.prove("ids not answered", found=len(set(stored).symmetric_difference(ids)), expected=0)
