"""The line of callers that wait for room in a full buffer: first come, first served, each for a bounded time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sidemeter.clock import Clock
from sidemeter.errors import BufferFull, NotRecorded

__all__ = ["MAX_WAITING_BYTES", "Line"]

MAX_WAITING_BYTES: Final = 64 << 20
"""What the events of all who wait may take in memory: a few of the largest requests, or a great many of the usual."""


@dataclass(slots=True, eq=False)
class _Place:
    """One caller with so many events, which waits until `turn` is done, or until `deadline_s`."""

    events: int
    size: int
    deadline_s: float
    turn: asyncio.Future[None]


class Line:
    """Callers of one event loop. `fits` says whether there is room for so many events; `move` is called when it changed.

    Whoever is told that it is their turn takes the room at once, before anybody else looks for some.
    """

    def __init__(self, clock: Clock, *, wait_s: float, max_events: int, fits: Callable[[int], bool]) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._max_events = max_events
        self._fits = fits
        self._places: OrderedDict[_Place, None] = OrderedDict()
        self._somebody = asyncio.Event()
        self._size = 0
        self._closed: NotRecorded | None = None
        self.events = 0

    async def wait(self, events: int, size: int, full: BufferFull) -> None:
        """Return when there is room for `events` of `size` bytes and it is this caller's turn.

        Raises `full` after `wait_s`, or at once if too much is waiting already; what `close` said once that was called.
        """
        if self._closed is not None:
            raise self._closed
        if self.events + events > self._max_events or self._size + size > MAX_WAITING_BYTES:
            raise full
        loop = asyncio.get_running_loop()
        place = _Place(events, size, self._clock.monotonic_s() + self._wait_s, loop.create_future())
        self._places[place] = None
        self._add(place, 1)
        self._somebody.set()
        self.move()
        try:
            await place.turn
        except BufferFull:
            raise full from None
        finally:
            self._places.pop(place, None)
            self._add(place, -1)
            loop.call_soon(self.move)  # once this caller has taken its room, or left without

    def move(self) -> None:
        """Let the first in, if there is room for it."""
        if self._places:
            first = next(iter(self._places))
            if not first.turn.done() and self._fits(first.events):
                first.turn.set_result(None)

    def close(self, error: NotRecorded) -> None:
        """Send everybody away, who waits or will."""
        self._closed = error
        for place in self._places:
            if not place.turn.done():
                place.turn.set_exception(error)

    async def expire_once(self) -> None:
        """Wait for the first in the line to have waited long enough, and send it away. All wait equally long."""
        if not self._places:
            self._somebody.clear()
            await self._somebody.wait()
        first = next(iter(self._places))
        left_s = first.deadline_s - self._clock.monotonic_s()
        if left_s > 0:
            await self._clock.sleep(left_s)
        elif not first.turn.done():
            first.turn.set_exception(BufferFull("the time to wait is over"))
            del self._places[first]
        else:
            await asyncio.sleep(0)  # it is about to leave by itself

    def _add(self, place: _Place, sign: int) -> None:
        self.events += sign * place.events
        self._size += sign * place.size
