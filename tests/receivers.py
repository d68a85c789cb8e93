"""A receiver of webhooks: a real HTTP server on 127.0.0.1 that keeps what it gets, and answers as a test says."""

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["Received", "Receiver", "answer", "hang", "receiver", "signature"]

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, *headers: str, body: bytes = b"") -> Answer:
    """Answer with a status, further headers and a body."""
    head = "\r\n".join([f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""])

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + body)
        await writer.drain()

    return write


async def hang(_: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


@dataclass(frozen=True)
class Received:
    """One request; the names of its headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What arrived, and how to answer from now on."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: answer(204))
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?of=test"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.received.append(Received(head[0], headers, body))
            await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # who sends has gone
        finally:
            writer.close()


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that takes everything with 204, until the test says otherwise."""
    made = Receiver()
    taking: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.take(reader, writer))
        taking.add(task)
        await asyncio.wait([task])

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in taking:
            task.cancel()
        await asyncio.gather(*taking, return_exceptions=True)
        await server.wait_closed()


def signature(secret: str, received: Received) -> str:
    """What the signature has to be, reckoned from the published rule alone."""
    key = base64.b64decode(secret.split("_", 1)[1])
    parts = (received.headers["webhook-id"], received.headers["webhook-timestamp"], received.body.decode())
    digest = hmac.new(key, ".".join(parts).encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
