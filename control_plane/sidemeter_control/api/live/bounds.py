"""How much of what goes on there is at once, and how long it waits for what (P13)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from sidemeter_control.errors import Busy, ControlError

__all__ = ["MAX_OPERATIONS", "MAX_STREAMS", "MAX_SUBSCRIPTIONS", "WAITS", "Places", "SlowConsumer", "Waits"]

MAX_STREAMS: Final = 600
"""Connections that stay open for subscriptions; agents and questions have the others."""

MAX_SUBSCRIPTIONS: Final = 2_000
"""Open at once, over all connections. Each takes some 10 KiB, and its share of a look when something changes."""

MAX_OPERATIONS: Final = 100
"""Open at once on one WebSocket: a page with everything on it has some twenty."""

SLOW_S: Final = 10.0
"""How long a message may wait to be taken, before the caller is told to come back with more time."""

STILL_S: Final = 15.0
"""Without a message: how often the caller hears that it is still listened for, and its key is looked at again."""

INIT_WITHIN_S: Final = 10.0
"""From the opening of a WebSocket to its `connection_init`."""

LEFT_WITHIN_S: Final = 3.0
"""From the end of what is subscribed to, to the end of the connections: each is told why, however many they are."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds: for a WebSocket's first message, between two signs of life, for a message to be taken."""

    init_within_s: float = INIT_WITHIN_S
    still_s: float = STILL_S
    slow_s: float = SLOW_S


WAITS: Final = Waits()


class Places:
    """Of connections that stay open, and of subscriptions."""

    def __init__(self) -> None:
        self.streams = self.subscriptions = 0
        self._left = asyncio.Event()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A connection that stays open; Busy when as many are as there may be."""
        if self.streams >= MAX_STREAMS:
            raise Busy(f"{MAX_STREAMS} connections with subscriptions are open")
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
            if not self.streams:
                self._left.set()

    async def left(self, within_s: float = LEFT_WITHIN_S) -> bool:
        """Wait until no connection is open, for so long; whether none is."""
        self._left.clear()
        if self.streams:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), within_s)
        return not self.streams

    @contextmanager
    def subscription(self) -> Iterator[None]:
        """One subscription; Busy when as many are as there may be."""
        if self.subscriptions >= MAX_SUBSCRIPTIONS:
            raise Busy(f"{MAX_SUBSCRIPTIONS} subscriptions are open")
        self.subscriptions += 1
        try:
            yield
        finally:
            self.subscriptions -= 1


class SlowConsumer(ControlError):
    """The caller takes messages slower than they come."""

    code = "SLOW_CONSUMER"

    def __init__(self, slow_s: float) -> None:
        super().__init__(f"a message was not taken within {slow_s:g} s: subscribe again")
