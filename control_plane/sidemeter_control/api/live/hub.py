"""Who watches what, and when to look again: each thing that is watched is looked at once for all who watch it.

Changes come from the transactions of this process, and of others on the database (`Database.listen`). A look costs a read of the database, so there are
few at once, each at most every quarter of a second, and none of what nobody watches.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from sidemeter_control.api.live.bounds import Places
from sidemeter_control.api.refusals import Failed
from sidemeter_control.clock import Clock
from sidemeter_control.errors import ControlError, StoreUnavailable
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store.changes import Changes
from sidemeter_control.store.database import Database

__all__ = ["EVERY_S", "LOOKS_AT_ONCE", "LOOK_AGAIN_S", "Hub", "Look", "Seen", "ShuttingDown", "Slot", "Watch"]

EVERY_S: Final = 0.25
"""Between two looks at one thing: at most four messages a second."""

LOOK_AGAIN_S: Final = 60.0
"""Without any change noted, time alone moves a cost or a quota: a period ends, credits expire, a grace is over."""

LOOKS_AT_ONCE: Final = 2
"""Half the readers of the database: questions that somebody waits for have the others."""

RETRY_S: Final = 1.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


class ShuttingDown(Exception):
    """The control plane stops; whoever watches may do so elsewhere, or again later."""


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What a look found. Not `changed`: it is as it was, and somebody new wanted to hear it."""

    value: T
    changed: bool


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """How to look at something of a customer.

    `same`: whether two answers say the same, whenever they were found. `root`: what GraphQL answers of one.
    """

    key: Hashable
    find: Callable[[], Awaitable[tuple[Customer, T]]]
    same: Callable[[T, T], bool]
    root: Callable[[T], object] = lambda value: value


class Hub:
    """Everything that is watched in this process. `every_s` and `again_s` as EVERY_S and LOOK_AGAIN_S."""

    def __init__(
        self, database: Database, clock: Clock, *, every_s: float = EVERY_S, again_s: float = LOOK_AGAIN_S
    ) -> None:
        self.database, self.clock = database, clock
        self.every_s, self.again_s = every_s, again_s
        self.turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self.places = Places()
        self.looks = 0
        """How often anything was looked at, for however many."""
        self._watches: WeakValueDictionary[Hashable, Watch[Any]] = WeakValueDictionary()
        self._viewed: set[Watch[Any]] = set()
        self._customers: dict[str, set[Watch[Any]]] = {}
        self._subjects: dict[str, set[Watch[Any]]] = {}
        self._alarms: dict[str | None, set[asyncio.Event]] = {}
        self._closed = False
        self._stop_listening = database.listen(self.changed)

    @property
    def watched(self) -> int:
        """How many things are watched now."""
        return len(self._viewed)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is watched any more."""
        return self._closed

    def changed(self, changes: Changes) -> None:
        """Have a look at what may be different since."""
        if changes.everyone:
            for watch in self._viewed:
                watch.look()
            for alarms in self._alarms.values():
                for alarm in alarms:
                    alarm.set()
        for index, keys in ((self._customers, changes.customers), (self._subjects, changes.subjects)):
            if index:
                for key in keys:
                    for watch in index.get(key, ()):
                        watch.look()
        for customer in changes.alerted:
            for alarm in (*self._alarms.get(customer, ()), *self._alarms.get(None, ())):
                alarm.set()

    def watch(self, look: Look[T], customer: Customer) -> "Watch[T]":
        """What is watched under the look's key, of that customer; begun with the first who views it."""
        if self._closed:
            raise ShuttingDown
        found = self._watches.get(look.key)
        if found is None:
            found = self._watches[look.key] = Watch(self, look, customer)
        return found

    @contextmanager
    def alarm(self, customer: str | None) -> Iterator[asyncio.Event]:
        """Set whenever an alert was raised of that customer, or of any; and when the hub closes."""
        alarm = asyncio.Event()
        self._alarms.setdefault(customer, set()).add(alarm)
        try:
            yield alarm
        finally:
            _remove(self._alarms, customer, alarm)

    def begin(self, watch: "Watch[Any]", customer: Customer) -> None:
        """From now on, what changes of that customer concerns the watch."""
        self._viewed.add(watch)
        self._customers.setdefault(customer.key, set()).add(watch)
        for subject in customer.subjects:
            self._subjects.setdefault(subject, set()).add(watch)

    def stop(self, watch: "Watch[Any]", customer: Customer) -> None:
        """From now on, it does not."""
        self._viewed.discard(watch)
        _remove(self._customers, customer.key, watch)
        for subject in customer.subjects:
            _remove(self._subjects, subject, watch)

    async def close(self) -> None:
        """End everything with ShuttingDown; what is opened afterwards ends at once."""
        if self._closed:
            return
        self._closed = True
        self._stop_listening()
        for watch in list(self._viewed):
            watch.end(ShuttingDown())
        for alarms in self._alarms.values():
            for alarm in alarms:
                alarm.set()


K = TypeVar("K")
V = TypeVar("V")


def _remove(index: dict[K, set[V]], key: K, value: V) -> None:
    values = index.get(key, set())
    values.discard(value)
    if not values:
        index.pop(key, None)


class Slot(Generic[T]):
    """Between one who tells and one who takes: the last thing told. Who is slow misses what was in between."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._end: Exception | None = None
        self.told: T | None = None
        """What was not taken yet."""

    def tell(self, value: T) -> None:
        """In place of what was told before and not taken."""
        self.told = value
        self._news.set()

    def end(self, exc: Exception) -> None:
        """Nothing is told any more."""
        self._end = exc
        self._news.set()

    async def take(self) -> T:
        """The next thing that is told, or the error that ended it."""
        await self._news.wait()
        if self._end is not None:
            raise self._end
        self._news.clear()
        value, self.told = self.told, None
        assert value is not None  # noqa: S101 -- `_news` says so
        return value


class Watch(Generic[T]):
    """One thing that is watched: looked at when something may have changed it, told to all who view it."""

    def __init__(self, hub: Hub, look: Look[T], customer: Customer) -> None:
        self.key, self.root = look.key, look.root
        self._hub, self._look, self._customer = hub, look, customer
        self._viewers: set[Slot[Seen[T]]] = set()
        self._due = asyncio.Event()
        self._wanted = False
        self.value: T | None = None
        """What was told last."""
        self._looking = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether what was told last is how it is now, as far as anybody noted."""
        return self.value is not None and not self._looking and not self._due.is_set()

    def look(self) -> None:
        """Look soon; nothing is told unless it has changed."""
        self._due.set()

    def want(self) -> None:
        """Look soon, and tell what is there whether it has changed or not."""
        self._wanted = True
        self._due.set()

    def __aiter__(self) -> AsyncGenerator[Seen[T], None]:
        """What it is now, then whenever it changes. Ends with the error that ended the watch."""
        viewer: Slot[Seen[T]] = Slot[Seen[T]]()
        self._viewers.add(viewer)
        self._begin()
        self.want()
        return self._view(viewer)

    async def _view(self, viewer: Slot[Seen[T]]) -> AsyncGenerator[Seen[T], None]:
        try:
            while True:
                yield await viewer.take()
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._stop()

    def end(self, exc: Exception) -> None:
        """Tell all who view it that there will be no more, and why."""
        for viewer in self._viewers:
            viewer.end(exc)
        self._stop()

    def _begin(self) -> None:
        if self._task is None:
            self._hub.begin(self, self._customer)
            self._task = asyncio.create_task(self._run())

    def _stop(self) -> None:
        if self._task is not None:
            self._hub.stop(self, self._customer)
            self._task.cancel()
            self._task = self.value = None

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._hub.again_s):
                    await self._due.wait()
            except TimeoutError:
                self.look()
            try:
                await self._once()
            except StoreUnavailable as exc:
                _log.warning("a subscription waits for the database: %s", exc)
                self._due.set()
                await asyncio.sleep(RETRY_S)
            except ControlError as exc:
                return self.end(exc)
            except Exception:  # noqa: BLE001 -- who waits would wait for ever
                incident = self._hub.clock.new_id("err")
                _log.exception("%s: a subscription failed", incident)
                return self.end(Failed(incident))
            await asyncio.sleep(self._hub.every_s)

    async def _once(self) -> None:
        async with self._hub.turns:
            wanted, self._wanted = self._wanted, False
            self._due.clear()
            self._looking = True
            self._hub.looks += 1
            try:
                customer, value = await self._look.find()
            except StoreUnavailable:
                self._wanted |= wanted
                raise
            finally:
                self._looking = False
        if customer.subjects != self._customer.subjects:
            # What they used since, nobody has noted for this watch.
            self._hub.stop(self, self._customer)
            self._hub.begin(self, customer)
            self._customer = customer
            self._due.set()
        changed = self.value is None or not self._look.same(self.value, value)
        if changed or wanted:
            self.value = value
            for viewer in self._viewers:
                missed = viewer.told is not None and viewer.told.changed
                viewer.tell(Seen(value, changed or missed))
