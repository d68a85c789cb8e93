"""A control plane served on a real socket in this process, for tests that subscribe: by WebSocket, or by server-sent events."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fakes import eventually
from planes import Plane, open_database
from websockets.asyncio.client import ClientConnection, connect

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.live.bounds import WAITS, Waits
from sidemeter_control.api.live.hub import Hub
from sidemeter_control.app import build
from sidemeter_control.clock import SystemClock
from sidemeter_control.connections import Bounds
from sidemeter_control.server import _config
from sidemeter_control.settings import Settings

__all__ = ["COST", "QUOTA", "Served", "Talk", "calls_of", "customer", "events_of", "served"]

COST = "subscription($customer: ID!) { costChanged(customer: $customer) { total { amount } asOf } }"
QUOTA = 'subscription { quotaChanged(customer: "acme", feature: "calls") { used remaining leased } }'
WITHIN_S = 60.0


@dataclass
class Served(Plane):
    """A plane behind a port."""

    def __init__(self, plane: Plane, hub: Hub, secret: str, port: int) -> None:
        super().__init__(plane.database, plane.gate, plane.clock, plane.http)
        self.hub, self.secret, self.port = hub, secret, port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    @asynccontextmanager
    async def talk(self, **payload: Any) -> AsyncIterator["Talk"]:
        """A WebSocket that is let in with the admin's key, or with `payload`."""
        async with self.socket() as socket:
            talk = Talk(socket)
            await talk.say(type="connection_init", payload=payload or {"authorization": f"Bearer {self.secret}"})
            assert await talk.hear() == {"type": "connection_ack"}
            yield talk

    @asynccontextmanager
    async def socket(self, **options: Any) -> AsyncIterator[ClientConnection]:
        given = {"subprotocols": ["graphql-transport-ws"], "proxy": None} | options
        uri = given.pop("uri", f"ws://127.0.0.1:{self.port}/graphql")
        async with connect(uri, **given) as socket:
            yield socket

    @asynccontextmanager
    async def stream(self, query: str, **variables: Any) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """The events of an operation, as they come: (name, data)."""
        headers = {"Accept": "text/event-stream"}
        body = {"query": query, "variables": variables}
        async with self.http.stream("POST", "/graphql", json=body, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield events_of(answer)


@dataclass
class Talk:
    """One WebSocket, as graphql-transport-ws has it."""

    socket: ClientConnection
    ids: itertools.count = field(default_factory=itertools.count)

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            return json.loads(await self.socket.recv())

    async def subscribe(self, query: str, **variables: Any) -> str:
        id_ = str(next(self.ids))
        await self.say(type="subscribe", id=id_, payload={"query": query, "variables": variables})
        return id_

    async def next(self) -> Any:
        """The data of the next message, which is one with data."""
        said = await self.hear()
        assert said["type"] == "next", said
        assert "errors" not in said["payload"], said
        return said["payload"]["data"]


async def events_of(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(name, data) of each event; a comment is ("", None)."""
    name = ""
    async for line in answer.aiter_lines():
        kind, _, text = line.partition(":")
        if kind == "event":
            name = text.strip()
        elif kind == "data":
            yield name, json.loads(text) if text.strip() else None
        elif line.startswith(":"):
            yield "", None


@asynccontextmanager
async def served(
    directory: Path,
    *,
    every_s: float = 0.02,
    again_s: float = 60.0,
    bounds: Bounds | None = None,
    waits: Waits = WAITS,
    **settings: Any,
) -> AsyncIterator[Served]:
    """A control plane with a key, a plan by calls at 1 EUR each with a quota of 10, and the customer acme on it."""
    clock = SystemClock()
    async with open_database(directory) as database:
        gate = Gate(database, clock)
        given = Settings(**{"drain_s": 5} | settings)
        hub = Hub(database, clock, every_s=every_s, again_s=again_s)
        app = await build(database, gate, given, clock, hub=hub, waits=waits)
        secret = await gate.first_key(None)
        server = uvicorn.Server(_config(app, given, bounds or Bounds(1024)))
        server.config.port = 0
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve())
        await eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=WITHIN_S) as http:
            opened = Served(Plane(database, gate, clock, http), hub, str(secret), port)
            await _set_up(opened)
            yield opened
            await hub.close()
        server.should_exit = True
        await serving


async def _set_up(opened: Plane) -> None:
    await opened.make("createMeter", key="calls", eventType="call", aggregation="COUNT")
    await opened.make("createFeature", key="calls", meter="calls")
    charge = {"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "1"}
    quota = {"feature": "calls", "kind": "METERED", "limit": "10", "enforcement": "HARD"}
    await opened.make("publishPlan", key="pro", currency="EUR", charges=[charge], entitlements=[quota])
    await customer(opened, "acme")


async def customer(opened: Plane, key: str, **fields: Any) -> None:
    """One more customer on the plan."""
    await opened.make("upsertCustomer", key=key, currency="EUR", **fields)
    await opened.make("subscribe", customer=key, plan="pro")


_ids = itertools.count()


async def calls_of(opened: Plane, subject: str, count: int = 1) -> None:
    """So many calls, each an event of its own."""
    events = [{"id": f"call-{next(_ids)}", "type": "call", "subject": subject} for _ in range(count)]
    await opened.ask("mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }", events=events)
