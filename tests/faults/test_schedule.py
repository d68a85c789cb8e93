from collections import Counter

from faults import namespaces
from faults.schedule import GOALS, Schedule

KINDS = ("clocks", "kills", "power", "sweep")
ALL_REACHED = {"kill agent": 500, "power cut agent": 50}


def turns(schedule: Schedule, count: int, faults: dict[str, int]) -> list[tuple[str, int] | None]:
    return [schedule.next(faults) for _ in range(count)]


def test_every_kind_has_its_rounds_and_a_seed_of_its_own_for_each() -> None:
    got = turns(Schedule(KINDS, 2, 7, lambda: True), 9, {})
    assert got == [*((kind, 7) for kind in KINDS), *((kind, 8) for kind in KINDS), None]


def test_while_there_is_time_three_of_four_turns_are_for_what_is_furthest_from_its_count() -> None:
    schedule = Schedule(KINDS, 0, 0, lambda: False)
    assert turns(schedule, 4, {"kill agent": 400}) == [("power", 0), ("power", 1), ("power", 2), ("clocks", 0)]
    got = turns(schedule, 4, {"kill agent": 40, "power cut agent": 49})
    assert got == [("kills", 0), ("kills", 1), ("kills", 2), ("kills", 3)]
    assert turns(schedule, 4, {"kill agent": 500, "power cut agent": 49})[-1] == ("power", 6)


def test_once_every_count_is_reached_all_kinds_have_their_turns() -> None:
    got = turns(Schedule(KINDS, 0, 0, lambda: False), 8, ALL_REACHED)
    assert Counter(kind for kind, _ in got) == dict.fromkeys(KINDS, 2)  # type: ignore[misc]


def test_a_kind_that_cannot_run_here_has_no_turn() -> None:
    schedule = Schedule(KINDS, 1, 0, lambda: False)
    got = [schedule.next({}, {"power", "clocks"}) for _ in range(20)]
    assert {kind for kind, _ in got} == {"kills", "sweep"}  # type: ignore[misc]


def test_a_goal_of_each_fault_is_as_far_as_its_rarest() -> None:
    (cable,) = (goal for goal in GOALS if goal.kind == "namespaces")
    faults = dict.fromkeys(namespaces.FAULTS, 25)
    assert (cable.reached(faults), cable.share(faults)) == (25, 0.5)
    assert cable.reached(faults | {"no route": 3}) == 3
    assert cable.reached({}) == 0
