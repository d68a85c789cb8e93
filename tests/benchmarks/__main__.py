"""`python -m tests.benchmarks`: one table, bench.json, and an exit code that is not 0 if a total was wrong."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import agent, control_plane, end_to_end, limits, price_list, sidecar
from .harness import Benchmark, Figure, Report, machine, measure
from .references import REFERENCES

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
    "price-list": price_list.price_list,
    "memory": sidecar.memory,
    "start": sidecar.start,
}
WIDTH_IN_A_FILE = 190
SHORTEST_S, LONGEST_S = 0.2, 30.0  # longer ones would fill the agent's buffer, which refuses at 1 GiB


def _seconds(text: str) -> float:
    seconds = float(text)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"must be {SHORTEST_S:g} to {LONGEST_S:g}")
    return seconds


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    known = [*BENCHMARKS, *REFERENCES]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=known, help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="how long each figure is measured (default: 5)")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="where the figures go (default: bench.json)"
    )
    parser.add_argument(
        "--full", action="store_true", help="the large sizes: one or ten million events stored, or a million waiting"
    )
    return parser.parse_args(given)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _row(figure: Figure, report: Report) -> list[str]:
    spread, reach, ratio = figure.percentiles, "", ""
    percentiles = " / ".join(map(_number, (spread.p50, spread.p95, spread.p99, spread.p99_9))) if spread else ""
    if figure.reach:
        bound = f"{'≤' if figure.reach.at_most else '≥'} {_number(figure.reach.bound)}"
        reach = f"{bound} [green]met[/]" if figure.met else f"{bound} [yellow]missed[/]"
    times = report.ratio(figure)
    if figure.reference and times is not None:
        ratio = f"{_number(times)} of {report.references[figure.reference].name}"
    return [figure.name, f"{_number(figure.value)} {figure.unit}", percentiles, reach, ratio]


def _table(report: Report, measured_on: dict[str, object]) -> Table:
    caption = ", ".join(f"{name} {value}" for name, value in measured_on.items())
    table = Table(caption=caption, caption_justify="left")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("p50 / p95 / p99 / p99.9", justify="right")
    table.add_column("reach")
    table.add_column("ratio to the reference in the same run")
    for failure in report.failures:
        first_line, *_ = failure.reason.splitlines()
        table.add_row(f"[red]{failure.benchmark}[/]", "[red]FAILED[/]", "", "", escape(first_line))
    for figure in report.figures:
        table.add_row(*_row(figure, report))
    table.add_section()
    for reference in report.references.values():
        table.add_row(*_row(reference, report))
    return table


def main(given: list[str] | None = None) -> int:
    options = _arguments(given)
    everything = BENCHMARKS | (REFERENCES if options.only else {})
    chosen = {name: everything[name] for name in options.only or everything}
    measured_on = machine()
    report = asyncio.run(measure(chosen, REFERENCES, options.seconds, full=options.full))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_A_FILE).print(_table(report, measured_on))
    for failure in report.failures:
        print(f"\n{failure.benchmark}: {failure.reason}\n{failure.output}", file=sys.stderr)
    options.json.write_text(
        json.dumps({"machine": measured_on} | report.as_json(), indent=2, ensure_ascii=False) + "\n"
    )
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
