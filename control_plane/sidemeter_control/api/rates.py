"""How often a key may ask: a bucket of tokens for each, filled at a steady rate, as full as one second's worth."""

from collections import OrderedDict
from typing import Final

from sidemeter_control.clock import Clock
from sidemeter_control.errors import RateLimited

__all__ = ["MAX_BUCKETS", "Rates"]

MAX_BUCKETS: Final = 10_000
"""Keys whose bucket is known; the one that asked longest ago goes first, and has a full one again."""

_ONE: Final = 1_000_000_000


class Rates:
    """The buckets of all keys. `per_s`: requests a second of one key; 0: as many as it likes."""

    def __init__(self, clock: Clock, per_s: int) -> None:
        self._clock, self._per_s = clock, per_s
        self._buckets: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """By key: how many thousand millionths of a token it had, and at which nanosecond."""

    def take(self, key_id: str) -> None:
        """Take a token for one request; RateLimited when the bucket is empty."""
        if not self._per_s:
            return
        now_ns = round(self._clock.monotonic_s() * _ONE)
        left, then_ns = self._buckets.pop(key_id, (self._per_s * _ONE, now_ns))
        left = min(self._per_s * _ONE, left + (now_ns - then_ns) * self._per_s)
        self._buckets[key_id] = (left - _ONE if left >= _ONE else left), now_ns
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if left < _ONE:
            wait_ns = -(-(_ONE - left) // self._per_s)
            raise RateLimited(max(1, -(-wait_ns // _ONE)))
