"""Forwarding against a control plane on a real port: whatever it answers, nothing lost and nothing twice."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import counted, ids, settings
from fakes import ManualClock, eventually

from sidemeter import Agent, Event
from sidemeter.buffer import Buffer


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


async def test_a_poison_event_becomes_a_letter_and_the_others_are_counted(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.refuses = lambda event: event[0] == "poison"
    async with Agent(settings(tmp_path, double)) as agent:
        events = [Event.of("call", "acme", id="poison" if number == 13 else str(number)) for number in range(40)]
        await agent.record_many(events)
        await counted(double, 39)
        await eventually(lambda: agent.status().backlog_events == 0)
        assert agent.status().set_aside_events == 0
    assert "poison" not in ids(double)
    ((body, reason),) = double.letters
    assert (msgspec.msgpack.decode(body)[0], reason) == ("poison", "poison")


async def test_a_letter_is_sent_again_byte_for_byte_also_after_a_restart(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.refuses = lambda event: event[0] == "poison"
    async with Agent(settings(tmp_path, double, drain_s=0.0)) as agent:
        await counted(double, 0)
        double.faults.extend(["lose"] * 100)
        await agent.record("call", "acme", id="poison")
        await eventually(lambda: agent.status().failed_sends > 0)
        double.faults.clear()
        await eventually(lambda: double.letters)
        double.faults.extend(["lose"] * 100)
    double.faults.clear()
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: agent.status().backlog_events == 0)
        assert (agent.status().set_aside_events, agent.status().resends, agent.status().new_names) == (0, 0, 0)
    assert len(double.letters) == 1


async def test_what_not_even_a_letter_gets_through_is_set_aside_and_seen(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.refuses = lambda event: b"poison" in msgspec.msgpack.encode(event)
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record_many([Event.of("call", "acme", id=each) for each in ("one", "poison", "two")])
        await counted(double, 2)
        await eventually(lambda: (agent.status().set_aside_events, agent.status().backlog_events) == (1, 0))
    buffer = await Buffer.open(tmp_path, ManualClock())
    assert buffer.refused_events == 1
    await buffer.close()


async def test_the_agent_seals_no_more_than_the_control_plane_announced(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.max_batch_events = 7
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record_many([Event.of("call", "acme") for _ in range(50)])
        await counted(double, 50)
        del agent
    assert {len(message["events"]) for message in double.messages("batch")} <= {7, 1}


async def test_a_batch_that_did_not_arrive_as_it_was_sealed_is_sent_again(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: agent.status().epoch)
        double.faults.append({"status": "DAMAGED", "next_batch_no": 1})
        await agent.record("call", "acme")
        await eventually(lambda: agent.status().sent_events == 1)  # a stop before that sends it once more
        assert agent.status().failed_sends == 1
    assert len(double.events) == 1
    bodies = [body for (path, _), body in zip(double.requests, double.bodies, strict=True) if path.endswith("batch")]
    assert len(bodies) == 2
    assert len(set(bodies)) == 1


async def test_the_agent_waits_as_long_as_an_answer_says(tmp_path: Path, double: ControlPlaneDouble) -> None:
    clock = ManualClock()
    double.wait_ms = 30_000

    def moved(condition: Callable[[], bool]) -> Callable[[], bool]:
        def moving() -> bool:
            clock.advance(0.5)
            return condition()

        return moving

    async with Agent(settings(tmp_path, double, drain_s=0.0), clock) as agent:
        await agent.record("call", "acme")
        await eventually(moved(lambda: len(double.events) == 1))
        counted_at_s = clock.monotonic_s()
        await agent.record("call", "acme")
        await eventually(moved(lambda: agent.status().paced_seconds > 25))
        assert len(double.events) == 1
        await eventually(moved(lambda: len(double.events) == 2))
        assert clock.monotonic_s() - counted_at_s >= 29


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
