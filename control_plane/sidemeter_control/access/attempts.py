"""Wrong keys, by the address that sent them: after a few of them the next ones wait, longer and longer. Pure."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

__all__ = ["FORGOTTEN_AFTER_S", "FREE_GUESSES", "FREE_MISSES", "MAX_SOURCES", "MAX_WAIT_S", "Attempts"]

FREE_GUESSES: Final = 5
"""Wrong keys that a person chose, before the first wait: anybody may mistype."""

FREE_MISSES: Final = 100
"""Wrong keys of 256 random bits, before the first wait: nobody guesses one, and an agent may have an old one."""

MAX_WAIT_S: Final = 60
"""The longest wait: 1,440 guesses a day."""

FORGOTTEN_AFTER_S: Final = 900
"""After the last wrong key."""

MAX_SOURCES: Final = 10_000
"""Addresses remembered, some 200 bytes each; the one longest quiet is forgotten first."""


@dataclass(slots=True)
class _Source:
    wrong: int
    last_s: int
    until_s: int


class Attempts:
    """How long each address has to wait. Times are seconds of a clock that never steps back.

    >>> attempts = Attempts(free=1)
    >>> for _ in range(3):
    ...     attempts.failed("192.0.2.1", 10)
    >>> attempts.wait_s("192.0.2.1", 10), attempts.wait_s("192.0.2.2", 10)
    (1, 0)
    """

    def __init__(self, free: int, most_sources: int = MAX_SOURCES) -> None:
        self._free = free
        self._most = most_sources
        self._sources: OrderedDict[str, _Source] = OrderedDict()

    def wait_s(self, source: str, now_s: int) -> int:
        """Seconds until the address may try again; 0: now."""
        known = self._sources.get(source)
        return 0 if known is None else max(0, known.until_s - now_s)

    def failed(self, source: str, now_s: int) -> None:
        """Note one wrong key; one that was sent before its time makes no wait longer."""
        known = self._sources.pop(source, None)
        if known is None or now_s - known.last_s > FORGOTTEN_AFTER_S:
            known = _Source(0, now_s, now_s)
        if now_s >= known.until_s:
            known.wrong += 1
            beyond = known.wrong - self._free
            known.until_s = now_s + (min(MAX_WAIT_S, 2 ** min(beyond - 1, 10)) if beyond > 0 else 0)
        known.last_s = now_s
        self._sources[source] = known
        while len(self._sources) > self._most:
            self._sources.popitem(last=False)
