"""A real agent behind real doors, for tests that speak HTTP to it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from processes import cells

from sidemeter.agent import Agent
from sidemeter.api import AgentVerbs, Api
from sidemeter.connections import Bounds
from sidemeter.server import Doors, serving
from sidemeter.settings import Settings
from sidemeter.traces import NO_TRACES, Traces


@dataclass(frozen=True, slots=True)
class Sidecar:
    """An API served on a Unix socket and on loopback TCP, with a caller on each."""

    api: Api
    socket: Path
    url: str
    unix: httpx.AsyncClient
    tcp: httpx.AsyncClient


@contextlib.asynccontextmanager
async def open_doors(
    verbs: AgentVerbs,
    settings: Settings,
    directory: Path,
    bounds: Bounds | None = None,
    traces: Traces = NO_TRACES,
) -> AsyncIterator[Sidecar]:
    """Serve `verbs` on a socket in `directory` and on a free port."""
    api = Api(verbs, settings)
    with Doors(directory / "agent.sock", "127.0.0.1:0") as doors:
        url = doors.names[1]
        transport = httpx.AsyncHTTPTransport(uds=str(directory / "agent.sock"))
        async with (
            serving(traces.answering(api), doors.sockets, drain_s=2, bounds=bounds),
            httpx.AsyncClient(transport=transport, base_url="http://agent") as unix,
            httpx.AsyncClient(base_url=url) as tcp,
        ):
            yield Sidecar(api, directory / "agent.sock", url, unix, tcp)


@contextlib.asynccontextmanager
async def sidecar(directory: Path, bounds: Bounds | None = None, **settings: Any) -> AsyncIterator[Sidecar]:
    """A real agent with its buffer in `directory`, served."""
    given = Settings(service="chat", data_dir=directory / "data", **{"cell_dir": cells(), **settings})
    async with Agent(given) as agent, open_doors(agent, given, directory, bounds) as served:
        yield served
