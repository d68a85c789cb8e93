"""Whether what is sampled over time grows, or only moves about: by the line that fits it best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Trend", "trend"]

WARM_SHARE = 0.2
ERRORS = 3.0


@dataclass(frozen=True, slots=True)
class Trend:
    """`rise` is that of the line of least squares from the first sample to the last; `error` the standard error of that."""

    values: Sequence[float]
    rise: float
    error: float

    RULE: ClassVar[str] = (
        "It grows where, without the first fifth of the run, the line of least squares rises by more than three of its standard"
        " errors, by more than a tenth of the median, and by more than what is next to nothing."
    )

    @property
    def noise(self) -> float:
        """As much as it may rise without having grown."""
        return max(ERRORS * self.error, abs(_median(self.values)) / 10)

    def grows(self, smallest: float) -> bool:
        """Whether it rises by more than its noise, and than `smallest`."""
        return self.rise > max(self.noise, smallest)

    def said(self) -> str:
        return f"median {_median(self.values):,.1f}, rises by {self.rise:+,.1f} ± {self.error:,.1f} from end to end"


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Of samples by their time, without the first fifth of them, which is what begins.

    >>> found = trend([(float(n), 100.0 + 10 * n) for n in range(10)])
    >>> round(found.rise), round(found.error), found.grows(5.0), found.grows(500.0)
    (70, 0, True, False)
    """
    kept = samples[math.floor(WARM_SHARE * len(samples)) :]
    if len(kept) < 3:
        raise ValueError("three samples are the least that a line can miss")
    times, values = [at for at, _ in kept], [value for _, value in kept]
    middle, mean = sum(times) / len(kept), sum(values) / len(kept)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (value - mean) for at, value in kept) / spread
    missed = sum((value - mean - slope * (at - middle)) ** 2 for at, value in kept)
    error = math.sqrt(missed / (len(kept) - 2) / spread)
    span = times[-1] - times[0]
    return Trend(values, slope * span, error * span)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
