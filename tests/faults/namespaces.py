"""Agents behind cables that lose, hold and repeat packets: partitions, one way and both, half-open connections, drips."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processes import AgentProcess

from .cables import PERFECT, Cable, Quality, cable, missing_tools
from .oracle import Tally
from .rig import Deployment, at_work, deployed, traffic

__all__ = ["FAULTS", "round", "skip_reason"]

skip_reason = missing_tools

TIMES: Final = 2
PATIENCE_S: Final = 0.6
SILENT_S: Final = (0.8, 1.4)
"""How long nothing passes: longer than an agent waits for an answer, so that it gives up and tells nobody who hears it."""
BAD_S: Final = (0.5, 1.0)

NOTHING: Final = Quality(lost=1.0)


@dataclass(frozen=True, slots=True)
class Lane:
    """One agent, and the cable it hangs on."""

    it: Deployment
    agent: AgentProcess
    cable: Cable
    rng: random.Random

    async def suffer(self, fault: str) -> None:
        """Let one fault happen, and end."""
        await asyncio.sleep(self.rng.uniform(0.0, 0.2))
        await FAULTS[fault](self)
        self.cable.both(PERFECT)
        self.it.oracle.faults[fault] += 1


async def _plane_unheard(lane: Lane) -> None:
    lane.cable.out.quality = NOTHING
    await asyncio.sleep(lane.rng.uniform(*SILENT_S))


async def _agent_unheard(lane: Lane) -> None:
    lane.cable.back.quality = NOTHING
    await asyncio.sleep(lane.rng.uniform(*SILENT_S))


async def _half_open(lane: Lane) -> None:
    """Nothing passes while requests are under way; both sides give up, and no FIN or RST arrives anywhere."""
    lane.cable.both(NOTHING)
    await asyncio.sleep(lane.rng.uniform(*SILENT_S))


async def _agent_killed(lane: Lane) -> None:
    """The control plane goes on believing in the connections of the dead agent."""
    lane.cable.both(NOTHING)
    await asyncio.sleep(lane.rng.uniform(0.05, 0.3))
    lane.agent.kill()
    await lane.agent.start()
    await asyncio.sleep(lane.rng.uniform(*BAD_S))


async def _plane_killed(lane: Lane) -> None:
    """The agent goes on believing in its connections with a control plane that is another by now."""
    lane.cable.both(NOTHING)
    await asyncio.sleep(lane.rng.uniform(0.05, 0.3))
    lane.it.plane.kill()
    await lane.it.plane.start()


async def _no_route(lane: Lane) -> None:
    lane.cable.down()
    await asyncio.sleep(lane.rng.uniform(*SILENT_S))
    lane.cable.up()


def _quality(quality: Quality) -> Callable[[Lane], Awaitable[None]]:
    async def fault(lane: Lane) -> None:
        lane.cable.both(quality)
        await asyncio.sleep(lane.rng.uniform(*BAD_S))

    return fault


FAULTS: Final = {
    "what the control plane says is not heard": _plane_unheard,
    "what an agent says is not heard": _agent_unheard,
    "connections half open": _half_open,
    "agent killed behind a cut cable": _agent_killed,
    "control plane killed behind a cut cable": _plane_killed,
    "no route": _no_route,
    "a third of the packets lost": _quality(Quality(lost=0.33)),
    "packets late and out of order": _quality(Quality(held_s=0.02, jitter_s=0.2)),
    "packets twice": _quality(Quality(doubled=0.7, jitter_s=0.01)),
    "a slow drip": _quality(Quality(bytes_per_s=6_000)),
}


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Two agents, each in a namespace; every fault happens twice to one of them, in any order, two at a time."""
    async with behind_cables(rng, directory, agents=2) as (it, cables):
        it.traces_are_wrong = True
        faults = [fault for _ in range(TIMES) for fault in rng.sample(sorted(FAULTS), len(FAULTS))]
        lanes = [Lane(it, agent, cable, rng) for agent, cable in zip(it.agents, cables, strict=True)]
        async with at_work([traffic(it.oracle, agent, rng, 0.005) for agent in it.agents]):
            await asyncio.gather(*(_suffer(lane, faults[n :: len(lanes)]) for n, lane in enumerate(lanes)))
        return await it.settle()


async def _suffer(lane: Lane, faults: list[str]) -> None:
    for fault in faults:
        await lane.suffer(fault)


@asynccontextmanager
async def behind_cables(
    rng: random.Random, directory: Path, *, agents: int
) -> AsyncIterator[tuple[Deployment, list[Cable]]]:
    """A running deployment: the control plane on this host, each agent at the end of a cable of its own."""
    async with AsyncExitStack() as stack:
        cables = [await stack.enter_async_context(cable(rng)) for _ in range(agents)]
        it = await stack.enter_async_context(
            deployed(
                rng,
                directory,
                agents=agents,
                host=cables[0].near,
                launch=lambda n: cables[n].launch,
                SIDEMETER_REQUEST_TIMEOUT_S=str(PATIENCE_S),
            )
        )
        yield it, cables
