"""An agent killed at any step, and its directory copied, cloned and put back: together never more than the limit."""

import asyncio
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.mortal import Killed, Life, bury, mortal
from agent.whole_agent import at, spend
from fakes import eventually

from sidemeter import Agent
from sidemeter.clock import SystemClock
from sidemeter_control.limits.leases import Standing

LIMIT = 40
STEPS = range(26, 104, 3)
"""From before the first lease to when most of it is spent."""


class Machine(SystemClock):
    """A machine that is started `boots` times."""

    boots = 1

    def boot_id(self) -> str:
        return f"boot-{self.boots}"


async def live(agent: Agent, life: Life, allowed: list[int]) -> None:
    """Spend until the end."""

    async def caller() -> None:
        while not life.ended.is_set():
            with suppress(Exception):
                if (await spend(agent, 3, wait_s=0.05)).allowed:
                    allowed.append(3)
                await asyncio.sleep(0)

    callers = [asyncio.create_task(caller()) for _ in range(2)]
    await life.ended.wait()
    for task in callers:
        task.cancel()
    await asyncio.wait(callers)
    for task in callers:
        with suppress(asyncio.CancelledError):
            task.exception()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step_it_neither_forgets_what_it_spent_nor_spends_it_again(
    tmp_path: Path, double: ControlPlaneDouble, step: int
) -> None:
    limit = double.lease("acme", "tokens", LIMIT)
    allowed: list[int] = []
    life = Life(step)
    agent = mortal(at(tmp_path, double), life)
    try:
        await agent.__aenter__()
        await asyncio.wait_for(live(agent, life, allowed), 60)
    except Killed:
        pass
    await bury(agent)
    async with Agent(at(tmp_path, double)) as again:
        for tokens in (4, 1):
            while (await spend(again, tokens, wait_s=0.3)).allowed:
                allowed.append(tokens)
        assert sum(allowed) <= LIMIT
        await eventually(lambda: again.status().backlog_events == 0)
    in_doubt = sum(each.free for own in double.books.holdings.values() for each in own.values())
    kept = sum(json.loads(event[5])["tokens"] for event in double.events.values())
    assert sum(allowed) <= kept <= LIMIT, "what callers were told is kept, and what is kept is within the limit"
    assert not double.books.alerts, "one process after another is no pair of them"
    assert kept + in_doubt == LIMIT or double.books.held(limit) == LIMIT


async def test_another_run_of_the_machine_holds_nothing_of_what_the_last_one_did(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", LIMIT)
    double.books.interval_ms = 1000
    clock = Machine()
    agent = mortal(at(tmp_path, double), Life(1 << 30), clock)
    async with agent:
        assert (await agent.ask("acme", "tokens", 25)).allowed
        assert (await spend(agent, 5)).allowed
        await bury(agent)
    clock.boots += 1
    async with Agent(at(tmp_path, double), clock) as again:
        assert again.check("acme", "tokens").reason == "no_lease"
        assert not (await spend(again, 16, wait_s=0.5)).allowed, "the rest of the first 25 is in doubt"
        assert (await spend(again, 15, wait_s=5.0)).allowed
        assert again.status().epoch == 2
    assert double.books.held(limit) == LIMIT


async def test_two_agents_on_a_cloned_directory_share_no_lease(tmp_path: Path, double: ControlPlaneDouble) -> None:
    limit = double.lease("acme", "tokens", LIMIT)
    double.books.interval_ms = 1000
    original = mortal(at(tmp_path, double), Life(1 << 30))
    async with original:
        assert (await original.ask("acme", "tokens", 20)).allowed
        assert (await spend(original, 2)).allowed
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        async with Agent(at(tmp_path, double, "b")) as clone:
            assert not clone.check("acme", "tokens").allowed

            async def all_of(agent: Agent) -> int:
                spent = 0
                for tokens in (5, 1):
                    while (await spend(agent, tokens, wait_s=0.3)).allowed:
                        spent += tokens
                return spent

            spent = await asyncio.gather(all_of(original), all_of(clone))
    assert 2 + sum(spent) <= LIMIT
    assert double.books.held(limit) <= LIMIT


async def test_a_directory_put_back_from_a_copy_holds_nothing(tmp_path: Path, double: ControlPlaneDouble) -> None:
    """The file keeps its place on the disk, so that only its content says that it is older."""
    double.lease("acme", "tokens", LIMIT)
    double.books.interval_ms = 1000
    async with mortal(at(tmp_path, double), Life(1 << 30)) as agent:
        assert (await agent.ask("acme", "tokens", 20)).allowed
        await bury(agent)
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if "sqlite3" in path.name}
    double.books.interval_ms = 10
    async with mortal(at(tmp_path, double), Life(1 << 30)) as agent:
        spent = 0
        while (await spend(agent, 2, wait_s=0.3)).allowed:
            spent += 2
        await bury(agent)
    for path, content in before.items():
        path.write_bytes(content)
    async with Agent(at(tmp_path, double)) as again:
        while (await spend(again, 2, wait_s=0.1)).allowed:
            spent += 2
    assert spent <= LIMIT


async def test_a_holder_that_is_fenced_spends_no_more_and_another_begins_with_nothing(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "tokens", LIMIT)
    async with Agent(at(tmp_path, double)) as agent:
        assert (await spend(agent, 10)).allowed
        for row in double.books.holders.values():
            row.standing = Standing.TWINS
        await eventually(lambda: agent.status().new_names == 1)
        assert (await spend(agent, 30, wait_s=5.0)).allowed
        assert not (await spend(agent, 1)).allowed
    assert double.books.held(limit) == LIMIT
    assert len(double.books.holders) == 2


async def test_a_cell_that_is_gone_is_a_new_epoch(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.lease("acme", "tokens", LIMIT)
    double.books.interval_ms = 1000
    agent = mortal(at(tmp_path, double), Life(1 << 30))
    async with agent:
        assert (await agent.ask("acme", "tokens", 20)).allowed
        await bury(agent)
    for cell in (tmp_path / "cells").iterdir():
        cell.unlink()
    async with Agent(at(tmp_path, double)) as again:
        assert again.check("acme", "tokens").reason == "no_lease"
        await eventually(lambda: again.status().epoch == 2)
