"""The fault rig: breaks both programs from outside, and an outside oracle says what became of every event.

Each kind of fault is a module with a round: one seeded run of real programs under that fault, ended by the oracle's
verdict. Tests run a few fixed seeds of each; `python -m tests.faults` runs them all for as long as asked.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # `processes` and `fakes`, which pytest finds by itself
