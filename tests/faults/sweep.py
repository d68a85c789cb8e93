"""The sweep: a whole life of each program, struck at one system call after the other.

Each scenario is lived once under strace to count its calls, then once for each call and each thing that can be done to
it. The n-th round takes the n-th of `PARTS` parts of that; the parts together strike every call from the first to the last.
"""

import asyncio
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .lives import LIVES, RESET, Bench, bench
from .oracle import Oracle, Tally, Turn
from .rig import Deployment
from .strace import Blow, Tracer, missing_tool

__all__ = ["PARTS", "round", "skip_reason", "strike"]

PARTS: Final = 100
LANES: Final = 3
TRIES: Final = 3

SENDS: Final = frozenset({"write", "writev", "sendto", "sendmsg"})
FILLS: Final = frozenset({"pwrite64", "pwritev", "pwritev2"})

skip_reason = missing_tool


def _what_can_happen(call: str) -> tuple[str, ...]:
    """A kill after a write into a file is the kill before whatever comes next."""
    if call in SENDS:
        return "kill before", "kill after", "delay", RESET
    if call in FILLS:
        return "kill before", "EIO", "ENOSPC"
    return "kill before", "kill after", "delay", "EIO", "ENOSPC"


def _blows(tracer: Tracer) -> Iterator[Blow]:
    for first_thread in (True, False):
        for call, last in sorted(tracer.counts(first_thread=first_thread).items()):
            for how in _what_can_happen(call):
                yield from (Blow(call, at, how, first_thread) for at in range(1, last + 1))


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """One part of the sweep; which one, the number of the turn says."""
    part = rng.n if isinstance(rng, Turn) else rng.randrange(PARTS)
    async with bench(rng, directory) as it:
        total = Tally()
        due: list[tuple[str, Blow]] = []
        for scenario, life in LIVES.items():
            tracer, tally = await life(it, it.place(), None)
            total += tally
            for blow in _blows(tracer):
                where = _where(scenario, blow)
                total.calls[where] = max(blow.at, total.calls.get(where, 0))
                if zlib.crc32(f"{scenario} {blow}".encode()) % PARTS == part % PARTS:
                    due.append((scenario, blow))
        waiting = iter(due)

        async def lane() -> None:
            nonlocal total
            for scenario, blow in waiting:
                total += await strike(it, scenario, blow)

        await asyncio.gather(*(lane() for _ in range(LANES)))
        total += await Deployment(it.plane, [], Oracle(rng, others=True), rng).settle()
        total.rounds = 1
        return total


async def strike(it: Bench, scenario: str, blow: Blow) -> Tally:
    """Lives with one blow until it has fallen, a few at most, for no two are quite the same; and what became of them."""
    total = Tally()
    for _ in range(TRIES):
        total += (tally := await _strike(it, scenario, blow))
        if tally.swept or tally.wrong:
            break
    return total


async def _strike(it: Bench, scenario: str, blow: Blow) -> Tally:
    place = it.place()
    try:
        tracer, tally = await LIVES[scenario](it, place, blow)
    except Exception as exc:  # noqa: BLE001 -- the next blow shall fall all the same, and this one be named
        logs = "\n".join(log.read_text(errors="replace")[-2000:] for log in sorted(place.glob("*.log")))
        return Tally(wrong=[f"{scenario}: {blow}: {type(exc).__name__}: {exc}\n{logs}"])
    tally.wrong = [f"{scenario}: {blow}: {wrong}" for wrong in tally.wrong]
    if tally.lost or tally.doubled:
        tally.wrong.append(f"{scenario}: {blow}: lost {tally.lost}, doubled {tally.doubled}: {tracer.struck}")
    if tracer.struck:
        tally.faults = Counter([f"{blow.how} at {_where(scenario, blow)}"])
        tally.swept = {f"{_where(scenario, blow)}: {blow.how}": [blow.at]}
    if not tally.wrong:
        shutil.rmtree(place)
    return tally


def _where(scenario: str, blow: Blow) -> str:
    return f"{blow.call} of the {scenario}" + (", first thread" if blow.first_thread else "")
