"""kill -9 of either program, at any moment, again and again."""

import asyncio
import random
from pathlib import Path
from typing import Final

from .oracle import Tally
from .rig import deployed, traffic

__all__ = ["round"]

KILLS: Final = 20


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """One control plane, one agent, callers at work; both are killed and started again in any order."""
    async with deployed(rng, directory) as it:
        it.traces_are_wrong = True
        (agent,) = it.agents
        callers = [asyncio.create_task(traffic(it.oracle, agent, rng)) for _ in range(2)]
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.02, 0.4))
            victim = rng.choice((agent, agent, it.plane))
            victim.kill()
            it.oracle.faults[f"kill {'agent' if victim is agent else 'control plane'}"] += 1
            await victim.start()
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        tally = await it.settle()
        errors = [caller.exception() for caller in callers if not caller.cancelled()]
        assert not errors, errors
        return tally
