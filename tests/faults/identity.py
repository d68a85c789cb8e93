"""Copies: agents restored from old ones, cloned, damaged and destroyed; the control plane's database rolled back and emptied."""

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from fakes import eventually
from processes import ADMIN_KEY, AgentProcess, without_settings

from .oracle import Tally
from .rig import QUICK, Deployment, at_work, deliver, deployed, traffic

__all__ = ["FAULTS", "Place", "command", "round"]

A_WHILE_S: Final = (0.2, 0.6)
NOTICED_WITHIN_S: Final = 30.0
COMMAND_WITHIN_S: Final = 60.0
PAGE_BYTES: Final = 4096
PAGES_DAMAGED: Final = 8


class Place:
    """A deployment whose parts are copied and put back, and where the copies are."""

    def __init__(self, it: Deployment, directory: Path, rng: random.Random, stack: AsyncExitStack) -> None:
        self.it = it
        self.rng = rng
        self.stack = stack
        self._directory = directory
        self._copies = 0

    @property
    def oracle(self):
        return self.it.oracle

    def fresh(self) -> Path:
        """A path where nothing is yet."""
        self._copies += 1
        return self._directory / f"copy-{self._copies}"

    async def work(self) -> None:
        """Everybody works for a while, or the control plane is away meanwhile and the agents gather a backlog."""
        away = self.rng.random() < 0.4
        if away:
            self.it.plane.kill()
        async with at_work([traffic(self.oracle, agent, self.rng) for agent in self.it.agents if agent.running]):
            await asyncio.sleep(self.rng.uniform(*A_WHILE_S))
        if away:
            await self.it.plane.start()

    async def end(self, agent: AgentProcess) -> None:
        """The agent ends, this way or the other."""
        if self.rng.random() < 0.5:
            await agent.stop()
        else:
            agent.kill()

    def copy(self, agent: AgentProcess) -> Path:
        """A copy of an agent's directory as it is now."""
        return Path(shutil.copytree(agent.data, self.fresh(), ignore=shutil.ignore_patterns("*.sock")))

    async def copy_alive(self, agent: AgentProcess) -> Path:
        """A copy of a directory that its agent goes on writing to, file after file."""
        copy = self.fresh()
        async with at_work([traffic(self.oracle, agent, self.rng, 0.001)]):
            await asyncio.to_thread(_copy_files, agent.data, copy)
        return copy

    async def put_back(self, agent: AgentProcess, copy: Path) -> None:
        """The copy takes the place of the directory: as new files, or with its bytes in the old ones."""
        if self.rng.random() < 0.5:
            shutil.rmtree(agent.data)
            agent.data.mkdir(mode=0o700)
        for file in agent.data.iterdir():
            if not (copy / file.name).exists():
                file.unlink() if not file.is_dir() else shutil.rmtree(file)
        await asyncio.to_thread(_copy_files, copy, agent.data)


def _copy_files(source: Path, target: Path) -> None:
    """As `cp -r` does it, one file after the other; what was there is written over."""
    target.mkdir(mode=0o700, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.is_dir():
            _copy_files(file, target / file.name)
        elif file.is_file():
            shutil.copyfile(file, target / file.name)


async def _restored(place: Place) -> None:
    """An agent goes back to how its directory was before; what only the newer one held is gone."""
    agent = place.rng.choice(place.it.agents)
    await place.end(agent)
    kept = set(place.oracle.kept[agent])
    copy = place.copy(agent)
    await agent.start()
    await place.work()
    await place.end(agent)
    await place.put_back(agent, copy)
    place.oracle.destroyed_at(agent, place.it.plane.database, but=kept)
    await agent.start()


async def _restored_from_alive(place: Place) -> None:
    agent = place.rng.choice(place.it.agents)
    kept = set(place.oracle.kept[agent])
    copy = await place.copy_alive(agent)
    await place.work()
    await place.end(agent)
    await place.put_back(agent, copy)
    place.oracle.destroyed_at(agent, place.it.plane.database, but=kept)
    await agent.start()


async def _cloned(place: Place) -> None:
    """Two agents come out of one directory, and both live on."""
    agent = place.rng.choice(place.it.agents)
    await place.end(agent)
    copy = place.copy(agent)
    await agent.start()
    await _begin(place, agent, copy)


async def _cloned_alive(place: Place) -> None:
    agent = place.rng.choice(place.it.agents)
    await _begin(place, agent, await place.copy_alive(agent))


async def _begin(place: Place, agent: AgentProcess, copy: Path) -> None:
    clone = AgentProcess(copy, place.it.plane.url, agent.environ["SIDEMETER_API_KEY"], **QUICK)
    place.stack.enter_context(clone)
    await place.stack.enter_async_context(clone.http)
    await clone.start()
    place.it.agents.append(clone)


async def _destroyed(place: Place) -> None:
    agent = place.rng.choice(place.it.agents)
    await place.end(agent)
    shutil.rmtree(agent.data)
    place.oracle.destroyed_at(agent, place.it.plane.database)
    await agent.start()


async def _damaged(place: Place) -> None:
    """Pages of an agent's database are zeroed: what they held of events is declared, also to an older control plane."""
    agent = place.rng.choice(place.it.agents)
    await place.end(agent)
    database = agent.data / "buffer.sqlite3"
    pages = database.stat().st_size // PAGE_BYTES
    with database.open("r+b") as file:
        for page in place.rng.sample(range(pages), min(pages, PAGES_DAMAGED)):
            file.seek(page * PAGE_BYTES)
            file.write(bytes(PAGE_BYTES))
    await agent.start()


async def _second(place: Place) -> None:
    """Another agent on the same directory is refused, and the first goes on."""
    agent = place.rng.choice(place.it.agents)
    second = AgentProcess(agent.data, place.it.plane.url, "smk_any", place.fresh().with_suffix(".log"))
    second.arguments[-1] = str(place.fresh())
    with second:
        async with second.http:
            second.spawn()
            assert await second.exit_code() == 1
    assert str(agent.data) in second.log.read_text()
    assert agent.running
    assert await deliver(place.oracle, agent, place.oracle.issue(1), 30.0)


async def _rolled_back(place: Place) -> None:
    """The control plane's database is copied while it is stopped, and the copy put back later: nobody says so."""
    plane = place.it.plane
    plane.kill()
    copy = place.fresh()
    _copy_database(plane.database, copy)
    await plane.start()
    await place.work()
    plane.kill()
    _copy_database(copy, plane.database)
    place.oracle.rolled_back(plane.database)
    await plane.start()


async def _restored_by_command(place: Place) -> None:
    """A backup of the running control plane, restored as its operator would."""
    plane = place.it.plane
    backup = place.fresh()
    async with at_work([traffic(place.oracle, agent, place.rng) for agent in place.it.agents]):
        await command("backup", str(backup), "--url", plane.url)
    await place.work()
    await plane.stop()
    await command("restore", str(backup), "--database", f"sqlite:///{plane.database}")
    place.oracle.rolled_back(plane.database)
    await plane.start()


def _emptied(copy: Path) -> Callable[[Place], Awaitable[None]]:
    async def fault(place: Place) -> None:
        """The database as it was when the keys and meters were made, and nothing else."""
        plane = place.it.plane
        plane.kill()
        _copy_database(copy, plane.database)
        place.oracle.rolled_back(plane.database)
        await plane.start()

    return fault


def _copy_database(source: Path, target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file, copy = source.with_name(source.name + suffix), target.with_name(target.name + suffix)
        copy.unlink(missing_ok=True)
        if file.exists():
            shutil.copyfile(file, copy)


async def command(*arguments: str) -> None:
    """Run `sidemeter-control` with these arguments; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidemeter_control.cli", *arguments),
        env=without_settings(SIDEMETER_ADMIN_KEY=ADMIN_KEY),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(COMMAND_WITHIN_S):
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()


FAULTS: Final[dict[str, Callable[[Place], Awaitable[None]]]] = {
    "agent restored from an old copy": _restored,
    "agent restored from a copy made while it ran": _restored_from_alive,
    "agent cloned, both alive": _cloned,
    "agent cloned while it ran": _cloned_alive,
    "agent's directory destroyed": _destroyed,
    "agent's database damaged": _damaged,
    "second agent on one directory": _second,
    "control plane rolled back": _rolled_back,
    "control plane restored from a backup": _restored_by_command,
    "control plane replaced by an empty one": _emptied(Path()),
}


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Two agents at work; every fault happens once, in any order, and those that were cloned go on as well."""
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(deployed(rng, directory, agents=2))
        it.oracle.destroyed = True
        it.traces_are_wrong = True
        it.arrives_within_s = NOTICED_WITHIN_S
        place = Place(it, directory, rng, stack)
        it.plane.kill()
        empty = place.fresh()
        _copy_database(it.plane.database, empty)
        await it.plane.start()
        for fault in rng.sample(sorted(FAULTS), len(FAULTS)):
            await place.work()
            await (_emptied(empty) if fault.endswith("empty one") else FAULTS[fault])(place)
            it.oracle.faults[fault] += 1
        await place.work()
        tally = await it.settle()
        await eventually(lambda: _each_has_a_name(it), NOTICED_WITHIN_S)
        return tally


async def _each_has_a_name(it: Deployment) -> bool:
    """Whether the control plane knows every living agent by a name of its own: no two live under one."""
    known = (await it.plane.ask("{ agents { id } }"))["agents"]
    return len(known) >= len(it.agents)
