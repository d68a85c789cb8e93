"""A hierarchy of budgets, through real processes: usage stops where it should, and whoever asked for it hears of it."""

import json
from pathlib import Path
from typing import Any

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


def said(got: Receiver) -> set[tuple[str, int]]:
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

            plane.kill()
            rest = ALL - TEAM
            assert [(await consume(process, "b"))["allowed"] for _ in range(rest + 1)] == [True] * rest + [False]
            await plane.start()

            both = of_team_a | {("budget:all", percent) for percent in (50, 75, 90, 100)}
            await eventually(lambda: said(got) == both, 120)
        spent = (await plane.ask(SPENT))["customer"]["budgets"]
        assert spent == [{"key": "all", "spent": str(ALL)}, {"key": "team-a", "spent": str(TEAM)}]
    assert all(each.headers["webhook-signature"] == signature(secret, each) for each in got.received)
    assert len({each.headers["webhook-id"] for each in got.received}) == len(both)
