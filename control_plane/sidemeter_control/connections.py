"""Connections to the control plane: how many, and how long each may take for what it sends and for what it gets."""

import asyncio
import functools
import resource
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from sidemeter_control.api.problems import problem

__all__ = [
    "ARRIVES_WITHIN_S",
    "BACKLOG",
    "KEEP_ALIVE_S",
    "LEAVES_AFTER_S",
    "MAX_CONNECTIONS",
    "MAX_HEAD_BYTES",
    "MAX_MESSAGE_BYTES",
    "PING_S",
    "RESERVED_FILES",
    "TAKEN_WITHIN_S",
    "Bounds",
    "accepted",
    "connection",
    "web_socket",
]

BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted."""

KEEP_ALIVE_S: Final = 75
"""How long a connection may rest between two requests."""

LEAVES_AFTER_S: Final = 1.0
"""How long a control plane that stops beside others leaves a connection that rests open, for what is on its way to it: that is
answered, and the answer says that it was the last there."""

MAX_CONNECTIONS: Final = 1024
"""Open at once: 500 agents with two each. Each takes a file descriptor and some 20 KiB."""

RESERVED_FILES: Final = 64
"""File descriptors that connections leave to the database and to backups."""

ARRIVES_WITHIN_S: Final = 60.0
"""From the beginning of a connection, or the first byte of a later request, to a request's last byte: 8 MiB over a link
of a megabit a second take as long."""

TAKEN_WITHIN_S: Final = 60.0
"""How long a caller may take none of an answer that waits for it."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers that arrive in pieces; the parser itself would gather them without end."""


MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""One message to a WebSocket, as large as a body of /graphql. A larger one closes it with 1009."""

PING_S: Final = 20.0
"""How often a WebSocket is asked whether it still lives, and how long it may take to say so."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a server allows: open connections, and seconds for a request to arrive, for an answer to be taken, and for a
    connection that rests once it stops."""

    connections: int
    arrives_within_s: float = ARRIVES_WITHIN_S
    taken_within_s: float = TAKEN_WITHIN_S
    leaves_after_s: float = 0.0


def accepted() -> int:
    """How many connections this process can have open: MAX_CONNECTIONS, or what its file descriptors allow.

    Asks for as many descriptors as that takes. Without any left, the database could not be read.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(MAX_CONNECTIONS, max(soft - RESERVED_FILES, soft // 2))


def connection(bounds: Bounds) -> Any:
    """What uvicorn makes a connection with."""
    return functools.partial(_Connection, bounds=bounds)


def web_socket(bounds: Bounds) -> Any:
    """What uvicorn goes on with once a connection becomes a WebSocket."""
    return functools.partial(_Socket, bounds=bounds)


class _Socket(WSProtocol):
    """uvicorn's WebSocket, with a bound on how long what is sent may wait to be taken."""

    def __init__(self, *arguments: Any, bounds: Bounds, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._bounds = bounds
        self._stalled: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection go."""
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The caller does not take messages as fast as they come."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._bounds.taken_within_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller has taken what was there."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()


class _Connection(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on connections, on how much of a head comes, and on how long everything takes."""

    def __init__(self, *arguments: Any, bounds: Bounds, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._bounds = bounds
        self._late: asyncio.TimerHandle | None = None
        self._late_scope: object = None
        self._stalled: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._upgraded = False
        self._leaves = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse one too many."""
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections:
            self._refuse(503, "busy", f"{self._bounds.connections} connections are open", b"retry-after: 1\r\n")
        else:
            self._late = self.loop.call_later(self._bounds.arrives_within_s, self._refuse_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection go."""
        self._arrived()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The caller does not take the answer as fast as it comes."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._bounds.taken_within_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller has taken what was there."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on. A request that is whole with these bytes, as nearly all are, costs nothing more."""
        super().data_received(data)
        if self._upgraded:
            return
        cycle: RequestResponseCycle | None = self.cycle
        if self._leaves and cycle is not None:
            cycle.keep_alive = False
        if cycle is None or cycle.more_body or cycle.scope is not self.scope:
            self._arriving(len(data))
        elif self._late is not None:
            self._arrived()

    def shutdown(self) -> None:
        """Take no more than what is on its way, see LEAVES_AFTER_S."""
        self._leaves = True
        cycle: RequestResponseCycle | None = self.cycle
        rests = cycle is None or cycle.response_complete
        if rests and self._bounds.leaves_after_s:
            self.loop.call_later(self._bounds.leaves_after_s, self._leave)
        else:
            super().shutdown()

    def _leave(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: `_Socket` has its own bounds from here on."""
        self._upgraded = True
        self._arrived()
        super().handle_websocket_upgrade()

    def _arriving(self, size: int) -> None:
        if self.transport.is_closing():
            return
        if self._late is None or self._late_scope is not self.scope:
            self._arrived()
            self._late = self.loop.call_later(self._bounds.arrives_within_s, self._refuse_late)
            self._late_scope = self.scope
        if not self._head_is_whole():
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "head_too_large", f"request line and headers must be at most {MAX_HEAD_BYTES} bytes")

    def _arrived(self) -> None:
        self._head_bytes = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_whole(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first head
        return cycle is not None and cycle.scope is self.scope

    def _refuse_late(self) -> None:
        if self._late_scope is None and not self._head_bytes:
            self.transport.close()  # nothing ever came: an answer could be taken for that to a later request
        elif self._head_is_whole() and self.cycle.response_complete:
            self.transport.close()  # answered before its body was there, and nothing came since
        else:
            self._refuse(408, "too_slow", f"a request must arrive within {self._bounds.arrives_within_s:g} s")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "malformed", msg)

    def _refuse(self, status: int, code: str, detail: str, headers: bytes = b"") -> None:
        """Answer what never becomes a request, and hang up."""
        self._arrived()
        body = bytes(problem(status, code, detail).body)
        self.transport.write(
            b"HTTP/1.1 %d Refused\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n%b"
            b"connection: close\r\n\r\n%b" % (status, len(body), headers, body)
        )
        self.transport.close()
