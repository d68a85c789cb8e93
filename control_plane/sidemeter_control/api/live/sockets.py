"""Operations over one WebSocket, as the protocol graphql-transport-ws says: any number of them, each under its own id."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from sidemeter_control.api import refusals
from sidemeter_control.api.live.bounds import MAX_OPERATIONS, SlowConsumer, Waits
from sidemeter_control.api.live.feeds import Rejected
from sidemeter_control.api.live.hub import ShuttingDown
from sidemeter_control.api.operations import Operations, encoded
from sidemeter_control.api.refusals import Failed
from sidemeter_control.api.requests import Asked, decoded
from sidemeter_control.errors import Busy, ControlError, Forbidden, TooManyAttempts, Unauthenticated
from sidemeter_control.store.keys import Key

__all__ = ["PROTOCOL", "Socket"]

PROTOCOL: Final = "graphql-transport-ws"

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN = 4400, 4401, 4403
WRONG_PROTOCOL, INIT_TOO_LATE, ID_IN_USE, INIT_TWICE = 4406, 4408, 4409, 4429
GOING_AWAY, TRY_AGAIN_LATER = 1001, 1013


class Said(msgspec.Struct):
    """A message of the caller."""

    type: str
    id: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


_read = msgspec.json.Decoder(Said).decode
_read_object = msgspec.json.Decoder(dict[str, Any] | None).decode


class _Close(Exception):
    """The connection is to be closed, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Socket:
    """One connection. `admit`: the key of an `Authorization` header, or of what `connection_init` gives in its place."""

    def __init__(
        self,
        websocket: WebSocket,
        operations: Operations,
        admit: Callable[[str | None], Awaitable[Key]],
        waits: Waits,
    ) -> None:
        self._socket, self._operations, self._admit = websocket, operations, admit
        self._waits = waits
        self._authorization = websocket.headers.get("authorization")
        self._open: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def serve(self) -> None:
        """Answer until one side closes."""
        if PROTOCOL not in self._socket.scope["subprotocols"]:
            await self._socket.accept()
            return await self._close(WRONG_PROTOCOL, "Subprotocol not acceptable")
        await self._socket.accept(subprotocol=PROTOCOL)
        watching = asyncio.create_task(self._look_at_the_key())
        try:
            await self._begin()
            while True:
                await self._hear(await self._next())
        except _Close as exc:
            await self._close(exc.code, exc.reason)
        except WebSocketDisconnect:
            self._is_closed = True
        finally:
            await _cancelled(watching, *self._open.values())

    async def _begin(self) -> None:
        try:
            async with asyncio.timeout(self._waits.init_within_s):
                while (said := await self._next()).type in {"ping", "pong"}:
                    await self._hear(said)
        except TimeoutError:
            raise _Close(INIT_TOO_LATE, "Connection initialisation timeout") from None
        if said.type != "connection_init":
            raise _Close(UNAUTHORIZED, "Unauthorized")
        self._authorization = _authorization_in(said) or self._authorization
        await self._key()
        await self._send(b'{"type":"connection_ack"}')

    async def _key(self) -> Key:
        try:
            return await self._admit(self._authorization)
        except Unauthenticated as exc:
            raise _Close(UNAUTHORIZED, str(exc)) from exc
        except Forbidden as exc:
            raise _Close(FORBIDDEN, str(exc)) from exc
        except TooManyAttempts as exc:
            raise _Close(TRY_AGAIN_LATER, str(exc)) from exc

    async def _next(self) -> Said:
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received["code"])
        text = received.get("text")
        if text is None:
            raise _Close(BAD_REQUEST, "messages are text")
        try:
            return _read(text)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise _Close(BAD_REQUEST, f"no message of {PROTOCOL}: {exc}") from exc

    async def _hear(self, said: Said) -> None:
        match said:
            case Said(type="ping"):
                await self._send(b'{"type":"pong"}')
            case Said(type="pong"):
                pass
            case Said(type="connection_init"):
                raise _Close(INIT_TWICE, "Too many initialisation requests")
            case Said(type="subscribe", id=str(id_), payload=payload) if id_:
                await self._subscribe(id_, payload)
            case Said(type="complete", id=str(id_)):
                if (task := self._open.pop(id_, None)) is not None:
                    await _cancelled(task)
            case _:
                raise _Close(BAD_REQUEST, f"no message of {PROTOCOL} from a client: {said.type!r}")

    async def _subscribe(self, id_: str, payload: msgspec.Raw) -> None:
        if id_ in self._open:
            raise _Close(ID_IN_USE, f"Subscriber for {id_} already exists")
        try:
            asked = decoded(bytes(payload))
        except ValueError as exc:
            raise _Close(BAD_REQUEST, f"not a GraphQL request in JSON: {exc}") from exc
        key = await self._key()
        if len(self._open) >= MAX_OPERATIONS:
            full = Busy(f"{MAX_OPERATIONS} operations are open on this connection")
            await self._error(id_, [refusals.of(full, self._operations.clock)])
            return
        self._open[id_] = asyncio.create_task(self._run(id_, asked, key))

    async def _run(self, id_: str, asked: Asked, key: Key) -> None:
        try:
            await self._end(id_, await self._tell(id_, asked, key))
        except ShuttingDown:
            await self._close(GOING_AWAY, "the control plane stops")
        except _Close as exc:
            await self._close(exc.code, exc.reason)
        except WebSocketDisconnect:
            self._is_closed = True

    async def _tell(self, id_: str, asked: Asked, key: Key) -> list[dict[str, Any]] | None:
        """Every response of an operation; answers the errors that ended it."""
        head = b'{"id":' + encoded(id_) + b',"type":"next","payload":'
        try:
            async with aclosing(self._operations.messages(asked, key)) as messages:
                async for message in messages:
                    await self._key()
                    await self._send(head + message + b"}")
        except Rejected as exc:
            return exc.errors
        except (ControlError, Failed) as exc:
            return [refusals.of(exc, self._operations.clock)]
        return None

    async def _end(self, id_: str, errors: list[dict[str, Any]] | None) -> None:
        """The last message of an operation; its id is free from then on."""
        if self._open.pop(id_, None) is None:
            return  # the caller has ended it
        if errors is None:
            await self._send(b'{"type":"complete","id":' + encoded(id_) + b"}")
        else:
            await self._error(id_, errors)

    async def _error(self, id_: str, errors: list[dict[str, Any]]) -> None:
        await self._send(encoded({"id": id_, "type": "error", "payload": errors}))

    async def _send(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._waits.slow_s), self._turn:
                if not self._is_closed:
                    await self._socket.send_text(message.decode())
        except TimeoutError:
            raise _Close(TRY_AGAIN_LATER, str(SlowConsumer(self._waits.slow_s))) from None

    async def _close(self, code: int, reason: str) -> None:
        async with self._turn:
            if not self._is_closed:
                self._is_closed = True
                with suppress(WebSocketDisconnect):
                    await self._socket.close(code, _short(reason))

    async def _look_at_the_key(self) -> None:
        """A connection on which nothing happens ends with its key, too, and with the control plane."""
        while True:
            await asyncio.sleep(self._waits.still_s)
            try:
                if self._authorization is not None:
                    await self._key()
            except _Close as exc:
                return await self._close(exc.code, exc.reason)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _authorization_in(said: Said) -> str | None:
    """What stands in the payload of `connection_init` for the header, its name in any case."""
    try:
        payload = _read_object(said.payload)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _Close(BAD_REQUEST, f"the payload of connection_init must be an object: {exc}") from exc
    found = next((value for name, value in (payload or {}).items() if name.lower() == "authorization"), None)
    return found if isinstance(found, str) else None


def _short(reason: str) -> str:
    """As much as a close frame has room for."""
    return reason.encode()[:123].decode(errors="ignore")
