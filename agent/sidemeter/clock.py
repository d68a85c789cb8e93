"""Time, identifiers and randomness: the only module that asks the operating system for them.

Everything else takes a `Clock`, so that a test owns time, and a run can be replayed.
"""

import asyncio
import secrets
import time
from pathlib import Path
from typing import Final, Protocol

__all__ = ["Clock", "SystemClock", "wait_for"]


_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the agent needs to know of the world."""

    def now_us(self) -> int:
        """Wall clock, microseconds since 1970-01-01T00:00:00Z. Only ever recorded, never compared for order."""
        ...

    def monotonic_s(self) -> float:
        """A clock that never steps back; only differences mean something."""
        ...

    def monotonic_ms(self) -> int:
        """The same in whole milliseconds, for what is kept and compared exactly."""
        ...

    def token_hex(self, n_bytes: int) -> str:
        """`n_bytes` random bytes from a cryptographic source, as lower-case hexadecimal."""
        ...

    def boot_id(self) -> str:
        """What this run of the machine is called: another one after every start of it."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        ...


class SystemClock:
    """The operating system's clocks and random source.

    >>> SystemClock().now_us() > 1_700_000_000_000_000
    True
    """

    def __init__(self) -> None:
        self._boot_id: str | None = None

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """See `Clock.monotonic_s`."""
        return time.monotonic()

    def monotonic_ms(self) -> int:
        """See `Clock.monotonic_ms`."""
        return time.monotonic_ns() // 1_000_000

    def token_hex(self, n_bytes: int) -> str:
        """See `Clock.token_hex`."""
        return secrets.token_hex(n_bytes)

    def boot_id(self) -> str:
        """See `Clock.boot_id`. Where the kernel does not tell, each process takes itself for another run."""
        if self._boot_id is None:
            try:
                self._boot_id = _BOOT_ID.read_text().strip()
            except OSError:
                self._boot_id = self.token_hex(16)
        return self._boot_id

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
