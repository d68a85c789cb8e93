"""Every commit of the control plane's life, killed as soon as it is on the disk: what belongs together must be in it."""

import asyncio
import random
from pathlib import Path
from typing import Final

from .lives import LIVES, bench
from .oracle import Tally
from .strace import Blow, missing_tool
from .sweep import strike

__all__ = ["round", "skip_reason"]

SYNCS: Final = ("fdatasync", "fsync")
LANES: Final = 3
SCENARIO: Final = "control plane"

skip_reason = missing_tool


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """One life for each sync, ended right after it."""
    async with bench(rng, directory) as it:
        tracer, total = await LIVES[SCENARIO](it, it.place(), None)
        blows = iter(
            [
                Blow(call, at, "kill after", first_thread)
                for first_thread in (True, False)
                for call, last in tracer.counts(first_thread=first_thread).items()
                if call in SYNCS
                for at in range(1, last + 1)
            ]
        )

        async def lane() -> None:
            nonlocal total
            while not total.broken and (blow := next(blows, None)):  # one that is broken says enough
                total += await strike(it, SCENARIO, blow)

        await asyncio.gather(*(lane() for _ in range(LANES)))
        total.rounds, total.swept = 1, {}  # how much of the whole sweep is done is the sweep's to say
        return total
