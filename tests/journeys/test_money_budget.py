"""Budgets in money and credits, through real processes: several meters, several agents, and a bill that never exceeds them."""

import asyncio
import itertools
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from fakes import eventually
from processes import AgentProcess, ControlPlane, agent, control_plane

QUICK = {"SIDEMETER_FLUSH_AFTER_S": "0.02", "SIDEMETER_SYNC_INTERVAL_S": "0.1", "SIDEMETER_FIRST_CHECK_WAIT_S": "2"}
HELD = """{ customer(key: "acme") {
    cost { beforeCredits { amount } total { amount } lines { charge quantity } }
    budgets { key spent remaining leased inDoubt limitId }
    credits { balance overage limitId }
    alerts { kind text }
} }"""
CHARGES = [
    {"key": "base", "model": "FLAT", "amount": "1"},
    {"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "0.004"},
    {
        "key": "tokens",
        "meter": "tokens",
        "model": "GRADUATED",
        "tiers": [{"upTo": "4000", "unitPrice": "0.0001"}, {"unitPrice": "0.00003"}],
    },
]


async def define(plane: ControlPlane, amount: str, charges: Sequence[dict[str, Any]]) -> None:
    """Acme pays for calls and their tokens, and no more than this in a month; its team a makes 60 calls at most."""
    split = [{"key": "team", "property": "team"}]
    tokens = {"aggregation": "SUM", "valueProperty": "tokens"}
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT", groupBy=split)
    await plane.make("createMeter", "MeterInput", key="tokens", eventType="call", **tokens)
    await plane.make("upsertCustomer", "CustomerInput", key="acme")
    await plane.make("publishPlan", "PlanInput", key="pro", currency="USD", charges=charges)
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="pro")
    hard = {"customer": "acme", "enforcement": "HARD"}
    await plane.make("setBudget", "BudgetInput", key="all", amount=amount, period="BILLING_PERIOD", **hard)
    team = {"unit": "METER", "meter": "calls", "amount": "60", "slice": {"team": "a"}}
    await plane.make("setBudget", "BudgetInput", key="team-a", **team, **hard)


class Load:
    """Callers of several agents, who count outside of them what they were allowed."""

    def __init__(self, plane: ControlPlane, agents: Sequence[AgentProcess]) -> None:
        self.plane = plane
        self.agents = agents
        self.calls = {"a": 0, "b": 0}
        self.tokens = 0
        self._sizes = itertools.cycle(itertools.product([50, 400, 120, 990, 7], "aab"))

    async def ask(self, process: AgentProcess) -> bool:
        return (await self.refusal(process)) is None

    async def refusal(self, process: AgentProcess) -> dict[str, Any] | None:
        """Ask once; why it was denied, if it was."""
        tokens, team = next(self._sizes)
        data = {"tokens": tokens, "team": team}
        said = await process.post("/v1/consume", {"type": "call", "subject": "acme", "data": data})
        if not said["allowed"]:
            return said
        self.calls[team] += 1
        self.tokens += tokens
        return None

    async def until_denied(self) -> None:
        """Ask of all at once until nothing is allowed any more, also once all that was used is counted."""

        async def is_denied() -> bool:
            said = await asyncio.gather(*(self.ask(each) for each in self.agents for _ in range(4)))
            return not any(said)

        async def is_counted() -> bool:
            lines = (await self.plane.ask(HELD))["customer"]["cost"]["lines"]
            counted = next(line["quantity"] for line in lines if line["charge"] == "calls")
            return Decimal(counted) == sum(self.calls.values())

        for _ in range(4):
            await eventually(is_denied, 120)
            await eventually(is_counted, 120)

    async def until_told(self, words: str) -> None:
        """Ask until the customer is told that something was refused, in these words; then nothing is allowed any more."""

        async def is_told() -> bool:
            await asyncio.gather(*map(self.ask, self.agents))
            alerts = (await self.plane.ask(HELD))["customer"]["alerts"]
            return any(each["kind"] == "limit_denied" and words in each["text"] for each in alerts)

        await eventually(is_told, 120)
        await self.until_denied()


async def budget(plane: ControlPlane, key: str = "all") -> dict[str, Any]:
    found = (await plane.ask(HELD))["customer"]["budgets"]
    return next(each for each in found if each["key"] == key)


async def test_two_agents_never_spend_more_than_a_budget_in_money_and_nearly_all_of_it(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as plane,
        agent(tmp_path / "a", plane, **QUICK) as one,
        agent(tmp_path / "b", plane, **QUICK) as other,
    ):
        await define(plane, "2.50", CHARGES)
        load = Load(plane, [one, other])

        async def team_a_had_its_last() -> bool:
            """Which may be on its way between the two, on a busy machine, when all are denied."""
            await load.until_denied()
            return load.calls["a"] >= 60

        await eventually(team_a_had_its_last, 120)
        owed = Decimal(1) + Decimal("0.004") * sum(load.calls.values())
        owed += Decimal("0.0001") * min(load.tokens, 4_000) + Decimal("0.00003") * max(load.tokens - 4_000, 0)
        own = await budget(plane)
        assert abs(Decimal(own["spent"]) - owed) <= Decimal("0.01")  # each line is rounded for itself
        assert Decimal("2.45") <= Decimal(own["spent"]) <= Decimal("2.50")
        assert load.calls["a"] == 60


async def test_agents_that_are_killed_and_a_control_plane_that_is_leave_the_bill_within_the_budget(
    tmp_path: Path,
) -> None:
    async with (
        control_plane(tmp_path) as plane,
        agent(tmp_path / "a", plane, **QUICK) as one,
        agent(tmp_path / "b", plane, **QUICK) as other,
    ):
        await define(plane, "2", CHARGES)
        load = Load(plane, [one, other])
        for killed in (one, plane, other):
            await asyncio.gather(*(load.ask(each) for each in load.agents for _ in range(6)))
            killed.kill()
            await killed.start()
        await load.until_denied()
        await load.until_told("all allows no more")
        own = await budget(plane)
        assert Decimal("1.90") <= Decimal(own["spent"]) <= 2


async def test_teams_that_pay_alike_each_stop_at_their_own_money_whoever_is_killed(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as plane,
        agent(tmp_path / "a", plane, **QUICK) as one,
        agent(tmp_path / "b", plane, **QUICK) as other,
    ):
        await define(plane, "100", CHARGES)
        await plane.ask('mutation { removeBudget(key: "team-a") }')
        amounts = {"a": Decimal("0.40"), "b": Decimal("0.10")}
        for team, amount in amounts.items():
            sliced = {"slice": {"team": team}, "amount": str(amount), "period": "BILLING_PERIOD"}
            await plane.make(
                "setBudget", "BudgetInput", key=f"team-{team}", customer="acme", enforcement="HARD", **sliced
            )
        load = Load(plane, [one, other])
        await asyncio.gather(*(load.ask(each) for each in load.agents for _ in range(6)))
        one.kill()
        await one.start()
        await load.until_denied()
        for team, amount in amounts.items():
            spent = Decimal((await budget(plane, f"team-{team}"))["spent"])
            assert abs(spent - Decimal("0.004") * load.calls[team]) <= Decimal("0.005")  # of tokens no team is known
            assert amount - Decimal("0.09") <= spent <= amount


async def prepay(plane: ControlPlane, credits: str) -> None:
    """Acme pays for calls with credits, and with nothing else."""
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("upsertCustomer", "CustomerInput", key="acme", prepaid=True)
    charges = [{"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "0.01"}]
    await plane.make("publishPlan", "PlanInput", key="pro", currency="USD", charges=charges)
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="pro")
    await plane.make("grantCredits", "CreditGrantInput", customer="acme", amount=credits)


async def test_a_prepaid_customer_is_billed_what_its_credits_cover_whoever_is_killed(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as plane,
        agent(tmp_path / "a", plane, **QUICK) as one,
        agent(tmp_path / "b", plane, **QUICK) as other,
    ):
        await prepay(plane, "0.50")
        load = Load(plane, [one, other])
        for killed in (one, plane):
            await asyncio.gather(*(load.ask(each) for each in load.agents for _ in range(6)))
            killed.kill()
            await killed.start()
        await load.until_denied()
        said = await eventually(lambda: load.refusal(one), 60)
        assert said["feature"] == "credits/money"
        assert said["reason"] in {"limit_reached", "lease_short"}
        await plane.make("grantCredits", "CreditGrantInput", customer="acme", amount="0.50")
        await eventually(lambda: load.ask(one), 60)
        await load.until_told("Credits allows no more")
        found = (await plane.ask(HELD))["customer"]
        used, left = Decimal("0.01") * sum(load.calls.values()), Decimal(found["credits"]["balance"])
        assert Decimal(found["cost"]["beforeCredits"]["amount"]) == used  # billed is what was allowed
        assert Decimal(found["cost"]["total"]["amount"]) == Decimal(found["credits"]["overage"]) == 0  # credits paid it
        assert used + left == 1
        assert left <= Decimal("0.10")
        assert "credits_threshold" in {each["kind"] for each in found["alerts"]}
        held = await plane.ask('{ limit(id: "acme/$") { limit holders { agent state } } }')
        assert Decimal(held["limit"]["limit"]) == 1
        assert len({each["agent"] for each in held["limit"]["holders"]}) == 2
