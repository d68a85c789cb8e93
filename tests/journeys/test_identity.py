"""Clones, restored copies, restarts and control planes that forget: every acknowledged event counted, each once."""

import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from processes import ADMIN_KEY, AgentProcess, ControlPlane

from sidemeter import Agent, Settings
from sidemeter.buffer import Buffer
from sidemeter.clock import Clock
from sidemeter.volume import Volume

AGENTS = "{ agents { id epoch backlog state } }"
QUICK = {"SIDEMETER_FLUSH_AFTER_S": "0.02", "SIDEMETER_SYNC_INTERVAL_S": "0.1"}
USAGE = """{ usage(meter: "calls", from: "0001-01-01T00:00:00Z", to: "9999-01-01T00:00:00Z") { events } }"""


@asynccontextmanager
async def control_plane(directory: Path) -> AsyncIterator[ControlPlane]:
    """A running control plane, started often in these journeys."""
    with ControlPlane(directory) as plane:
        async with plane.http:
            await plane.start()
            yield plane


@asynccontextmanager
async def agent(directory: Path, plane: ControlPlane) -> AsyncIterator[AgentProcess]:
    """A running agent with the operator's key, which also a control plane that has forgotten every other takes."""
    with AgentProcess(directory, plane.url, ADMIN_KEY, **QUICK) as process:
        async with process.http:
            await process.start()
            yield process


async def define(plane: ControlPlane) -> None:
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")


class Calls:
    """Events that agents acknowledged; every one has to be counted once."""

    def __init__(self) -> None:
        self.acknowledged = 0

    async def through(self, process: AgentProcess, count: int) -> None:
        """Record so many new ones."""
        events = [
            {"id": f"{self.acknowledged + n}", "type": "call", "subject": "acme", "source": "journey"}
            for n in range(count)
        ]
        answer = await process.post("/v1/events", events)
        assert (answer["accepted"], answer["durability"]) == (count, "disk")
        self.acknowledged += count

    async def counted(self, plane: ControlPlane) -> None:
        """Return once all are counted; fails if there are more."""

        async def all_of_them() -> bool:
            found = sum(row["events"] for row in (await plane.ask(USAGE))["usage"])
            assert found <= self.acknowledged
            return found == self.acknowledged

        await eventually(all_of_them, 60)


async def known(plane: ControlPlane) -> list[dict[str, Any]]:
    return (await plane.ask(AGENTS))["agents"]


async def drained(plane: ControlPlane, agents: int) -> None:
    """Return once so many agents say that nothing waits with them."""

    async def nothing_waits() -> bool:
        found = await known(plane)
        return sum(each["backlog"] == 0 and each["state"] == "CONNECTED" for each in found) >= agents

    await eventually(nothing_waits, 60)


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is stopped"])
async def test_a_cloned_directory_with_both_alive_loses_nothing_and_both_are_seen(
    tmp_path: Path, running: bool
) -> None:
    calls = Calls()
    async with control_plane(tmp_path) as plane:
        await define(plane)
        async with agent(tmp_path / "a", plane) as original:
            await calls.through(original, 20)
            await calls.counted(plane)
            plane.kill()
            await calls.through(original, 20)  # what waits is in both copies
            if running:
                assert original.process is not None
                original.process.send_signal(signal.SIGSTOP)
            else:
                original.kill()
            shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("*.sock"))
            if running:
                original.process.send_signal(signal.SIGCONT)
            else:
                await original.start()
            await plane.start()
            async with agent(tmp_path / "b", plane) as clone:
                for _ in range(5):
                    await calls.through(original, 7)
                    await calls.through(clone, 5)
                await calls.counted(plane)
                await drained(plane, 2)
                found = await known(plane)
                assert len(found) >= 2
                assert len({each["id"] for each in found}) == len(found)
        await calls.counted(plane)


async def test_an_agent_restored_from_an_older_copy_goes_on_as_another(tmp_path: Path) -> None:
    calls = Calls()
    async with control_plane(tmp_path) as plane:
        await define(plane)
        async with agent(tmp_path / "a", plane) as process:
            await calls.through(process, 20)
            await calls.counted(plane)
            process.kill()
            shutil.copytree(tmp_path / "a", tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
            await process.start()
            await calls.through(process, 20)
            await calls.counted(plane)
            process.kill()
            for file in (tmp_path / "copy").iterdir():  # into the same files, so that they look like the original
                if file.is_file():
                    (tmp_path / "a" / file.name).write_bytes(file.read_bytes())
            await process.start()
            await calls.through(process, 20)
            await calls.counted(plane)
            await drained(plane, 1)


async def test_kills_at_any_moment_begin_no_new_epoch(tmp_path: Path) -> None:
    calls = Calls()
    async with control_plane(tmp_path) as plane:
        await define(plane)
        async with agent(tmp_path / "a", plane) as process:
            for _ in range(8):
                await calls.through(process, 5)
                process.kill()
                await process.start()
            await calls.through(process, 1)
            await calls.counted(plane)
            await drained(plane, 1)
        ((found),) = await known(plane)
        assert found["epoch"] == 1


@pytest.mark.parametrize("with_news", [True, False], ids=["agents that record", "an idle agent"])
async def test_a_control_plane_put_back_to_an_older_copy_gets_everything_again(tmp_path: Path, with_news: bool) -> None:
    calls = Calls()
    async with control_plane(tmp_path) as plane:
        await define(plane)
        async with agent(tmp_path / "a", plane) as one, agent(tmp_path / "b", plane) as other:
            for process in (one, other):
                await calls.through(process, 30)
            await calls.counted(plane)
            assert await plane.stop() == 0
            backup = plane.database.read_bytes()
            await plane.start()
            for process in (one, other):
                for _ in range(3):
                    await calls.through(process, 30)
                    await calls.counted(plane)
            assert await plane.stop() == 0
            plane.database.write_bytes(backup)
            for leftover in (".db-wal", ".db-shm"):
                plane.database.with_suffix(leftover).unlink(missing_ok=True)
            await plane.start()
            if with_news:
                await calls.through(one, 10)
            await calls.counted(plane)
            await drained(plane, 2)
        figures = (await plane.http.get(f"{plane.url}/metrics")).text
        (rollbacks,) = (line for line in figures.splitlines() if line.startswith("sidemeter_rollbacks_total"))
        assert float(rollbacks.rpartition(" ")[2]) >= 1
        assert "its generation is now" in plane.log.read_text()


async def test_an_empty_control_plane_gets_everything_that_is_kept(tmp_path: Path) -> None:
    calls = Calls()
    async with control_plane(tmp_path) as plane:
        await define(plane)
        async with agent(tmp_path / "a", plane) as running, agent(tmp_path / "b", plane) as stopped:
            for process in (running, stopped):
                for _ in range(3):
                    await calls.through(process, 30)
                    await calls.counted(plane)
            stopped.kill()
            assert await plane.stop() == 0
            for name in ("control.db", "control.db-wal", "control.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            await plane.start()
            await define(plane)
            await stopped.start()
            await calls.counted(plane)
            await drained(plane, 2)


class SameFile(Volume):
    """A volume as a snapshot of a whole machine brings it back: nothing shows that it is a copy."""

    def file_id(self, path: Path) -> str:
        return "1:1"


async def of_a_snapshot(directory: Path, clock: Clock) -> Buffer:
    return await Buffer.open(directory, clock, volume=SameFile(directory))


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "that record"])
async def test_two_machines_from_one_snapshot_are_told_apart_at_the_next_contact(tmp_path: Path, idle: bool) -> None:
    async with control_plane(tmp_path) as plane:
        await define(plane)

        def machine(name: str) -> Agent:
            return Agent(
                Settings(
                    service="journey",
                    data_dir=tmp_path / name,
                    control_plane=plane.url,
                    api_key=ADMIN_KEY,
                    flush_after_s=0.02,
                    sync_interval_s=0.1,
                ),
                open_buffer=of_a_snapshot,
            )

        async with machine("a") as agent:
            await agent.record("call", "acme", id="before")
            await eventually(lambda: agent.status().backlog_events == 0)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        async with machine("a") as one, machine("b") as other:
            if not idle:
                for n in range(5):
                    await one.record("call", "acme", id=f"one-{n}")
                    await other.record("call", "acme", id=f"other-{n}")
            await eventually(lambda: one.status().new_names + other.status().new_names >= 1, 30)
            await eventually(lambda: one.status().backlog_events + other.status().backlog_events == 0, 30)
            await drained(plane, 2)
            # Whoever comes second is told; the first is too, when it said something else with the same nonce before.
            new_names = one.status().new_names + other.status().new_names
            assert new_names in {1, 2}
        found = await known(plane)
        assert len(found) == 1 + new_names
        counted = sum(row["events"] for row in (await plane.ask(USAGE))["usage"])
        assert counted == (1 if idle else 11)
        figures = (await plane.http.get(f"{plane.url}/metrics")).text
        assert "sidemeter_rollbacks_total 0.0" in figures
