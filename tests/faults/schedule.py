"""Which kind of fault is next: all in turns, and between them whatever is furthest from the count that it has to reach."""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from .namespaces import FAULTS as CABLE_FAULTS
from .network import EVERY_FAULT as NETWORK_FAULTS

__all__ = ["GOALS", "Goal", "Schedule"]

Faults = Mapping[str, int]


@dataclass(frozen=True)
class Goal:
    """How often something has to happen in half an hour, and the kind of rounds that brings it about."""

    name: str
    kind: str
    count: int
    reached: Callable[[Faults], int]

    def share(self, faults: Faults) -> float:
        """How much of it is done; 1.0 is all."""
        return self.reached(faults) / self.count


def _named(beginning: str) -> Callable[[Faults], int]:
    return lambda faults: sum(count for fault, count in faults.items() if fault.startswith(beginning))


def _rarest(names: Collection[str]) -> Callable[[Faults], int]:
    return lambda faults: min(faults.get(name, 0) for name in names)


GOALS: Final = (
    Goal("kill -9 of a program", "kills", 500, _named("kill ")),
    Goal("power cut", "power", 50, _named("power cut ")),
    Goal("disk full", "disks", 50, _named("disk full ")),
    Goal("each fault of the network", "network", 50, _rarest(NETWORK_FAULTS)),
    Goal("each fault of a cable", "namespaces", 50, _rarest(CABLE_FAULTS)),
)


class Schedule:
    """The turns of a run. Every kind has its `rounds` first. Until `is_over`, three of four turns after that go to the goal
    that is furthest away, while there is one, and the rest to all kinds one after the other.

    The n-th round of a kind has the seed `first_seed` + n.
    """

    def __init__(self, kinds: tuple[str, ...], rounds: int, first_seed: int, is_over: Callable[[], bool]) -> None:
        self._kinds = kinds
        self._rounds = rounds
        self._first_seed = first_seed
        self._is_over = is_over
        self._begun: Counter[str] = Counter()
        self._in_turns = itertools.cycle(kinds)
        self._turns = 0

    def next(self, faults: Faults, skipped: Collection[str] = ()) -> tuple[str, int] | None:
        """Kind and seed of the next round, by the faults that have happened; None when there shall be no other."""
        kinds = [kind for kind in self._kinds if kind not in skipped]
        owed = [kind for kind in kinds if self._begun[kind] < self._rounds]
        if owed:
            kind = min(owed, key=self._begun.__getitem__)
        elif not kinds or self._is_over():
            return None
        else:
            self._turns += 1
            kind = self._furthest(kinds, faults) if self._turns % 4 else None
            kind = kind or next(each for each in self._in_turns if each in kinds)
        self._begun[kind] += 1
        return kind, self._first_seed + self._begun[kind] - 1

    @staticmethod
    def _furthest(kinds: Collection[str], faults: Faults) -> str | None:
        open_goals = [goal for goal in GOALS if goal.kind in kinds and goal.share(faults) < 1]
        return min(open_goals, key=lambda goal: goal.share(faults)).kind if open_goals else None
