"""Limits that change while agents hold leases of them: cut, raised, freed, and begun anew with a period."""

import asyncio
from pathlib import Path

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import LONG_AGO_US, NEVER_US, Wall, at, spend
from fakes import eventually

from sidemeter import Agent


async def test_a_limit_that_is_cut_is_kept_by_what_is_not_spent_yet(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 100)
    async with Agent(at(tmp_path, double)) as agent:
        assert (await spend(agent, 10)).allowed
        double.lease("acme", "tokens", 12)
        await eventually(lambda: double.books.held(limit) <= 12)
        assert [(await spend(agent, 2)).allowed for _ in range(2)] == [True, False]
        double.lease("acme", "tokens", 20)
        await eventually(lambda: agent.check("acme", "tokens").allowed)
        assert (await spend(agent, 8, wait_s=5.0)).allowed
    assert double.books.held(limit) == 20


async def test_a_limit_that_is_lifted_is_no_lease_any_more_and_what_was_held_is_returned(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 100)
    async with Agent(at(tmp_path, double)) as agent:
        assert (await spend(agent, 10)).allowed
        double.limits[limit] |= {"limit": None, "scale": None}
        await eventually(lambda: agent.check("acme", "tokens").reason == "unlimited")
        assert (await spend(agent, 1000)).allowed
        await eventually(lambda: double.books.held(limit) == 10)


async def test_a_new_period_is_a_new_lease_and_the_used_up_one_decides_nothing(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    """A counter that is still cached after a reset would deny all, or let the old rest through once more."""
    clock = Wall()
    reset_us = clock.us + 60_000_000
    limit = double.lease("acme", "tokens", 10, period_start_us=LONG_AGO_US, resets_at_us=reset_us)
    async with Agent(at(tmp_path, double), clock) as agent:
        assert (await spend(agent, 7)).allowed
        assert not (await spend(agent, 4)).allowed
        clock.us = reset_us
        assert (await spend(agent, 3, wait_s=0.05)).reason == "no_lease", "it counts in a period not known here yet"
        double.lease("acme", "tokens", 10, period_start_us=reset_us, resets_at_us=NEVER_US)
        assert (await spend(agent, 10, wait_s=5.0)).allowed
        assert not (await spend(agent, 1)).allowed
        assert agent.check("acme", "tokens").used == 10
    assert double.books.total(limit, "used") == 10
    assert sum(each.used for each in double.books.holdings[limit, LONG_AGO_US].values()) == 7


@pytest.mark.parametrize("other_us", [LONG_AGO_US, 0], ids=["an earlier period", "none that resets"])
async def test_a_limit_that_counts_in_an_earlier_period_again_is_leased_anew_and_spent_no_further(
    tmp_path: Path, double: ControlPlaneDouble, other_us: int
) -> None:
    """As when its reset is changed and changed back: what was used before counts, and agents do not deny for ever."""
    clock = Wall()
    began_us = clock.us - 60_000_000
    limit = double.lease("acme", "tokens", 10, period_start_us=other_us or None, resets_at_us=NEVER_US)
    async with Agent(at(tmp_path, double), clock) as agent:
        assert (await spend(agent, 7)).allowed
        double.lease("acme", "tokens", 100, period_start_us=began_us, resets_at_us=NEVER_US)
        await eventually(lambda: agent.check("acme", "tokens", 8).allowed)
        assert (await spend(agent, 1, wait_s=5.0)).allowed
        double.lease("acme", "tokens", 10, period_start_us=other_us or None, resets_at_us=NEVER_US)
        await eventually(lambda: agent.status().epoch == 2)
        assert not (await spend(agent, 4, wait_s=0.1)).allowed
        assert (await spend(agent, 2, wait_s=5.0)).allowed
        await eventually(lambda: agent.status().backlog_events == 0)
    assert double.books.total(limit, "used") in {9, 10}
    assert double.books.held(limit) <= 10
    assert len(double.events) == 3


async def test_an_agent_whose_clock_is_slow_spends_of_the_period_that_counts(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    clock = Wall()
    begins_us = clock.us + 60_000_000
    double.lease("acme", "tokens", 10, period_start_us=begins_us, resets_at_us=NEVER_US)
    async with Agent(at(tmp_path, double), clock) as agent:
        assert [(await spend(agent, 6)).allowed for _ in range(2)] == [True, False]
        await eventually(lambda: len(double.events) == 1)
    ((event,),) = [list(double.events.values())]
    assert event[4] == begins_us


async def test_what_was_recorded_for_the_next_period_is_debited_from_its_lease(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    clock = Wall()
    reset_us = clock.us + 60_000_000
    limit = double.lease("acme", "tokens", 10, period_start_us=LONG_AGO_US, resets_at_us=reset_us)
    async with Agent(at(tmp_path, double, flush_after_s=60.0, drain_s=0.0), clock) as agent:
        assert (await spend(agent, 7)).allowed
        clock.us = reset_us
        await agent.record("call", "acme", {"tokens": 4})
        double.lease("acme", "tokens", 10, period_start_us=reset_us, resets_at_us=NEVER_US)
        assert (await spend(agent, 6, wait_s=5.0)).allowed
        assert not (await spend(agent, 1)).allowed
        await eventually(lambda: double.books.total(limit, "used") == 10)
    assert double.books.total(limit, "overrun") == 4


async def test_a_limit_begun_anew_while_the_control_plane_is_away_is_not_spent_from_the_old_lease(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    clock = Wall()
    reset_us = clock.us + 60_000_000
    double.lease("acme", "tokens", 1000, period_start_us=LONG_AGO_US, resets_at_us=reset_us)
    double.books.interval_ms = 1000
    async with Agent(at(tmp_path, double, drain_s=0.0), clock) as agent:
        assert (await agent.ask("acme", "tokens", 100)).allowed
        double.counts = False
        assert (await spend(agent, 10)).allowed
        clock.us = reset_us
        assert (await spend(agent, 10, wait_s=0.05)).reason == "no_lease"
        assert agent.check("acme", "tokens").reason == "no_lease"


async def test_a_call_that_is_cancelled_while_it_waits_takes_nothing(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        assert (await spend(agent, 1)).allowed
        double.held.clear()
        call = asyncio.create_task(spend(agent, 9, wait_s=60.0))
        assert agent._parts is not None
        (lease,) = agent._parts.tenure.leases
        await eventually(lambda: lease.need > 0)
        call.cancel()
        await asyncio.wait([call])
        double.held.set()
        assert (await spend(agent, 9, wait_s=5.0)).allowed
    assert double.books.total(limit, "used") == 10
