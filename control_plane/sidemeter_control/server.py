"""The control plane's life: open the database, bind the door, serve until told to stop, let open requests end."""

import asyncio
import contextlib
import gc
import importlib.util
import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.live.hub import Hub
from sidemeter_control.api.origins import Origins
from sidemeter_control.app import Loop, build, loops, repeat
from sidemeter_control.clock import Clock, SystemClock
from sidemeter_control.connections import (
    BACKLOG,
    KEEP_ALIVE_S,
    LEAVES_AFTER_S,
    MAX_MESSAGE_BYTES,
    PING_S,
    Bounds,
    accepted,
    connection,
    web_socket,
)
from sidemeter_control.errors import SettingsError, StoreUnavailable
from sidemeter_control.settings import Settings, host_and_port
from sidemeter_control.store import audit
from sidemeter_control.store.database import Database
from sidemeter_control.traces import traces_of

__all__ = ["MIN_EXPOSED_KEY_CHARS", "run", "serve"]

MIN_EXPOSED_KEY_CHARS: Final = 16
"""Of an admin key that somebody chose, where other machines may guess at it."""

_log = logging.getLogger(__name__)


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
    database that does not open, or has become an older copy of itself meanwhile, OSError for an address that is taken, SettingsError for files that are no certificate and
    its key, and for an address that others reach while there is no key.
    """
    _check_tls(settings)
    _check_archive(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = clock or SystemClock()
    traces = traces_of(settings.traces)
    database = await Database.open(
        settings.database, witness=settings.witness, archive=settings.archive_directory, alone=False
    )
    try:
        await database.migrate()
        await database.join()
        with contextlib.closing(_bind(settings.listen)) as door:
            gate = Gate(database, clock, origins=_origins(settings))
            await _check_exposure(gate, settings)
            secret = await gate.first_key(settings.admin_key)
            if secret is not None:
                announce(f"admin key, shown only now: {secret}")
            await _note_audit_head(database)
            hub = Hub(database, clock)
            server = _Server(
                _config(
                    await build(database, gate, settings, clock, hub=hub, traces=traces),
                    settings,
                    bounds or Bounds(accepted(), leaves_after_s=LEAVES_AFTER_S if database.is_shared else 0),
                ),
                lambda: announce(_ready(door, "http" if settings.tls_cert is None else "https")),
            )
            # Schema, routes and modules stay: a full collection that looks at them stops every request for 50 ms.
            gc.collect()
            gc.freeze()
            serving = asyncio.create_task(server.serve([door]))
            stopping = asyncio.create_task(stop.wait())
            failing = asyncio.create_task(database.is_older.wait())
            async with _repeated(loops(database, settings, clock, gate), clock, database):
                await asyncio.wait({serving, stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            failing.cancel()
            await hub.close()  # what goes on for ever is ended first: the others end by themselves
            await hub.places.left()
            server.should_exit = True
            await serving
            await _note_uses(gate)
        if database.is_older.is_set():
            raise StoreUnavailable("the database has become an older copy of itself: this ends, to be started anew")
    finally:
        await database.close()


def _check_archive(settings: Settings) -> None:
    """What it will need in a month is said now."""
    if settings.archive_after_days and importlib.util.find_spec("pyarrow") is None:
        raise SettingsError(
            "archive_after_days", "needs pyarrow, which is not installed: pip install 'sidemeter[archive]'"
        )


async def _note_uses(gate: Gate) -> None:
    """Nobody is served any more: where that cannot be written, a key looks unused for a minute longer."""
    try:
        await gate.note_uses_once()
    except StoreUnavailable as exc:
        _log.warning("when keys were used last was not written: %s", exc)


@contextlib.asynccontextmanager
async def _repeated(wanted: Iterable[Loop], clock: Clock, database: Database) -> AsyncIterator[None]:
    """Run the loops meanwhile; what one of them is at when the block ends is ended, or undone, before this returns."""
    running = [asyncio.create_task(repeat(each, clock, lambda: database.leads)) for each in wanted]
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


async def _check_exposure(gate: Gate, settings: Settings) -> None:
    """What listens beyond this machine has an admin key that nobody guesses, and not one that it prints into a log first."""
    host, _ = host_and_port(settings.listen)
    if ipaddress.ip_address(host).is_loopback:
        return
    if settings.admin_key is None and not await gate.has_admin():
        raise SettingsError(
            "listen",
            f"{settings.listen} can be reached from other machines, and there is no admin key yet: make one with"
            " `sidemeter-control keys create NAME --scope ADMIN`, or set SIDEMETER_ADMIN_KEY",
        )
    if settings.admin_key is not None and len(settings.admin_key) < MIN_EXPOSED_KEY_CHARS:
        raise SettingsError(
            "SIDEMETER_ADMIN_KEY",
            f"must have {MIN_EXPOSED_KEY_CHARS} characters or more while {settings.listen} can be reached from other machines",
        )
    if settings.tls_cert is None:
        _log.warning("%s speaks no TLS: keys can be read on their way, unless a proxy does", settings.listen)


async def _note_audit_head(database: Database) -> None:
    """Into the log, where who can write to the database may not: `audit verify --head` takes it."""
    async with database.read() as conn:
        _log.info("the audit log's head is %s", await audit.head(conn))


def _ready(door: socket.socket, scheme: str) -> str:
    host, port = door.getsockname()[:2]
    return f"sidemeter-control ready: {scheme}://{f'[{host}]' if ':' in host else host}:{port}/graphql"


def _origins(settings: Settings) -> Origins:
    """Where requests may come from."""
    return Origins(settings.public_url, settings.proxies, tls=settings.tls_cert is not None)


def _check_tls(settings: Settings) -> None:
    """SettingsError, unless the files are a certificate and its key, which asks for no password."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, _no_password)
    except (OSError, ValueError) as exc:
        raise SettingsError("tls_cert", f"{settings.tls_cert} and {settings.tls_key} are not usable: {exc}") from exc


def _no_password() -> str:
    raise ValueError("the key must not be encrypted")


def _config(app: ASGIApp, settings: Settings, bounds: Bounds) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=connection(bounds),
        ws=web_socket(bounds),
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # a kilobyte could stand for a megabyte
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config
