"""An agent reduced to its wire: batches made beforehand, so that only the control plane is measured."""

import asyncio
import gzip
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import httpx
import msgpack
from processes import ControlPlane

from .traffic import EVENT_TYPE, KINDS, data

__all__ = ["BATCH_EVENTS", "Door", "agent_door", "numbered"]

BATCH_EVENTS = 5_000
GZIP_LEVEL = 1  # what the agent sends
HEADERS = {"Content-Type": "application/msgpack", "Content-Encoding": "gzip", "Sidemeter-Protocol": "1"}

NthEvent = Callable[[int], tuple[str, int]]
"""Subject of the n-th event, and its time in µs."""


_DATA = [json.dumps(data(n)) for n in range(KINDS)]


class Door:
    """`/agent/v1` of a control plane, as one agent sees it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.agent_id = secrets.token_hex(16)

    async def send(self, path: str, body: bytes) -> dict[str, Any]:
        """The answer; fails when the request is refused."""
        answer = await self.http.post(path, content=body)
        answer.raise_for_status()
        message: dict[str, Any] = msgpack.unpackb(answer.content)
        assert message["status"] == "OK", message
        return message

    async def sealed(self, batches: int, nth: NthEvent, *, first: int = 0) -> list[bytes]:
        """Batches of a new epoch, from the event of number `first` on. Ids are the same in every epoch: once counted, always
        duplicates."""
        epoch, digest, bodies = await self._hello(), bytes(32), []
        events = numbered(range(first, first + batches * BATCH_EVENTS), nth)
        for n in range(batches):
            body, digest = self._sealed(epoch, n + 1, digest, list(islice(events, BATCH_EVENTS)))
            bodies.append(body)
        return bodies

    async def stream(self, events: Iterator[Any]) -> None:
        """Send events as they come, in the batches of a new epoch: more of them than memory holds.

        The next batch is made while the one before is counted.
        """
        epoch, digest, number = await self._hello(), bytes(32), 1
        sending: asyncio.Task[Any] | None = None
        while some := list(islice(events, BATCH_EVENTS)):
            body, digest = await asyncio.to_thread(self._sealed, epoch, number, digest, some)
            if sending is not None:
                await sending
            sending = asyncio.create_task(self.send("batch", body))
            number += 1
        if sending is not None:
            await sending

    async def _hello(self) -> int:
        names = {"agent_id": self.agent_id, "hello_id": secrets.token_hex(16), "boot_id": secrets.token_hex(16)}
        hello = names | {"previous_epoch": None, "service": "bench", "version": "0"}
        return int((await self.send("hello", _body(hello)))["epoch"])

    def _sealed(self, epoch: int, number: int, before: bytes, events: list[Any]) -> tuple[bytes, bytes]:
        """The body of a batch, and its digest."""
        batch = {"agent_id": self.agent_id, "epoch": epoch, "batch_no": number, "prev_digest": before}
        digest = hashlib.sha256(before + msgpack.packb(events)).digest()
        batch |= {"digest": digest, "backlog": 0, "oldest_pending_us": None, "events": events}
        return _body(batch), digest


def numbered(numbers: Iterable[int], nth: NthEvent) -> Iterator[list[object]]:
    """The events of those numbers, as they stand on the wire."""
    return ([f"5f0e8f9a2b7c4d10-{n:010d}", "bench", EVENT_TYPE, *nth(n), _DATA[n % KINDS]] for n in numbers)


def _body(message: dict[str, Any]) -> bytes:
    return gzip.compress(msgpack.packb(message), GZIP_LEVEL)


@asynccontextmanager
async def agent_door(plane: ControlPlane) -> AsyncIterator[Door]:
    """The door, opened with a key of its own."""
    headers = HEADERS | {"Authorization": f"Bearer {await plane.new_key('AGENT')}"}
    async with httpx.AsyncClient(base_url=f"{plane.url}/agent/v1/", headers=headers, timeout=60) as http:
        yield Door(http)
