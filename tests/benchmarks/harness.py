"""What a figure is, and the one rule of a benchmark: it proves its totals, or it fails."""

import asyncio
import io
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

__all__ = [
    "Bench",
    "Benchmark",
    "Failure",
    "Figure",
    "NotHere",
    "Percentiles",
    "Reach",
    "Report",
    "Scale",
    "WrongTotal",
    "at_least",
    "at_most",
    "latency",
    "machine",
    "measure",
    "rate",
    "resident_mb",
    "timed",
]

UNIT_S = {"s": 1.0, "ms": 1e3, "µs": 1e6}
SETTING_UP_S = 60.0
FILLED_EVENTS_PER_S = 5_000  # on a slow machine


class WrongTotal(Exception):
    """A benchmark found another total than it made, so its figure means nothing."""


class NotHere(Exception):
    """What a peer needs is not on this machine; says what would bring it."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The bound that a figure is to reach."""

    bound: float
    at_most: bool

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


def at_least(bound: float) -> Reach:
    return Reach(bound, at_most=False)


def at_most(bound: float) -> Reach:
    return Reach(bound, at_most=True)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """By nearest rank: each is a sample that was measured, none is made up between two."""

    p50: float
    p95: float
    p99: float
    p99_9: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Percentiles":
        ordered = sorted(samples)
        shares = (ordered[-(-permille * len(ordered) // 1000) - 1] for permille in (500, 950, 990, 999))
        return cls(*shares, len(ordered))

    @classmethod
    def median(cls, runs: "Sequence[Percentiles]") -> "Percentiles":
        """Each of them the median of the runs'."""
        several = [(each.p50, each.p95, each.p99, each.p99_9) for each in runs]
        return cls(*map(median, zip(*several, strict=True)), sum(each.samples for each in runs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `reference` and `peers` name what it is compared with, which has the same unit."""

    name: str
    value: float
    unit: str
    percentiles: Percentiles | None = None
    reach: Reach | None = None
    reference: str | None = None
    peers: tuple[str, ...] = ()
    note: str = ""
    stored: int | None = None
    """How many events were stored when it was measured, where it is a point of a curve over them."""
    runs: tuple[float, ...] = ()
    """What each of several runs measured, where the value is their median."""

    @classmethod
    def median(cls, runs: "Sequence[Figure]") -> "Figure":
        """The same figure of several runs; its percentiles are the medians of theirs."""
        first, *others = runs
        if not others:
            return first
        values = tuple(each.value for each in runs)
        spreads = [each.percentiles for each in runs if each.percentiles]
        spread = Percentiles.median(spreads) if spreads else None
        return replace(first, value=median(values), percentiles=spread, runs=values)

    def ratio_to(self, reference: "Figure") -> float:
        if self.unit != reference.unit:
            raise ValueError(f"{self.name} is in {self.unit}, {reference.name} in {reference.unit}")
        return self.value / reference.value

    @property
    def beside(self) -> tuple[str, ...]:
        return self.peers if self.reference is None else (self.reference, *self.peers)

    @property
    def met(self) -> bool | None:
        return None if self.reach is None else self.reach.met(self.value)


def rate(name: str, count: int, seconds: float, unit: str = "events/s", **about: Any) -> Figure:
    return Figure(name=name, value=count / seconds, unit=unit, **about)


def latency(name: str, samples_s: Sequence[float], unit: str, of: str = "p50", **about: Any) -> Figure:
    """Percentiles of samples in seconds; the figure, and its reach, is percentile `of`."""
    percentiles = Percentiles.of([sample * UNIT_S[unit] for sample in samples_s])
    value = getattr(percentiles, of)
    return Figure(name=f"{name}, {of}", value=value, unit=unit, percentiles=percentiles, **about)


@dataclass(frozen=True, slots=True)
class Scale:
    """How long each figure is measured, and how large: events stored at each point of a curve, minutes of a long run."""

    seconds: float
    full: bool = False
    sizes: Sequence[int] = ()
    minutes: float = 10.0

    @property
    def within_s(self) -> float:
        """A benchmark that has not ended by then has failed."""
        large = SETTING_UP_S * (10 if self.full else 1) + max(self.sizes, default=0) / FILLED_EVENTS_PER_S
        return large + 4 * self.seconds * (10 if self.full else 1) + 120 * self.minutes


@dataclass(slots=True)
class Bench:
    """What a benchmark is given: how long to measure, how large, an empty directory, a way to prove its totals, and one to
    tell what stands in no figure."""

    directory: Path
    scale: Scale
    proven: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.scale.seconds

    @property
    def full(self) -> bool:
        return self.scale.full

    def prove(self, total: str, *, found: object, expected: object) -> None:
        """Raises WrongTotal unless both are equal."""
        if found != expected:
            raise WrongTotal(f"{total}: {found} instead of {expected}")
        self.proven.append(total)


Benchmark = Callable[[Bench], Awaitable[list[Figure]]]


@dataclass(frozen=True, slots=True)
class Failure:
    """A benchmark without a figure, and why; `output` is what it printed."""

    benchmark: str
    reason: str
    output: str = ""


@dataclass(slots=True)
class Report:
    """One run. `references`, and peers, by their names, each measured right after the first benchmark that names it.

    `left_out` are peers that are not on this machine, with what would bring them; `told` is what benchmarks say besides.
    """

    figures: list[Figure] = field(default_factory=list)
    references: dict[str, Figure] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def median(cls, runs: "Sequence[Report]") -> "Report":
        """One of several runs: each figure and reference the median of those that were made, each failure told."""
        places = dict.fromkeys((each.name, each.stored) for run in runs for each in run.figures)
        beside = dict.fromkeys(name for run in runs for name in run.references)
        return cls(
            [
                Figure.median([each for run in runs for each in run.figures if (each.name, each.stored) == place])
                for place in places
            ],
            {name: Figure.median([run.references[name] for run in runs if name in run.references]) for name in beside},
            [failure for run in runs for failure in run.failures],
            {name: told for run in runs for name, told in run.told.items()},
            {name: brings for run in runs for name, brings in run.left_out.items()},
        )

    def ratio(self, figure: Figure) -> float | None:
        """How many times its reference a figure is; None without one."""
        reference = self.references.get(figure.reference or "")
        return None if reference is None else figure.ratio_to(reference)

    def ratios(self, figure: Figure) -> dict[str, float]:
        """How many times what stands beside it a figure is, by the names that people know."""
        found = [self.references[name] for name in figure.beside if name in self.references]
        return {each.name: figure.ratio_to(each) for each in found}

    def as_json(self) -> dict[str, Any]:
        figures = [asdict(each) | {"met": each.met, "ratios": self.ratios(each)} for each in self.figures]
        references = {name: asdict(each) for name, each in self.references.items()}
        failures = [asdict(each) for each in self.failures]
        about = {"failures": failures, "told": self.told, "left_out": self.left_out}
        return {"figures": figures, "references": references, **about}


async def measure(
    benchmarks: Mapping[str, Benchmark], references: Mapping[str, Benchmark], seconds: float, **larger: Any
) -> Report:
    """Run one after the other; one that fails takes no other with it. `larger` as in `Scale`."""
    report = Report()
    for name, benchmark in benchmarks.items():
        figures = await _run(name, benchmark, Scale(seconds, **larger), report)
        report.figures += figures
        for wanted in dict.fromkeys(name for each in figures for name in each.beside):
            if wanted not in report.references and wanted not in report.left_out:
                for reference in await _run(wanted, references[wanted], Scale(seconds / 4), report):
                    report.references[wanted] = reference
    return report


async def _run(name: str, benchmark: Benchmark, scale: Scale, report: Report) -> list[Figure]:
    print(f"measuring {name}", file=sys.stderr)
    printed = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, redirect_stdout(printed):
        bench = Bench(Path(directory), scale)
        try:
            async with asyncio.timeout(scale.within_s):
                figures = await benchmark(bench)
            bench.prove("a total is proven", found=bool(bench.proven), expected=True)
        except NotHere as exc:
            report.left_out[name] = str(exc)
            return []
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the others go on and the table names it
            report.failures.append(Failure(name, f"{type(exc).__name__}: {exc}", printed.getvalue()))
            return []
        finally:
            if bench.told:
                report.told[name] = bench.told
    return figures


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Seconds since the block began; once it has ended, how long it took."""
    began = time.perf_counter()
    ended: list[float] = []
    yield lambda: (ended[0] if ended else time.perf_counter()) - began
    ended.append(time.perf_counter())


async def resident_mb(pid: int) -> float:
    """What the operating system holds in memory of a process."""
    ps = await asyncio.create_subprocess_exec("ps", "-o", "rss=", "-p", str(pid), stdout=asyncio.subprocess.PIPE)
    kib, _ = await ps.communicate()
    return int(kib) * 1024 / 1e6


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it was before."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }
