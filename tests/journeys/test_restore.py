"""A control plane is backed up under load, goes on, burns down and is restored: the agents make it whole again (P11)."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes import eventually
from processes import ADMIN_KEY, AgentProcess, ControlPlane, control_plane, run

USAGE = """{ usage(meter: "calls", from: "2000-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z") { value events } }"""
CONTROL = (sys.executable, "-m", "sidemeter_control.cli")


class Service:
    """Records one event after the other, and remembers which were acknowledged."""

    def __init__(self, process: AgentProcess, name: str) -> None:
        self._process = process
        self._name = name
        self._numbers = itertools.count()
        self.acknowledged = 0

    async def record(self) -> None:
        number = next(self._numbers)
        events = [
            {"id": f"{self._name}-{number}-{n}", "type": "call", "subject": "acme", "data": {"n": 1}} for n in range(5)
        ]
        answer = await self._process.post("/v1/events", events)
        assert answer["accepted"] == 5
        self.acknowledged += 5

    async def record_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.record()


@asynccontextmanager
async def started(directory: Path, plane: ControlPlane, key: str) -> AsyncIterator[AgentProcess]:
    with AgentProcess(directory, plane.url, key) as process:
        async with process.http:
            await process.start()
            yield process


async def used(plane: ControlPlane) -> tuple[int, int]:
    rows = (await plane.ask(USAGE))["usage"]
    return (int(rows[0]["value"]), rows[0]["events"]) if rows else (0, 0)


async def test_what_was_counted_after_the_backup_comes_back_from_the_agents_each_event_once(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with control_plane(tmp_path) as plane:
        await plane.make(
            "createMeter", "MeterInput", key="calls", eventType="call", aggregation="SUM", valueProperty="n"
        )
        key = await plane.new_key("AGENT")  # before the backup: keys come back as they were then
        async with started(tmp_path / "one", plane, key) as one, started(tmp_path / "two", plane, key) as two:
            services = [Service(one, "one"), Service(two, "two")]

            async def all_counted() -> bool:
                issued = sum(each.acknowledged for each in services)
                return await used(plane) == (issued, issued)

            for service in services:
                await service.record()
            await eventually(all_counted, 60)

            stop = asyncio.Event()
            load = [asyncio.create_task(service.record_until(stop)) for service in services]
            await asyncio.to_thread(
                run, *CONTROL, "backup", str(backup), "--url", plane.url, SIDEMETER_ADMIN_KEY=ADMIN_KEY
            )
            held = sum(each.acknowledged for each in services)
            await eventually(lambda: sum(each.acknowledged for each in services) > held + 200, 60)
            async with started(tmp_path / "late", plane, key) as late:  # of which the backup knows nothing
                services.append(Service(late, "late"))
                await services[-1].record()
                stop.set()
                await asyncio.gather(*load)
                await eventually(all_counted, 60)

                plane.kill()
                await asyncio.to_thread(
                    run, *CONTROL, "restore", str(backup), "--database", f"sqlite:///{plane.database}"
                )
                await plane.start()
                restored, _ = await used(plane)
                assert restored < sum(each.acknowledged for each in services)

                for service in services:  # what is new tells each agent that the control plane has forgotten
                    await service.record()
                await eventually(all_counted, 120)
