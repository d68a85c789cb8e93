"""PostgreSQL that fails over under several control planes: what they said was counted or granted, the new leader has.

The leader is killed with its Patroni, its PostgreSQL alone is, it hangs until another one leads and goes on then, the standby
that commits wait for is killed, and an operator hands over; control planes and agents are killed meanwhile as well. Nobody
tells the control planes anything: they have the URL with all servers in it.
"""

import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from fakes import eventually

from .cluster import Cluster, Member, cluster, missing_tool
from .oracle import Tally
from .replicas import OF_PROGRAMS
from .shared import Fault, Shared, shared

__all__ = ["FAULTS", "round", "skip_reason"]

STANDBY_WITHIN_S: Final = 60.0
PROGRAMS: Final = (
    "control plane killed right after an answer",
    "agents killed right after an answer",
    "limits cut to half",
)


def skip_reason() -> str | None:
    """Why this cannot be done here."""
    return missing_tool()


async def _leader_killed(it: Shared, of: Cluster) -> None:
    """With all its processes, the moment somebody was allowed something; it comes back once another one leads."""
    old = await of.leader()
    await it.spenders.after_answer(lambda: old.program.signal(signal.SIGKILL))
    await old.program.kill()
    await of.leader(but=old)
    old.program.start()


async def _leader_hangs(it: Shared, of: Cluster) -> None:
    """With its connections open, until another one leads and takes writes; then it goes on as if nothing had been."""
    old = await of.leader()
    old.program.signal(signal.SIGSTOP)
    try:
        await of.leader(but=old)
        await it.accepts()
    finally:
        old.program.signal(signal.SIGCONT)


async def _server_killed(_: Shared, of: Cluster) -> None:
    (await of.leader()).kill_server()


async def _standby_killed(_: Shared, of: Cluster) -> None:
    standby = await _standby(of)
    await standby.program.kill()
    standby.program.start()


async def _standby(of: Cluster) -> Member:
    """The one that commits wait for, once there is one."""

    async def found() -> Member | None:
        for each in of.members:
            if await each.is_("sync", of.http):
                return each
        return None

    return await eventually(found, STANDBY_WITHIN_S, 0.1)


async def _handed_over(_: Shared, of: Cluster) -> None:
    await of.hand_over()


FAULTS: Final = {
    "leader killed": _leader_killed,
    "leader that hangs, and goes on when another one leads": _leader_hangs,
    "leader's PostgreSQL killed": _server_killed,
    "standby that commits wait for killed": _standby_killed,
    "leader handed over": _handed_over,
}


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Every fault happens once, in any order, while callers send events and want more of hard limits than there is."""
    async with AsyncExitStack() as stack:
        of = await stack.enter_async_context(cluster())
        it = await stack.enter_async_context(shared(rng, directory, of.url, read_at=of.url, planes=2))

        def on(fault: Callable[[Shared, Cluster], Awaitable[None]]) -> Fault:
            async def happens(to: Shared) -> None:
                await of.becomes_whole()  # nobody may lead after a leader that no standby has everything of
                await fault(to, of)
                await of.becomes_whole()

            return happens

        return await it.play(
            {name: on(fault) for name, fault in FAULTS.items()} | {name: OF_PROGRAMS[name] for name in PROGRAMS}
        )
