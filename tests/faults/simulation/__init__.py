"""A deterministic simulation: the real agents, and the real rules of the control plane, in a world that a seed unfolds.

Network, disks, clocks and the order of every step are the seed's. First everything goes wrong (safety: no step may break
a promise), then nothing does (liveness: all that was acknowledged must arrive). The same seed is the same run.
"""

from .runs import Report, run

__all__ = ["Report", "run"]
