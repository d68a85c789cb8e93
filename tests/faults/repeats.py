"""Whatever was acknowledged is sent again later: through the same agent, through another, and without one."""

import asyncio
import random
from pathlib import Path
from typing import Final

from processes import AgentProcess

from .oracle import Event, Tally
from .rig import Deployment, deliver, deployed

__all__ = ["round"]

EVENTS: Final = 300
LATER_S: Final = 1.0


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Every event goes in once, and then again by each way, in other arrays and another order."""
    async with deployed(rng, directory, agents=2) as it:
        events = it.oracle.issue(EVENTS, own_ids=True)
        assert await deliver(it.oracle, it.agents[0], events)
        await asyncio.sleep(rng.uniform(0.3, LATER_S))
        for agent in (*it.agents, None):
            rng.shuffle(events)
            for some in _cut(events, rng):
                await _again(it, agent, some)
        return await it.settle()


def _cut(events: list[Event], rng: random.Random) -> list[list[Event]]:
    size = rng.randint(1, 100)
    return [events[n : n + size] for n in range(0, len(events), size)]


async def _again(it: Deployment, agent: AgentProcess | None, events: list[Event]) -> None:
    it.oracle.faults["repeated through " + ("an agent" if agent else "no agent")] += len(events)
    if agent is None:
        answer = await it.plane.http.post(f"{it.plane.url}/v1/events", json=events)
        assert answer.status_code == 202, answer.text
    else:
        assert await deliver(it.oracle, agent, events)
