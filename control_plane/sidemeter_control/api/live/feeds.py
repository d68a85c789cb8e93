"""Subscriptions as they are answered: whoever asks the same with the same key hears the same bytes, made once.

Of a cost or a quota the last answer is kept until it is taken, so that nothing piles up for who is slow. Alerts are read
from the database as they are taken.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from inspect import isawaitable
from typing import Any

import msgspec
from graphql import ExecutionResult, GraphQLError, create_source_event_stream, execute_subscription_event

from sidemeter_control.api import refusals
from sidemeter_control.api.context import Context
from sidemeter_control.api.documents import Operation, ready
from sidemeter_control.api.live.hub import Hub, Slot, Watch
from sidemeter_control.api.requests import Asked
from sidemeter_control.clock import Clock
from sidemeter_control.errors import Forbidden
from sidemeter_control.store.keys import Key, Scope

__all__ = ["Feeds", "Rejected"]

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Rejected(Exception):
    """An operation that never began; `errors` as a response shows them."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


class Feeds:
    """Every subscription that is open. `context`: makes what one answer to a key shares."""

    def __init__(self, hub: Hub, clock: Clock, context: Callable[[Key], Context]) -> None:
        self._hub, self._clock, self._context = hub, clock, context
        self._feeds: dict[tuple[Any, ...], _Feed] = {}
        self.rendered = 0
        """How often an answer was made, for however many."""

    async def messages(self, asked: Asked, key: Key) -> AsyncGenerator[bytes, None]:
        """The answers to a subscription, as JSON. Rejected: it does not begin; ends with the error that ended it."""
        if not key.allows(Scope.READ):
            raise Forbidden(f"the key lacks the scope {Scope.READ.value}")
        with self._hub.places.subscription():
            async with aclosing(self._messages(asked, key)) as messages:
                async for message in messages:
                    yield message

    async def _messages(self, asked: Asked, key: Key) -> AsyncGenerator[bytes, None]:
        place = key.id, asked.query, _encode(asked.variables), asked.operation_name
        feed = self._feed(place)
        if feed is None:
            operation = self._operation(asked)
            source = await self._source(operation, key)
            if not isinstance(source, Watch):
                async with aclosing(source):
                    async for value in source:
                        yield await self._rendered(operation, key, value)
                return
            feed = self._feed(place)  # somebody may have been as quick
            if feed is None:
                feed = self._feeds[place] = _Feed(source, lambda value: self._rendered(operation, key, value))
        slot = feed.join()
        try:
            while True:
                yield await slot.take()
        finally:
            if feed.leave(slot) and self._feeds.get(place) is feed:
                del self._feeds[place]

    def _feed(self, place: tuple[Any, ...]) -> "_Feed | None":
        found = self._feeds.get(place)
        return None if found is None or found.is_over else found

    def _operation(self, asked: Asked) -> Operation:
        found = ready(asked)
        if isinstance(found, tuple):
            raise self._rejected(*found)
        return found

    async def _source(self, operation: Operation, key: Key) -> Any:
        async with self._context(key) as context:
            operation.context_value = context
            source = create_source_event_stream(operation)
            if isawaitable(source):
                source = await source
        if isinstance(source, ExecutionResult):
            raise self._rejected(*source.errors or ())
        return source

    async def _rendered(self, operation: Operation, key: Key, value: object) -> bytes:
        self.rendered += 1
        async with self._context(key) as context:
            once = operation.build_per_event_executor(value)
            once.context_value = context
            result = execute_subscription_event(once)
            if isawaitable(result):
                result = await result
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = [refusals.formatted(error, self._clock) for error in result.errors]
        return _encode(body)

    def _rejected(self, *errors: GraphQLError) -> Rejected:
        return Rejected([refusals.formatted(error, self._clock) for error in errors])


class _Feed:
    """One question of one key about something that is watched, and all who asked it."""

    def __init__(self, watch: Watch[Any], render: Callable[[object], Awaitable[bytes]]) -> None:
        self._watch, self._render = watch, render
        self._slots: set[Slot[bytes]] = set()
        self._new: set[Slot[bytes]] = set()
        self._last: tuple[object, bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_over = False
        """It has ended with an error; who asks anew gets another one."""

    def join(self) -> Slot[bytes]:
        """Where one more hears of it: first what it is now."""
        slot: Slot[bytes] = Slot()
        self._slots.add(slot)
        if self._last is not None and self._watch.is_settled and self._watch.value is self._last[0]:
            slot.tell(self._last[1])
            return slot
        self._new.add(slot)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        else:
            self._watch.want()
        return slot

    def leave(self, slot: Slot[bytes]) -> bool:
        """One less; whether it was the last."""
        self._slots.discard(slot)
        self._new.discard(slot)
        if not self._slots and self._task is not None:
            self._task.cancel()
        return not self._slots

    async def _run(self) -> None:
        try:
            async with aclosing(aiter(self._watch)) as looks:
                async for seen in looks:
                    payload = await self._render(self._watch.root(seen.value))
                    for slot in self._slots if seen.changed else self._new:
                        slot.tell(payload)
                    self._new.clear()
                    self._last = seen.value, payload
        except Exception as exc:  # noqa: BLE001 -- whatever it is, those who wait are told
            self.is_over = True
            for slot in self._slots:
                slot.end(exc)
