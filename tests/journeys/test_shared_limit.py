"""One hard limit, several real agents and a real control plane: together exactly the limit, and not one more."""

import asyncio
from pathlib import Path
from typing import Any

from fakes import eventually
from journeys.test_identity import control_plane
from journeys.test_leases import SET_UP
from processes import ADMIN_KEY, ControlPlane

from sidemeter import Agent, Settings

LIMIT = 100
USAGE = """{ usage(meter: "calls", from: "0001-01-01T00:00:00Z", to: "9999-01-01T00:00:00Z") { events } }"""


def agent(directory: Path, plane: ControlPlane, name: str, **changes: Any) -> Agent:
    cells = directory / "cells"
    cells.mkdir(exist_ok=True)
    given = {"flush_after_s": 0.02, "sync_interval_s": 0.1, "first_check_wait_s": 2.0}
    uplink = {"control_plane": plane.url, "api_key": ADMIN_KEY}
    return Agent(Settings(service=name, data_dir=directory / name, cell_dir=cells, **(given | uplink | changes)))


async def all_of(one: Agent, most: int = LIMIT) -> int:
    """Call until the answer is no."""
    for number in range(most):
        if not (await one.consume("call", "acme")).allowed:
            return number
    return most


async def counted(plane: ControlPlane) -> int:
    return sum(int(each["events"]) for each in (await plane.ask(USAGE))["usage"])


async def test_three_agents_spend_a_limit_together_and_one_that_stops_leaves_its_part_to_the_others(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as plane:
        await plane.ask(SET_UP)
        async with agent(tmp_path, plane, "one") as one, agent(tmp_path, plane, "two") as two:
            async with agent(tmp_path, plane, "three") as three:
                assert sum(await asyncio.gather(*[all_of(each, 10) for each in (one, two, three)])) == 30
            spent = 30 + sum(await asyncio.gather(all_of(one), all_of(two)))
            assert spent == LIMIT
            assert (await one.ask("acme", "calls")).reason == "limit_reached"
        assert await counted(plane) == LIMIT


async def test_while_the_control_plane_is_away_an_agent_spends_what_it_has_also_after_a_restart(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await plane.ask(SET_UP)
        async with agent(tmp_path, plane, "one", drain_s=0.0) as one:
            assert await all_of(one, 20) == 20
            plane.kill()
            offline = await all_of(one, 1)
        async with agent(tmp_path, plane, "one", drain_s=0.0, first_check_wait_s=0.1) as one:
            offline += await all_of(one)
        assert 20 + offline <= LIMIT
        await plane.start()
        async with agent(tmp_path, plane, "one") as one, agent(tmp_path, plane, "two") as two:
            await eventually(lambda: one.status().connected)
            spent = 20 + offline + sum(await asyncio.gather(all_of(one), all_of(two)))
        assert spent == LIMIT
        await eventually(lambda: _is_counted(plane))


async def _is_counted(plane: ControlPlane) -> bool:
    return await counted(plane) == LIMIT
