"""The agent as a process of its own, asked over its Unix socket; the control plane is away unless a limit is needed."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from processes import AgentProcess, agent, control_plane

from .agent import prove_stored
from .harness import Bench, Figure, at_least, at_most, latency, rate, resident_mb, timed
from .load import Load, load, post
from .traffic import CUSTOMER, EVENT_TYPE, FEATURE, data, sell

__all__ = ["checks", "events", "memory", "start"]

NOBODY = "http://127.0.0.1:1"  # refuses every connection at once
CONNECTIONS, ARRAY_CONNECTIONS = 64, 8
ARRAY = [{"type": EVENT_TYPE, "subject": CUSTOMER, "data": data(n)} for n in range(100)]
WAITING, WAITING_FULL = 100_000, 1_000_000
STARTS = 5


@asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[AgentProcess]:
    """An agent that cannot forward: all that it takes waits in its buffer, also after it ended."""
    with AgentProcess(directory, NOBODY, "smk_nobody", SIDEMETER_DRAIN_S="0") as process:
        async with process.http:
            yield process


async def events(bench: Bench) -> list[Figure]:
    """Each answered only when it is durable."""
    single = await _recorded(bench, bench.directory / "single", ARRAY[0], 1, CONNECTIONS)
    arrays = await _recorded(bench, bench.directory / "arrays", ARRAY, len(ARRAY), ARRAY_CONNECTIONS)
    return [
        rate(
            f"Unix socket: single events, {CONNECTIONS} connections",
            single.answers,
            single.seconds,
            "requests/s",
            reach=at_least(15_000),
            reference="asgi",
        ),
        latency("Unix socket: a single event", single.samples_s, "ms", of="p99", reach=at_most(15), reference="commit"),
        rate(
            f"Unix socket: arrays of {len(ARRAY)}",
            len(ARRAY) * arrays.answers,
            arrays.seconds,
            reach=at_least(100_000),
            reference="sqlite-blobs",
        ),
    ]


async def _recorded(bench: Bench, directory: Path, body: object, size: int, connections: int) -> Load:
    async with alone(directory) as process:
        await process.start()
        taken = f'"accepted":{size},'.encode()
        came = await load(
            process.socket, post("/v1/events", body), expect=taken, connections=connections, seconds=bench.seconds
        )
        bench.prove("exit code", found=await process.stop(), expected=0)
    prove_stored(bench, directory, size * came.answers)
    return came


async def checks(bench: Bench) -> list[Figure]:
    """Against a hard limit that the control plane gave; one connection for the time of one, many for the rate."""
    request = post("/v1/check", {"subject": CUSTOMER, "feature": FEATURE})
    allowed = b'"reason":"within_limit"'
    async with control_plane(bench.directory) as plane:
        await sell(plane)
        async with agent(bench.directory / "agent", plane) as process:
            one = await load(process.socket, request, expect=allowed, connections=1, seconds=bench.seconds / 2)
            many = await load(
                process.socket, request, expect=allowed, connections=CONNECTIONS, seconds=bench.seconds / 2
            )
            metrics = (await process.http.get("/metrics")).text
    answered = re.findall(r'answers_total\{route="/v1/check",status="200"\} (\d+)', metrics)
    bench.prove("checks answered", found=[int(each) for each in answered], expected=[one.answers + many.answers])
    return [
        rate("Unix socket: checks", many.answers, many.seconds, "requests/s", reach=at_least(20_000), reference="asgi"),
        latency("Unix socket: a check, one connection", one.samples_s, "µs", reach=at_most(150), reference="asgi-one"),
    ]


async def memory(bench: Bench) -> list[Figure]:
    """Resident, as the operating system counts it."""
    waiting = WAITING_FULL if bench.full else WAITING
    async with alone(bench.directory / "agent") as process:
        await process.start()
        assert process.process is not None
        idle = await resident_mb(process.process.pid)
        for _ in range(waiting // len(ARRAY)):
            await process.post("/v1/events", ARRAY)
        loaded = await resident_mb(process.process.pid)
        await process.stop()
    prove_stored(bench, bench.directory / "agent", waiting)
    return [
        Figure(name="agent memory, idle", value=idle, unit="MB", reach=at_most(70), reference="python-memory"),
        Figure(
            name=f"agent memory, {waiting:,} events waiting",
            value=loaded,
            unit="MB",
            reach=at_most(120),
            reference="python-memory",
        ),
    ]


async def start(bench: Bench) -> list[Figure]:
    """Until `import sidemeter` is done, and until a fresh agent says over its socket that it is ready."""
    imports, readies = [], []
    for n in range(STARTS):
        with timed() as took:
            importing = await asyncio.create_subprocess_exec(sys.executable, "-c", "import sidemeter")
            bench.prove("exit code", found=await importing.wait(), expected=0)
        imports.append(took())
        async with alone(bench.directory / f"agent-{n}") as process:
            with timed() as took:
                await process.start()
            readies.append(took())
            bench.prove("exit code", found=await process.stop(), expected=0)
    return [
        latency("import sidemeter", imports, "s", reference="python"),
        latency("agent process, started and ready", readies, "s", reach=at_most(0.5), reference="python"),
    ]
