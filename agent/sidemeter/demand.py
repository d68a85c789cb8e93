"""Demand: how much of a limit is used here from one sync to the next, and so how large a lease should be. Pure.

It sizes leases and nothing else: whatever it says, and whatever clock it was given, no limit is exceeded.
"""

from typing import Final

__all__ = ["Demand"]

_ONE: Final = 1 << 10
"""Fixed point: a limit that is used once in a while has a demand below one unit."""

_INTERVALS_AHEAD: Final = 2
_INTERVALS_AT_MOST: Final = 4
_RISES_WITHIN: Final = 10
_FALLS_OVER: Final = 3
"""Intervals in which what is not used any more leaves the average, for the most part."""


class Demand:
    """Units used in one sync interval: an average that rises within a tenth of an interval, and falls over three."""

    __slots__ = ("_at_ms", "_per_interval", "_seen")

    def __init__(self) -> None:
        self._seen: int | None = None
        self._at_ms = 0
        self._per_interval = 0

    def roll(self, consumed: int, now_ms: int, interval_ms: int) -> None:
        """Take in that `consumed` has been used or asked for in all, up to now."""
        if self._seen is None:
            self._seen, self._at_ms = consumed, now_ms
            return
        elapsed_ms = now_ms - self._at_ms
        if elapsed_ms <= 0:
            return
        now = max(consumed - self._seen, 0) * _ONE * interval_ms // elapsed_ms
        rises = now > self._per_interval
        span_ms = interval_ms // _RISES_WITHIN if rises else interval_ms * _FALLS_OVER
        weight = min(elapsed_ms, span_ms)
        step = (now - self._per_interval) * weight
        self._per_interval += step // span_ms  # rounded down, so that it falls to nothing
        self._seen, self._at_ms = consumed, now_ms

    @property
    def per_interval(self) -> int:
        """Whole units, rounded up."""
        return -(-self._per_interval // _ONE)

    @property
    def ahead(self) -> int:
        """What to have free after a sync."""
        return -(-self._per_interval * _INTERVALS_AHEAD // _ONE)

    @property
    def at_most(self) -> int:
        """What to have free without returning some."""
        return -(-self._per_interval * _INTERVALS_AT_MOST // _ONE)
