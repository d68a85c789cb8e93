"""The wait between two attempts."""

import asyncio

import pytest
from fakes import ManualClock, eventually
from hypothesis import given
from hypothesis import strategies as st

from sidemeter import refresh
from sidemeter.backoff import LONGEST_S, delay_s, retrying
from sidemeter.errors import Unacceptable, Unreachable


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_wait_is_never_longer_than_a_minute_of_jitter(attempt: int, random: float) -> None:
    assert 0 <= delay_s(attempt, random) <= LONGEST_S


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_that_of_a_sync_is_never_longer_than_ten_seconds(attempt: int, random: float) -> None:
    assert 0 <= delay_s(attempt, random, longest_s=refresh.LONGEST_S) <= refresh.LONGEST_S == 10
    assert delay_s(attempt, random, longest_s=refresh.LONGEST_S) <= delay_s(attempt, random)


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


class Unlucky(ManualClock):
    """Every wait is as long as it may be."""

    def token_hex(self, n_bytes: int) -> str:
        return "f" * 2 * n_bytes


@pytest.mark.parametrize(
    ("longest_s", "waited_s"), [(3.0, 0.2 + 0.4 + 0.8 + 1.6 + 3 * 16), (60.0, 0.2 * 511 + 60 * 11)]
)
async def test_who_wants_to_be_back_sooner_waits_less(longest_s: float, waited_s: float) -> None:
    clock, left = Unlucky(), [20]

    async def attempt() -> None:
        if left[0]:
            left[0] -= 1
            raise Unreachable("no")

    task = asyncio.create_task(retrying(clock, longest_s)(attempt))
    began_s = clock.monotonic_s()

    def move() -> bool:
        clock.advance(0.1)
        return task.done()

    await eventually(move, every_s=0)
    assert clock.monotonic_s() - began_s == pytest.approx(waited_s, rel=0.05)
