"""Power cuts: nothing that was not synced is there afterwards, neither of the agent's disk nor of the control plane's."""

import asyncio
import random
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from processes import Program

from .mounts import Disk, ext4, missing_tool, scatter
from .oracle import Tally
from .rig import Deployment, at_work, deliver_straight, deployed, pause, traffic

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
            on: dict[str, Program] = {"agent": agent, "plane": it.plane}
            callers = [traffic(it.oracle, agent, rng) for _ in range(CALLERS)]
            async with at_work([*callers, _straight(it, key)]):
                for _ in range(CUTS):
                    await asyncio.sleep(rng.uniform(0.05, 0.5))
                    hit = rng.choice((["agent"], ["agent"], ["plane"], ["agent", "plane"]))
                    await _cut([(on[name], disks[name]) for name in hit], rng)
                    for name in hit:
                        await on[name].start()
                    it.oracle.faults[f"power cut {' and '.join(hit)}".replace("plane", "control plane")] += 1
            return await it.settle()


async def _cut(hit: list[tuple[Program, Disk]], rng: random.Random) -> None:
    """Cut the power of some disks, with part of what was not synced on them; what runs there finds out, or dies at once."""
    for program, _ in hit:
        await pause(program)
    for _, disk in hit:
        if rng.random() < 0.5:
            scatter(disk, rng)
        disk.cut()
    if rng.random() < 0.5:
        for program, _ in hit:
            program.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(rng.uniform(0.0, 0.1))
    for program, disk in hit:
        program.kill()
        await disk.restore()


async def _straight(it: Deployment, key: str) -> None:
    """A caller without an agent: nobody else could send its events again."""
    while True:
        await deliver_straight(it.oracle, it.plane, key, it.oracle.issue(it.rng.choice((1, 5)), own_ids=True))
        await asyncio.sleep(0.01)
