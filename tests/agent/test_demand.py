"""Demand: what is used is wanted ahead, what is not used any more is not, and no clock makes anything of it but size."""

from hypothesis import given
from hypothesis import strategies as st

from sidemeter.demand import Demand


def rolled(*steps: tuple[int, int]) -> Demand:
    """After `(consumed in all, now_ms)` one after the other, for an interval of a second."""
    demand = Demand()
    for consumed, now_ms in steps:
        demand.roll(consumed, now_ms, 1000)
    return demand


def test_a_steady_use_is_the_demand_of_an_interval() -> None:
    demand = rolled(*((100 * second, 1000 * second) for second in range(10)))
    assert (demand.per_interval, demand.ahead, demand.at_most) == (100, 200, 400)


def test_it_rises_at_once_whatever_the_time_between_two_syncs() -> None:
    assert rolled((0, 0), (10, 100)).per_interval == 100
    assert rolled((0, 0), (1, 20)).per_interval == 10


def test_it_falls_over_a_few_intervals_and_ends_at_nothing() -> None:
    demand = rolled((0, 0), (900, 1000))
    falls = []
    for second in range(2, 70):
        demand.roll(900, 1000 * second, 1000)
        falls.append(demand.per_interval)
    assert falls[0] == 600
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] == 0


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-2000, 5000)), max_size=20))
def test_a_clock_that_runs_as_it_likes_makes_no_negative_demand(steps: list[tuple[int, int]]) -> None:
    demand, consumed, now_ms = Demand(), 0, 0
    for more, later_ms in steps:
        consumed, now_ms = consumed + more, now_ms + later_ms
        demand.roll(consumed, now_ms, 1000)
        assert 0 <= demand.per_interval <= demand.ahead <= demand.at_most
