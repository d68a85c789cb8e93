"""Fakes that tests share: a clock the test moves, and a wait for a condition with a deadline."""

import asyncio
import inspect
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class ManualClock:
    """A clock that stands still until the test moves it. Fits the clocks of both programs. `boots`: of the machine."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = start_us
        self._monotonic_s = 1000.0
        self._numbers = itertools.count(1)
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.boots = 1

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def monotonic_ms(self) -> int:
        return int(self._monotonic_s * 1000)

    def token_hex(self, n_bytes: int) -> str:
        return f"{next(self._numbers):0{2 * n_bytes}x}"

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):032x}"

    def new_secret(self) -> str:
        return f"{next(self._numbers):040d}AAA"

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic_s + seconds, future))
        await future

    def set_wall(self, now_us: int) -> None:
        """Step the wall clock alone, forwards or back."""
        self._now_us = now_us

    def advance(self, seconds: float) -> None:
        """Move both clocks on and wake whoever slept until then."""
        self._now_us += round(seconds * 1_000_000)
        self._monotonic_s += seconds
        due = [entry for entry in self._sleepers if entry[0] <= self._monotonic_s]
        self._sleepers = [entry for entry in self._sleepers if entry[0] > self._monotonic_s]
        for _, future in due:
            if not future.done():
                future.set_result(None)


async def eventually(condition: Callable[[], T | Awaitable[T]], within_s: float = 60.0, every_s: float = 0.01) -> T:
    """The first true value of `condition` (plain or async), or an AssertionError after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {within_s} s"
        await asyncio.sleep(every_s)
