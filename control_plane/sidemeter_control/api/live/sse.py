"""Subscriptions as server-sent events: one answer that goes on, as graphql-sse's distinct connections say.

`event: next` for each response, then `event: complete`. Without the latter the connection was cut, or the control plane
stops: connect again.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sidemeter_control.api import refusals
from sidemeter_control.api.live.bounds import SlowConsumer, Waits
from sidemeter_control.api.live.feeds import Rejected
from sidemeter_control.api.live.hub import ShuttingDown
from sidemeter_control.api.operations import Operations, encoded
from sidemeter_control.api.refusals import Failed
from sidemeter_control.api.requests import Asked
from sidemeter_control.errors import ControlError
from sidemeter_control.store.keys import Key

__all__ = ["EventStream", "wanted"]

MEDIA_TYPE = "text/event-stream"
_COMPLETE = b"event: complete\ndata:\n\n"
_STILL = b":\n\n"


def wanted(request: Request) -> bool:
    """Whether the caller takes server-sent events."""
    return MEDIA_TYPE in request.headers.get("accept", "")


class EventStream(Response):
    """The answer that goes on. `admit`: the key, as long as it is valid."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        operations: Operations,
        asked: Asked,
        admit: Callable[[], Awaitable[Key]],
        waits: Waits,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._operations, self._asked, self._admit = operations, asked, admit
        self._waits = waits

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answer until there is no more, the caller hangs up, or it takes nothing."""
        with self._operations.places.stream():
            messages = self._operations.messages(self._asked, await self._admit())
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            telling = asyncio.create_task(self._tell(messages, send))
            leaving = asyncio.create_task(_left(receive))
            try:
                await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (telling, leaving):
                    task.cancel()
                    with suppress(asyncio.CancelledError, OSError):
                        await task

    async def _tell(self, messages: AsyncGenerator[bytes, None], send: Send) -> None:
        end = _COMPLETE
        try:
            async with aclosing(messages):
                async for message in self._with_stills(messages):
                    async with asyncio.timeout(self._waits.slow_s):
                        await send(_part(message))
        except TimeoutError:
            end = self._ended(SlowConsumer(self._waits.slow_s))
        except ShuttingDown:
            end = b""
        except (ControlError, Failed, Rejected) as exc:
            end = self._ended(exc)
        await send(_part(end))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _with_stills(self, messages: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The messages as events; where there is none for a while, that it still listens, if the key is still valid."""
        while True:
            following = asyncio.ensure_future(anext(messages, None))
            try:
                while not (await asyncio.wait({following}, timeout=self._waits.still_s))[0]:
                    await self._admit()
                    yield _STILL
            finally:
                if not following.done():
                    following.cancel()
                    with suppress(asyncio.CancelledError):
                        await following
            message = following.result()
            if message is None:
                return
            await self._admit()
            yield b"event: next\ndata: " + message + b"\n\n"

    def _ended(self, exc: Exception) -> bytes:
        errors = exc.errors if isinstance(exc, Rejected) else [refusals.of(exc, self._operations.clock)]
        return b"event: next\ndata: " + encoded({"data": None, "errors": errors}) + b"\n\n" + _COMPLETE


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
