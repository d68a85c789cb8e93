"""The sidecar's life: open the agent, bind its doors, serve until told to stop, drain.

uvicorn would make a Unix socket that everybody may write to, and end the process by the signal it caught; so the
sockets and the signals are ours, and it only speaks HTTP.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import math
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from sidemeter.agent import Agent
from sidemeter.api import Api
from sidemeter.clock import SystemClock, wait_for
from sidemeter.connections import BACKLOG, KEEP_ALIVE_S, Bounds, accepted, connection
from sidemeter.errors import InDoubt
from sidemeter.settings import Settings, host_and_port
from sidemeter.traces import traces_of

__all__ = ["Doors", "run", "serve", "serving"]

log = logging.getLogger(__name__)

LOOK_AT_DOORS_S = 1.0
"""How soon a socket file that was taken away, with its directory or alone, is there again."""

WITHOUT_DISK = 1
"""The exit code when the disk did not answer, as for every other failure."""

SWITCH_INTERVAL_S = 0.0002
"""How long the thread that commits waits for the interpreter while requests are parsed; Python's 5 ms are most of a p99."""


class Doors:
    """The bound sockets of one agent; a context manager that closes them and takes its own socket file away.

    Raises OSError when a path or port is taken.
    """

    def __init__(self, unix: Path | None, listen: str | None) -> None:
        self.sockets: list[socket.socket] = []
        self.names: list[str] = []
        self._file: tuple[Path, int] | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            if unix is not None:
                self.sockets.append(_bind_unix(unix))
                self.names.append(f"unix:{unix}")
                self._file = unix, unix.stat().st_ino
            if listen is not None:
                self.sockets.append(_bind_tcp(listen))
                host, port = self.sockets[-1].getsockname()[:2]
                self.names.append(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reopened(self) -> socket.socket | None:
        """The new first socket, when somebody took the socket file away; None while it is there.

        Raises OSError when it cannot be made.
        """
        if self._file is None or _is_socket(*self._file):
            return None
        path, _ = self._file
        self.sockets[0] = _bind_unix(path)
        self._file = path, path.stat().st_ino
        return self.sockets[0]

    def close(self) -> None:
        """Close the sockets; remove the socket file unless another agent has put its own there since."""
        for each in self.sockets:
            each.close()
        if self._file is not None:
            path, inode = self._file
            if _is_socket(path, inode):
                path.unlink(missing_ok=True)


def _is_socket(path: Path, inode: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_ino == inode


def _bind_unix(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_if_stale(path)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        door.bind(str(path))
        door.listen(BACKLOG)
    except OSError:
        door.close()
        raise
    finally:
        os.umask(before)
    return door


def _remove_if_stale(path: Path) -> None:
    """Remove the socket file of an agent that died; refuse one that still answers, and what is no socket."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is there and is not a socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, "another process answers on it", str(path))


def _bind_tcp(listen: str) -> socket.socket:
    host, port = host_and_port(listen)
    host = "127.0.0.1" if host == "localhost" else host  # whatever /etc/hosts says
    door = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen(BACKLOG)
    except OSError as exc:
        door.close()
        raise OSError(exc.errno, exc.strerror, listen) from exc
    return door


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, that says when it takes requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: the first signal starts the drain in `serve`, and a second one does not cut it short."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def replace_first(self, door: socket.socket) -> None:
        """Serve on `door` in the place of the first socket; connections that came through that one go on."""
        protocol: Any = self.config.http_protocol_class
        first = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state),
            sock=door,
            backlog=BACKLOG,
        )
        self.servers[0].close()
        self.servers[0] = first


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, sockets: list[socket.socket], *, drain_s: float, bounds: Bounds | None = None
) -> AsyncIterator[_Server]:
    """Serve on bound sockets inside the block; at its end, answer what was asked within `drain_s` and close them."""
    config = uvicorn.Config(
        app,
        http=connection(bounds or Bounds(accepted())),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_s),
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets))
        await server.up.wait()
        try:
            yield server
        finally:
            server.should_exit = True


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was asked, drain and return.

    `announce` gets one line once every door is open. Raises DirectoryInUse, or OSError for a door that is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    unix = settings.socket
    if unix is None and settings.listen is None:
        unix = settings.data_dir / "agent.sock"
    traces = traces_of(settings)
    async with Agent(settings, traces=traces) as agent:
        with Doors(unix, settings.listen) as doors:
            app = traces.answering(Api(agent, settings))
            async with serving(app, doors.sockets, drain_s=settings.drain_s) as server:
                _tune()
                announce(f"sidemeter agent ready: {', '.join(doors.names)}")
                clock = SystemClock()
                while not await wait_for(stop, LOOK_AT_DOORS_S, clock):
                    await _reopen(doors, server)
                agent.stop_waiting()


async def _reopen(doors: Doors, server: _Server) -> None:
    """Let callers find the socket file again when somebody took it away."""
    try:
        door = doors.reopened()
        if door is not None:
            await server.replace_first(door)
            log.warning("the socket file was taken away; it is there again")
    except OSError as exc:
        log.warning("the socket file was taken away, and cannot be made: %s", exc)


def _tune() -> None:
    """Set the interpreter for a process that is nothing but this agent: a p99 of 13 ms at 64 connections became 5 ms."""
    gc.collect()
    gc.freeze()  # what the start made lives to the end; to walk through it takes 10 ms each time
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """`serve` on an event loop of its own: uvloop where it is installed.

    With a disk that hangs the process ends here: an end in order would wait for the thread that waits for the disk.
    """
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        try:
            runner.run(serve(settings, announce))
        except InDoubt as exc:
            log.error("the agent ends without its disk: %s", exc)  # noqa: TRY400 -- no fault of ours
            logging.shutdown()
            os._exit(WITHOUT_DISK)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 -- an extra
    except ImportError:
        return None
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop
    return loop_factory
