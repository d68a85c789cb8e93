"""How often a key may ask: a bucket of tokens for each, filled at a steady rate, as full as one second's worth."""

from collections import OrderedDict
from math import ceil
from typing import Final

from sidemeter_control.clock import Clock
from sidemeter_control.errors import RateLimited

__all__ = ["MAX_BUCKETS", "Rates"]

MAX_BUCKETS: Final = 10_000
"""Keys whose bucket is known; the one that asked longest ago goes first, and has a full one again."""


class Rates:
    """The buckets of all keys. `per_s`: requests a second of one key; 0: as many as it likes."""

    def __init__(self, clock: Clock, per_s: int) -> None:
        self._clock, self._per_s = clock, per_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By key: how many tokens it had, and when."""

    def take(self, key_id: str) -> None:
        """Take a token for one request; RateLimited when the bucket is empty."""
        if not self._per_s:
            return
        now_s = self._clock.monotonic_s()
        left, then_s = self._buckets.pop(key_id, (self._per_s, now_s))
        left = min(self._per_s, left + (now_s - then_s) * self._per_s)
        self._buckets[key_id] = (left - 1 if left >= 1 else left), now_s
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise RateLimited(max(1, ceil((1 - left) / self._per_s)))
