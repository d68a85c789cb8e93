"""The whole agent against a control plane on a real port: nothing lost, nothing twice, a clear yes or no."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from agent.control_plane_double import KEY, ControlPlaneDouble
from fakes import ManualClock, eventually

from sidemeter import Agent, AgentStopped, DirectoryInUse, Event, Settings
from sidemeter.buffer import Buffer


@pytest.fixture
async def double() -> AsyncIterator[ControlPlaneDouble]:
    async with ControlPlaneDouble() as control_plane:
        yield control_plane


def settings(directory: Path, double: ControlPlaneDouble | None = None, **changes: Any) -> Settings:
    defaults: dict[str, Any] = {
        "flush_after_s": 0.01,
        "sync_interval_s": 0.01,
        "first_check_wait_s": 5.0,
        "drain_s": 2.0,
    }
    uplink = {"control_plane": double.url, "api_key": KEY} if double else {}
    return Settings(service="chat", data_dir=directory, **(defaults | uplink | changes))


async def counted(double: ControlPlaneDouble, number: int) -> None:
    await eventually(lambda: len(double.events) == number)


def ids(double: ControlPlaneDouble) -> set[str]:
    return {event_id for _, event_id in double.events}


async def test_a_recorded_event_reaches_the_control_plane(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        receipt = await agent.record("call", "acme", {"tokens": Decimal("0.10")}, time="2026-01-01T00:00:00Z")
        await counted(double, 1)
    expected = [receipt.id, "chat", "call", "acme", 1_767_225_600_000_000, '{"tokens":0.10}']
    assert double.events == {("chat", receipt.id): expected}


async def test_without_a_control_plane_events_are_kept_until_there_is_one(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with Agent(settings(tmp_path)) as agent:
        for number in range(10):
            await agent.record("call", "acme", id=str(number))
        assert agent.check("acme", "tokens").reason == "no_control_plane"
        assert agent.status().backlog_events == 10
    async with Agent(settings(tmp_path, double)) as agent:
        await counted(double, 10)
        assert (await agent.record("call", "acme", id="3")).duplicate


async def test_draining_commits_and_forwards_what_is_pending(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double, flush_after_s=60.0)) as agent:
        sent = {agent.record_nowait("call", "acme") for _ in range(100)}
        assert agent.pending == 100
    assert ids(double) == sent


@pytest.mark.parametrize(
    "fault",
    ["lose", 500, 503, 429, 401, 403, 400],
    ids=["answer lost", "500", "503", "429", "wrong key", "scope", "protocol"],
)
async def test_a_failed_send_is_repeated_byte_for_byte_until_it_is_counted_once(
    tmp_path: Path, double: ControlPlaneDouble, fault: str | int
) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme")
        await counted(double, 1)
        double.faults.extend([fault] * 3)
        await agent.record("call", "acme")
        await eventually(lambda: agent.status().backlog_events == 0)
    batches = [body for (path, _), body in zip(double.requests, double.bodies, strict=True) if path.endswith("batch")]
    assert len(set(batches)) == 2
    assert len(double.events) == 2


async def test_a_lost_answer_to_the_hello_gets_the_same_epoch(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.faults.extend(["lose", "lose"])
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme")
        await counted(double, 1)
        assert agent.status().epoch == 1
    assert len({hello["hello_id"] for hello in double.messages("hello")}) == 1
    assert len(double.epochs) == 1


async def test_the_epoch_is_kept_over_a_restart(tmp_path: Path, double: ControlPlaneDouble) -> None:
    for number in range(1, 4):
        async with Agent(settings(tmp_path, double)) as agent:
            await agent.record("call", "acme")
            await counted(double, number)
    assert [epoch.next_batch_no for epoch in double.epochs.values()] == [4]


async def test_retry_after_holds_the_agent_back(tmp_path: Path, double: ControlPlaneDouble) -> None:
    clock = ManualClock()
    double.retry_after_s = 30
    double.faults.append(503)
    async with Agent(settings(tmp_path, double, drain_s=0.0), clock) as agent:
        clock.advance(1)
        await eventually(lambda: len(double.requests) == 1)
        await eventually(lambda: any(due > clock.monotonic_s() + 29 for due, _ in clock._sleepers))
        clock.advance(29)
        assert len(double.requests) == 1
        del agent


async def test_a_restored_control_plane_gets_back_what_is_kept(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        for number in range(1, 6):
            await agent.record("call", "acme")
            await counted(double, number)
        (epoch,) = double.epochs.values()
        lost = list(double.events)[2:]
        for key in lost:
            del double.events[key]
        epoch.next_batch_no, epoch.digests = 3, epoch.digests[:3]
        await agent.record("call", "acme")
        await counted(double, 6)
    assert len(double.epochs) == 1


async def test_an_empty_control_plane_gets_everything_that_is_kept(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        for number in range(1, 4):
            await agent.record("call", "acme")
            await counted(double, number)
        double.events.clear()
        double.epochs.clear()
        await counted(double, 3)
        await agent.record("call", "acme")
        await counted(double, 4)


async def test_two_agents_with_one_identity_lose_nothing_and_count_nothing_twice(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with Agent(settings(tmp_path / "a", double)) as agent:
        await agent.record("call", "acme", id="first")
        await counted(double, 1)
    clone = tmp_path / "b"
    clone.mkdir()
    for file in (tmp_path / "a").iterdir():
        (clone / file.name).write_bytes(file.read_bytes())
    async with Agent(settings(tmp_path / "a", double)) as one, Agent(settings(clone, double)) as other:
        for number in range(10):
            await one.record("call", "acme", id=f"one-{number}")
            await other.record("call", "acme", id=f"other-{number}")
        await counted(double, 21)
    assert len(double.epochs) == 2


async def test_a_poison_event_is_set_aside_and_the_others_are_counted(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.refuses = lambda event: event[0] == "poison"
    async with Agent(settings(tmp_path, double)) as agent:
        events = [Event.of("call", "acme", id="poison" if number == 13 else str(number)) for number in range(40)]
        await agent.record_many(events)
        await counted(double, 39)
        await eventually(lambda: agent.status().backlog_events == 0)
    assert "poison" not in ids(double)
    buffer = await Buffer.open(tmp_path, ManualClock())
    assert buffer.refused_events == 1
    await buffer.close()


async def test_a_batch_too_large_for_the_door_is_sent_in_parts(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme")
        await counted(double, 1)
        double.faults.extend([413, 413])
        await agent.record_many([Event.of("call", "acme") for _ in range(8)])
        await counted(double, 9)
        await eventually(lambda: agent.status().backlog_events == 0)
    assert agent.status().ready is False


async def test_a_large_backlog_goes_out_in_full_batches(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path)) as agent:
        await agent.record_many([Event.of("call", "acme") for _ in range(1000)])
    async with Agent(settings(tmp_path, double, max_batch_events=100, flush_after_s=60.0)) as agent:
        await eventually(lambda: agent.status().backlog_events == 0)
    assert {len(message["events"]) for message in double.messages("batch")} == {100}
    assert [message["backlog"] for message in double.messages("batch")] == list(range(900, -1, -100))


async def test_a_second_agent_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with Agent(settings(tmp_path)):
        with pytest.raises(DirectoryInUse):
            await Agent(settings(tmp_path)).__aenter__()
    async with Agent(settings(tmp_path)) as agent:
        assert agent.ready


async def test_an_agent_that_is_not_running_takes_nothing(tmp_path: Path) -> None:
    agent = Agent(settings(tmp_path))
    assert not agent.ready
    with pytest.raises(AgentStopped):
        agent.record_nowait("call", "acme")
    async with agent:
        assert agent.ready
    with pytest.raises(AgentStopped):
        await agent.record("call", "acme")


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
    double.counted = counting
    async with Agent(settings(tmp_path, double)) as agent:

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


async def test_consuming_again_with_the_same_id_costs_nothing(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        decisions = [await agent.consume("call", "acme", {"tokens": 5}, id=name) for name in "aabba"]
        assert [decision.allowed for decision in decisions] == [True] * 5
        duplicates = [decision.receipt is not None and decision.receipt.duplicate for decision in decisions]
        assert duplicates == [False, True, False, True, True]
        assert (await agent.consume("call", "acme", {"tokens": 5}, id="c")).allowed is False


async def test_usage_before_the_limit_was_known_counts(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    double.held.clear()
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme", {"tokens": 4})
        agent.record_nowait("call", "acme", {"tokens": 5})
        double.held.set()
        assert await agent.learn("acme")
        assert agent.check("acme", "tokens").used == 9


async def test_limits_and_own_usage_survive_a_restart_without_the_control_plane(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.consume("call", "acme", {"tokens": 4})
        await eventually(lambda: agent.status().backlog_events == 0)
        double.counted = False
    await double.stop()
    for used in (4, 6):
        async with Agent(settings(tmp_path, double, first_check_wait_s=0.01, drain_s=0.0)) as agent:
            assert agent.check("acme", "tokens").used == used
            assert (await agent.consume("call", "acme", {"tokens": 2})).allowed
            assert agent.check("stranger", "tokens").reason == "unknown_subject"


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


async def test_a_checked_subject_becomes_known_without_being_asked_for(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", None)
    async with Agent(settings(tmp_path, double, sync_interval_s=3600.0)) as agent:
        assert agent.check("acme", "tokens").reason == "unknown_subject"
        await eventually(lambda: agent.check("acme", "tokens").reason == "unlimited")
        (quota,) = agent.quotas("acme") or ()
        assert (quota.feature, quota.limit, quota.used) == ("tokens", None, 0)


async def test_a_lower_limit_is_learned_while_running(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        double.limits["acme/tokens"]["limit"] = "0"
        await eventually(lambda: not agent.check("acme", "tokens").allowed)


async def test_a_stop_in_the_middle_of_everything_loses_nothing(tmp_path: Path, double: ControlPlaneDouble) -> None:
    answered: set[str] = set()
    for turn in range(5):
        agent = Agent(settings(tmp_path, double, drain_s=0.05))

        async def work(agent: Agent, name: str) -> None:
            with contextlib.suppress(AgentStopped):
                for number in range(1000):
                    answered.add((await agent.record("call", "acme", id=f"{name}-{number}")).id)

        async with agent:
            workers = [asyncio.create_task(work(agent, f"{turn}-{name}")) for name in range(4)]
            await eventually(lambda turn=turn: len(answered) > turn * 30)
        await asyncio.gather(*workers)
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: agent.status().backlog_events == 0)
    assert answered == ids(double)
