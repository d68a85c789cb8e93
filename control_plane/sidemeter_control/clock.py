"""Time, identifiers and secrets: the only module that asks the operating system for them."""

import secrets
import time
from typing import Protocol

__all__ = ["Clock", "Steadiness", "SystemClock"]

MAX_STEP_S = 60
"""A wall clock that moves further than this against the other one was set, not corrected."""


class Clock(Protocol):
    """What the control plane needs to know of the world."""

    def now_us(self) -> int:
        """Wall clock, microseconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic_s(self) -> float:
        """A clock that never steps back; only differences mean something."""
        ...

    def monotonic_ms(self) -> int:
        """The same in whole milliseconds, for what is kept and compared exactly."""
        ...

    def new_id(self, prefix: str) -> str:
        """A fresh identifier, `<prefix>_` and 128 random bits in hexadecimal."""
        ...

    def new_secret(self) -> str:
        """256 random bits, URL-safe."""
        ...


class SystemClock:
    """The operating system's clock and random source.

    >>> SystemClock().new_id("sub").startswith("sub_")
    True
    """

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """See `Clock.monotonic_s`."""
        return time.monotonic()

    def monotonic_ms(self) -> int:
        """See `Clock.monotonic_ms`."""
        return time.monotonic_ns() // 1_000_000

    def new_id(self, prefix: str) -> str:
        """See `Clock.new_id`."""
        return f"{prefix}_{secrets.token_hex(16)}"

    def new_secret(self) -> str:
        """See `Clock.new_secret`."""
        return secrets.token_urlsafe(32)


class Steadiness:
    """For how long a wall clock has gone as time does. One that was set anew may have been set wrong."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s = clock.monotonic_s()
        self._ahead_us = self._ahead()

    def for_s(self) -> float:
        """Seconds since the wall clock was last seen to have been set, or since the start."""
        ahead_us = self._ahead()
        if abs(ahead_us - self._ahead_us) > MAX_STEP_S * 1_000_000:
            self._since_s = self._clock.monotonic_s()
        self._ahead_us = ahead_us
        return self._clock.monotonic_s() - self._since_s

    def _ahead(self) -> int:
        return self._clock.now_us() - round(self._clock.monotonic_s() * 1_000_000)
