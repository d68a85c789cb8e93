"""Several control planes on one PostgreSQL, to be broken: agents and callers come to any of them, and none is its own.

Whoever asks is sent to the next, request by request. Callers send events to agents, others straight to control planes, and a
third kind wants more of hard limits than there is. So a round is judged as all are: by what was acknowledged and is stored, by
what meters say at each of them, and by what was allowed.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from fakes import eventually
from processes import ADMIN_KEY, AgentProcess, ControlPlane
from replicas import balanced, control_planes_of

from .leftovers import wrong_with
from .oracle import Event, Oracle, Tally
from .rig import Deployment, at_work, deployed, traffic
from .spending import Budget, Spenders, sell_limits

__all__ = ["AGENTS", "PLANES", "Fault", "Shared", "shared"]

PLANES: Final = 3
AGENTS: Final = 3
STRAIGHT: Final = 3
"""Callers that go to control planes: one that hangs keeps one of them."""
SPENDERS: Final = 2
EVENTS: Final = 60
PAUSE_S: Final = 0.1
PATIENCE_S: Final = 10.0
"""Longer than one hangs: who gave up sooner would ask again while what it asked first is still done, on a busy machine."""
A_WHILE_S: Final = (0.05, 0.35)
WELL_WITHIN_S: Final = 90.0
"""After a fault: the last control plane that answers from its database again."""
EXHAUSTED_WITHIN_S: Final = 30.0


@dataclass
class Shared:
    """Control planes with their agents and callers. `through` is where each request goes to the next of them."""

    it: Deployment
    through: httpx.AsyncClient
    budgets: list[Budget]
    spenders: Spenders
    rng: random.Random
    faults: Counter[str]
    silences_ms: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    last_s: float = field(default_factory=time.monotonic)
    longest_s: float = 0.0

    def plane(self) -> ControlPlane:
        """Any of them."""
        return self.rng.choice(self.it.planes)

    def agent(self) -> AgentProcess:
        """Any of them."""
        return self.rng.choice(self.it.agents)

    async def is_well(self) -> bool:
        """Whether every control plane answers from its database."""
        return all([await _answers(plane) for plane in self.it.planes])

    async def pause(self) -> None:
        """Let everybody work for a moment."""
        await asyncio.sleep(self.rng.uniform(*A_WHILE_S))

    async def after(self, name: str, fault: "Fault") -> None:
        """Let it happen; all heal by themselves, and for how long nobody accepted anything is written down."""
        await self.pause()
        self.longest_s = 0.0
        await fault(self)
        await self.accepts()
        await eventually(self.is_well, WELL_WITHIN_S)
        self.silences_ms[name].append(round(1000 * self.longest_s))
        self.faults[name] += 1
        print(f"{name}: nothing was accepted for {self.longest_s:.2f} s", flush=True)
        for each in self.budgets:
            if each.is_short and self.rng.random() < 0.5:
                await each.rise(self.it.plane)

    async def accepts(self) -> None:
        """Wait until somebody's events were accepted, from now on."""
        now_s = time.monotonic()
        await eventually(lambda: self.last_s > now_s, WELL_WITHIN_S)

    async def straight(self) -> None:
        """A caller without an agent, that sends to one control plane after the other until it is cancelled."""
        oracle = self.it.oracle
        while True:
            again = oracle.to_repeat(10) if self.rng.random() < 0.3 else []
            events = again or oracle.issue(self.rng.choice((1, 2, 20)), own_ids=True)
            if await self._sent(oracle, events):
                now_s = time.monotonic()
                self.longest_s, self.last_s = max(self.longest_s, now_s - self.last_s), now_s
            await asyncio.sleep(PAUSE_S)

    async def _sent(self, oracle: Oracle, events: Sequence[Event]) -> bool:
        oracle.left_open(events)
        try:
            answer = await self.through.post("/v1/events", json=events)
        except httpx.HTTPError:
            return False
        assert answer.status_code in {202, 502, 503}, f"{answer.status_code}: {answer.text}"
        if answer.status_code == 202:
            oracle.answered(events)
        return answer.status_code == 202

    async def play(self, faults: Mapping[str, "Fault"]) -> Tally:
        """Everybody works while each of them happens once, in any order; then all that is left is asked for, and judged."""
        rng, agents = self.rng, self.it.agents
        callers = [self.spenders.caller(PAUSE_S) for _ in range(SPENDERS)]
        callers += [self.straight() for _ in range(STRAIGHT)]
        callers += [traffic(self.it.oracle, agent, rng, PAUSE_S) for agent in agents]
        async with at_work(callers):
            for name in rng.sample(sorted(faults), len(faults)):
                await self.after(name, faults[name])
        return await self._judged()

    async def _judged(self) -> Tally:
        for each in self.budgets:
            await each.rise(self.it.plane)
        await self.spenders.exhaust(self.it.plane, EXHAUSTED_WITHIN_S)
        tally = await self.it.settle()
        for budget in self.budgets:
            tally.wrong += budget.wrong
            for plane in self.it.planes:
                tally.wrong += await wrong_with(budget, plane, self.it.agents, self.faults)
        tally.silences_ms = dict(self.silences_ms)
        return tally


Fault = Callable[[Shared], Awaitable[None]]


async def _answers(plane: ControlPlane) -> bool:
    try:
        found = await plane.http.post(f"{plane.url}/graphql", json={"query": "{ recovery { since } }"}, timeout=5)
    except httpx.HTTPError:
        return False
    return found.status_code == 200 and not found.json().get("errors")


@asynccontextmanager
async def shared(
    rng: random.Random, directory: Path, url: str, *, read_at: str, planes: int = PLANES, agents: int = AGENTS
) -> AsyncIterator[Shared]:
    """So many control planes on the database at `url`, which is empty, with agents and what callers want. The oracle reads it
    by a way of its own, `read_at`."""
    faults: Counter[str] = Counter()
    cells = directory / "cells"
    cells.mkdir()
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(control_planes_of(url, directory, planes))
        door = await stack.enter_async_context(balanced(running, PATIENCE_S))
        own = {"SIDEMETER_REQUEST_TIMEOUT_S": str(PATIENCE_S), "SIDEMETER_CELL_DIR": str(cells)}
        own |= {"SIDEMETER_SYNC_INTERVAL_S": "0.5", "SIDEMETER_FLUSH_AFTER_S": "0.05"}
        it = await stack.enter_async_context(
            deployed(rng, directory, agents=agents, planes=running, through=lambda _: door, **own)
        )
        it.oracle.faults, it.traces_are_wrong, it.kept_in = faults, True, read_at
        summed = {"eventType": "fault.call", "aggregation": "SUM", "valueProperty": "cost"}
        await it.plane.make("createMeter", "MeterInput", key="costs", **summed)
        budgets = sell_limits(EVENTS)
        for budget in budgets:
            await budget.sell(it.plane)
        key = {"Authorization": f"Bearer {ADMIN_KEY}"}
        through = httpx.AsyncClient(base_url=door, headers=key, timeout=PATIENCE_S)
        await stack.enter_async_context(through)
        yield Shared(it, through, budgets, Spenders(it.oracle, it.agents, budgets, rng), rng, faults)
