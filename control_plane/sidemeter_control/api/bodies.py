"""Request bodies, read within a bound, unzipped within a bound, and all of them together within another."""

import zlib
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sidemeter_control.api.problems import Refused

__all__ = ["MAX_BODIES_BYTES", "Room", "read_body", "release"]

MAX_BODIES_BYTES: Final = 32 * 1024 * 1024
"""Of all requests that are inside, as sent and unzipped: four of the largest. What a body says takes up to 25 times its
size until it is counted."""

_GZIP = 16 + zlib.MAX_WBITS
_SHARE = "sidemeter.share"


class Room:
    """Around an application: how much room all bodies together take, each until its request is answered."""

    def __init__(self, app: ASGIApp, most_bytes: int = MAX_BODIES_BYTES) -> None:
        self._app = app
        self.most_bytes = most_bytes
        self.taken_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whose share `read_body` takes."""
        scope[_SHARE] = share = _Share(self)
        try:
            await self._app(scope, receive, send)
        finally:
            self.taken_bytes -= share.bytes


class _Share:
    """What one request takes of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.bytes = 0

    def take(self, size: int) -> None:
        """Take so much more; Refused with 503 when there is none left."""
        if self._room.taken_bytes + size > self._room.most_bytes:
            raise Refused(503, "busy", "too many large requests at once", {"Retry-After": "1"})
        self._room.taken_bytes += size
        self.bytes += size

    def give_back(self) -> None:
        """Take nothing any more."""
        self._room.taken_bytes -= self.bytes
        self.bytes = 0


async def read_body(request: Request, *, max_bytes: int, max_decoded_bytes: int) -> bytes:
    """The body, at most `max_bytes` as sent and `max_decoded_bytes` once unzipped, else Refused with 413.

    Refused with 503 when all bodies that are inside would take more than there is room for.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in {"identity", "gzip"}:
        raise Refused(415, "unsupported_encoding", "send it as it is, or with Content-Encoding: gzip")
    share: _Share = request.scope[_SHARE]
    body = bytearray()
    try:
        async for chunk in request.stream():
            if len(body) + len(chunk) > max_bytes:
                raise Refused(413, "too_large", f"a body has at most {max_bytes} bytes here")
            share.take(len(chunk))
            body += chunk
    except ClientDisconnect as exc:
        raise Refused(400, "incomplete", "the caller hung up before the body was whole") from exc
    if encoding == "identity":
        return bytes(body)
    content = _unzipped(bytes(body), max_decoded_bytes)
    share.take(len(content))
    return content


def release(request: Request) -> None:
    """Of a request that stays open: its body is read and gone, and takes no room any more."""
    share: _Share = request.scope[_SHARE]
    share.give_back()


def _unzipped(body: bytes, max_bytes: int) -> bytes:
    """The content of one gzip stream. The bound holds while unzipping: 1 MiB of zeros unzips to 1 GiB."""
    unzip = zlib.decompressobj(_GZIP)
    try:
        content = unzip.decompress(body, max_bytes + 1)
    except zlib.error as exc:
        raise Refused(400, "malformed", f"the body is not gzip: {exc}") from exc
    if len(content) > max_bytes:
        raise Refused(413, "too_large", f"a body has at most {max_bytes} bytes unzipped")
    if not unzip.eof or unzip.unused_data:
        raise Refused(400, "malformed", "the body is not one whole gzip stream")
    return content
