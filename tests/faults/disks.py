"""Disks that are full, read-only, failing or slow, and file descriptors that run out: under both programs, with traffic.

Nothing is restarted, unless a fault says so: what a program refused it takes again once its disk takes it.
"""

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from fakes import eventually
from processes import AgentProcess, Process, Program

from . import mounts, strace
from .mounts import Disk, ext4, fill
from .oracle import Tally
from .rig import Deployment, at_work, deliver, deliver_straight, deployed, has_drained, has_ended, pause, post, traffic
from .strace import tampered

__all__ = ["FAULTS", "round", "skip_reason"]

DISK_MIB: Final = 64
NOTICED_WITHIN_S: Final = 20.0
BACK_WITHIN_S: Final = 30.0
STOPS_WITHIN_S: Final = 20.0
ANSWERS_WITHIN_S: Final = 2.0
HANGS_S: Final = 0.7
HANGING: Final = f"fdatasync:delay_enter={int(HANGS_S * 1e6)}"
HANGING_FOR_LONG: Final = f"fdatasync:delay_enter={int(10 * STOPS_WITHIN_S * 1e6)}"
WRITES: Final = "openat,write,pwrite64,ftruncate,fallocate,unlink,mkdir"


def skip_reason() -> str | None:
    """Why this cannot be done here."""
    return mounts.missing_tool() or strace.missing_tool()


@dataclass(frozen=True)
class Place:
    """A deployment, with each program's files on a disk of its own, and the key of a caller without an agent."""

    it: Deployment
    disk: Disk
    plane_disk: Disk
    key: str

    @property
    def agent(self) -> AgentProcess:
        return self.it.agents[0]

    async def refuses(self, status: int = 507) -> None:
        """Wait until the agent clearly refuses to record, and see that it does what needs no disk."""

        async def refused() -> bool:
            return await post(self.it.oracle, self.agent, self.it.oracle.issue(20, pad=2000)) == status

        await eventually(refused, NOTICED_WITHIN_S)
        await self.answers()

    async def answers(self) -> None:
        """The agent must live and check, and soon."""
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            for path in ("/healthz", "/metrics"):
                assert (await self.agent.http.get(path)).status_code == 200
            question = {"subject": "acme", "feature": "calls"}
            assert (await self.agent.http.post("/v1/check", json=question)).status_code == 200

    async def records(self) -> None:
        """Wait until the agent records again."""

        async def recorded() -> bool:
            return await deliver(self.it.oracle, self.agent, self.it.oracle.issue(20, pad=2000))

        await eventually(recorded, BACK_WITHIN_S)

    async def drains(self) -> None:
        """Wait until nothing waits to be sent."""
        await eventually(lambda: has_drained(self.agent), BACK_WITHIN_S)

    async def takes_straight(self, *, yes: bool) -> None:
        """Wait until the control plane does, or does not, take events without an agent."""

        async def taken() -> bool:
            events = self.it.oracle.issue(50, own_ids=True, pad=2000)
            return await deliver_straight(self.it.oracle, self.it.plane, self.key, events) == yes

        await eventually(taken, BACK_WITHIN_S)


async def _agent_full(place: Place) -> None:
    """Full to the last byte while there is a backlog: it is sent all the same, and deleted by the keep rule."""
    if place.it.rng.random() < 0.5:
        await _again(place.agent)
    _signal(place.it.plane.process, signal.SIGSTOP)
    try:
        await place.records()
        filler = fill(place.disk.root)
        await place.refuses()
    finally:
        _signal(place.it.plane.process, signal.SIGCONT)
    await place.drains()
    await place.answers()
    filler.unlink()
    await place.records()


async def _agent_starts_full(place: Place) -> None:
    """Killed with a backlog, its disk full when it starts again: it starts, and sends what it holds."""
    place.agent.environ["SIDEMETER_FLUSH_AFTER_S"] = "30"
    await _again(place.agent)
    assert await deliver(place.it.oracle, place.agent, place.it.oracle.issue(50))
    place.agent.kill()
    place.agent.environ["SIDEMETER_FLUSH_AFTER_S"] = "0.02"
    filler = fill(place.disk.root)
    await place.agent.start()
    await place.drains()
    filler.unlink()
    await place.records()


async def _plane_full(place: Place) -> None:
    """The control plane refuses and answers; the agent goes on, and sends it all later. At times it has just started."""
    if place.it.rng.random() < 0.5:
        place.it.plane.kill()
        await place.it.plane.start()
    filler = fill(place.plane_disk.root)
    await place.takes_straight(yes=False)
    async with asyncio.timeout(ANSWERS_WITHIN_S):
        assert await place.it.plane.ready()
    assert await deliver(place.it.oracle, place.agent, place.it.oracle.issue(50))
    filler.unlink()
    await place.takes_straight(yes=True)
    await place.drains()


async def _agent_read_only(place: Place) -> None:
    async with _read_only(place.agent.process, place.agent.data):
        await place.refuses()
    await place.records()


async def _plane_read_only(place: Place) -> None:
    async with _read_only(place.it.plane.process, place.plane_disk.root):
        await place.takes_straight(yes=False)
        assert await place.it.plane.ready()
    await place.takes_straight(yes=True)


async def _agent_broken(place: Place) -> None:
    """An error of the file system, which is read-only from then on; it is mounted anew, and only then the agent starts."""
    await _break(place.disk, place.agent)
    await place.refuses()
    if place.it.rng.random() < 0.5:
        _signal(place.agent.process, signal.SIGTERM)  # a commit in doubt holds up no stop
        await eventually(lambda: not place.agent.running, STOPS_WITHIN_S)
    place.agent.kill()
    await place.disk.restore()
    await place.agent.start()


async def _break(disk: Disk, program: Program) -> None:
    """Between two system calls: an fsync under way would say that all is well, and lie."""
    await pause(program)
    disk.forbid()
    _signal(program.process, signal.SIGCONT)


async def _plane_broken(place: Place) -> None:
    await _break(place.plane_disk, place.it.plane)
    await place.takes_straight(yes=False)
    assert await deliver(place.it.oracle, place.agent, place.it.oracle.issue(50))
    place.it.plane.kill()
    await place.plane_disk.restore()
    await place.it.plane.start()


async def _agent_hangs(place: Place) -> None:
    """Nobody hears of a success before the disk does, and nothing else waits for it."""
    async with tampered(place.agent.process, HANGING):
        began_s = time.monotonic()
        recording = asyncio.create_task(post(place.it.oracle, place.agent, place.it.oracle.issue(5), 30.0))
        while not recording.done():
            await place.answers()
            await asyncio.sleep(0.05)
        assert time.monotonic() - began_s >= HANGS_S, "acknowledged before its fsync"
        assert await recording == 202


async def _agent_hangs_at_its_stop(place: Place) -> None:
    """It waits a while for its disk, and then ends by itself; its caller has no answer, or one that says so."""
    async with tampered(place.agent.process, HANGING_FOR_LONG) as strace:
        recording = asyncio.create_task(post(place.it.oracle, place.agent, place.it.oracle.issue(5), 30.0))
        await eventually(lambda: _waits_for_disk(place.agent), NOTICED_WITHIN_S)
        _signal(place.agent.process, signal.SIGTERM)
        await eventually(lambda: has_ended(place.agent), STOPS_WITHIN_S)
        strace.kill()
    await eventually(lambda: not place.agent.running)
    assert await recording in {None, 504}
    await place.agent.start()
    await place.records()


async def _plane_hangs(place: Place) -> None:
    async with tampered(place.it.plane.process, HANGING):
        began_s = time.monotonic()
        events = place.it.oracle.issue(5, own_ids=True)
        taking = asyncio.create_task(deliver_straight(place.it.oracle, place.it.plane, place.key, events))
        while not taking.done():
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                assert await place.it.plane.ready()
            await asyncio.sleep(0.05)
        if await taking:
            assert time.monotonic() - began_s >= HANGS_S, "acknowledged before its fsync"


async def _agent_without_descriptors(place: Place) -> None:
    async with _no_descriptors(place.agent.process):
        for _ in range(5):
            await post(place.it.oracle, place.agent, place.it.oracle.issue(5))
        assert place.agent.running
    await place.records()


async def _plane_without_descriptors(place: Place) -> None:
    async with _no_descriptors(place.it.plane.process):
        for _ in range(5):
            await deliver_straight(place.it.oracle, place.it.plane, place.key, place.it.oracle.issue(5, own_ids=True))
        assert place.it.plane.running
    await place.takes_straight(yes=True)


FAULTS: Final[dict[str, Callable[[Place], Awaitable[None]]]] = {
    "disk full agent": _agent_full,
    "disk full agent at its start": _agent_starts_full,
    "disk full control plane": _plane_full,
    "disk read-only agent": _agent_read_only,
    "disk read-only control plane": _plane_read_only,
    "disk broken agent": _agent_broken,
    "disk broken control plane": _plane_broken,
    "disk hangs agent": _agent_hangs,
    "disk hangs agent at its stop": _agent_hangs_at_its_stop,
    "disk hangs control plane": _plane_hangs,
    "no descriptors agent": _agent_without_descriptors,
    "no descriptors control plane": _plane_without_descriptors,
}


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Each of these faults once, full disks twice, in any order, with a caller at work all the time."""
    with ExitStack() as stack:
        disk, plane_disk = (stack.enter_context(ext4(directory / name, DISK_MIB)) for name in ("agent", "plane"))
        async with deployed(rng, directory, database=plane_disk.root, data=disk.root) as it:
            place = Place(it, disk, plane_disk, await it.plane.new_key("WRITE"))
            async with at_work([traffic(it.oracle, place.agent, rng, 0.02)]):
                names = [*FAULTS, *(name for name in FAULTS if name.startswith("disk full"))]
                for name in rng.sample(names, len(names)):
                    await _befall(name, place)
            return await it.settle()


async def _befall(name: str, place: Place) -> None:
    try:
        await FAULTS[name](place)
    except (AssertionError, TimeoutError, httpx.HTTPError) as exc:
        exc.add_note(f"during: {name}, after {dict(place.it.oracle.faults)}")
        raise
    place.it.oracle.faults[name] += 1


@asynccontextmanager
async def _read_only(program: Process | None, directory: Path) -> AsyncIterator[None]:
    """What an emergency makes of a file system, but for a while: it refuses whatever would change a file of it."""
    assert program is not None
    async with tampered(program, f"{WRITES}:error=EROFS", _files(directory)):
        yield


@asynccontextmanager
async def _no_descriptors(program: Process | None) -> AsyncIterator[None]:
    """Inside the block the program gets no file descriptor more than it has."""
    assert program is not None
    taken = len(os.listdir(f"/proc/{program.pid}/fd"))  # noqa: PTH208 -- nothing but the number is asked for
    soft, hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (taken, hard))
    try:
        yield
    finally:
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (soft, hard))


async def _waits_for_disk(agent: AgentProcess) -> bool:
    return "sidemeter_agent_pending_events 0.0\n" not in (await agent.http.get("/metrics")).text


def _files(directory: Path) -> list[Path]:
    """The files of a program, those that are there now and then too."""
    return [directory / name for name in {each.name for each in directory.iterdir()} | {"probe", "ballast"}]


def _signal(program: Process | None, number: int) -> None:
    assert program is not None
    program.send_signal(number)


async def _again(agent: AgentProcess) -> None:
    agent.kill()
    await agent.start()
