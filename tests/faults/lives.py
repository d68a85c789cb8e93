"""Whole lives of each program, short ones, each of which may be struck by one blow at a system call."""

import asyncio
import contextlib
import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from fakes import eventually
from processes import AgentProcess, ControlPlane, Program, forked
from zygote import zygote

from .oracle import Oracle, Tally
from .rig import QUICK, Deployment, deliver, deliver_straight, free_port, has_drained, running, sell
from .strace import Blow, Tracer, traced

__all__ = ["LIVES", "RESET", "Bench", "bench"]

SETTLED_WITHIN_S: Final = 3.0
ENDS_WITHIN_S: Final = 30.0
AGENT: Final = QUICK | {"SIDEMETER_KEEP_SENT_S": "0", "SIDEMETER_FLUSH_AFTER_S": "0.01"}
RESET: Final = "ECONNRESET"


@dataclass
class Bench:
    """What the lives of a round share: a control plane for those of agents, and a prepared database for the others."""

    plane: ControlPlane
    key: str
    prepared: Path
    prepared_key: str
    directory: Path
    rng: random.Random

    def place(self) -> Path:
        """A new directory; its name is short, because the path of a socket has to be."""
        return Path(tempfile.mkdtemp(prefix="", dir=self.directory))


Life = Callable[[Bench, Path, Blow | None], Awaitable[tuple[Tracer, Tally]]]


@asynccontextmanager
async def bench(rng: random.Random, directory: Path) -> AsyncIterator[Bench]:
    """Both control planes of a round: one that runs, and one that has stopped."""
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 -- nothing else happens yet
    prepared = directory / "prepared"
    prepared.mkdir()
    async with running(ControlPlane(prepared)) as plane:
        await plane.start()
        await _stock(plane)
        prepared_key = await plane.new_key("AGENT", "WRITE")
        assert await plane.stop() == 0
    async with running(ControlPlane(directory)) as plane:
        shutil.copy(prepared / "control.db", directory)
        await plane.start()
        key = await plane.new_key("AGENT")
        yield Bench(plane, key, prepared / "control.db", prepared_key, directory, rng)


async def _stock(plane: ControlPlane) -> None:
    """Meters, and a limit for one of the subjects, so that there is something to sync."""
    await sell(plane)
    await plane.make("createFeature", "FeatureInput", key="calls", meter="calls")
    cap = {"feature": "calls", "kind": "METERED", "limit": "1000000", "enforcement": "HARD"}
    await plane.make("publishPlan", "PlanInput", key="capped", currency="EUR", charges=[], entitlements=[cap])
    await plane.make("upsertCustomer", "CustomerInput", key="acme", currency="EUR")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="capped")


@asynccontextmanager
async def _struck(program: Program, blow: Blow | None) -> AsyncIterator[Tracer]:
    """Spawn the program under a tracer; after the block it has ended, by itself or killed, and may start again."""
    program.launch = lambda *how: zygote().launch(*how, traced=True)
    program.spawn()
    program.launch = forked
    assert program.process is not None
    async with traced(program.process, blow) as tracer:
        yield tracer
    await eventually(lambda: not program.running, ENDS_WITHIN_S)


async def _is_up(program: ControlPlane | AgentProcess) -> bool:
    """Wait until it serves; False when it has ended instead."""

    async def up_or_over() -> bool:
        with contextlib.suppress(AssertionError):  # it has ended
            return await program.ready()
        return True

    await eventually(up_or_over, ENDS_WITHIN_S)
    return program.running


async def _drained(agent: AgentProcess, program: Program) -> None:
    """Wait until everything is forwarded, as long as `program` lives, and not for long: a blow may have made it late."""

    async def drained_or_over() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return not program.running or await has_drained(agent)
        return False

    with contextlib.suppress(AssertionError):
        await eventually(drained_or_over, SETTLED_WITHIN_S, every_s=0.05)  # each question is one more write


async def _end(program: Program, blow: Blow | None) -> None:
    """SIGTERM; it must end by itself. Where the blow may fall on the byte by which Python hears of signals, once more."""
    assert program.process is not None
    program.process.send_signal(signal.SIGTERM)
    if blow is not None and blow.how == RESET:
        with contextlib.suppress(AssertionError):
            await eventually(lambda: not program.running, ENDS_WITHIN_S / 10)
        program.process.send_signal(signal.SIGTERM)
    await eventually(lambda: not program.running, ENDS_WITHIN_S)


async def _agent_at_work(agent: AgentProcess, blow: Blow | None, oracle: Oracle) -> None:
    """Record singly and in arrays, forward, settle, delete, learn a limit, stop."""
    if not await _is_up(agent):
        return
    with contextlib.suppress(httpx.HTTPError):
        await agent.http.post("/v1/check", json={"subject": "acme", "feature": "calls"})
    await deliver(oracle, agent, oracle.issue(1, own_ids=False))
    await deliver(oracle, agent, oracle.issue(3))
    await _drained(agent, agent)
    await asyncio.gather(*(deliver(oracle, agent, oracle.issue(count)) for count in (1, 2, 10)))
    await _drained(agent, agent)
    await deliver(oracle, agent, oracle.issue(1, own_ids=True))
    await _end(agent, blow)


async def _life_of_agent(it: Bench, place: Path, blow: Blow | None) -> tuple[Tracer, Tally]:
    return await _agent(it, place, blow, backlog=False)


async def _life_after_kill(it: Bench, place: Path, blow: Blow | None) -> tuple[Tracer, Tally]:
    return await _agent(it, place, blow, backlog=True)


async def _agent(it: Bench, place: Path, blow: Blow | None, *, backlog: bool) -> tuple[Tracer, Tally]:
    rng = random.Random(it.rng.random())
    oracle = Oracle(rng, others=True)
    async with running(AgentProcess(place / "agent", it.plane.url, it.key, **AGENT)) as agent:
        if backlog:
            agent.environ["SIDEMETER_FLUSH_AFTER_S"] = "60"
            await agent.start()
            assert await deliver(oracle, agent, oracle.issue(20))
            agent.kill()
            agent.environ |= AGENT
        async with _struck(agent, blow) as tracer:
            await _agent_at_work(agent, blow, oracle)
        return tracer, await Deployment(it.plane, [agent], oracle, rng).settle(prove_usage=False)


async def _plane_at_work(plane: ControlPlane, agent: AgentProcess, key: str, blow: Blow | None, oracle: Oracle) -> None:
    """Hello, sync, batches, events without an agent, a mutation, a question, stop."""
    await agent.start()
    await deliver(oracle, agent, oracle.issue(3))
    with contextlib.suppress(httpx.HTTPError):
        await agent.http.post("/v1/check", json={"subject": "acme", "feature": "calls"})
    await _drained(agent, plane)
    await deliver(oracle, agent, oracle.issue(5))
    await deliver_straight(oracle, plane, key, oracle.issue(4, own_ids=True))
    with contextlib.suppress(httpx.HTTPError, AssertionError):
        await plane.make("upsertCustomer", "CustomerInput", key="globex", currency="EUR")
    await _drained(agent, plane)
    await _end(plane, blow)


async def _life_of_plane(it: Bench, place: Path, blow: Blow | None) -> tuple[Tracer, Tally]:
    rng = random.Random(it.rng.random())
    oracle = Oracle(rng)
    shutil.copy(it.prepared, place)
    async with _both(place, it.prepared_key) as (plane, agent):
        async with _struck(plane, blow) as tracer:
            if await _is_up(plane):
                await _plane_at_work(plane, agent, it.prepared_key, blow, oracle)
        return tracer, await Deployment(plane, [agent], oracle, rng).settle()


@asynccontextmanager
async def _both(place: Path, key: str) -> AsyncIterator[tuple[ControlPlane, AgentProcess]]:
    async with running(ControlPlane(place)) as plane:
        plane.port = free_port()
        async with running(AgentProcess(place / "agent", plane.url, key, **AGENT)) as agent:
            yield plane, agent


async def _first_start(it: Bench, place: Path, blow: Blow | None) -> tuple[Tracer, Tally]:
    rng = random.Random(it.rng.random())
    oracle = Oracle(rng)
    async with running(ControlPlane(place)) as plane:
        plane.port = free_port()
        async with _struck(plane, blow) as tracer:
            if await _is_up(plane):
                await _end(plane, blow)
        await plane.start()
        await sell(plane)
        async with running(AgentProcess(place / "agent", plane.url, await plane.new_key("AGENT"), **AGENT)) as agent:
            return tracer, await Deployment(plane, [agent], oracle, rng).settle()


LIVES: Final[dict[str, Life]] = {
    "agent": _life_of_agent,
    "agent after a kill": _life_after_kill,
    "control plane": _life_of_plane,
    "new control plane": _first_start,
}
