"""Wall clocks set to anything: either program in 1970, ten years ahead, or stepping back in the middle of its work."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from fakes import eventually
from processes import AgentProcess, ControlPlane, Process
from zygote import Zygote

from .oracle import Oracle, Tally
from .rig import Deployment, at_work, deliver, deployed, traffic

__all__ = ["EVERY_FAULT", "REPLAYED", "WallClock", "round", "skip_reason"]

LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), Path("/nowhere"))

DAY_S: Final = 86_400
YEAR_S: Final = 365 * DAY_S
FIRST_INSTANT: Final = "1970-01-01T00:00:00Z"
"""Before every clock of a round: an event of then is of the future nowhere."""

ERAS: Final[dict[str, Callable[[], float]]] = {
    "in 1970": lambda: DAY_S - time.time(),
    "ten years ahead": lambda: 10 * YEAR_S,
    "stepping back": lambda: -0.5 * DAY_S,
}
"""How far a clock is from the right time, in seconds; one that steps back does so again and again."""

STEPS: Final = 5
A_STEP_S: Final = 0.1
ARRIVES_WITHIN_S: Final = 30.0
"""Time for the agent to find a control plane again that was started anew, on a busy machine."""

FAULTS: Final = {
    program: (
        *(f"{program} {era}" for era in ERAS),
        f"{program} started in 1970",
        f"{program} started ten years ahead",
    )
    for program in ("agent", "control plane")
}
EVERY_FAULT: Final = tuple(fault for faults in FAULTS.values() for fault in faults)
REPLAYED: Final = "dead letter counted after all"

A_PAGE: Final = 100
LETTERS: Final = """query($after: String) {
  deadLetters(first: 100, after: $after) { edges { node { id } } pageInfo { hasNextPage endCursor } }
}"""
REPLAY: Final = "mutation($ids: [ID!]!) { replayDeadLetters(ids: $ids) { replayed } }"


def skip_reason() -> str | None:
    """Why no clock can be set here, if that is so."""
    return None if LIBRARY.exists() else "needs libfaketime (package libfaketime)"


class WallClock:
    """What programs take for the time of day. Their monotonic clock stays real, as on a machine whose clock is set.

    A context manager, which ends every program that reads it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0.0)
        library = file.with_suffix(".so")
        library.write_bytes(_without_waits(LIBRARY))
        self._environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self._zygote = Zygote(**self._environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zygote.close()

    def set(self, ahead_s: float) -> None:
        """Be so far ahead of the right time; negative: behind."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{ahead_s:+.6f}")
        written.replace(self._file)  # a program reads it at every look, and must not find half of it

    def launch(self, arguments: list[str], environ: dict[str, str], log: Path) -> Process:
        """A program that reads this clock."""
        return self._zygote.launch(arguments, environ | self._environ, log)


def _without_waits(library: Path) -> bytes:
    """The library, offering no `pthread_cond_timedwait` of its own.

    That takes the deadline of a monotonic wait for a time of day, so it ends at once, and each thread that waits for the
    interpreter spins. The first place that says the name is the table of what the library offers.
    """
    name = b"\0pthread_cond_timedwait\0"
    return library.read_bytes().replace(name, b"\0pthread_cond_timedwai_\0", 1)


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Two agents and a control plane, each with a clock of its own; nothing but recorded times may change."""
    async with AsyncExitStack() as stack:
        plane, *agents = (stack.enter_context(WallClock(directory / f"clock-{n}")) for n in range(3))
        it = await stack.enter_async_context(
            deployed(rng, directory, agents=2, launch=lambda n: agents[n].launch, launch_plane=plane.launch)
        )
        it.traces_are_wrong = True
        it.traces_are_wrong = True
        callers = [caller(it.oracle, agent, rng) for agent in it.agents]
        callers += [traffic(it.oracle, agent, rng, 0.05, time=FIRST_INSTANT) for agent in it.agents]
        async with at_work(callers):
            await asyncio.gather(_agents_suffer(it, agents), _plane_suffers(it, plane))
        for clock in (*agents, plane):
            clock.set(0.0)
        await it.settle()
        it.oracle.faults[REPLAYED] += await _replay_letters(it)
        it.oracle.bad = {tag: code for tag, code in it.oracle.bad.items() if "time" not in it.oracle.issued[tag]}
        return await it.settle()


async def caller(oracle: Oracle, agent: AgentProcess, rng: random.Random) -> None:
    """Sends events of now, by the agent's clock or by the oracle's: of the future for a control plane in another era."""
    while True:
        events = oracle.issue(3, time=rng.choice((None, "2026-01-01T00:00:00Z")), bad="time_in_future")
        await deliver(oracle, agent, events)
        await asyncio.sleep(0.1)


async def _agents_suffer(it: Deployment, clocks: list[WallClock]) -> None:
    for fault in it.rng.sample(FAULTS["agent"], len(FAULTS["agent"])):
        n = it.rng.randrange(len(clocks))
        await _set(fault, it.agents[n], clocks[n])
        await _see_one_through(it, it.agents[n])
        it.oracle.faults[fault] += 1


async def _plane_suffers(it: Deployment, clock: WallClock) -> None:
    for fault in it.rng.sample(FAULTS["control plane"], len(FAULTS["control plane"])):
        await _set(fault, it.plane, clock)
        await _see_one_through(it, it.rng.choice(it.agents))
        it.oracle.faults[fault] += 1


async def _replay_letters(it: Deployment) -> int:
    """Have every dead letter counted after all, as far as it can be by the right time; how many could."""
    ids: list[str] = []
    page: dict[str, Any] = {"hasNextPage": True, "endCursor": None}
    while page["hasNextPage"]:
        found = (await it.plane.ask(LETTERS, after=page["endCursor"]))["deadLetters"]
        ids += [edge["node"]["id"] for edge in found["edges"]]
        page = found["pageInfo"]
    replayed = 0
    for n in range(0, len(ids), A_PAGE):
        replayed += (await it.plane.ask(REPLAY, ids=ids[n : n + A_PAGE]))["replayDeadLetters"]["replayed"]
    return replayed


async def _set(fault: str, program: AgentProcess | ControlPlane, clock: WallClock) -> None:
    era = next(era for era in ERAS if fault.endswith(era))
    if "started" in fault:
        program.kill()
        clock.set(ERAS[era]())
        await program.start()
    for step in range(STEPS if era == "stepping back" else 1):
        clock.set(ERAS[era]() * (step + 1))
        await asyncio.sleep(A_STEP_S)


async def _see_one_through(it: Deployment, agent: AgentProcess) -> None:
    """A fresh event gets through while the clocks are as they are."""
    (fresh,) = it.oracle.issue(1, own_ids=True, time=None, bad="time_in_future")
    await eventually(lambda: deliver(it.oracle, agent, [fresh]))
    await eventually(lambda: it.oracle.has_arrived(it.plane.database, fresh), ARRIVES_WITHIN_S)
