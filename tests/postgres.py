"""A real PostgreSQL for tests: a server of its own on a Unix socket, in memory where there is any, gone afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import asyncpg
from fakes import eventually

from sidemeter_control.store.database import Database

__all__ = ["Kind", "Server", "copied", "in_use", "made", "parents", "programs", "running"]

USER: Final = "meter"
PASSWORD: Final = "kept-to-itself"
"""Asked for by nobody here; it stands in every URL so that tests see where it goes."""
MIGRATED: Final = "migrated"
STARTS_WITHIN_S: Final = 120.0
SETTINGS: Final = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


def programs() -> Path | None:
    """The directory of `initdb` and `pg_ctl`, if they are on this machine."""
    found = shutil.which("pg_ctl")
    places = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        *([Path(found).parent] if found else []),
    ]
    return next((each for each in places if (each / "initdb").exists() and (each / "pg_ctl").exists()), None)


class Kind:
    """Of which kind the databases of the test that runs are: of that server, or files of SQLite."""

    server: "Server | None" = None


@contextmanager
def in_use(server: "Server | None") -> Iterator[None]:
    """Let databases be of that kind in the block."""
    Kind.server = server
    try:
        yield
    finally:
        Kind.server = None


class Server:
    """A PostgreSQL in `directory`, run by `user`; None: by whoever runs the tests."""

    template = MIGRATED
    """The database that new ones are copies of."""

    def __init__(self, directory: Path, user: pwd.struct_passwd | None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self._user = user
        self._migrated = False
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str) -> None:
        """One of its programs, as a user that is not root; what it prints, if it fails."""
        self._run(program, "-D", str(self.data), *arguments)

    @property
    def _whose(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        where = programs()
        assert where is not None
        log = self.directory / "commands.log"
        with log.open("ab") as out:
            done = subprocess.run(
                [where / program, *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
                timeout=120,
                **self._whose,
            )
        assert done.returncode == 0, log.read_text()

    def make(self) -> None:
        """Its files. Texts sort by the rules of a language, unless a column says otherwise."""
        self.run(
            "initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale-provider=icu", "--icu-locale=en", "--no-sync"
        )

    def start(self, **settings: str) -> None:
        """Start it, and take connections when this returns."""
        said = {**SETTINGS, "unix_socket_directories": str(self.directory), **settings}
        where, log = programs(), self.directory / "server.log"
        assert where is not None
        # A child of this process, so that nothing is left of one that was killed: its number would pass for its own life.
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [where / "postgres", "-D", self.data, *(f"--{name}={value}" for name, value in said.items())],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                **self._whose,
            )
        until_s = time.monotonic() + STARTS_WITHIN_S
        while not self._is_ready():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            said = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        assert self._process is not None
        return said[0] == str(self._process.pid) and said[7:8] != [] and said[7].strip() == "ready"

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `immediate` as if it had been killed."""
        self.run("pg_ctl", "-w", "-m", mode, "stop")
        if self._process is not None:
            self._process.wait()

    async def kill(self) -> None:
        """kill -9 of its first process, whatever the others do; all are gone when this returns."""
        assert self._process is not None
        _, *others = self.pids()
        self._process.kill()
        self._process.wait()
        await eventually(lambda: not any(_runs(pid) for pid in others), 60)

    def pids(self) -> list[int]:
        """Of all its processes, the first one first."""
        assert self._process is not None
        return [self._process.pid, *(pid for pid, parent in parents().items() if parent == self._process.pid)]

    def promote(self) -> None:
        """Let a standby follow nobody any more, and take writes."""
        self.run("pg_ctl", "-w", "promote")

    def follow(self, primary: "Server") -> None:
        """Make its files, as a copy of what `primary` has, that takes over from it whatever is committed there."""
        self.run(
            "pg_basebackup", "-h", str(primary.directory), "-U", USER, "-R", "-X", "stream", "-c", "fast", "--no-sync"
        )

    def kill_one(self) -> None:
        """kill -9 of a process that works for a connection: the server ends all others, and recovers."""
        working = [pid for pid in self.pids() if f"postgres: {USER}" in _command(pid)]
        for pid in working[:1]:
            os.kill(pid, signal.SIGKILL)

    def url(self, name: str, host: Path | None = None) -> str:
        """Where the database of that name is; by another socket than its own, if that is said."""
        return f"postgresql://{USER}:{PASSWORD}@/{name}?host={host or self.directory}"

    async def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run them, each by itself."""
        conn = await asyncpg.connect(self.url(database))
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()

    def new(self) -> str:
        """The URL of a new database, made without an event loop; it stays as long as the server."""
        name = f"test_{token_hex(8)}"
        template = self.template if self._migrated else "template1"
        self._run("createdb", "-h", str(self.directory), "-U", USER, "-T", template, name)
        return self.url(name)

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[str]:
        """The URL of a new database without a table, which is gone afterwards."""
        async with self._made("template1") as url:
            yield url

    @asynccontextmanager
    async def migrated(self) -> AsyncIterator[str]:
        """The URL of a new database of the newest schema, which is gone afterwards."""
        await self.prepare()
        async with self._made(self.template) as url:
            yield url

    async def prepare(self) -> None:
        """Make the database that new ones are copies of: to migrate one takes far longer than to copy it."""
        if not self._migrated:
            await self.execute(f"CREATE DATABASE {self.template}")
            database = await Database.open(self.url(self.template), witness=str(self.directory / "none"))
            await database.migrate()
            await database.close()
            self._migrated = True

    @asynccontextmanager
    async def _made(self, template: str) -> AsyncIterator[str]:
        name = f"test_{token_hex(8)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield self.url(name)
        finally:
            await self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def parents() -> dict[int, int]:
    """Of every process that runs, whose child it is."""
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return {pid: int(found[1]) for pid in pids if (found := _stat(pid))}


def _stat(pid: int) -> list[str]:
    """Of a process: its state, its parent and so on; nothing when it is gone."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _runs(pid: int) -> bool:
    return bool(found := _stat(pid)) and found[0] != "Z"


def _command(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_text()
    except OSError:
        return ""


@contextmanager
def made(within: Path | None = None, primary: Server | None = None) -> Iterator[Server]:
    """A server that does not run yet, and does not any more afterwards; in memory, unless it is to be `within` a directory.
    Of its own, or a standby of `primary`, which runs."""
    shm = Path("/dev/shm")
    place = within or (shm if os.access(shm, os.W_OK) else None)
    directory = Path(tempfile.mkdtemp(prefix="sidemeter-pg-", dir=place))
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)
    server = Server(directory, user)
    try:
        if primary is None:
            server.make()
        else:
            server.follow(primary)
        yield server
    finally:
        if server.runs:
            server.stop("immediate")
        shutil.rmtree(directory)


@contextmanager
def running(within: Path | None = None, **settings: str) -> Iterator[Server]:
    """A server that runs with these settings; `within` as for `made`."""
    with made(within) as server:
        server.start(**settings)
        yield server


@contextmanager
def copied(primary: Server) -> Iterator[Server]:
    """A standby of that server, which runs."""
    with made(primary=primary) as server:
        server.start(wal_level="replica", max_wal_senders="5", hot_standby="on")
        yield server
