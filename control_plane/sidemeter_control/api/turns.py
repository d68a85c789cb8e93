"""In which order requests begin: as they arrive, also when there are more of them than the process can answer."""

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["InTurn"]


class InTurn:
    """Around an application: lets one request begin in each turn of the event loop.

    Most are answered without a pause. Were all that are read at once answered before anything more is read, then whatever
    comes meanwhile would be read together, and the kernel names first the connections that it named before: one that waits
    already would be behind those that were just answered, and wait twice as long.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._one_began = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or a WebSocket, once it is its turn."""
        loop = asyncio.get_running_loop()
        if self._one_began:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._one_began = True
            loop.call_soon(self._next, loop)
        await self._app(scope, receive, send)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its caller may have left
                turn.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._one_began = False
