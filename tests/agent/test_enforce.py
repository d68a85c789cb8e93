"""Checking and consuming by limits learned from a control plane on a real port."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import counted, settings
from fakes import eventually

from sidemeter import Agent


@pytest.fixture
async def double() -> AsyncIterator[ControlPlaneDouble]:
    async with ControlPlaneDouble() as control_plane:
        yield control_plane


async def test_consuming_stops_at_the_limit(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        decisions = [await agent.consume("call", "acme", {"tokens": 3}) for _ in range(5)]
        assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
        assert decisions[3].reason == "limit_reached"
        assert not agent.check("acme", "tokens", 2).allowed
        assert agent.check("acme", "tokens", 1).allowed
        await counted(double, 3)
        await eventually(lambda: agent.status().backlog_events == 0)
        assert agent.check("acme", "tokens").used == 9
        assert agent.status().denials == 3


@pytest.mark.parametrize("counting", [True, False], ids=["while counted", "while uncounted"])
async def test_concurrent_callers_never_exceed_a_hard_limit_together(
    tmp_path: Path, double: ControlPlaneDouble, counting: bool
) -> None:
    double.meter("acme", "tokens", "100")
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        double.counts = counting

        async def caller(number: int) -> int:
            spent = 0
            for turn in range(10):
                amount = 1 + (number + turn) % 3
                decision = await agent.consume("call", "acme", {"tokens": amount})
                spent += amount if decision.allowed else 0
            return spent

        spent = sum(await asyncio.gather(*[caller(number) for number in range(20)]))
        assert 98 <= spent <= 100
        assert agent.check("acme", "tokens").used == spent


async def test_callers_that_waited_for_room_never_exceed_a_hard_limit_together(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10")
    full = {"when_full": "wait", "max_pending_events": 2, "max_array_events": 2}
    async with Agent(settings(tmp_path, double, **full)) as agent:
        assert await agent.learn("acme")
        calls = [asyncio.create_task(agent.consume("call", "acme", {"tokens": 3})) for _ in range(4)]
        decisions = [await call for call in calls]
        assert [decision.allowed for decision in decisions] == [True, True, True, False]
        assert agent.status().refused_events == 0


async def test_consuming_again_with_the_same_id_costs_nothing(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        decisions = [await agent.consume("call", "acme", {"tokens": 5}, id=name) for name in "aabba"]
        assert [decision.allowed for decision in decisions] == [True] * 5
        duplicates = [decision.receipt is not None and decision.receipt.duplicate for decision in decisions]
        assert duplicates == [False, True, False, True, True]
        assert (await agent.consume("call", "acme", {"tokens": 5}, id="c")).allowed is False


@pytest.mark.parametrize("on_unknown", ["deny", "allow"])
async def test_an_unknown_subject_without_an_answer_gets_the_policy(
    tmp_path: Path, double: ControlPlaneDouble, on_unknown: str
) -> None:
    double.held.clear()
    changes = {"on_unknown": on_unknown, "first_check_wait_s": 0.01, "drain_s": 0.0}
    async with Agent(settings(tmp_path, double, **changes)) as agent:
        decision = await agent.consume("call", "acme")
        assert (decision.allowed, decision.reason) == (on_unknown == "allow", "unknown_subject")
        assert not await agent.learn("acme")
        assert agent.quotas("acme") is None


async def test_a_refusal_at_a_limit_is_told_once_and_the_counts_of_all_with_every_sync(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10.5")
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        for _ in range(3):
            assert not agent.check("acme", "tokens", 11).allowed
        assert not agent.check("acme", "none").allowed
        counts = {"limit_reached": 3, "not_entitled": 1}

        def told() -> list[list[dict[str, object]]]:
            return [each.get("denied", []) for each in double.messages("sync") if each.get("denials") == counts]

        await eventually(lambda: len(told()) >= 3)
        assert [each for each in told() if each] == [[{"limit": "acme/tokens", "period": 0, "amount": "10.5"}]]


async def test_a_leased_limit_that_is_used_up_is_told_too(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.lease("acme", "tokens", 10)
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        decisions = [await agent.consume("call", "acme", {"tokens": 6}) for _ in range(2)]
        assert [each.allowed for each in decisions] == [True, False]
        denied = await eventually(
            lambda: next((each["denied"] for each in double.messages("sync") if "denied" in each), None)
        )
        assert denied == [{"limit": "acme/tokens", "period": 0, "amount": "10"}]


async def test_another_copy_of_the_database_is_told_again_of_refusals(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        assert not agent.check("acme", "tokens", 11).allowed

        def told() -> int:
            return sum("denied" in each for each in double.messages("sync"))

        await eventually(lambda: told() == 1)
        double.generation = "g2"
        await eventually(lambda: told() == 2)
