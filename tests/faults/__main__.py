"""`python -m tests.faults`: every kind of fault, for as long as asked, and a report whose exit code is 0 only if all held.

`--minutes` runs all kinds in turns; `--only` and `--rounds` run some of them so many times; a violation names the
command that repeats it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from .soak import KINDS, Plan, soak


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="how long to go on (default: until --rounds)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each kind at least")
    parser.add_argument("--only", default=",".join(KINDS), help=f"kinds, with commas: {', '.join(KINDS)}")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=4, help="rounds at a time")
    parser.add_argument("--stop-at-violation", action="store_true", help="begin no round after one that failed")
    parser.add_argument("--json", type=Path, help="also write the report there")
    given = parser.parse_args()
    kinds = tuple(given.only.split(","))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"no such kind of fault: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        plan = Plan(
            kinds,
            given.minutes,
            given.rounds,
            given.first_seed,
            given.lanes,
            Path(directory),
            given.stop_at_violation,
        )
        report = soak(plan, Console(stderr=True))
    report.print(Console(width=140))
    if given.json:
        given.json.write_text(report.to_json())
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
