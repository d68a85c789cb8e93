"""What one GraphQL request shares: its key, its instant, one view of the database, and lookups that ask once for many."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.types import Info as _Info

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.live.hub import Hub
from sidemeter_control.api.loaders import Loaders
from sidemeter_control.clock import Clock
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store import state
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key
from sidemeter_control.store.snapshot import Snapshot

__all__ = ["Context", "Info"]

T = TypeVar("T")


class Context:
    """One request. Every read sees the same snapshot of the database, opened by the first of them; where other control planes
    write to it, by clocks of their own, `now_us` is not before the last change that is in it.

    Resolvers run concurrently and a connection does one thing at a time, so they take turns.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        gate: Gate,
        ingest: Ingest,
        key: Key,
        *,
        hub: Hub,
        private_webhooks: bool = False,
    ) -> None:
        self.hub = hub
        self.private_webhooks = private_webhooks
        self.database = database
        self.clock = clock
        self.gate = gate
        self.ingest = ingest
        self.key = key
        self.now_us = clock.now_us()
        self.loaders = Loaders(self.ask, self.now_us)
        self._turn = asyncio.Lock()
        self._open: AbstractAsyncContextManager[Snapshot] | None = None
        self._snapshot: Snapshot | None = None
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        async with self._turn:
            self._over = True
            await self._close()

    async def ask(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """What the question answers of the request's snapshot.

        RuntimeError once the request is answered: what an error elsewhere made needless goes on behind it, and would take a
        snapshot that nobody gives back.
        """
        async with self._turn:
            if self._over:
                raise RuntimeError("the request is answered")
            if self._snapshot is None:
                opened = self.database.snapshot()
                self._snapshot = await opened.__aenter__()
                self._open = opened
                if self.database.is_shared:
                    known = await self._snapshot.ask(state.get)
                    self.now_us = self.loaders.at_us = known.instant(self.now_us)
            return await self._snapshot.ask(question)

    async def changed(self, verb: Awaitable[T]) -> T:
        """What the verb returns; whatever is read afterwards is read anew, at a new instant."""
        try:
            return await verb
        finally:
            await self._forget()

    async def _forget(self) -> None:
        async with self._turn:
            self.now_us = self.clock.now_us()
            self.loaders = Loaders(self.ask, self.now_us)
            await self._close()

    async def _close(self) -> None:
        opened, self._open, self._snapshot = self._open, None, None
        if opened is not None:
            await opened.__aexit__(None, None, None)


Info = _Info[Context, None]
"""What a resolver is told; `info.context` is the request."""
