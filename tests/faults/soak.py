"""Rounds of every kind, several at a time, each in a process of its own, and what they came to together."""

import asyncio
import functools
import json
import operator
import os
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from .oracle import Tally, Turn
from .schedule import GOALS, Schedule

__all__ = ["KINDS", "Plan", "Report", "soak"]

KINDS: Final = (
    "clocks",
    "commits",
    "disks",
    "failover",
    "flips",
    "identity",
    "keys",
    "kills",
    "limits",
    "load",
    "namespaces",
    "network",
    "power",
    "repeats",
    "replicas",
    "sweep",
)
"""The modules with a round."""

FIGURES: Final = ("issued", "acknowledged", "stored", "declared", "lost", "doubled")
"""Of the events of a kind, in the report."""

ROUND_WITHIN_S: Final = 600.0
ROOT: Final = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Plan:
    """What to run: each kind at least `rounds` times, and all in turns until `minutes` have passed."""

    kinds: tuple[str, ...]
    minutes: float
    rounds: int
    first_seed: int
    lanes: int
    directory: Path
    stop_at_violation: bool = False

    def schedule(self) -> Schedule:
        """Its turns, from now on."""
        ends_at = time.monotonic() + 60 * self.minutes
        return Schedule(self.kinds, self.rounds, self.first_seed, lambda: time.monotonic() >= ends_at)


@dataclass
class Report:
    """What all rounds came to, those of each kind by themselves. A violation says which, what, and how to repeat it."""

    of: dict[str, Tally] = field(default_factory=dict)
    rounds: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def total(self) -> Tally:
        """Of all kinds together."""
        return functools.reduce(operator.iadd, self.of.values(), Tally())

    def add(self, kind: str, seed: int, outcome: dict[str, object], took_s: float) -> None:
        """Take in what the process of one round printed."""
        if "skipped" in outcome:
            self.skipped[kind] = str(outcome["skipped"])
            return
        self.rounds[kind] += 1
        self.seconds[kind] += took_s
        if "error" in outcome:
            self.violations.append(f"{_again(kind, seed)}\n{outcome['error']}")
            return
        tally = Tally(**(outcome | {"faults": Counter(outcome["faults"])}))  # type: ignore[arg-type]
        self.of.setdefault(kind, Tally()).__iadd__(tally)
        if tally.broken:
            told = f"lost {tally.lost}, doubled {tally.doubled}, wrong {tally.wrong[:3]}"
            self.violations.append(f"{_again(kind, seed)}\n{told}")

    def to_json(self) -> str:
        """The report for machines."""
        tallies = {"total": vars(self.total), "of": {kind: vars(tally) for kind, tally in self.of.items()}}
        return json.dumps(vars(self) | tallies, indent=2)

    def print(self, console: Console) -> None:
        """The report for people."""
        total = self.total
        rounds = Table("kind", "rounds", "s a round", "faults", *FIGURES, "wrong", title="Rounds")
        for kind, count in sorted(self.rounds.items()):
            rounds.add_row(
                kind, f"{count:,}", f"{self.seconds[kind] / count:.1f}", *_figures(self.of.get(kind, Tally()))
            )
        rounds.add_section()
        rounds.add_row("all", f"{self.rounds.total():,}", "", *_figures(total))
        faults = Table("fault", "times", title="Faults")
        for fault, times in sorted(total.faults.items()):
            faults.add_row(fault, f"{times:,}")
        goals = Table("what has to happen in 30 minutes", "at least", "happened", title="Goals")
        for goal in GOALS:
            goals.add_row(goal.name, f"{goal.count:,}", f"{goal.reached(total.faults):,}")
        console.print(rounds, goals, faults)
        self._print_sweep(console)
        self._print_silences(console)
        for kind, reason in self.skipped.items():
            console.print(f"skipped {kind}: {reason}")
        console.print(
            f"{self.rounds.total():,} rounds, {total.faults.total():,} faults: {total.issued:,} events issued,"
            f" {total.acknowledged:,} acknowledged, {total.stored:,} stored, {total.declared:,} declared lost,"
            f" {total.lost:,} lost, {total.doubled:,} doubled, {len(total.wrong):,} wrong, 0 manual steps"
        )
        for violation in self.violations:
            console.print(f"VIOLATION {violation}", style="bold red", markup=False)

    def _print_sweep(self, console: Console) -> None:
        """Which of how many calls were struck, in each way."""
        table = Table("system call", "last", "how", "struck", title="Sweep")
        total = self.total
        for name, struck in sorted(total.swept.items()):
            call, how = name.split(": ")
            last = total.calls[call]
            absent = sorted({*range(1, last + 1)}.difference(struck))
            some = ", ".join(map(str, absent[:8])) + (", …" if len(absent) > 8 else "")
            told = f"{len(struck)}, not {some}" if absent else f"1 to {last}"
            table.add_row(call, str(last), how, told)
        if table.rows:
            console.print(table)

    def _print_silences(self, console: Console) -> None:
        """For how long nothing was accepted, where control planes share a database."""
        table = Table("fault", "times", "median, s", "longest, s", title="Nothing was accepted for")
        for fault, each_ms in sorted(self.total.silences_ms.items()):
            median, longest = sorted(each_ms)[len(each_ms) // 2], max(each_ms)
            table.add_row(fault, str(len(each_ms)), f"{median / 1000:.1f}", f"{longest / 1000:.1f}")
        if table.rows:
            console.print(table)


def _figures(tally: Tally) -> list[str]:
    return [f"{tally.faults.total():,}", *(f"{getattr(tally, name):,}" for name in FIGURES), f"{len(tally.wrong):,}"]


def _again(kind: str, seed: int) -> str:
    return f"python -m tests.faults --only {kind} --first-seed {seed}"


def soak(plan: Plan, progress: Console) -> Report:
    """Run the plan; a line of progress for every round."""
    return asyncio.run(_soak(plan, progress))


async def _soak(plan: Plan, progress: Console) -> Report:
    report = Report()
    schedule = plan.schedule()

    async def lane() -> None:
        while turn := schedule.next(report.total.faults, report.skipped):
            kind, seed = turn
            if report.violations and plan.stop_at_violation:
                return
            began_s = time.monotonic()
            outcome = await _round(kind, seed, plan.directory / f"{kind}-{seed}")
            report.add(kind, seed, outcome, took_s := time.monotonic() - began_s)
            told = outcome.get("error") or outcome.get("skipped") or outcome.get("faults")
            progress.print(f"{kind} {seed}: {took_s:.1f} s, {told}", markup=False)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(plan.lanes):
            lanes.create_task(lane())
    return report


async def _round(kind: str, seed: int, directory: Path) -> dict[str, object]:
    """One round in a process and a session of its own, so that nothing of it outlives its time."""
    (directory / "round").mkdir(parents=True)
    answer = directory / "outcome.json"
    log = directory / "log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.soak", kind, str(seed), str(directory)),
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(ROUND_WITHIN_S):
            await process.wait()
    except TimeoutError:
        return {"error": f"did not end within {ROUND_WITHIN_S:g} s\n{_tail(log)}"}
    finally:
        _end(process.pid)
    if not answer.exists():
        return {"error": _tail(log)}
    outcome: dict[str, object] = json.loads(answer.read_text())
    if not any(outcome.get(name) for name in ("error", "lost", "doubled", "wrong")):
        shutil.rmtree(directory, ignore_errors=True)
    return outcome


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


def _one(kind: str, seed: int, directory: Path) -> None:
    """The process of one round."""
    import importlib  # noqa: PLC0415 -- only this process needs the module of a kind

    module = importlib.import_module(f".{kind}", "tests.faults")
    reason = module.skip_reason() if hasattr(module, "skip_reason") else None
    outcome = {"skipped": reason} if reason else vars(asyncio.run(module.round(Turn(seed), directory / "round")))
    (directory / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    _one(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
