"""The world: virtual time, one source of chance, and the order in which everything happens. All of it by the seed."""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .process import Process

__all__ = ["Violation", "World"]

MAX_STEPS: Final = 400_000
"""Steps of one seed; the longest that ends needs a tenth. One that reaches it goes round without getting anywhere."""


_ASK_S: Final = 0.5


class Violation(AssertionError):
    """A promise was broken."""


class World:
    """What a seed unfolds into. Processes run one step at a time; between steps, whatever is due happens.

    `calm` ends the faults: `strikes` is false from then on. `trace` holds every line noted, if `tracing`. `complaints`
    are errors that nobody in a program took; `place` is what no line shows, because it differs from run to run.
    """

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.steps = 0
        self.max_steps = MAX_STEPS
        self.calm = False
        self.faults: Counter[str] = Counter()
        self.tracing = tracing
        self.place = ""
        self.trace: list[str] = []
        self.runnable: list[Process] = []
        self.dying: list[Process] = []
        self.complaints: list[str] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._violation: Violation | None = None

    def note(self, what: str, *facts: object) -> None:
        """Write a line of the trace."""
        if self.tracing:
            line = f"{self.now_s:11.6f} {what} {' '.join(map(str, facts))}".rstrip()
            self.trace.append(line.replace(self.place, "") if self.place else line)

    def fault(self, kind: str, *facts: object) -> None:
        """Count a fault that happens now."""
        self.faults[kind] += 1
        self.note(f"! {kind}", *facts)

    def chance(self, probability: float) -> bool:
        """True as often as `probability` says, but for faults: those ask `strikes`."""
        return self.rng.random() < probability

    def strikes(self, kind: str, probability: float, *facts: object) -> bool:
        """Whether a fault of this kind happens now; counted if it does."""
        if self.calm or probability <= 0.0 or self.rng.random() >= probability:
            return False
        self.fault(kind, *facts)
        return True

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Let `call` happen in `delay_s` of virtual time."""
        self._count += 1
        heapq.heappush(self._later, (self.now_s + delay_s, self._count, call))

    def violated(self, what: str) -> None:
        """End the run: a promise is broken."""
        self.note("VIOLATION", what)
        self._violation = self._violation or Violation(what)
        raise self._violation

    def run(self, for_s: float, enough: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass, up to `for_s` or until `enough`, which is asked twice a second; whether it was."""
        end_s, ask_s = self.now_s + for_s, self.now_s
        while True:
            self._settle()
            if enough is not None and self.now_s >= ask_s:
                if enough():
                    return True
                ask_s = self.now_s + _ASK_S
            if not self._later or self._later[0][0] > end_s:
                self.now_s = end_s
                return enough is not None and enough()
            self.now_s, _, call = heapq.heappop(self._later)
            call()

    def _settle(self) -> None:
        """Let every process go on until all of them wait; where several can, chance picks the next."""
        runnable = self.runnable
        self.bury()
        while runnable:
            index = int(self.rng.random() * len(runnable)) if len(runnable) > 1 else 0
            process = runnable[index]
            if not process.step():
                process.listed = False
                runnable.remove(process)
            self.bury()
            if self._violation is not None:  # a program caught it
                raise self._violation
            if self.complaints:
                self.violated(self.complaints[0])
            self.steps += 1
            if self.steps > self.max_steps:
                self.violated(f"no end after {self.max_steps} steps")

    def bury(self) -> None:
        """Take apart every process that was killed."""
        while self.dying:
            self.dying.pop().bury()
