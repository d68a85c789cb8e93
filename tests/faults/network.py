"""A network that breaks requests and answers in every way, between agents and control plane, and callers and agents."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from processes import AgentProcess

from .oracle import Tally
from .proxy import ANSWERED_FOR_ANOTHER, FAULTS, REFUSED, REPLAYED, Proxy, named
from .rig import Deployment, at_work, deployed, traffic

__all__ = ["EVERY_FAULT", "TO_AGENTS", "TO_CALLERS", "Network", "network", "round"]

TO_AGENTS: Final = "to an agent"
TO_CALLERS: Final = "to a caller"
FAULTS_FOR_CALLERS: Final = tuple(fault for fault in FAULTS if fault != ANSWERED_FOR_ANOTHER)

EVERY_FAULT: Final = (
    *(named(fault, TO_AGENTS) for fault in (*FAULTS, REFUSED, REPLAYED)),
    *(named(fault, TO_CALLERS) for fault in (*FAULTS_FOR_CALLERS, REFUSED, REPLAYED)),
)

TIMES: Final = 2
PATIENCE_S: Final = 0.8
"""Of agents and callers alike. Shorter than the proxy's delays, longer than an answer of a busy machine takes."""

FAULTS_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose requests go through the proxy before one agent."""

    http: httpx.AsyncClient
    proxy: Proxy


@dataclass(frozen=True, slots=True)
class Network:
    """A deployment with one proxy before the control plane, and one before each agent, with a caller behind it."""

    it: Deployment
    proxy: Proxy
    callers: list[Caller]

    @property
    def proxies(self) -> list[Proxy]:
        return [self.proxy, *(caller.proxy for caller in self.callers)]

    async def heal(self) -> None:
        """Break nothing from now on."""
        for proxy in self.proxies:
            proxy.chance = 0.0


@asynccontextmanager
async def network(rng: random.Random, directory: Path, *, agents: int, **environ: str) -> AsyncIterator[Network]:
    """A running deployment whose every connection is breakable. Only callers with ids of their own belong behind it."""
    faults: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(rng, faults, TO_AGENTS))
        environ = {"SIDEMETER_REQUEST_TIMEOUT_S": str(PATIENCE_S)} | environ
        it = await stack.enter_async_context(deployed(rng, directory, agents=agents, through=proxy.to, **environ))
        it.oracle.faults = faults
        callers = [await stack.enter_async_context(_caller(rng, faults, agent)) for agent in it.agents]
        yield Network(it, proxy, callers)


@asynccontextmanager
async def _caller(rng: random.Random, faults: Counter[str], agent: AgentProcess) -> AsyncIterator[Caller]:
    async with (
        Proxy(rng, faults, TO_CALLERS, kinds=FAULTS_FOR_CALLERS) as proxy,
        httpx.AsyncClient(base_url=proxy.to(agent.socket)) as http,
    ):
        yield Caller(http, proxy)


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Two agents at work until every fault has happened twice; then everything that was ever sent is sent once more."""
    async with network(rng, directory, agents=2) as net:
        it = net.it
        it.traces_are_wrong = True
        through_proxies = [
            traffic(it.oracle, caller, rng, own_ids=True, timeout_s=PATIENCE_S) for caller in net.callers
        ]
        async with at_work([*through_proxies, *(traffic(it.oracle, agent, rng, 0.05) for agent in it.agents)]):
            async with asyncio.timeout(FAULTS_WITHIN_S):
                while not all(it.oracle.faults[fault] >= TIMES for fault in EVERY_FAULT):
                    await asyncio.sleep(rng.uniform(0.05, 0.3))
                    await _disturb(rng, net)
        await net.heal()
        await it.settle()
        for proxy in net.proxies:
            await proxy.replay(1 << 30)
        tally = await it.settle()
        known = (await it.plane.ask("{ agents { id } }"))["agents"]
        if len(known) != len(it.agents) and not it.oracle.faults["kill agent"]:
            tally.wrong.append(
                f"{len(it.agents)} agents are taken for {len(known)}: whom the network repeats is no clone"
            )
        return tally


async def _disturb(rng: random.Random, net: Network) -> None:
    """What a proxy does of its own accord, and now and then a kill."""
    match rng.randrange(6):
        case 0 | 1:
            await rng.choice(net.proxies).replay(10)
        case 2:
            await rng.choice(net.proxies).refuse(rng.uniform(0.02, 0.5))
        case 3:
            victim = rng.choice((*net.it.agents, net.it.plane))
            victim.kill()
            net.it.oracle.faults[f"kill {'control plane' if victim is net.it.plane else 'agent'}"] += 1
            await victim.start()
