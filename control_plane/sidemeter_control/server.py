"""The control plane's life: open the database, bind the door, serve until told to stop, let open requests end."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import uvicorn
from starlette.types import ASGIApp

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import Loop, build, loops, repeat
from sidemeter_control.clock import Clock, SystemClock
from sidemeter_control.connections import BACKLOG, KEEP_ALIVE_S, Bounds, accepted, connection
from sidemeter_control.settings import Settings, host_and_port
from sidemeter_control.store.database import Database
from sidemeter_control.traces import traces_of

__all__ = ["run", "serve"]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, that says when it takes requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `serve`: a signal ends the process with 0, not by itself."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


async def serve(
    settings: Settings, announce: Callable[[str], None], clock: Clock | None = None, bounds: Bounds | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was asked and return.

    `announce` gets the admin key where one was made, and one line once requests are taken. Raises StoreUnavailable for a
    database that does not open, OSError for an address that is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = clock or SystemClock()
    traces = traces_of(settings.traces)
    database = await Database.open(settings.database)
    try:
        await database.migrate()
        with contextlib.closing(_bind(settings.listen)) as door:
            gate = Gate(database, clock)
            secret = await gate.first_key(settings.admin_key)
            if secret is not None:
                announce(f"admin key, shown only now: {secret}")
            server = _Server(
                _config(
                    await build(database, gate, settings, clock, traces=traces), settings, bounds or Bounds(accepted())
                ),
                lambda: announce(_ready(door)),
            )
            # Schema, routes and modules stay: a full collection that looks at them stops every request for 50 ms.
            gc.collect()
            gc.freeze()
            serving = asyncio.create_task(server.serve([door]))
            stopping = asyncio.create_task(stop.wait())
            async with _repeated(loops(database, settings, clock), clock):
                await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            server.should_exit = True
            await serving
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def _repeated(wanted: Iterable[Loop], clock: Clock) -> AsyncIterator[None]:
    """Run the loops meanwhile; what one of them is at when the block ends is ended, or undone, before this returns."""
    running = [asyncio.create_task(repeat(each, clock)) for each in wanted]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """`serve` on an event loop of its own: uvloop where it is installed."""
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(serve(settings, announce))


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 -- an extra
    except ImportError:
        return None
    return new_event_loop


def _bind(listen: str) -> socket.socket:
    host, port = host_and_port(listen)
    door = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen(BACKLOG)
    except OSError as exc:
        door.close()
        raise OSError(exc.errno, exc.strerror, listen) from exc
    return door


def _ready(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"sidemeter-control ready: http://{f'[{host}]' if ':' in host else host}:{port}/graphql"


def _config(app: ASGIApp, settings: Settings, bounds: Bounds) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=connection(bounds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
    )
