"""What runs in the background goes on, whatever happens to one turn of it."""

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest
from fakes import ManualClock, eventually
from planes import open_database

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import Loop, loops, repeat
from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.settings import Settings


async def test_a_loop_goes_on_after_a_turn_that_failed_and_says_what_happened(caplog: pytest.LogCaptureFixture) -> None:
    turns = [StoreUnavailable("disk full"), RuntimeError("a mistake"), None]
    done = asyncio.Event()

    async def once() -> None:
        outcome = turns.pop(0)
        if outcome is not None:
            raise outcome
        done.set()
        await asyncio.Event().wait()

    caplog.set_level(logging.WARNING)
    running = asyncio.create_task(repeat(Loop("counting", once, every_s=0), ManualClock()))
    await asyncio.wait_for(done.wait(), 60)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [
        ("WARNING", False),
        ("ERROR", True),
    ]
    assert "counting waits for the database: disk full" in caplog.text


@pytest.mark.parametrize("until_done", [True, False])
async def test_a_loop_with_more_to_do_rests_as_long_as_its_turn_was(until_done: bool) -> None:
    clock = ManualClock()
    turns: list[int] = []

    async def once() -> bool:
        turns.append(len(turns))
        return len(turns) < 5

    running = asyncio.create_task(repeat(Loop("counting", once, every_s=3600, until_done=until_done), clock))
    await eventually(lambda: len(turns) == (5 if until_done else 1))
    running.cancel()


async def test_what_one_does_another_takes_up_once_it_leads_and_what_is_each_ones_own_does_not_wait() -> None:
    turns: list[str] = []
    leads = False

    def loop(name: str, *, everywhere: bool) -> asyncio.Task[None]:
        async def once() -> None:
            turns.append(name)

        each = Loop(name, once, every_s=3600, everywhere=everywhere)
        return asyncio.create_task(repeat(each, ManualClock(), lambda: leads))

    running = [loop("own", everywhere=True), loop("one's", everywhere=False)]
    await eventually(lambda: turns == ["own"])
    leads = True
    await eventually(lambda: turns == ["own", "one's"])
    for task in running:
        task.cancel()


async def test_every_loop_of_the_control_plane_takes_a_turn_on_an_empty_database(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        clock = ManualClock()
        for each in loops(database, Settings(), clock, Gate(database, clock)):
            assert not await each.once()
            assert each.every_s > 0
