"""`python -m tests.faults.leases`: seeds, one after the other; the exit code is 0 only if every promise held.

--seeds 10000 --first 0        so many seeds from that one on
--seed 4711 --trace            one seed again, step by step, as it went the first time
"""

import argparse
import sys

from .runs import run
from .seed import live


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.leases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print every step of it")
    given = parser.parse_args()
    if given.seed is not None:
        outcome = live(given.seed, tracing=given.trace)
        print("\n".join([*outcome.trace, f"seed {given.seed}: {outcome.violation or 'every promise held'}"]))
        return 0 if outcome.violation is None else 1
    report = run(given.first, given.seeds)
    print(report.text())
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
