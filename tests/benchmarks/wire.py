"""An agent reduced to its wire: batches made beforehand, so that only the control plane is measured."""

import gzip
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import httpx
import msgpack
from processes import ControlPlane

from .traffic import EVENT_TYPE, data

__all__ = ["BATCH_EVENTS", "Door", "agent_door"]

BATCH_EVENTS = 5_000
GZIP_LEVEL = 1  # what the agent sends
HEADERS = {"Content-Type": "application/msgpack", "Content-Encoding": "gzip", "Sidemeter-Protocol": "1"}

NthEvent = Callable[[int], tuple[str, int]]
"""Subject of the n-th event, and its time in µs."""


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

    async def sealed(self, batches: int, nth: NthEvent) -> list[bytes]:
        """The first batches of a new epoch. Their ids are the same in every epoch: once counted, always duplicates."""
        epoch, digest, bodies = await self._hello(), bytes(32), []
        for n in range(batches):
            numbers = range(n * BATCH_EVENTS, (n + 1) * BATCH_EVENTS)
            events = [
                [f"5f0e8f9a2b7c4d10-{i:010d}", "bench", EVENT_TYPE, *nth(i), json.dumps(data(i))] for i in numbers
            ]
            body, digest = self._sealed(epoch, n + 1, digest, events)
            bodies.append(body)
        return bodies

    async def stream(self, events: Iterator[Any]) -> None:
        """Send events as they come, in the batches of a new epoch: more of them than memory holds."""
        epoch, digest, number = await self._hello(), bytes(32), 1
        while some := list(islice(events, BATCH_EVENTS)):
            body, digest = self._sealed(epoch, number, digest, some)
            await self.send("batch", body)
            number += 1

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


def _body(message: dict[str, Any]) -> bytes:
    return gzip.compress(msgpack.packb(message), GZIP_LEVEL)


@asynccontextmanager
async def agent_door(plane: ControlPlane) -> AsyncIterator[Door]:
    """The door, opened with a key of its own."""
    headers = HEADERS | {"Authorization": f"Bearer {await plane.new_key('AGENT')}"}
    async with httpx.AsyncClient(base_url=f"{plane.url}/agent/v1/", headers=headers, timeout=60) as http:
        yield Door(http)
