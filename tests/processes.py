"""Real `sidemeter-control` and `sidemeter agent` processes for tests: started, awaited, killed, drained.

Every process writes to a log file, which is printed when its block ends, so that pytest shows it with a failure.
"""

import atexit
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import httpx
from fakes import eventually
from postgres import Kind
from zygote import MODULES, unmeasured, zygote

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN_S = 60.0
STOP_WITHIN_S = 60.0
ADMIN_KEY = "smk_admin_of_the_tests"
URL = re.compile(r"http://[\d.]+:(\d+)")


@functools.cache
def cells() -> Path:
    """The directory in memory for the cells of every agent that this process makes: gone when it ends, as no test's agent is
    ever started again after that."""
    shm = Path("/dev/shm")
    made, owner = tempfile.mkdtemp(prefix="sidemeter-tests-", dir=shm if os.access(shm, os.W_OK) else None), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not at the end of what it forked
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)
    return Path(made)


def without_settings(**environ: str) -> dict[str, str]:
    """This process's environment, without what would configure Sidemeter or measure coverage, and with `environ`."""
    kept = {name: value for name, value in unmeasured().items() if not name.startswith("SIDEMETER_")}
    return kept | {"SIDEMETER_CELL_DIR": str(cells())} | environ


class Process(Protocol):
    """What `Program` uses of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


def spawned(arguments: list[str], environ: dict[str, str], log: Path) -> Process:
    """A process of its own, from its first instruction on; `log` is appended to."""
    with log.open("ab") as out:
        return subprocess.Popen(arguments, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def forked(arguments: list[str], environ: dict[str, str], log: Path, *, measured: bool = False) -> Process:
    """As `spawned`, from `main` on: one of both programs is forked where it is imported already, unless something has to be
    in place before its first instruction. Only of one that is `measured` coverage hears, which makes it three times as slow."""
    ours = arguments[:2] == [sys.executable, "-m"] and arguments[2] in MODULES
    if "LD_PRELOAD" in environ or not ours:
        return spawned(arguments, environ, log)
    return zygote().launch(arguments, environ, log, measured=measured)


def run(*command: str, exit_code: int = 0, **environ: str) -> str:
    """What a command prints that has to end with `exit_code`."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        ended = forked([*command], without_settings(**environ), log, measured=True).wait()
        printed = log.read_text()
    assert ended == exit_code, f"{command} ended with {ended}:\n{printed}"
    return printed


class Program:
    """A command in a process of its own; leaving its block kills what still runs. `launch` makes the process."""

    launch: Callable[[list[str], dict[str, str], Path], Process] = staticmethod(forked)

    def __init__(self, arguments: list[str], log: Path, **environ: str) -> None:
        self.arguments = [sys.executable, *arguments]
        self.environ = without_settings(**environ)
        self.log = log
        self.process: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        print(f"--- {self.log.name}\n{self.log.read_text() if self.log.exists() else ''}")

    def spawn(self) -> None:
        """Start the process, its log appended to; returns at once."""
        assert not self.running
        self.process = self.launch(self.arguments, self.environ, self.log)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def says(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """The first match of `pattern` in what this process has written; fails if it ends or takes too long."""

        def match() -> re.Match[str] | None:
            ended = not self.running
            text = self.log.read_text()
            found = pattern.search(text)
            assert found or not ended, f"{self.log.name} ended without saying {pattern.pattern!r}:\n{text}"
            return found

        return await eventually(match, START_WITHIN_S)

    async def exit_code(self) -> int:
        """Wait for the process to end by itself."""
        await eventually(lambda: not self.running, STOP_WITHIN_S)
        assert self.process is not None
        return self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.exit_code()

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class ControlPlane(Program):
    """`sidemeter-control serve` on SQLite in `directory`, or on PostgreSQL; restarted, it keeps its port.

    `server_url`: the database that it shares with others, in place of one of its own."""

    def __init__(
        self, directory: Path, host: str = "127.0.0.1", *, server_url: str | None = None, **environ: str
    ) -> None:
        self.host = host
        self.port = 0
        self.database = directory / "control.db"
        self._server_url = server_url or (None if Kind.server is None else Kind.server.new())
        super().__init__([], directory / "control.log", SIDEMETER_ADMIN_KEY=ADMIN_KEY, **environ)
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def kept_in(self) -> Path | str:
        """Its database: the path of a file, or the URL of one on a server."""
        return self._server_url or self.database

    def spawn(self) -> None:
        """Start the process on the port it had; returns at once."""
        serve = ["serve", "--listen", f"{self.host}:{self.port}"]
        self.arguments = [sys.executable, "-m", "sidemeter_control.cli", *serve]
        self.environ["SIDEMETER_DATABASE"] = self._server_url or f"sqlite:///{self.database}"
        self.environ["SIDEMETER_WITNESS"] = f"{self.database}.holders"
        super().spawn()

    async def start(self) -> None:
        """Serve, and answer requests when this returns."""
        self.spawn()
        self.port = int((await self.says(URL))[1])
        await eventually(self.ready, START_WITHIN_S)

    async def ready(self) -> bool:
        assert self.running, self.log.read_text()
        try:
            return "data" in (await self.post("{ __typename }"))
        except httpx.TransportError:
            return False

    async def post(self, query: str, **variables: object) -> dict[str, Any]:
        """The whole GraphQL answer."""
        answer = await self.http.post(f"{self.url}/graphql", json={"query": query, "variables": variables})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The answer's data; an error fails the test."""
        body = await self.post(query, **variables)
        assert not body.get("errors"), body["errors"]
        return body["data"]

    async def make(self, mutation: str, input_type: str, select: str = "__typename", **fields: object) -> Any:
        """Run a mutation with one argument `input`; answers what was selected of its result."""
        query = f"mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ {select} }} }}"
        return (await self.ask(query, input=fields))[mutation]

    async def new_key(self, *scopes: str) -> str:
        """The secret of a fresh key."""
        return (await self.make("createApiKey", "ApiKeyInput", "secret", name="test", scopes=scopes))["secret"]


class AgentProcess(Program):
    """`sidemeter agent` on its own data directory; `http` talks to its Unix socket."""

    def __init__(
        self, directory: Path, control_plane: str, api_key: str, log: Path | None = None, **environ: str
    ) -> None:
        self.data = directory
        self.socket = directory / "agent.sock"
        arguments = ["-m", "sidemeter.cli", "agent", "--service", "journey", "--control-plane", control_plane]
        arguments += ["--data-dir", str(self.data), "--socket", str(self.socket)]
        super().__init__(arguments, log or directory.with_suffix(".log"), SIDEMETER_API_KEY=api_key, **environ)
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=30)

    async def start(self) -> None:
        """Take events when this returns."""
        self.spawn()
        await eventually(self.ready, START_WITHIN_S)

    async def ready(self) -> bool:
        assert self.running, self.log.read_text()
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def post(self, path: str, body: object) -> dict[str, Any]:
        """The answer to a request that is taken."""
        answer = await self.http.post(path, json=body)
        assert answer.status_code in {200, 202}, answer.text
        return answer.json()


@asynccontextmanager
async def control_plane(directory: Path, **environ: str) -> AsyncIterator[ControlPlane]:
    """A running control plane on a fresh database in `directory`."""
    with ControlPlane(directory, **environ) as plane:
        async with plane.http:
            await plane.start()
            yield plane


@asynccontextmanager
async def agent(directory: Path, plane: ControlPlane, **environ: str) -> AsyncIterator[AgentProcess]:
    """A running agent of `plane` with its data in `directory`."""
    with AgentProcess(directory, plane.url, await plane.new_key("AGENT"), **environ) as process:
        async with process.http:
            await process.start()
            yield process
