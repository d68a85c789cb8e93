"""A process: an event loop that takes its steps and its time from the world. To kill it is to let it run no more."""

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from sidemeter.errors import SidemeterError

from .world import World

__all__ = ["Process", "SimClock"]

T = TypeVar("T")

_UNWINDINGS: Final = 20
"""How often a dead coroutine may wait again while it is closed; each `finally` that awaits does once."""


class Process(asyncio.AbstractEventLoop):
    """One program at work. Its monotonic clock begins anywhere and runs at `rate`; what threads do takes virtual time.

    `ends` are called when the process is killed, while what it did last still stands as it is; `buried` when nothing of
    it is left.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.rate = world.rng.choice((1.0, 1.0, 0.7, 1.4))
        self._began_s = world.now_s
        self._offset_s = world.rng.uniform(1.0, 1e6)
        self._ready: deque[asyncio.Handle] = deque()
        self._kill_in = 0
        self.alive = True
        self.listed = False
        self.ends: list[Callable[[], None]] = []
        self.buried: list[Callable[[], None]] = []
        self._kept: list[asyncio.Task[Any]] = []

    # Living and dying

    def step(self) -> bool:
        """Run the next handle; whether there is another."""
        if not self.alive:
            return False
        handle = self._ready.popleft()
        if not handle.cancelled():
            events._set_running_loop(self)
            try:
                handle._run()
            finally:
                events._set_running_loop(None)
            if self._kill_in:
                self._kill_in -= 1
                if not self._kill_in:
                    self.kill()
        return self.alive and bool(self._ready)

    def kill_in(self, steps: int) -> None:
        """Kill it after that many more steps, wherever it is then."""
        self._kill_in = steps

    def kill(self) -> None:
        """End it here and now, in the middle of whatever it does: no `finally` of it has any effect."""
        if not self.alive:
            return
        self.alive = False
        for end in self.ends:
            end()
        self.world.dying.append(self)

    def bury(self) -> None:
        """Take its coroutines apart. What they still do on the way reaches nothing: every edge of the dead is dead."""
        events._set_running_loop(self)
        try:
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _unwind(task.get_coro())
        finally:
            events._set_running_loop(None)
        self._ready.clear()
        self._kept.clear()
        for after in self.buried:
            after()

    def begin(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run `coro` for as long as the process lives."""
        self._kept.append(self.create_task(coro))

    async def stand_still(self) -> None:
        """Never return: what a coroutine does whose process is dead."""
        await self.create_future()

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._offset_s + (self.world.now_s - self._began_s) * self.rate

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._put(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.later(max(0.0, (when - self.time()) / self.rate), lambda: self._put(handle))
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if not self.alive:
                return
            try:
                end = partial(_set_result, future, func(*args))
            except Exception as exc:  # noqa: BLE001 -- whatever it is belongs to whoever awaits it
                end = partial(_set_exception, future, exc)
            self.call_soon(end)

        self.world.later(self.world.rng.expovariate(1000.0), run)
        return future

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> "asyncio.Task[T]":
        if not self.alive:
            coro.close()  # nothing begins any more
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return not self.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.alive and not isinstance(
            context.get("exception"), SidemeterError
        ):  # that one was expected, and nobody is left to tell
            self.world.complaints.append(f"{self.name}: {context.get('message')} {context.get('exception')!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: a cancelled handle is passed over when its time comes."""

    def _put(self, handle: asyncio.Handle) -> None:
        if self.alive and not handle.cancelled():
            self._ready.append(handle)
            if not self.listed:
                self.listed = True
                self.world.runnable.append(self)


class SimClock:
    """The clocks and the random source of one process. Its wall clock is the machine's, and may say anything."""

    def __init__(self, process: Process, wall_us: Callable[[], int], boot_id: Callable[[], str]) -> None:
        self._process = process
        self.now_us = wall_us
        self.boot_id = boot_id
        self.monotonic_s = process.time

    def monotonic_ms(self) -> int:
        return int(self.monotonic_s() * 1000)

    def token_hex(self, n_bytes: int) -> str:
        return f"{self._process.world.rng.getrandbits(8 * n_bytes):0{2 * n_bytes}x}"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _set_result(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _unwind(coro: Any) -> None:
    for _ in range(_UNWINDINGS):
        try:
            coro.close()
        except RuntimeError:  # it awaits again on its way out
            continue
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 -- the dead may fail as they like
            return
        return
