"""Many seeds, over the cores of the machine, and the report of what they came to."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zygote import unmeasured

from .seed import CAST, Cast, Outcome, live

__all__ = ["Report", "encoded", "run", "run_here"]

ROOT: Final = Path(__file__).resolve().parents[3]


MAX_SHOWN: Final = 40


@dataclass
class Report:
    """What a run of seeds came to. Each of `violations` is a seed and the promise that it broke."""

    first_seed: int
    seeds: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0
    steps: int = 0
    virtual_s: float = 0.0
    issued: int = 0
    acknowledged: int = 0
    stored: int = 0
    at_risk: int = 0
    declared: int = 0
    forgiven: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in one seed."""
        self.seeds += 1
        for name in ("steps", "virtual_s", "issued", "acknowledged", "stored", "at_risk", "declared", "forgiven"):
            setattr(self, name, getattr(self, name) + getattr(outcome, name))
        self.faults += outcome.faults
        if outcome.violation is not None:
            self.violations.append((outcome.seed, outcome.violation))

    def merge(self, other: "Report") -> None:
        """Take in what another process ran meanwhile."""
        for name in (
            "cpu_s",
            "seeds",
            "steps",
            "virtual_s",
            "issued",
            "acknowledged",
            "stored",
            "at_risk",
            "declared",
            "forgiven",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults
        self.violations += other.violations

    @property
    def seeds_per_minute(self) -> float:
        """How fast it went."""
        return 60 * self.seeds / self.took_s if self.took_s else 0.0

    def text(self) -> str:
        """For people."""
        ran = (
            f"seeds {self.first_seed} to {self.first_seed + self.seeds - 1}: {self.seeds} in {self.took_s:.0f} s,"
            f" {self.seeds_per_minute:.0f} a minute ({1000 * self.cpu_s / max(self.seeds, 1):.0f} ms of a core each); {self.steps} steps, {self.virtual_s / 3600:.0f} h of virtual time"
        )
        events = (
            f"events: {self.issued} issued, {self.acknowledged} acknowledged, {self.stored} stored,"
            f" {self.at_risk} with a destroyed copy, {self.declared} declared lost, {self.forgiven} beyond all copies"
        )
        lines = [
            ran,
            events,
            f"faults: {self.faults.total()} of {len(self.faults)} kinds",
            *(f"  {count:8} {kind}" for kind, count in sorted(self.faults.items())),
            f"violations: {len(self.violations)}",
            *(f"  --seed {seed}: {what}" for seed, what in sorted(self.violations)[:MAX_SHOWN]),
        ]
        return "\n".join(lines)


def run(first_seed: int, seeds: int, processes: int) -> Report:
    """Run `seeds` seeds from `first_seed` on, spread over `processes` processes of this program."""
    started_s = time.monotonic()
    report = Report(first_seed)
    command = [sys.executable, "-m", "tests.faults.simulation", "--json", "--processes", "1", "--step", str(processes)]
    running = [
        subprocess.Popen(
            [*command, "--first", str(first_seed + n), "--seeds", str(len(range(n, seeds, processes)))],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=unmeasured(),
            text=True,
        )
        for n in range(min(processes, seeds))
    ]
    for each in running:
        written, _ = each.communicate()
        if not written:
            raise ChildProcessError(f"{each.args} ended with {each.returncode}")
        told = json.loads(written)
        told["violations"] = [tuple(violation) for violation in told["violations"]]
        report.merge(Report(**(told | {"faults": Counter(told["faults"])})))
    report.took_s = time.monotonic() - started_s
    return report


def run_here(first_seed: int, seeds: int, step: int = 1, cast: Cast = CAST) -> Report:
    """Run every `step`-th seed from `first_seed` on, `seeds` of them, in this process."""
    started_s, worked_s = time.monotonic(), time.process_time()
    report = Report(first_seed)
    for seed in range(first_seed, first_seed + seeds * step, step):
        report.add(live(seed, cast))
    report.cpu_s = time.process_time() - worked_s
    report.took_s = time.monotonic() - started_s
    return report


def encoded(report: Report) -> str:
    """As another process reads it."""
    return json.dumps(vars(report))
