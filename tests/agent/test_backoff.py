"""The wait between two attempts."""

import asyncio

import pytest
from fakes import ManualClock, eventually
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.backoff import LONGEST_S, delay_s, retrying
from sidemeter.errors import Unacceptable, Unreachable


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_wait_is_never_longer_than_a_minute_of_jitter(attempt: int, random: float) -> None:
    assert 0 <= delay_s(attempt, random) <= LONGEST_S


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 3600))
def test_retry_after_is_obeyed(attempt: int, random: float, retry_after_s: float) -> None:
    assert delay_s(attempt, random, retry_after_s) >= retry_after_s


@pytest.mark.parametrize(("attempt", "longest_s"), [(1, 0.2), (2, 0.4), (5, 3.2), (9, 51.2), (10, 60.0), (99, 60.0)])
def test_the_bound_doubles_from_a_fifth_of_a_second(attempt: int, longest_s: float) -> None:
    assert delay_s(attempt, 1.0) == pytest.approx(longest_s)


async def test_an_attempt_is_repeated_until_it_is_answered() -> None:
    clock, outcomes = ManualClock(), [Unreachable("no"), Unacceptable("never"), Unreachable("later", retry_after_s=30)]

    async def attempt() -> str:
        if outcomes:
            raise outcomes.pop(0)
        return "answered"

    task = asyncio.create_task(retrying(clock)(attempt))
    began_s = clock.monotonic_s()

    def move() -> bool:
        clock.advance(0.2)
        return task.done()

    await eventually(move)
    assert await task == "answered"
    assert clock.monotonic_s() - began_s >= 30
