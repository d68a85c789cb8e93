"""Faults seen in the field, at eight real agents that share one hard limit: none of them may let more through than there is."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from fakes import eventually
from faults.rig import QUICK, running
from processes import AgentProcess, ControlPlane

AGENTS: Final = 8
PATIENT: Final = {"SIDEMETER_FIRST_CHECK_WAIT_S": "10"}


async def sell(plane: ControlPlane, limit: int) -> None:
    """Acme may make so many calls, once and for all."""
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("createFeature", "FeatureInput", key="calls", meter="calls")
    calls = {"feature": "calls", "kind": "METERED", "limit": str(limit), "enforcement": "HARD", "reset": "NEVER"}
    await plane.make("publishPlan", "PlanInput", key="capped", currency="EUR", charges=[], entitlements=[calls])
    await plane.make("upsertCustomer", "CustomerInput", key="acme", currency="EUR")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="capped")


@asynccontextmanager
async def replicas(directory: Path, plane: ControlPlane, key: str, **environ: str) -> AsyncIterator[list[AgentProcess]]:
    """Eight agents that have not heard of any limit yet."""
    cells = directory / "cells"
    cells.mkdir()
    environ = QUICK | {"SIDEMETER_CELL_DIR": str(cells)} | environ
    async with AsyncExitStack() as stack:
        agents = [AgentProcess(directory / f"agent-{n}", plane.url, key, **environ) for n in range(AGENTS)]
        for each in agents:
            await stack.enter_async_context(running(each))
        await asyncio.gather(*(each.start() for each in agents))
        yield agents


async def consume(agent: AgentProcess) -> dict[str, Any]:
    return await agent.post("/v1/consume", {"type": "call", "subject": "acme"})


async def knows(agent: AgentProcess) -> bool:
    """Whether it has heard of the limit."""
    return (await agent.http.get("/v1/quota/acme")).status_code == 200


async def all_of(agent: AgentProcess) -> int:
    """How many calls an agent allows until it says no."""
    allowed = 0
    while (await consume(agent))["allowed"]:
        allowed += 1
    return allowed


async def everything(agents: list[AgentProcess]) -> int:
    """How many calls all agents allow, asked at once and until none of them allows another."""
    allowed = 0
    while more := sum(await asyncio.gather(*map(all_of, agents))):
        allowed += more
    return allowed


async def standing(plane: ControlPlane) -> dict[str, Any]:
    question = '{ customer(key: "acme") { quota(feature: "calls") { used leased inDoubt } } }'
    quota: dict[str, Any] = (await plane.ask(question))["customer"]["quota"]
    return quota


async def test_concurrent_first_requests_on_a_new_budget_are_never_allowed_more_than_it(tmp_path: Path) -> None:
    """Nobody has a lease, and nobody knows the limit: all ask for the first time at the same moment."""
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 20)
        async with replicas(tmp_path, plane, await plane.new_key("AGENT"), **PATIENT) as agents:
            first = await asyncio.gather(*(consume(agent) for agent in agents for _ in range(10)))
            allowed = sum(each["allowed"] for each in first)
            assert 0 < allowed <= 20
            assert allowed + await everything(agents) == 20


async def test_eight_replicas_allow_one_limit_and_not_eight_and_leave_nothing_of_it(tmp_path: Path) -> None:
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 1000)
        async with replicas(tmp_path, plane, await plane.new_key("AGENT"), **PATIENT) as agents:
            assert await everything(agents) == 1000, "without faults, a hundredth of a per cent is less than one call"
            codes = Counter([await agent.stop() for agent in agents])
        assert codes == {0: AGENTS}
        assert await standing(plane) == {"used": "1000", "leased": "0", "inDoubt": "0"}


@pytest.mark.parametrize("on_unknown", ["deny", "allow"])
async def test_while_the_store_is_away_nobody_takes_a_limit_for_none_unless_told_to(
    tmp_path: Path, on_unknown: str
) -> None:
    """Its agents start without it. What they let through, being told to, counts against the limit once it is back."""
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 20)
        key = await plane.new_key("AGENT")
        plane.kill()
        async with replicas(tmp_path, plane, key, SIDEMETER_ON_UNKNOWN=on_unknown) as agents:
            blind = await asyncio.gather(*map(consume, agents))
            assert {(each["allowed"], each["reason"]) for each in blind} == {(on_unknown == "allow", "unknown_subject")}
            await plane.start()
            for agent in agents:
                await eventually(lambda agent=agent: knows(agent), 60)
            let_through = AGENTS if on_unknown == "allow" else 0
            allowed = await everything(agents)
            assert 0 < allowed <= 20 - let_through
            assert let_through or allowed == 20
