"""Power cuts: nothing that was not synced is there afterwards, neither of the agent's disk nor of the control plane's."""

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .mounts import ext4, missing_tool
from .oracle import Tally
from .rig import Deployment, deliver_straight, deployed, traffic

__all__ = ["CUTS", "round", "skip_reason"]

CUTS: Final = 6
CALLERS: Final = 3
DISK_MIB: Final = 160
"""What recording leaves free, and room for the traffic of a round."""

skip_reason = missing_tool


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Callers at work, and the power of one disk or both goes at any moment; programs on it end soon after."""
    with ExitStack() as stack:
        disks = {name: stack.enter_context(ext4(directory / name, DISK_MIB)) for name in ("agent", "plane")}
        async with deployed(rng, directory, database=disks["plane"].root, data=disks["agent"].root) as it:
            (agent,) = it.agents
            key = await it.plane.new_key("WRITE")
            await it.plane.stop()  # the keys are on the disk now, whatever else is not
            await it.plane.start()
            on = {"agent": agent, "plane": it.plane}
            callers = [asyncio.create_task(traffic(it.oracle, agent, rng)) for _ in range(CALLERS)]
            callers.append(asyncio.create_task(_straight(it, key)))
            for _ in range(CUTS):
                await asyncio.sleep(rng.uniform(0.05, 0.5))
                hit = rng.choice((["agent"], ["agent"], ["plane"], ["agent", "plane"]))
                for name in hit:
                    disks[name].cut()
                await asyncio.sleep(rng.choice((0.0, rng.uniform(0.0, 0.1))))
                for name in hit:
                    on[name].kill()
                    disks[name].restore()
                for name in hit:
                    await on[name].start()
                it.oracle.faults[f"power cut {' and '.join(hit)}".replace("plane", "control plane")] += 1
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
            tally = await it.settle()
            errors = [caller.exception() for caller in callers if not caller.cancelled()]
            assert not errors, errors
            return tally


async def _straight(it: Deployment, key: str) -> None:
    """A caller without an agent: nobody else could send its events again."""
    while True:
        await deliver_straight(it.oracle, it.plane, key, it.oracle.issue(it.rng.choice((1, 5)), own_ids=True))
        await asyncio.sleep(0.01)
