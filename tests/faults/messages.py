"""HTTP/1.1 messages as bytes: read whole off a connection, so that a proxy can cut, keep and repeat them."""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Message", "answer", "read_message"]

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer, byte for byte; `head` ends with the empty line, `body` is as it travels."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """What goes over the wire."""
        return self.head + self.body

    @property
    def path(self) -> str:
        """Which path a request asks for."""
        return self.head.split(b" ", 2)[1].decode()


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None when the other side hung up before one was whole."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if length := _LENGTH.search(head):
            return Message(head, await reader.readexactly(int(length[1])))
        return Message(head, await _chunks(reader) if _CHUNKED.search(head) else b"")
    except (asyncio.IncompleteReadError, OSError):
        return None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        body += line + await reader.readexactly(int(line, 16) + 2)
        if line == b"0\r\n":
            return body


def answer(status: str, body: bytes, **headers: str) -> bytes:
    """An answer that neither program gave; the header `x-fault` says so to a caller."""
    names = {"content-length": str(len(body)), "x-fault": "proxy"} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in names.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body
