"""The ground of the simulation: time, order, and what death leaves behind."""

import asyncio

import pytest

from .process import Process, SimClock
from .world import Violation, World


def test_a_killed_process_never_goes_on_and_its_finally_reaches_nothing() -> None:
    world, done = World(1), []
    process = Process(world, "p")

    async def work() -> None:
        try:
            await asyncio.sleep(5.0)
            done.append("slept")
        finally:
            await asyncio.sleep(0.0)
            done.append("cleaned up")

    process.begin(work())
    world.later(1.0, process.kill)
    world.run(10.0)
    assert (done, process.alive) == ([], False)


def test_processes_that_end_tell_it_while_all_still_stands_and_again_when_nothing_is_left() -> None:
    world, told = World(1), []
    process = Process(world, "p")
    process.ends.append(lambda: told.append("ends"))
    process.buried.append(lambda: told.append("buried"))
    process.begin(asyncio.sleep(60))
    process.kill_in(1)
    world.run(1.0)
    assert told == ["ends", "buried"]


def test_time_passes_only_as_the_world_says_and_at_the_rate_of_each_process() -> None:
    world = World(1)
    processes = [Process(world, f"p{n}") for n in range(40)]
    for process in processes:
        process.begin(_sleep_for(process, 7.0))
    began_s = [process.time() for process in processes]
    assert world.run(1000.0, lambda: all(not asyncio.all_tasks(process) for process in processes))
    for process, start_s in zip(processes, began_s, strict=True):
        assert process.time() - start_s == pytest.approx(world.now_s * process.rate)
    assert {process.rate for process in processes} == {0.7, 1.0, 1.4}


async def _sleep_for(process: Process, seconds: float) -> None:
    clock = SimClock(process, lambda: 0, lambda: "")
    before_s = clock.monotonic_s()
    await clock.sleep(seconds)
    assert clock.monotonic_s() - before_s == pytest.approx(seconds)


def test_what_a_thread_does_takes_virtual_time_and_brings_back_its_error() -> None:
    world, seen = World(1), []
    process = Process(world, "p")

    async def work() -> None:
        seen.append(await asyncio.to_thread(lambda: 7))
        with pytest.raises(OSError, match="gone"):
            await asyncio.to_thread(_fails)
        seen.append(world.now_s > 0.0)

    process.begin(work())
    world.run(1.0)
    assert seen == [7, True]


def _fails() -> None:
    raise OSError("gone")


def test_an_error_that_nobody_takes_ends_the_run() -> None:
    world = World(1)
    process = Process(world, "p")

    async def work() -> None:
        process.call_soon(lambda: 1 / 0)

    process.begin(work())
    with pytest.raises(Violation, match="ZeroDivisionError"):
        world.run(1.0)


def test_a_loop_that_goes_round_for_ever_is_a_violation() -> None:
    world = World(1)
    world.max_steps = 10_000
    process = Process(world, "p")

    async def work() -> None:
        process.begin(work())

    process.begin(work())
    with pytest.raises(Violation, match="no end after"):
        world.run(1.0)
    process.kill()
    world.bury()


def test_a_violation_that_a_program_catches_is_one_all_the_same() -> None:
    world = World(1)
    process = Process(world, "p")

    async def work() -> None:
        try:
            world.violated("a promise")
        except Exception:  # noqa: BLE001 -- as the loops of the agent do
            await asyncio.sleep(0.0)

    process.begin(work())
    with pytest.raises(Violation, match="a promise"):
        world.run(1.0)
