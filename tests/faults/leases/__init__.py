"""A deterministic simulation of hard limits: the real rules of agents and control plane, in a world that a seed unfolds.

Processes die at any store into their cell and at any commit; machines reboot; directories are copied, cloned and put back;
the control plane crashes, and becomes an older copy of itself; the network does what it likes; clocks run as they like.
After every step nobody has spent more than a limit (safety). Then the faults end, and everything that is not in doubt must
be spendable within three syncs (liveness). The same seed is the same run.
"""

from .runs import Report, run
from .seed import CAST, Cast, live

__all__ = ["CAST", "Cast", "Report", "live", "run"]
