"""Time, identifiers and randomness: the only module that asks the operating system for them.

Everything else takes a `Clock`, so that a test owns time, and a run can be replayed.
"""

import asyncio
import secrets
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "wait_for"]


class Clock(Protocol):
    """What the agent needs to know of the world."""

    def now_us(self) -> int:
        """Wall clock, microseconds since 1970-01-01T00:00:00Z. Only ever recorded, never compared for order."""
        ...

    def monotonic_s(self) -> float:
        """A clock that never steps back; only differences mean something."""
        ...

    def token_hex(self, n_bytes: int) -> str:
        """`n_bytes` random bytes from a cryptographic source, as lower-case hexadecimal."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        ...


class SystemClock:
    """The operating system's clocks and random source.

    >>> SystemClock().now_us() > 1_700_000_000_000_000
    True
    """

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """See `Clock.monotonic_s`."""
        return time.monotonic()

    def token_hex(self, n_bytes: int) -> str:
        """See `Clock.token_hex`."""
        return secrets.token_hex(n_bytes)

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


async def wait_for(event: asyncio.Event, timeout_s: float, clock: Clock) -> bool:
    """Return as soon as `event` is set, or `timeout_s` later by `clock`; whether it is set."""
    if not event.is_set() and timeout_s > 0:
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(timeout_s))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
    return event.is_set()
