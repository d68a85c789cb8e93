"""Reservations: set aside, then ended once, whatever happens to whoever made them."""

import asyncio
from pathlib import Path

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.mortal import Life, bury, mortal
from agent.whole_agent import LONG_AGO_US, NEVER_US, Wall, at, spend
from fakes import eventually

from sidemeter import Agent, InvalidInput
from sidemeter.events import Event
from sidemeter.reservation import MAX_TTL_S, Reservation, check_ttl
from sidemeter.reserve import MAX_ENDED


async def hold(agent: Agent, tokens: int, **changes: object) -> Reservation:
    return await agent.reserve("call", "acme", {"tokens": tokens}, **({"wait_s": 5.0} | changes))  # type: ignore[arg-type]


async def test_what_is_reserved_is_spent_by_nobody_else_and_what_is_left_of_it_is_free_again(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        held = await hold(agent, 8)
        assert held.allowed
        assert not (await spend(agent, 3)).allowed
        receipt = await held.commit({"tokens": 5})
        assert receipt is not None
        assert (await spend(agent, 5)).allowed
        assert not (await spend(agent, 1)).allowed
    assert double.books.total(limit, "used") == 10
    assert sorted(event[5] for event in double.events.values()) == ['{"tokens":5}', '{"tokens":5}']


async def test_every_final_call_is_idempotent(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        held = await hold(agent, 8)
        receipts = await asyncio.gather(*[held.commit({"tokens": 5}) for _ in range(3)])
        receipts.append(await held.commit({"tokens": 7}))
        assert {receipt.id for receipt in receipts if receipt} == {held.id}
        assert receipts[-1] is not None
        assert receipts[-1].duplicate
        assert not await held.release()
        released = await hold(agent, 3)
        assert [await released.release() for _ in range(2)] == [True, False]
        assert await released.commit({"tokens": 3}) is None
        assert await agent.commit("stranger", None) is None
        assert (await spend(agent, 5)).allowed
    assert double.books.total(limit, "used") == 10
    assert len(double.events) == 2


async def test_a_final_call_said_again_is_known_also_of_an_event_with_a_source_of_its_own(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        event = Event.of("call", "acme", {"tokens": 8}, id="call-1", source="gateway")
        assert (await agent.reserve_event(event, 60)).allowed
        receipts = [await agent.commit("call-1", {"tokens": 5}) for _ in range(2)]
    told = [(receipt.id, receipt.source, receipt.duplicate) for receipt in receipts if receipt]
    assert told == [("call-1", "gateway", False), ("call-1", "gateway", True)]


async def test_what_is_used_beyond_the_reservation_counts_in_full(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        held = await hold(agent, 8)
        await held.commit({"tokens": 12})
        assert not (await spend(agent, 1)).allowed
        await eventually(lambda: double.books.total(limit, "overrun") == 4)
    assert double.books.total(limit, "used") == 12


async def test_a_call_that_is_cancelled_commits_what_it_used_and_leaks_no_reservation(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        streaming = asyncio.Event()

        async def call() -> None:
            async with agent.reserve("call", "acme", {"tokens": 9}, wait_s=5.0) as held:
                held.used = {"tokens": 2}
                streaming.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await streaming.wait()
        assert agent.status().open_reservations == 1
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert agent.status().open_reservations == 0
        assert (await spend(agent, 8, wait_s=5.0)).allowed
    assert double.books.total(limit, "used") == 10


async def test_what_ends_without_a_word_is_charged_when_its_time_is_over_and_not_billed(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        held = await hold(agent, 6, ttl_s=0.05)
        await eventually(lambda: agent.status().reservations_in_doubt == 1)
        await eventually(lambda: double.books.total(limit, "used") == 6)
        assert not double.events
        assert not (await spend(agent, 5)).allowed
        assert not await held.extend(60.0)
        assert await held.commit({"tokens": 1}) is not None
        assert (await spend(agent, 9, wait_s=5.0)).allowed, "who knows better gets the difference back"
    assert double.books.total(limit, "used") - double.books.total(limit, "refunded") == 10


async def test_a_reservation_that_is_extended_is_charged_later(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.lease("acme", "tokens", 10)
    async with Agent(at(tmp_path, double)) as agent:
        held = await hold(agent, 6, ttl_s=0.3)
        assert await held.extend(60.0)
        other = await hold(agent, 1, ttl_s=0.3)
        await eventually(lambda: agent.status().reservations_in_doubt == 1)
        assert await other.release()
        assert await held.release()


async def test_a_counter_that_is_reset_under_a_reservation_is_not_touched_by_its_end(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    clock = Wall()
    reset_us = clock.us + 60_000_000
    limit = double.lease("acme", "tokens", 10, period_start_us=LONG_AGO_US, resets_at_us=reset_us)
    async with Agent(at(tmp_path, double), clock) as agent:
        held = await hold(agent, 8)
        clock.us = reset_us
        double.lease("acme", "tokens", 10, period_start_us=reset_us, resets_at_us=NEVER_US)
        assert (await spend(agent, 4, wait_s=5.0)).allowed
        assert await held.commit({"tokens": 7}) is not None
        assert (await spend(agent, 6, wait_s=5.0)).allowed
        assert not (await spend(agent, 1)).allowed
    assert double.books.total(limit, "used") == 10
    assert sum(each.used for each in double.books.holdings[limit, LONG_AGO_US].values()) == 7
    times = {event[5]: event[4] for event in double.events.values()}
    assert times['{"tokens":7}'] < reset_us, "it counts in the period that it was reserved in"


async def test_a_reservation_outlives_a_kill_and_is_ended_by_its_id(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", 10)
    async with mortal(at(tmp_path, double), Life(1 << 30)) as agent:
        held = await hold(agent, 8)
        assert held.allowed
        await bury(agent)
    async with Agent(at(tmp_path, double)) as again:
        assert again.status().open_reservations == 1
        assert not (await spend(again, 3)).allowed
        assert await again.commit(held.id, {"tokens": 5}) is not None
        assert (await spend(again, 5, wait_s=5.0)).allowed
    assert double.books.total(limit, "used") == 10


async def test_an_end_that_an_older_copy_of_the_directory_forgot_frees_nothing(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    """Put back between two syncs, into the same file: what ended since the copy was made has ended all the same."""
    double.lease("acme", "tokens", 20)
    double.books.interval_ms = 60_000
    async with mortal(at(tmp_path, double), Life(1 << 30)) as agent:
        first = await hold(agent, 10)
        before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if "sqlite3" in path.name}
        assert await agent.release(first.id)
        second, third = await hold(agent, 10), await hold(agent, 10)
        assert second.allowed
        assert third.allowed
        await bury(agent)
    for path, content in before.items():
        path.write_bytes(content)
    async with Agent(at(tmp_path, double)) as again:
        await again.release(first.id)
        assert not (await spend(again, 1, wait_s=0.3)).allowed, "both operations are under way, and may cost all"


async def test_a_stop_waits_for_reservations_and_then_returns_what_is_free(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", 100)
    async with Agent(at(tmp_path, double, drain_s=5.0)) as agent:
        held = await hold(agent, 50)
        ended = asyncio.create_task(held.commit({"tokens": 20}))
    assert (await ended) is not None
    assert double.books.held(limit) == 20
    assert len(double.events) == 1


async def test_a_reservation_of_what_is_not_leased_is_only_a_decision(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10", enforcement="SOFT")
    async with Agent(at(tmp_path, double)) as agent:
        held = await hold(agent, 50)
        assert (held.allowed, held.decision.reason) == (True, "soft_limit_exceeded")
        assert await held.commit({"tokens": 3}) is not None
        assert agent.check("acme", "tokens").used == 3


def test_the_longest_time_of_a_reservation_is_one() -> None:
    check_ttl(MAX_TTL_S)


@pytest.mark.parametrize("ttl_s", [0, -1, MAX_TTL_S + 1, float("nan"), True])
async def test_how_long_a_reservation_lasts_has_bounds(
    tmp_path: Path, double: ControlPlaneDouble, ttl_s: float
) -> None:
    async with Agent(at(tmp_path, double)) as agent:
        with pytest.raises(InvalidInput, match="ttl_s: must be"):
            await hold(agent, 1, ttl_s=ttl_s)


async def test_ended_reservations_are_remembered_up_to_a_bound(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", None)
    async with Agent(at(tmp_path, double)) as agent:
        held = [await hold(agent, 1) for _ in range(2)]
        assert await held[0].commit({"tokens": 1}) is not None
        assert agent._parts is not None
        agent._parts.reserver._ended |= dict.fromkeys(f"h{number}" for number in range(MAX_ENDED - 1))
        assert await held[0].commit({"tokens": 1}) is not None
        assert await held[1].commit({"tokens": 1}) is not None
        assert len(agent._parts.reserver._ended) == MAX_ENDED
        assert await held[0].commit({"tokens": 1}) is None
