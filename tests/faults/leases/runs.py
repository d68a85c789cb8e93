"""Many seeds, one after the other, and the report of what they came to."""

import gc
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .seed import CAST, Cast, Outcome, live

__all__ = ["Report", "run"]

MAX_SHOWN: Final = 40


@dataclass
class Report:
    """What a run of seeds came to. Each of `violations` is a seed and the promise that it broke."""

    first_seed: int
    seeds: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0
    operations: int = 0
    spent: int = 0
    allowed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in one seed."""
        self.seeds += 1
        self.operations += outcome.operations
        self.spent += outcome.spent
        self.allowed += outcome.allowed
        self.faults += outcome.faults
        self.answers += outcome.answers
        if outcome.violation is not None:
            self.violations.append((outcome.seed, outcome.violation))

    def text(self) -> str:
        """For people."""
        each_ms = 1000 * self.cpu_s / max(self.seeds, 1)
        lines = [
            f"{self.seeds} seeds from {self.first_seed} in {self.took_s:.0f} s, {each_ms:.0f} ms of a core each",
            f"{self.operations} operations; of {self.allowed} units {self.spent} spent",
            f"answers: {', '.join(f'{count} {answer}' for answer, count in sorted(self.answers.items()))}",
            f"faults: {self.faults.total()} of {len(self.faults)} kinds",
            *(f"  {count:8} {kind}" for kind, count in sorted(self.faults.items())),
            f"violations: {len(self.violations)}",
            *(f"  --seed {seed}: {what}" for seed, what in self.violations[:MAX_SHOWN]),
        ]
        return "\n".join(lines)


def run(first_seed: int, seeds: int, cast: Cast = CAST, *, until_broken: bool = False) -> Report:
    """Run `seeds` seeds from `first_seed` on; `until_broken` stops at the first promise that is broken."""
    report = Report(first_seed)
    started_s, worked_s = time.monotonic(), time.process_time()
    gc.freeze()
    for seed in range(first_seed, first_seed + seeds):
        report.add(live(seed, cast))
        if until_broken and report.violations:
            break
    gc.unfreeze()
    report.took_s, report.cpu_s = time.monotonic() - started_s, time.process_time() - worked_s
    return report
