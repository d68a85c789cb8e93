"""A control plane on PostgreSQL: both are killed with events flowing, and what was counted is corrected afterwards."""

import asyncio
import re
import sys
from pathlib import Path

import pytest
from fakes import eventually
from postgres import PASSWORD, Kind
from processes import ControlPlane, agent, control_plane, run

pytestmark = pytest.mark.postgres

COMMAND = (sys.executable, "-m", "sidemeter_control.cli")
USED = '{ customer(key: "acme") { quota(feature: "calls") { used } } }'


async def used(plane: ControlPlane) -> int:
    return int((await plane.ask(USED))["customer"]["quota"]["used"])


async def sell(plane: ControlPlane) -> None:
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("createFeature", "FeatureInput", key="calls", meter="calls")
    calls = {"feature": "calls", "kind": "METERED", "enforcement": "SOFT"}
    await plane.make("publishPlan", "PlanInput", key="free", currency="EUR", charges=[], entitlements=[calls])
    await plane.make("upsertCustomer", "CustomerInput", key="acme", currency="EUR")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="free")


async def counted(plane: ControlPlane, at_least: int) -> None:
    async def so_far() -> bool:
        return await used(plane) >= at_least

    await eventually(so_far, 60)


async def test_a_server_and_a_control_plane_that_are_killed_lose_nothing_and_count_nothing_twice(
    tmp_path: Path,
) -> None:
    assert Kind.server is not None
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with agent(tmp_path / "agent", plane, SIDEMETER_FLUSH_AFTER_S="0.01") as process:
            acknowledged = 0

            async def flow() -> None:
                nonlocal acknowledged
                while True:
                    event = {"id": f"call-{acknowledged}", "source": "s", "type": "call", "subject": "acme"}
                    await process.post("/v1/events", event)
                    acknowledged += 1

            flowing = asyncio.create_task(flow())
            await counted(plane, 1)
            Kind.server.stop("immediate")
            plane.kill()
            before = acknowledged
            await eventually(lambda: acknowledged > before + 20)  # the service notices nothing
            Kind.server.start()
            await plane.start()
            await counted(plane, before)
            Kind.server.stop("immediate")  # and once under a control plane that goes on
            Kind.server.start()
            await counted(plane, acknowledged)
            flowing.cancel()
            await asyncio.wait([flowing])
            again = {"id": f"call-{acknowledged}", "source": "s", "type": "call", "subject": "acme"}
            await process.post("/v1/events", again)  # the one that was on its way: again, or for the first time
            await counted(plane, acknowledged + 1)
            assert await process.stop() == 0
        assert await used(plane) == acknowledged + 1
        await plane.ask('mutation { voidEvent(source: "s", id: "call-0", reason: "a test") { id } }')
        assert await used(plane) == acknowledged
        assert await plane.stop() == 0
        assert PASSWORD not in plane.log.read_text()


def test_commands_take_the_url_and_say_what_is_not_for_it(tmp_path: Path) -> None:
    assert Kind.server is not None
    url = Kind.server.new()
    where = {"SIDEMETER_DATABASE": url, "SIDEMETER_WITNESS": str(tmp_path / "witness")}
    assert "up to date" in run(*COMMAND, "migrate", **where)
    looked = run(*COMMAND, "doctor", "--listen", "127.0.0.1:0", **where)
    assert re.search(r"ok +database: postgresql://meter@/test_\w+, PostgreSQL \d+", looked)
    assert "durability" in looked
    backup = str(tmp_path / "backup")
    for command in ("backup", "restore"):
        assert "pg_dump" in run(*COMMAND, command, backup, exit_code=1, **where)
    absent = {"SIDEMETER_DATABASE": url.replace("/test_", "/none_")}
    printed = [looked, run(*COMMAND, "doctor", exit_code=1, **absent), run(*COMMAND, "migrate", exit_code=1, **absent)]
    assert "does not exist" in printed[1] + printed[2]
    assert not any(PASSWORD in each for each in printed)
