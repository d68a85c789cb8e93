"""Several control planes on one database, and what stands before them: each request goes to the next, whoever asks."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fakes import eventually
from postgres import Kind
from processes import ADMIN_KEY, ControlPlane
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["RoundRobin", "balanced", "control_planes", "control_planes_of"]

_HOPS = {"host", "content-length", "connection", "transfer-encoding", "date"}
_LIMITS = httpx.Limits(max_connections=50, max_keepalive_connections=50, keepalive_expiry=60)


@asynccontextmanager
async def control_planes(directory: Path, count: int = 3, **environ: str) -> AsyncIterator[list[ControlPlane]]:
    """So many that run, begun at once on an empty database, each with a directory of its own."""
    assert Kind.server is not None
    async with Kind.server.empty() as url, control_planes_of(url, directory, count, **environ) as planes:
        yield planes


@asynccontextmanager
async def control_planes_of(
    url: str, directory: Path, count: int = 3, **environ: str
) -> AsyncIterator[list[ControlPlane]]:
    """As `control_planes`, on the database there."""
    async with AsyncExitStack() as undo:
        planes = []
        for number in range(count):
            own = directory / f"plane-{number}"
            own.mkdir()
            planes.append(undo.enter_context(ControlPlane(own, server_url=url, **environ)))
            await undo.enter_async_context(planes[-1].http)
        await asyncio.gather(*(plane.start() for plane in planes))
        yield planes


class RoundRobin:
    """A client that asks one after the other, and goes on to the next where nobody listens. `failed`: what else went wrong."""

    def __init__(self, planes: Sequence[ControlPlane], timeout_s: float = 60) -> None:
        self._planes = planes
        self._turns = itertools.count()
        self.http = httpx.AsyncClient(timeout=timeout_s, limits=_LIMITS)
        self.failed: list[str] = []

    async def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer of the next one there is; ConnectError once nobody was there for a while."""
        for _ in range(20 * len(self._planes)):
            plane = self._planes[next(self._turns) % len(self._planes)]
            try:
                return await self.http.request(method, f"{plane.url}{path}", **given)
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
            except httpx.HTTPError as exc:
                self.failed.append(f"{plane.url}: {exc!r}")
                raise
        raise httpx.ConnectError("no control plane is there")


@asynccontextmanager
async def balanced(planes: Sequence[ControlPlane], timeout_s: float = 60) -> AsyncIterator[str]:
    """The URL of a proxy that gives each request to the next of them, for agents; 502 where it does not answer in time."""
    robin = RoundRobin(planes, timeout_s)

    async def forward(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in _HOPS}
        given = {"headers": headers, "content": await request.body()}
        try:
            answer = await robin.ask(request.method, request.url.path, **given)
        except httpx.HTTPError:
            return Response(status_code=502)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOPS | {"content-encoding"}}
        return Response(answer.content, answer.status_code, kept)

    app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    async with robin.http:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        await serving


KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
