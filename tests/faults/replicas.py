"""Three control planes on one PostgreSQL: any of them is killed, hangs or is restarted, and so are the server and the ways to it."""

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import asyncpg
import postgres

from .oracle import Tally
from .relay import Relay
from .rig import pause
from .shared import Fault, Shared, shared

__all__ = ["OF_PROGRAMS", "round", "skip_reason"]

DATABASE: Final = "sidemeter"
SWALLOWS_S: Final = (0.05, 0.4)
HANGS_S: Final = (1.0, 2.5)
HANGS_LONG_S: Final = 40.0
"""In every fourth round: longer than others wait until they end the connections of one that hangs."""

END_ALL: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"


def skip_reason() -> str | None:
    """Why this cannot be done here."""
    return None if postgres.programs() else "there is no PostgreSQL on this machine"


async def _planes_killed_in_turn(it: Shared) -> None:
    for plane in it.rng.sample(it.it.planes, len(it.it.planes)):
        plane.kill()
        await it.pause()
        await plane.start()


async def _plane_killed_after_answer(it: Shared) -> None:
    plane = it.plane()
    await it.spenders.after_answer(plane.kill)
    await plane.start()


async def _planes_killed_at_once(it: Shared) -> None:
    for plane in it.it.planes:
        plane.kill()
    await asyncio.gather(*(plane.start() for plane in it.it.planes))


async def _planes_restarted_in_turn(it: Shared) -> None:
    for plane in it.it.planes:
        assert await plane.stop() == 0
        await plane.start()


def _hangs(for_s: tuple[float, float]) -> Fault:
    async def fault(it: Shared) -> None:
        """Between any two of its system calls, with its connections, locks and open transactions, and goes on later."""
        plane = it.plane()
        assert plane.process is not None
        await pause(plane)
        try:
            await asyncio.sleep(it.rng.uniform(*for_s))
        finally:
            plane.process.send_signal(signal.SIGCONT)

    return fault


async def _agents_killed(it: Shared) -> None:
    agents = it.rng.sample(it.it.agents, 2)
    await it.spenders.after_answer(lambda: [agent.kill() for agent in agents])
    await asyncio.gather(*(agent.start() for agent in agents))


async def _cut(it: Shared) -> None:
    for each in it.budgets:
        await each.halve(it.it.plane)


async def _raised(it: Shared) -> None:
    for each in it.budgets:
        await each.rise(it.it.plane)


OF_PROGRAMS: Final[dict[str, Fault]] = {
    "control planes killed one after the other": _planes_killed_in_turn,
    "control plane killed right after an answer": _plane_killed_after_answer,
    "all control planes killed at once": _planes_killed_at_once,
    "control planes restarted one after the other": _planes_restarted_in_turn,
    "control plane that hangs for a while": _hangs(HANGS_S),
    "agents killed right after an answer": _agents_killed,
    "limits cut to half": _cut,
    "limits raised": _raised,
}
"""Faults of both programs, whatever database it is."""


def _of_server(server: postgres.Server, relay: Relay) -> dict[str, Fault]:
    async def ended(it: Shared) -> None:
        conn = await asyncpg.connect(server.url("postgres"))
        await conn.execute(END_ALL.replace("$1", f"'{DATABASE}'"))
        await conn.close()

    async def cut(it: Shared) -> None:
        for _ in range(3):
            relay.cut()
            await it.pause()

    async def swallowed(it: Shared) -> None:
        await relay.swallow(it.rng.uniform(*SWALLOWS_S))

    def stopped(mode: str) -> Fault:
        async def fault(it: Shared) -> None:
            await asyncio.to_thread(server.stop, mode)
            await it.pause()
            await asyncio.to_thread(server.start)

        return fault

    async def killed(it: Shared) -> None:
        await server.kill()
        await it.pause()
        await asyncio.to_thread(server.start)

    async def one_killed(_: Shared) -> None:
        server.kill_one()

    return {
        "connections ended by PostgreSQL": ended,
        "connections to PostgreSQL cut": cut,
        "answers of PostgreSQL swallowed, then cut": swallowed,
        "PostgreSQL stopped at once": stopped("immediate"),
        "PostgreSQL restarted": stopped("fast"),
        "PostgreSQL killed": killed,
        "a process of PostgreSQL killed": one_killed,
    }


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Every fault happens once, in any order, while callers send events and want more of hard limits than there is."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres.running())
        await server.execute(f"CREATE DATABASE {DATABASE}")
        here = server.directory / "relay"
        relay = await stack.enter_async_context(Relay(here, server.directory))
        it = await stack.enter_async_context(
            shared(rng, directory, server.url(DATABASE, here), read_at=server.url(DATABASE))
        )
        faults = OF_PROGRAMS | _of_server(server, relay)
        if getattr(rng, "n", 0) % 4 == 3:
            faults["control plane that hangs until others end its connections"] = _hangs((HANGS_LONG_S, HANGS_LONG_S))
        return await it.play(faults)
