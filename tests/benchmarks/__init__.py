"""What the product measures of itself: `python -m tests.benchmarks` prints one table and writes bench.json."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # `processes` and `fakes`, which pytest finds by itself
