"""Hard limits while everything breaks: eight agents share two of them, and callers want several times as much.

What is promised, and judged at every answer: at no moment has more been allowed of a limit than the highest that was in
force up to then. A limit that is cut grants nothing that it has not got: from then on no more is allowed in all than
holders had at that moment, or the new limit if that is more. What a restored control plane knows is older; it may also
be of before a change of the limit, and then goes by the limit of then.

What callers count: what an agent allowed and told them; of a reservation what its operation cost, which is all that was
reserved where they never said. So what they count has happened, whatever became of the agent.

And it is not lost for nothing: when the faults have stopped, what is left of a limit is in doubt (the holder that had it is
gone), or was taken by a request whose answer nobody heard, but for one unit for each agent. A control plane that was
restored while a holder is gone that only the newer one knew waits for an operator's word, and grants nothing meanwhile.

Not in it: a cell that is put back from a copy together with its directory. What is in memory is of one run of the machine.
"""

import asyncio
import contextlib
import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fakes import eventually
from processes import AgentProcess, ControlPlane

from .identity import Place, command
from .leftovers import wrong_with
from .oracle import Tally
from .proxy import TWICE, Proxy
from .rig import QUICK, Deployment, at_work, deployed
from .spending import Budget, Spenders, sell_limits

__all__ = ["FAULTS", "round"]

AGENTS: Final = 8
CALLERS: Final = 10
EVENTS: Final = 60
PAUSE_S: Final = 0.02
A_WHILE_S: Final = (0.05, 0.35)
LATE: Final = 3
"""Faults after which one is late in the round."""

BACK_WITHIN_S: Final = 60.0
"""All agents, after the control plane was away: each waits for longer the longer that took."""

KNOWN_WITHIN_S: Final = 20.0
"""After the faults: what is not known again by then is gone."""

NOTICED_WITHIN_S: Final = 30.0
TO_AGENT: Final = "to an agent"

WAYS: Final = {
    "no way there": ("a request dropped",),
    "no way back": ("no byte of the answer", "silence for an answer", "half a body"),
    "late": ("an answer that is late", "a request that arrives after its sender gave up"),
    "repeated": (TWICE,),
}


@dataclass
class Contest:
    """A deployment with a proxy before the control plane for each agent, and the callers that want more than there is."""

    it: Deployment
    place: Place
    budgets: list[Budget]
    spenders: Spenders
    proxies: list[Proxy]
    rng: random.Random
    faults: Counter[str]
    begun: int = 0
    """How many of the faults."""

    def agent(self) -> AgentProcess:
        """Any of them."""
        return self.rng.choice(self.it.agents)

    def cell_of(self, agent: AgentProcess) -> Path:
        """The directory of its cell."""
        return Path(agent.environ["SIDEMETER_CELL_DIR"])

    async def has_recovered(self) -> bool:
        """Whether the control plane grants again."""
        return (await self.it.plane.ask("{ recovery { since } }"))["recovery"] is None

    async def refill(self) -> None:
        """So that there is something to fight over until the end, however quick callers are."""
        for each in self.budgets:
            if each.is_short and self.rng.random() < 0.5:
                await each.rise(self.it.plane)

    def heal(self) -> None:
        """Every agent reaches the control plane again."""
        for proxy in self.proxies:
            proxy.chance = 0.0


async def _struck(program: AgentProcess | ControlPlane) -> None:
    program.kill()
    await program.start()


async def _agent_killed(it: Contest) -> None:
    await _struck(it.agent())


async def _agent_killed_after_answer(it: Contest) -> None:
    agents = it.rng.sample(it.it.agents, 3)
    await it.spenders.after_answer(lambda: [agent.kill() for agent in agents])
    await asyncio.gather(*(agent.start() for agent in agents))


async def _plane_killed(it: Contest) -> None:
    await _struck(it.it.plane)


async def _plane_killed_after_answer(it: Contest) -> None:
    await it.spenders.after_answer(it.it.plane.kill)
    await it.it.plane.start()


async def _plane_restarted(it: Contest) -> None:
    assert await it.it.plane.stop() == 0
    await it.it.plane.start()


def _partition(kinds: tuple[str, ...]) -> Callable[[Contest], Awaitable[None]]:
    async def fault(it: Contest) -> None:
        """It lasts over the next fault, or not."""
        for proxy in it.rng.sample(it.proxies, 3):
            proxy.only(kinds)
        await asyncio.sleep(it.rng.uniform(0.3, 0.6))
        if TWICE in kinds:
            await asyncio.gather(*(proxy.replay(5) for proxy in it.proxies))

    return fault


async def _cloned(it: Contest) -> None:
    """The copy is made while its agent runs, with its cell, and both live on."""
    agent = it.agent()
    copy, cell = await it.place.copy_alive(agent), it.place.fresh()
    shutil.copytree(it.cell_of(agent), cell)
    proxy = await it.place.stack.enter_async_context(_proxy(it.rng, it.faults))
    environ = QUICK | {"SIDEMETER_CELL_DIR": str(cell)}
    key = agent.environ["SIDEMETER_API_KEY"]
    clone = it.place.stack.enter_context(AgentProcess(copy, proxy.to(it.it.plane.url), key, **environ))
    await it.place.stack.enter_async_context(clone.http)
    await clone.start()
    it.proxies.append(proxy)
    it.it.agents.append(clone)


def _restored(*, with_cell: bool) -> Callable[[Contest], Awaitable[None]]:
    async def fault(it: Contest) -> None:
        """The directory goes back to how it was, and its cell does not: that is newer, or gone."""
        agent = it.agent()
        await it.place.end(agent)
        kept, copy = set(it.it.oracle.kept[agent]), it.place.copy(agent)
        await agent.start()
        await asyncio.sleep(it.rng.uniform(*A_WHILE_S))
        await it.place.end(agent)
        await it.place.put_back(agent, copy)
        it.it.oracle.destroyed_at(agent, it.it.plane.database, but=kept)
        if not with_cell:
            _delete(it.cell_of(agent))
        await agent.start()

    return fault


async def _cell_deleted(it: Contest) -> None:
    """Under a living agent, or a dead one."""
    agent = it.agent()
    if it.rng.random() < 0.5:
        agent.kill()
        _delete(it.cell_of(agent))
    else:
        _delete(it.cell_of(agent))
        await asyncio.sleep(it.rng.uniform(*A_WHILE_S))
        agent.kill()
    await agent.start()


def _delete(cells: Path) -> None:
    for cell in cells.iterdir():
        cell.unlink()


async def _plane_restored(it: Contest) -> None:
    """From a backup that was made while it ran. It knows that it is older, and waits for its holders, which are all there.

    One that comes late in the round does so while the last faults strike: then a holder may be gone before it told.
    """
    plane, backup = it.it.plane, it.place.fresh()
    await command("backup", str(backup), "--url", plane.url)
    await asyncio.sleep(it.rng.uniform(*A_WHILE_S))
    assert await plane.stop() == 0
    await command("restore", str(backup), "--database", f"sqlite:///{plane.database}")
    it.it.oracle.rolled_back(plane.database)
    for each in it.budgets:
        each.forget_ceiling()
    await plane.start()
    if len(FAULTS) - it.begun > LATE:
        it.heal()
        with contextlib.suppress(AssertionError):  # a holder was gone before the backup knew it
            await eventually(it.has_recovered, BACK_WITHIN_S)


async def _cut(it: Contest) -> None:
    for each in it.budgets:
        await each.halve(it.it.plane)
    await asyncio.sleep(it.rng.uniform(*A_WHILE_S))


async def _raised(it: Contest) -> None:
    for each in it.budgets:
        await each.rise(it.it.plane)


FAULTS: Final[dict[str, Callable[[Contest], Awaitable[None]]]] = {
    "agent killed": _agent_killed,
    "agents killed right after an answer": _agent_killed_after_answer,
    "control plane killed": _plane_killed,
    "control plane killed right after an answer": _plane_killed_after_answer,
    "control plane restarted": _plane_restarted,
    "control plane restored from a backup while holders spend": _plane_restored,
    "agent cloned with its cell while it ran": _cloned,
    "agent restored from an old copy, its cell newer": _restored(with_cell=True),
    "agent restored from an old copy, its cell gone": _restored(with_cell=False),
    "cell deleted": _cell_deleted,
    "limits cut to half": _cut,
    "limits raised": _raised,
    **{f"partition, {way}": _partition(kinds) for way, kinds in WAYS.items()},
}


def _proxy(rng: random.Random, faults: Counter[str]) -> Proxy:
    return Proxy(rng, faults, TO_AGENT, chance=0.0)


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Every fault happens once, in any order, while callers want more than there is; then all that is left is asked for."""
    async with AsyncExitStack() as stack:
        contest = await _begun(rng, directory, stack)
        it = contest.it
        async with at_work([contest.spenders.caller(PAUSE_S) for _ in range(CALLERS)]):
            for fault in rng.sample(sorted(FAULTS), len(FAULTS)):
                await asyncio.sleep(rng.uniform(*A_WHILE_S))
                contest.begun += 1
                await FAULTS[fault](contest)
                contest.faults[fault] += 1
                await contest.refill()
                if rng.random() < 0.5:
                    contest.heal()
        contest.heal()
        with contextlib.suppress(AssertionError):
            await eventually(contest.has_recovered, KNOWN_WITHIN_S)
        await _raised(contest)
        await contest.spenders.exhaust(it.plane, BACK_WITHIN_S)
        tally = await it.settle()
        for budget in contest.budgets:
            tally.wrong += budget.wrong + await wrong_with(budget, it.plane, it.agents, contest.faults)
        return tally


async def _begun(rng: random.Random, directory: Path, stack: AsyncExitStack) -> Contest:
    faults: Counter[str] = Counter()
    proxies = [await stack.enter_async_context(_proxy(rng, faults)) for _ in range(AGENTS)]
    unused = iter(proxies)
    cells = [directory / f"cell-{n}" for n in range(AGENTS)]
    for cell in cells:
        cell.mkdir()
    it = await stack.enter_async_context(
        deployed(
            rng,
            directory,
            agents=AGENTS,
            through=lambda url: next(unused).to(url),
            environ_of=lambda n: {"SIDEMETER_CELL_DIR": str(cells[n])},
            SIDEMETER_REQUEST_TIMEOUT_S="2",
        )
    )
    it.oracle.faults, it.oracle.destroyed, it.arrives_within_s = faults, True, NOTICED_WITHIN_S
    it.traces_are_wrong = True
    summed = {"eventType": "fault.call", "aggregation": "SUM", "valueProperty": "cost"}
    await it.plane.make("createMeter", "MeterInput", key="costs", **summed)
    budgets = sell_limits(EVENTS)
    for budget in budgets:
        await budget.sell(it.plane)
    spenders = Spenders(it.oracle, it.agents, budgets, rng)
    return Contest(it, Place(it, directory, rng, stack), budgets, spenders, proxies, rng, faults)
