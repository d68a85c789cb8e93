"""A real PostgreSQL for tests: a server of its own on a Unix socket, in memory where there is any, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import asyncpg

from sidemeter_control.store.database import Database

__all__ = ["Kind", "Server", "in_use", "made", "programs", "running"]

USER: Final = "meter"
PASSWORD: Final = "kept-to-itself"
"""Asked for by nobody here; it stands in every URL so that tests see where it goes."""
MIGRATED: Final = "migrated"
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

    def run(self, program: str, *arguments: str) -> None:
        """One of its programs, as a user that is not root; what it prints, if it fails."""
        self._run(program, "-D", str(self.data), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        where = programs()
        assert where is not None
        whose: dict[str, Any] = {}
        if self._user is not None:
            whose = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
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
                **whose,
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
        options = " ".join(f"-c {name}={value}" for name, value in said.items() if value)
        self.run(
            "pg_ctl", "-w", "-l", str(self.directory / "server.log"), "-o", f"-c listen_addresses= {options}", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `immediate` as if it had been killed."""
        self.run("pg_ctl", "-w", "-m", mode, "stop")

    def url(self, name: str) -> str:
        """Where the database of that name is."""
        return f"postgresql://{USER}:{PASSWORD}@/{name}?host={self.directory}"

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


@contextmanager
def made(within: Path | None = None) -> Iterator[Server]:
    """A server that does not run yet, and does not any more afterwards; in memory, unless it is to be `within` a directory."""
    shm = Path("/dev/shm")
    place = within or (shm if os.access(shm, os.W_OK) else None)
    directory = Path(tempfile.mkdtemp(prefix="sidemeter-pg-", dir=place))
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)
    server = Server(directory, user)
    try:
        server.make()
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop("immediate")
        shutil.rmtree(directory)


@contextmanager
def running(within: Path | None = None, **settings: str) -> Iterator[Server]:
    """A server that runs with these settings; `within` as for `made`."""
    with made(within) as server:
        server.start(**settings)
        yield server
