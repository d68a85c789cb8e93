"""How often a key may ask: as many requests a second as it may, as many at once, and not one more."""

from pathlib import Path
from typing import Any

import pytest
from fakes import ManualClock
from planes import caller, open_database
from streams import served

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.rates import MAX_BUCKETS, Rates
from sidemeter_control.app import build
from sidemeter_control.errors import RateLimited
from sidemeter_control.settings import Settings
from sidemeter_control.store.keys import Scope

TYPE = {"query": "{ __typename }"}


def taken(rates: Rates, key: str, most: int) -> int:
    """How many of so many requests are let in."""
    found = 0
    for _ in range(most):
        try:
            rates.take(key)
        except RateLimited:
            continue
        found += 1
    return found


def test_a_second_s_worth_at_once_then_as_many_as_time_goes_on() -> None:
    clock = ManualClock()
    rates = Rates(clock, 10)
    assert taken(rates, "a", 20) == 10
    clock.advance(0.5)
    assert taken(rates, "a", 20) == 5
    clock.advance(0.05)
    assert taken(rates, "a", 20) == 0
    clock.advance(0.05)
    assert taken(rates, "a", 20) == 1
    clock.advance(3600)
    assert taken(rates, "a", 20) == 10


def test_keys_have_buckets_of_their_own() -> None:
    rates = Rates(ManualClock(), 2)
    assert [taken(rates, key, 5) for key in ("a", "b", "a")] == [2, 2, 0]


def test_without_a_rate_there_is_no_end() -> None:
    assert taken(Rates(ManualClock(), 0), "a", 10_000) == 10_000


@pytest.mark.parametrize(("per_s", "wait_s"), [(1, 1), (2, 1), (1000, 1)])
def test_who_is_refused_is_told_how_long_to_wait(per_s: int, wait_s: int) -> None:
    rates = Rates(ManualClock(), per_s)
    taken(rates, "a", per_s)
    with pytest.raises(RateLimited) as raised:
        rates.take("a")
    assert raised.value.retry_after_s == wait_s


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_so_many_keys_are_remembered(more: int) -> None:
    rates = Rates(ManualClock(), 1)
    for number in range(MAX_BUCKETS + more):
        rates.take(str(number))
    assert taken(rates, "0", 1) == (more > 0)


async def test_a_key_that_asks_too_often_gets_429_and_others_do_not(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_database(tmp_path) as database:
        gate = Gate(database, clock)
        keys = [(await gate.make("test", frozenset({Scope.READ}), None))[1] for _ in range(2)]
        app = await build(database, gate, Settings(requests_per_s=3), clock)
        first, second = (caller(app, Authorization=f"Bearer {key}") for key in keys)
        async with first, second:
            statuses = [(await first.post("/graphql", json=TYPE)).status_code for _ in range(4)]
            assert statuses == [200, 200, 200, 429]
            refused = await first.post("/graphql", json=TYPE)
            assert (refused.headers["retry-after"], refused.json()["code"]) == ("1", "rate_limited")
            assert refused.headers["content-type"] == "application/problem+json"
            assert (await second.post("/graphql", json=TYPE)).status_code == 200
            clock.advance(1)
            assert (await first.post("/graphql", json=TYPE)).status_code == 200


async def test_operations_on_a_web_socket_count_as_requests(tmp_path: Path) -> None:
    async with served(tmp_path, requests_per_s=20) as control, control.talk() as talk:
        key = await control.key(Scope.READ)
        async with control.talk(authorization=f"Bearer {key}") as other:
            refused: list[dict[str, Any]] = []
            while not refused:  # as many as it takes, however slow it is
                for _ in range(60):
                    await other.subscribe("{ __typename }")
                ends: list[dict[str, Any]] = []
                while len(ends) < 60:
                    said = await other.hear()
                    ends += [said] if said["type"] in {"complete", "error"} else []
                refused = [each for each in ends if each["type"] == "error"]
            assert refused[0]["payload"][0]["extensions"] == {"code": "RATE_LIMITED", "retryAfterSeconds": 1}
        await talk.subscribe("{ __typename }")
        assert await talk.next() == {"__typename": "Query"}


def test_the_number_is_a_setting() -> None:
    assert Settings().requests_per_s == 1000
    assert Settings.from_environ({"SIDEMETER_REQUESTS_PER_S": "0"}).requests_per_s == 0
