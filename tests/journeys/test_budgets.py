"""A hierarchy of budgets, through real processes: usage stops where it should, and whoever asked for it hears of it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from processes import AgentProcess, ControlPlane, agent, control_plane
from receivers import Receiver, receiver, signature

TEAM, ALL = 5, 8
QUICK = {"SIDEMETER_FLUSH_AFTER_S": "0.02", "SIDEMETER_SYNC_INTERVAL_S": "0.1", "SIDEMETER_FIRST_CHECK_WAIT_S": "30"}
SPENT = '{ customer(key: "acme") { budgets { key spent } } }'


async def define(plane: ControlPlane, url: str) -> str:
    """Acme has 8 calls a month, team a of it 5; alerts go to the URL. Answers the secret."""
    split = [{"key": "team", "property": "team"}]
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT", groupBy=split)
    await plane.make("upsertCustomer", "CustomerInput", key="acme")
    of = {"customer": "acme", "unit": "METER", "meter": "calls", "enforcement": "HARD"}
    await plane.make("setBudget", "BudgetInput", key="all", amount=str(ALL), **of)
    await plane.make("setBudget", "BudgetInput", key="team-a", amount=str(TEAM), slice={"team": "a"}, **of)
    return (await plane.make("setWebhook", "WebhookInput", "secret", url=url))["secret"]


async def consume(process: AgentProcess, team: str) -> dict[str, Any]:
    return await process.post("/v1/consume", {"type": "call", "subject": "acme", "data": {"team": team}})


async def holds(plane: ControlPlane, key: str, calls: int) -> None:
    """Wait until agents have a lease of so much of a budget, which they may spend on their own."""

    async def is_so() -> bool:
        return (await budget(plane, key))["leased"] == str(calls)

    await eventually(is_so, 60)


def said(got: Receiver) -> set[tuple[str, int | None]]:
    """What was heard, repeats aside."""
    alerts = [json.loads(each.body)["data"] for each in got.received]
    return {(each["what"], each["threshold"]) for each in alerts}


async def test_a_team_is_stopped_at_its_budget_the_customer_at_its_own_and_each_threshold_is_heard_of(
    tmp_path: Path,
) -> None:
    async with receiver() as got, control_plane(tmp_path, SIDEMETER_PRIVATE_WEBHOOKS="yes") as plane:
        secret = await define(plane, got.url)
        async with agent(tmp_path / "agent", plane, **QUICK) as process:
            assert [(await consume(process, "a"))["allowed"] for _ in range(TEAM + 1)] == [True] * TEAM + [False]
            of_team_a = {("budget:team-a", percent) for percent in (50, 75, 90, 100)}
            await eventually(lambda: of_team_a <= said(got), 120)

            rest = ALL - TEAM
            await holds(plane, "all", rest)
            plane.kill()
            assert [(await consume(process, "b"))["allowed"] for _ in range(rest + 1)] == [True] * rest + [False]
            await plane.start()

            both = of_team_a | {("budget:all", percent) for percent in (50, 75, 90, 100)}
            both |= {("budget:team-a", None), ("budget:all", None)}  # at each of them something was refused
            await eventually(lambda: said(got) == both, 120)
        spent = (await plane.ask(SPENT))["customer"]["budgets"]
        assert spent == [{"key": "all", "spent": str(ALL)}, {"key": "team-a", "spent": str(TEAM)}]
    assert all(each.headers["webhook-signature"] == signature(secret, each) for each in got.received)
    assert len({each.headers["webhook-id"] for each in got.received}) == len(both)


LEVELS = {"all": (20, {}), "team-a": (13, {"team": "a"}), "key-1": (5, {"key": "1", "team": "a"})}
HELD = '{ customer(key: "acme") { budgets { key spent remaining leased inDoubt limitId } } }'
LIMIT = "query($id: ID!) { limit(id: $id) { committed limit holders { agent state } } }"


async def define_levels(plane: ControlPlane) -> None:
    """Acme has 20 calls a month, its team a 13 of them, and that team's key 1 of those 5."""
    split = [{"key": name, "property": name} for name in ("team", "key")]
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT", groupBy=split)
    await plane.make("upsertCustomer", "CustomerInput", key="acme")
    of = {"customer": "acme", "unit": "METER", "meter": "calls", "enforcement": "HARD"}
    for key, (amount, sliced) in LEVELS.items():
        await plane.make("setBudget", "BudgetInput", key=key, amount=str(amount), slice=sliced, **of)


async def use_up(plane: ControlPlane, agents: Sequence[AgentProcess], level: str, data: dict[str, str]) -> int:
    """How many are allowed when all ask at once, until nothing of that budget is left anywhere, and on."""
    allowed = 0

    async def asks(process: AgentProcess) -> None:
        nonlocal allowed
        said = await process.post("/v1/consume", {"type": "call", "subject": "acme", "data": data})
        allowed += said["allowed"]

    async def is_gone() -> bool:
        await asyncio.gather(*map(asks, agents))
        own = await budget(plane, level)
        return own["remaining"] == own["leased"] == "0"

    await eventually(is_gone, 60)
    for _ in range(5):
        await asyncio.gather(*map(asks, agents))
    return allowed


async def budget(plane: ControlPlane, key: str) -> dict[str, Any]:
    found = (await plane.ask(HELD))["customer"]["budgets"]
    return next(each for each in found if each["key"] == key)


@pytest.mark.both_databases
async def test_the_tightest_of_a_hierarchy_stops_two_agents_at_once_exactly(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as plane,
        agent(tmp_path / "a", plane, **QUICK) as one,
        agent(tmp_path / "b", plane, **QUICK) as other,
    ):
        await define_levels(plane)
        both = [one, other]
        assert await use_up(plane, both, "key-1", {"team": "a", "key": "1"}) == 5
        assert await use_up(plane, both, "team-a", {"team": "a", "key": "2"}) == 13 - 5
        assert await use_up(plane, both, "all", {"team": "b", "key": "1"}) == 20 - 13
        for key, (amount, _) in LEVELS.items():
            own = await budget(plane, key)
            assert (own["spent"], own["leased"], own["inDoubt"]) == (str(amount), "0", "0")
            limit = (await plane.ask(LIMIT, id=own["limitId"]))["limit"]
            assert limit["committed"] == limit["limit"] == str(amount)
            assert [each["state"] for each in limit["holders"]] == ["CURRENT", "CURRENT"]
