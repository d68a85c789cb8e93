"""How long an address waits that sends wrong keys."""

from sidemeter_control.access.attempts import (
    FORGOTTEN_AFTER_S,
    FREE_GUESSES,
    MAX_SOURCES,
    MAX_WAIT_S,
    Attempts,
)


def test_the_first_few_cost_nothing_and_each_further_one_twice_as_much() -> None:
    attempts, now_s, waits = Attempts(FREE_GUESSES), 0, []
    for _ in range(FREE_GUESSES + 8):
        attempts.failed("a", now_s)
        waits.append(attempts.wait_s("a", now_s))
        now_s += waits[-1]
    assert waits == [0] * FREE_GUESSES + [1, 2, 4, 8, 16, 32, MAX_WAIT_S, MAX_WAIT_S]


def test_what_comes_before_its_time_makes_no_wait_longer() -> None:
    attempts = Attempts(0)
    for _ in range(50):
        attempts.failed("a", 0)
    assert (attempts.wait_s("a", 0), attempts.wait_s("a", 1)) == (1, 0)


def test_an_address_waits_for_itself_alone() -> None:
    attempts = Attempts(0)
    attempts.failed("a", 0)
    assert (attempts.wait_s("a", 0), attempts.wait_s("b", 0)) == (1, 0)


def test_what_was_long_ago_is_forgotten() -> None:
    attempts = Attempts(1)
    for now_s in (0, 1, 2):
        attempts.failed("a", now_s)
    attempts.failed("a", 3 + FORGOTTEN_AFTER_S)
    assert attempts.wait_s("a", 3 + FORGOTTEN_AFTER_S) == 0


def test_only_so_many_addresses_are_remembered() -> None:
    assert Attempts(0)._most == MAX_SOURCES
    attempts = Attempts(0, most_sources=2)
    for source in ("a", "b", "a", "c"):
        attempts.failed(source, 0)
    assert [attempts.wait_s(source, 0) for source in ("a", "b", "c")] == [1, 0, 1]
