"""The whole agent: what it takes reaches the control plane, whenever it is stopped."""

import asyncio
import contextlib
from decimal import Decimal
from pathlib import Path

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import counted, ids, settings
from fakes import eventually

from sidemeter import Agent, AgentStopped, DirectoryInUse, StorageRefused


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


async def test_what_is_on_disk_is_forwarded_while_it_is_full(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.held.clear()
    async with Agent(settings(tmp_path, double)) as agent:
        assert agent._parts
        buffer = agent._parts.buffer
        await agent.record("call", "acme")
        double.held.set()
        await eventually(lambda: agent.status().epoch)
        await buffer._database._conn.execute("PRAGMA max_page_count = 1")  # of what is there already: not one page more
        with pytest.raises(StorageRefused, match="disk is full"):
            await agent.record("call", "acme", {"text": "x" * 9000})
        await eventually(lambda: agent.status().backlog_events == 0)
        await buffer._database._conn.execute("PRAGMA max_page_count = 100000")
        await eventually(lambda: not agent.status().disk_refusing)
        await agent.record("call", "acme", {"text": "x" * 9000})
        await counted(double, 2)


async def test_draining_commits_and_forwards_what_is_pending(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double, flush_after_s=60.0)) as agent:
        sent = {agent.record_nowait("call", "acme") for _ in range(100)}
        assert agent.pending == 100
    assert ids(double) == sent


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
