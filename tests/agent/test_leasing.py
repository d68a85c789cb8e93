"""Whole agents on hard limits that are leased: real databases, real cells, and a control plane with the real rules."""

import asyncio
from pathlib import Path

from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import at, counted, spend
from fakes import eventually

from sidemeter import Agent


async def test_consuming_stops_at_the_limit_and_says_why(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        decisions = [await spend(agent, 3) for _ in range(5)]
        assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
        assert decisions[-1].reason == "limit_reached"
        assert (decisions[-1].limit, decisions[-1].used) == (10, 9)
        assert (await spend(agent, 1)).allowed
        await counted(double, 4)
        assert not agent.check("acme", "tokens").allowed
    assert double.books.total(limit, "used") == 10


async def test_several_agents_together_never_exceed_a_limit(tmp_path: Path, double: ControlPlaneDouble) -> None:
    """Each of them, with a copy of the total, would let all of the limit through."""
    limit = double.lease("acme", "tokens", 90)
    async with (
        Agent(at(tmp_path, double, "a")) as one,
        Agent(at(tmp_path, double, "b")) as two,
        Agent(at(tmp_path, double, "c")) as three,
    ):

        async def caller(agent: Agent) -> int:
            return sum([(await spend(agent, 2, wait_s=0.5)).allowed for _ in range(20)])

        calls = sum(await asyncio.gather(*[caller(agent) for agent in (one, two, three)]))

        async def all_are_allowed() -> bool:
            """The last units go round, and take their time on a busy machine."""
            nonlocal calls
            if calls < 45:
                calls += sum([(await spend(agent, 2, wait_s=0.5)).allowed for agent in (one, two, three)])
            return calls >= 45

        await eventually(all_are_allowed)
        assert not any([(await spend(agent, 1)).allowed for agent in (one, two, three)])
    assert calls == 45
    assert sum(1 for _ in double.events) == 45
    assert double.books.held(limit) == 90


async def test_a_check_is_answered_from_the_lease(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.lease("acme", "tokens", 1000, scale=3)
    async with Agent(at(tmp_path, double)) as agent:
        decision = await agent.ask("acme", "tokens", 5)
        assert (decision.allowed, decision.reason, decision.limit) == (True, "within_limit", 1000)
        assert decision.remaining is not None
        assert 5 <= decision.remaining < 1000
        before = len(double.requests)
        assert agent.check("acme", "tokens", 5).allowed
        assert len(double.requests) == before
        assert agent.check("acme", "tokens", 1001).reason == "limit_reached"


async def test_a_lease_outlives_the_way_to_the_control_plane_and_is_all_there_is_then(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    """A store that is away lets nobody spend beyond what is here: not fail-open."""
    limit = double.lease("acme", "tokens", 1000)
    async with Agent(at(tmp_path, double, drain_s=0.0)) as agent:
        assert (await spend(agent, 10)).allowed
        assert (await agent.ask("acme", "tokens", 20)).allowed
        double.counts = False
        spent = 10
        while (decision := await spend(agent, 1, wait_s=0.1)).allowed:
            spent += 1
        assert (decision.reason, decision.remaining) == ("lease_short", 0)
        assert 30 <= spent == double.books.held(limit) < 1000
        double.counts = True
        await eventually(lambda: agent.check("acme", "tokens", 5).allowed)


async def test_what_is_recorded_without_asking_counts_and_is_told_as_overrun(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        assert (await spend(agent, 4)).allowed
        await agent.record("call", "acme", {"tokens": 5})
        agent.record_nowait("call", "acme", {"tokens": 3})
        assert not (await spend(agent, 1)).allowed
        await eventually(lambda: double.books.total(limit, "used") == 12)
    assert double.books.total(limit, "overrun") == 8


async def test_usage_of_before_the_lease_is_debited_from_it(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double, flush_after_s=60.0, drain_s=0.0)) as agent:
        await agent.record("call", "acme", {"tokens": 7})
        assert [(await spend(agent, 3)).allowed for _ in range(2)] == [True, False]
        await eventually(lambda: double.books.total(limit, "used") == 10)
    assert double.books.total(limit, "overrun") == 7


async def test_consuming_again_with_the_same_id_costs_nothing(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        decisions = [await spend(agent, 5, id=name) for name in "aabba"]
        assert [decision.allowed for decision in decisions] == [True] * 5
        assert not (await spend(agent, 5, id="c")).allowed
    assert double.books.total(limit, "used") - double.books.total(limit, "refunded") == 10


async def test_a_graceful_stop_returns_what_is_free(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 1000)
    async with Agent(at(tmp_path, double)) as agent:
        assert (await spend(agent, 5)).allowed
        assert (await agent.ask("acme", "tokens", 300)).allowed
        assert double.books.held(limit) > 300
    assert double.books.held(limit) == 5
    async with Agent(at(tmp_path, double, "b")) as agent:
        assert (await spend(agent, 995, wait_s=5.0)).allowed


async def test_a_restart_goes_on_with_the_lease_also_while_the_control_plane_is_away(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 1000)
    double.books.interval_ms = 1000
    async with Agent(at(tmp_path, double, drain_s=0.0)) as agent:
        assert (await agent.ask("acme", "tokens", 50)).allowed
        double.counts = False
        assert (await spend(agent, 5)).allowed
    await double.stop()
    async with Agent(at(tmp_path, double, drain_s=0.0)) as agent:
        left = agent.check("acme", "tokens").remaining
        assert left == double.books.held(limit) - 5 >= 45
        assert (await spend(agent, int(left))).allowed
        assert (await spend(agent, 1)).reason == "lease_short"
    async with Agent(at(tmp_path, double, drain_s=0.0)) as agent:
        assert not agent.check("acme", "tokens").allowed
    assert len(double.epochs) == 1
