"""A proxy that breaks what goes through it, connection by connection, as a seed says: every fault named and counted."""

import asyncio
import random
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from .messages import Message, answer, read_message

__all__ = ["ANSWERED_FOR_ANOTHER", "FAULTS", "REFUSED", "REPLAYED", "TWICE", "Proxy", "named"]

KEPT_REQUESTS: Final = 2_000
"""Requests that can be sent again later; older ones go."""

LATE_S: Final = 1.2
"""How late is late: beyond the patience of whoever asked."""

UPSTREAM_WITHIN_S: Final = 10.0


@dataclass(slots=True)
class Exchange:
    """One request on its way, and both sides of it. `done` is set by a fault once it has happened."""

    proxy: "Proxy"
    rng: random.Random
    request: Message
    said: asyncio.StreamReader
    client: asyncio.StreamWriter
    done: bool = False

    async def ask(self) -> Message | None:
        """Send the request on, and read the whole answer: whatever it asks for has been done then."""
        return await self.proxy.ask(self.request)

    async def asked(self) -> bytes:
        """The whole answer as bytes; none when the other side is away."""
        got = await self.ask()
        self.done = got is not None
        return got.raw if got else b""

    async def tell(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Write to whoever asked."""
        for piece in pieces:
            self.client.write(piece)
            await self.client.drain()
            await asyncio.sleep(pause_s)

    def reset(self) -> None:
        """End the connection with RST."""
        _reset(self.client)

    async def until_gone(self) -> None:
        """Say nothing until whoever asked has lost patience."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(10 * LATE_S):
                await self.said.read()


Fault = Callable[[Exchange], Awaitable[None]]


# The request went through, and the answer does not come back


async def _no_bytes(it: Exchange) -> None:
    await it.asked()


async def _answer_reset(it: Exchange) -> None:
    await it.asked()
    it.reset()


async def _silence(it: Exchange) -> None:
    await it.asked()
    await it.until_gone()


async def _half_header(it: Exchange) -> None:
    got = await it.asked()
    await it.tell(got[: it.rng.randint(1, max(got.find(b"\r\n\r\n"), 1))])


async def _half_body(it: Exchange) -> None:
    got = await it.asked()
    await it.tell(got[:-1][: got.find(b"\r\n\r\n") + 4 + it.rng.randint(0, 40)])


async def _half_body_reset(it: Exchange) -> None:
    await _half_body(it)
    it.reset()


async def _bad_gateway(it: Exchange) -> None:
    await it.asked()
    await it.tell(answer("502 Bad Gateway", b"<html>502</html>", content_type="text/html"))


async def _unavailable_after(it: Exchange) -> None:
    await it.asked()
    await it.tell(answer("503 Service Unavailable", b"", retry_after=it.rng.choice(("0", "1", "soon", "-1", "1e9"))))


async def _refused_after(it: Exchange) -> None:
    await it.asked()
    status = it.rng.choice(("400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone"))
    await it.tell(answer(status, b"<html>no</html>", content_type="text/html"))


async def _not_http(it: Exchange) -> None:
    await it.asked()
    await it.tell(it.rng.randbytes(it.rng.randint(1, 300)))


async def _other_body(it: Exchange) -> None:
    await it.asked()
    body = it.rng.choice((b"", b"<html>Please sign in</html>", b"\x80", b"\xc1", it.rng.randbytes(60)))
    await it.tell(answer("200 OK", body, content_type="application/msgpack"))


async def _answer_drips(it: Exchange) -> None:
    got = await it.asked()
    step = max(len(got) // 12, 1)
    await it.tell(*(got[n : n + step] for n in range(0, len(got), step)), pause_s=0.02)


async def _answer_late(it: Exchange) -> None:
    got = await it.asked()
    await asyncio.sleep(LATE_S)
    await it.tell(got)


async def _answer_of_another(it: Exchange) -> None:
    """What a cache does that takes one request for another, or a pool of connections that lost count."""
    earlier = it.proxy.earlier_answer(it.rng, it.request)
    if it.rng.random() < 0.5:
        await it.asked()
    it.done = earlier is not None
    await it.tell(earlier or b"")


# The request does not arrive, or not as it was sent


async def _dropped(it: Exchange) -> None:
    it.done = True


async def _unavailable(it: Exchange) -> None:
    it.done = True
    await it.tell(answer("503 Service Unavailable", b"busy"))


async def _too_many(it: Exchange) -> None:
    it.done = True
    await it.tell(answer("429 Too Many Requests", b"", retry_after="1"))


async def _request_cut(it: Exchange) -> None:
    raw = it.request.raw
    async with AsyncExitStack() as stack:
        _, writer = await it.proxy.upstream(stack)
        writer.write(raw[: it.rng.randint(1, len(raw) - 1)])
        await writer.drain()
        it.done = True
        await asyncio.sleep(it.rng.choice((0, 0.05)))
        if it.rng.random() < 0.5:
            _reset(writer)
    it.reset()


async def _request_drips(it: Exchange) -> None:
    raw = it.request.raw
    step = max(len(raw) // 12, 1)
    async with AsyncExitStack() as stack:
        reader, writer = await it.proxy.upstream(stack)
        for n in range(0, len(raw), step):
            writer.write(raw[n : n + step])
            await writer.drain()
            await asyncio.sleep(0.02)
        got = await read_message(reader)
        it.done = got is not None
        await it.tell(got.raw if got else b"")


async def _request_late(it: Exchange) -> None:
    await it.until_gone()
    await asyncio.sleep(it.rng.uniform(0.0, LATE_S))  # who gave up has asked anew meanwhile, or not
    await it.asked()


async def _twice(it: Exchange) -> None:
    first, second = await asyncio.gather(it.ask(), it.ask())
    it.done = first is not None and second is not None
    got = it.rng.choice((first, second)) or first or second
    await it.tell(got.raw if got else b"")


ANSWERED_FOR_ANOTHER: Final = "the answer to another request"
"""No fault for callers: whatever an agent did, this one could tell them anything."""

TWICE: Final = "a request sent twice at once"
REPLAYED: Final = "an old request sent again"
REFUSED: Final = "connections refused"

FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "no byte of the answer": _no_bytes,
        "a reset for an answer": _answer_reset,
        "silence for an answer": _silence,
        "half a header": _half_header,
        "half a body": _half_body,
        "half a body, then a reset": _half_body_reset,
        "502 for an answer": _bad_gateway,
        "503 with Retry-After for an answer": _unavailable_after,
        "4xx for an answer": _refused_after,
        "bytes that are no HTTP": _not_http,
        "an answer with another body": _other_body,
        "an answer that drips": _answer_drips,
        "an answer that is late": _answer_late,
        ANSWERED_FOR_ANOTHER: _answer_of_another,
        "a request dropped": _dropped,
        "503 without Retry-After": _unavailable,
        "429 with Retry-After": _too_many,
        "a request cut half-way": _request_cut,
        "a request that drips": _request_drips,
        "a request that arrives after its sender gave up": _request_late,
        TWICE: _twice,
    }
)


class Proxy:
    """Listens on a free port of 127.0.0.1, sends on what it gets to a URL or a Unix socket, and breaks a part of it.

    A part `chance` of the requests meets a fault. They are dealt like cards: each of `kinds` happens before the deck is
    shuffled anew, and one that could not happen (because the other side was away) goes back. One kind, by the seed, is
    in it many times: some bugs need the same fault twice. `faults` counts those that happened, by their name and the
    `door` that this proxy stands before.
    """

    def __init__(
        self,
        rng: random.Random,
        faults: Counter[str],
        door: str,
        *,
        kinds: Sequence[str] = tuple(FAULTS),
        chance: float = 0.5,
    ) -> None:
        self._rng = rng
        self._faults = faults
        self._door = door
        self._kinds = kinds
        self._cards = [*kinds, *[rng.choice(kinds)] * (len(kinds) // 2)]
        self._deck: list[str] = []
        self._to: str | Path | None = None
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._requests: deque[Message] = deque(maxlen=KEPT_REQUESTS)
        self._answers: dict[str, deque[bytes]] = {}
        self.chance = chance

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def to(self, upstream: str | Path) -> str:
        """Send everything on to a URL or a Unix socket from now on; the URL of this proxy."""
        self._to = upstream
        return f"http://127.0.0.1:{self._port}"

    def only(self, kinds: Sequence[str], chance: float = 1.0) -> None:
        """Break that part of the requests from now on, in these ways and no other."""
        self._cards, self._deck, self.chance = list(kinds), [], chance

    @property
    def had_every_fault(self) -> bool:
        """Whether each kind has happened."""
        return all(self._faults[named(kind, self._door)] for kind in self._kinds)

    async def refuse(self, for_s: float) -> None:
        """Take no connections, and end those there are, for a while."""
        self._close()
        for writer in self._clients:
            _reset(writer)
        self._count(REFUSED)
        await asyncio.sleep(for_s)
        await self._listen()

    async def replay(self, count: int) -> None:
        """Send that many of the requests that went through once more, in any order, one after the other."""
        for request in self._rng.sample(self._requests, min(count, len(self._requests))):
            if await self.ask(request, keep=False):
                self._count(REPLAYED)

    async def ask(self, request: Message, *, keep: bool = True) -> Message | None:
        """Send a request on over a connection of its own; its answer, or None when the other side is away."""
        try:
            async with asyncio.timeout(UPSTREAM_WITHIN_S), AsyncExitStack() as stack:
                reader, writer = await self.upstream(stack)
                writer.write(request.raw)
                got = await read_message(reader)
        except (OSError, TimeoutError):
            return None
        if keep and got is not None:
            self._requests.append(request)
            self._answers.setdefault(request.path, deque(maxlen=KEPT_REQUESTS)).append(got.raw)
        return got

    async def upstream(self, stack: AsyncExitStack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the other side, closed with `stack`."""
        assert self._to is not None, "nobody said where to"
        if isinstance(self._to, Path):
            reader, writer = await asyncio.open_unix_connection(self._to, limit=1 << 24)
        else:
            url = urlsplit(self._to)
            reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1 << 24)
        stack.callback(writer.close)
        return reader, writer

    def earlier_answer(self, rng: random.Random, request: Message) -> bytes | None:
        """What another request on the same path was answered."""
        answers = self._answers.get(request.path)
        return rng.choice(answers) if answers else None

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=1 << 24)
        self._port = self._listener.sockets[0].getsockname()[1]

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._clients.add(writer)
        try:
            rng = random.Random(self._rng.getrandbits(64))
            while (request := await read_message(reader)) and await self._pass(
                Exchange(self, rng, request, reader, writer), rng
            ):
                pass
        except (OSError, asyncio.CancelledError):  # the client went, or the proxy closes
            pass
        finally:
            self._clients.discard(writer)
            self._serving.discard(task)
            writer.close()

    async def _pass(self, it: Exchange, rng: random.Random) -> bool:
        """Let one request through, or break it; whether the connection goes on."""
        if rng.random() >= self.chance:
            got = await it.ask()
            await it.tell(got.raw if got else b"")
            return got is not None
        fault = self._deal()
        try:
            await FAULTS[fault](it)
        except OSError:  # the client, or the other side, was gone before the fault was over
            pass
        finally:
            if it.done:
                self._count(fault)
            else:
                self._deck.insert(0, fault)
        return False

    def _count(self, fault: str) -> None:
        self._faults[named(fault, self._door)] += 1

    def _deal(self) -> str:
        if not self._deck:
            self._deck = self._rng.sample(self._cards, len(self._cards))
        return self._deck.pop()


def named(fault: str, door: str) -> str:
    """What a fault before that door is counted as."""
    return f"{fault}, {door}"


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: no goodbye, and what was not yet read is gone."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0 and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
