"""`python -m tests.benchmarks`: one table, bench.json, and an exit code that is not 0 if a total was wrong."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from processes import Program, spawned
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import agent, chart, control_plane, end_to_end, growth, install, limits, price_list, sidecar, steady, steps
from .harness import Benchmark, Figure, Report, machine, measure
from .peers import PEERS
from .references import REFERENCES
from .wire import BATCH_EVENTS

BENCHMARKS: dict[str, Benchmark] = {
    "record": agent.record,
    "sustained": agent.sustained,
    "check": agent.check,
    "limits": limits.sharing,
    "socket": sidecar.events,
    "socket-check": sidecar.checks,
    "ingest": control_plane.ingest,
    "ingest-postgres": control_plane.ingest_on_postgres,
    "end-to-end": end_to_end.throughput,
    "lag": end_to_end.lag,
    "cost": control_plane.live_cost,
    "replicas": control_plane.replicas,
    "price-list": price_list.price_list,
    "growth": growth.growth,
    "memory": sidecar.memory,
    "start": sidecar.start,
    "install": install.install,
}
ON_REQUEST: dict[str, Benchmark] = {"steady": steady.steady, "steps": steps.steps}
"""Those that run only by name."""
WIDTH_IN_A_FILE = 190
MOST_STORED = 20_000_000
SHORTEST_MIN, LONGEST_MIN = 0.1, 120.0
SHORTEST_S, LONGEST_S = 0.2, 30.0  # longer ones would fill the agent's buffer, which refuses at 1 GiB


def _seconds(text: str) -> float:
    seconds = float(text)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"must be {SHORTEST_S:g} to {LONGEST_S:g}")
    return seconds


def _events(text: str) -> int:
    events = int(text)
    if not BATCH_EVENTS <= events <= MOST_STORED or events % BATCH_EVENTS:
        raise argparse.ArgumentTypeError(
            f"must be {BATCH_EVENTS:,} to {MOST_STORED:,}, in whole batches of {BATCH_EVENTS:,}"
        )
    return events


def _minutes(text: str) -> float:
    minutes = float(text)
    if not SHORTEST_MIN <= minutes <= LONGEST_MIN:
        raise argparse.ArgumentTypeError(f"must be {SHORTEST_MIN:g} to {LONGEST_MIN:g}")
    return minutes


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    known = [*BENCHMARKS, *ON_REQUEST, *REFERENCES, *PEERS]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=known, help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="how long each figure is measured (default: 5)")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="where the figures go (default: bench.json)"
    )
    parser.add_argument(
        "--full", action="store_true", help="the large sizes: one or ten million events stored, or a million waiting"
    )
    parser.add_argument(
        "--sizes", type=_events, nargs="+", default=(), metavar="EVENTS", help="of growth: how many events are stored"
    )
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="how long `steady` runs (default: 10)")
    parser.add_argument(
        "--repeats", type=int, choices=range(1, 10), default=1, help="how often all of it is run; figures are medians"
    )
    parser.add_argument("--svg", type=Path, help="where the curves of growth go, as a chart")
    return parser.parse_args(given)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _row(figure: Figure, report: Report) -> list[str]:
    spread, reach = figure.percentiles, ""
    percentiles = " / ".join(map(_number, (spread.p50, spread.p95, spread.p99, spread.p99_9))) if spread else ""
    if figure.reach:
        bound = f"{'≤' if figure.reach.at_most else '≥'} {_number(figure.reach.bound)}"
        reach = f"{bound} [green]met[/]" if figure.met else f"{bound} [yellow]missed[/]"
    ratio = "\n".join(f"{_number(times)} of {name}" for name, times in report.ratios(figure).items())
    name = figure.name if figure.stored is None else f"{figure.name}, {figure.stored:,} stored"
    runs = f"\n{_number(min(figure.runs))} to {_number(max(figure.runs))}" if len(set(figure.runs)) > 1 else ""
    return [name, f"{_number(figure.value)} {figure.unit}{runs}", percentiles, reach, ratio]


def _table(report: Report, measured_on: dict[str, object]) -> Table:
    caption = ", ".join(f"{name} {value}" for name, value in measured_on.items())
    table = Table(caption=caption, caption_justify="left")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("p50 / p95 / p99 / p99.9", justify="right")
    table.add_column("reach")
    table.add_column("ratio to a reference or a peer in the same run")
    for failure in report.failures:
        first_line, *_ = failure.reason.splitlines()
        table.add_row(f"[red]{failure.benchmark}[/]", "[red]FAILED[/]", "", "", escape(first_line))
    for figure in report.figures:
        table.add_row(*_row(figure, report))
    table.add_section()
    for reference in report.references.values():
        table.add_row(*_row(reference, report))
    for name, brings in report.left_out.items():
        table.add_row(name, "not here", "", "", escape(brings))
    return table


def _draw(report: Report, measured_on: dict[str, object], path: Path) -> None:
    panels = growth.panels(report.figures)
    if panels:
        note = f"{measured_on['cpu']}, {measured_on['cores']} cores; SQLite {measured_on['sqlite']}, one process"
        path.write_text(chart.draw("What one event more and one answer cost as events are stored", panels, note))


def main(given: list[str] | None = None) -> int:
    options = _arguments(given)
    beside = REFERENCES | PEERS
    everything = BENCHMARKS | (ON_REQUEST | beside if options.only else {})
    chosen = {name: everything[name] for name in options.only or everything}
    measured_on = machine()
    # As users start them: what tests fork has the memory of both programs, and nothing to import.
    Program.launch = staticmethod(spawned)
    larger = {"full": options.full, "sizes": options.sizes, "minutes": options.minutes}
    runs = [asyncio.run(measure(chosen, beside, options.seconds, **larger)) for _ in range(options.repeats)]
    report = Report.median(runs)
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_A_FILE).print(_table(report, measured_on))
    for name, lines in report.told.items():
        print(f"\n{name}", *lines, sep="\n")
    for failure in report.failures:
        print(f"\n{failure.benchmark}: {failure.reason}\n{failure.output}", file=sys.stderr)
    options.json.write_text(
        json.dumps({"machine": measured_on} | report.as_json(), indent=2, ensure_ascii=False) + "\n"
    )
    if options.svg is not None:
        _draw(report, measured_on, options.svg)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
