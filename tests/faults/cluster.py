"""A PostgreSQL that fails over: three servers of which one takes writes, kept by Patroni, which asks etcd who it is.

Each commit waits for a standby (`synchronous_mode`, strict), so what a leader acknowledged its successor has. All of it is on
127.0.0.1 and free ports, in a directory in memory, and run by a user that is not root.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import postgres
import yaml
from fakes import eventually

from .rig import free_port

__all__ = ["Cluster", "Member", "cluster", "missing_tool"]

REAPER: Final = Path(__file__).with_name("reaper.py")
TTL_S: Final = 10
"""After so long without a word of the leader, another one is made."""
LEADER_WITHIN_S: Final = 120.0
FOLLOWS_WITHIN_S: Final = 120.0
DATABASE: Final = "sidemeter"


def missing_tool() -> str | None:
    """Why there can be none here."""
    absent = [tool for tool in ("patroni", "etcd") if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} is not installed"
    return None if postgres.programs() else "there is no PostgreSQL on this machine"


@dataclass
class Program:
    """One of its programs, run by the user that it is for; what it prints is in `log`."""

    arguments: list[str]
    directory: Path
    log: Path
    user: pwd.struct_passwd | None
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Begin it; it ends with this process."""
        user = "-" if self.user is None else self.user.pw_name
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, REAPER, user, *self.arguments],
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "ETCD_UNSUPPORTED_ARCH": "arm64"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def family(self) -> list[int]:
        """All processes that come from it, without the one that takes them in."""
        assert self.process is not None
        found, parents = [self.process.pid], postgres.parents()
        for pid in found:
            found += [each for each, parent in parents.items() if parent == pid]
        return found[1:]

    def signal(self, number: int) -> None:
        """To all of them, the oldest first."""
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def kill(self) -> None:
        """kill -9 of all of them; gone when this returns."""
        while self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            await asyncio.sleep(0.02)


@dataclass
class Member:
    """One server with its Patroni, which answers at `api` whether it leads."""

    name: str
    port: int
    api: str
    data: Path
    program: Program

    async def is_(self, role: str, http: httpx.AsyncClient) -> bool:
        """Whether it is `leader`, `sync` (the standby that commits wait for) or `replica`, by its own word."""
        try:
            return (await http.get(f"{self.api}/{role}", timeout=2)).status_code == 200
        except httpx.HTTPError:
            return False

    def kill_server(self) -> None:
        """kill -9 of its PostgreSQL alone: Patroni begins it again, or another one leads."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


@dataclass
class Cluster:
    """Its members, and who of them leads."""

    etcd: Program
    members: list[Member]
    http: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)

    @property
    def url(self) -> str:
        """Of the database, with every server in it."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.members)
        return f"postgresql://{postgres.USER}:{postgres.PASSWORD}@{hosts}/{DATABASE}"

    async def leader(self, but: Member | None = None) -> Member:
        """The one that leads, once there is one other than `but`."""

        async def found() -> Member | None:
            for each in self.members:
                if each is not but and await each.is_("leader", self.http):
                    return each
            return None

        return await eventually(found, LEADER_WITHIN_S, 0.1)

    async def is_whole(self) -> bool:
        """Whether one leads, another one has what it commits, and all others follow."""
        roles = [
            await asyncio.gather(*(each.is_(role, self.http) for role in ("leader", "sync", "replica")))
            for each in self.members
        ]
        return (
            sum(each[0] for each in roles) == 1
            and any(each[1] for each in roles)
            and all(each[0] or each[2] for each in roles)
        )

    async def becomes_whole(self) -> None:
        """Wait until it is."""
        await eventually(self.is_whole, FOLLOWS_WITHIN_S, 0.2)

    async def hand_over(self) -> None:
        """Let the standby that has all lead from now on, as an operator asks for it."""
        old = await self.leader()
        asked = {"leader": old.name}
        answer = await self.http.post(f"{old.api}/switchover", json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        await self.leader(but=old)


@asynccontextmanager
async def cluster(count: int = 3) -> AsyncIterator[Cluster]:
    """So many members that follow one of them, with an empty database."""
    shm = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="sidemeter-ha-", dir=shm if os.access(shm, os.W_OK) else None))
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)
    found = Cluster(_etcd(directory, user, keeps := free_port()), [])
    found.members = [_member(directory, user, n, keeps) for n in range(count)]
    try:
        found.etcd.start()
        for each in found.members:
            each.program.start()
        await found.leader()
        await found.becomes_whole()
        conn = await asyncpg.connect(found.url.rpartition("/")[0] + "/postgres", target_session_attrs="primary")
        await conn.execute(f"CREATE DATABASE {DATABASE}")
        await conn.close()
        yield found
    finally:
        await found.http.aclose()
        for program in (*(each.program for each in found.members), found.etcd):
            await program.kill()
            print(f"--- {program.log.name}\n{program.log.read_text() if program.log.exists() else ''}")
        shutil.rmtree(directory)


def _etcd(directory: Path, user: pwd.struct_passwd | None, port: int) -> Program:
    clients, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    said = {"data-dir": str(directory / "etcd"), "name": "one", "listen-client-urls": clients}
    said |= {"advertise-client-urls": clients, "listen-peer-urls": peers, "initial-advertise-peer-urls": peers}
    said["initial-cluster"] = f"one={peers}"
    return Program(
        ["etcd", *(f"--{name}={value}" for name, value in said.items())], directory, directory / "etcd.log", user
    )


def _member(directory: Path, user: pwd.struct_passwd | None, n: int, etcd: int) -> Member:
    name, port, api = f"member-{n}", free_port(), free_port()
    data, told = directory / name, directory / f"{name}.yml"
    told.write_text(yaml.safe_dump(_settings(directory, name, port, api, etcd)))
    program = Program(["patroni", str(told)], directory, directory / f"{name}.log", user)
    return Member(name, port, f"http://127.0.0.1:{api}", data, program)


def _settings(directory: Path, name: str, port: int, api: int, etcd: int) -> dict[str, Any]:
    whose = {"username": postgres.USER, "password": postgres.PASSWORD}
    dcs = {
        "ttl": TTL_S,
        "loop_wait": 1,
        "retry_timeout": 3,
        "synchronous_mode": True,
        "synchronous_mode_strict": True,
        "postgresql": {
            "use_pg_rewind": True,
            "parameters": {
                "shared_buffers": "32MB",
                "max_connections": 60,
                "wal_log_hints": "on",
                "wal_keep_size": "256MB",
            },
        },
    }
    return {
        "scope": "sidemeter",
        "name": name,
        "restapi": {"listen": f"127.0.0.1:{api}", "connect_address": f"127.0.0.1:{api}"},
        "etcd3": {"host": f"127.0.0.1:{etcd}"},
        "bootstrap": {"dcs": dcs, "initdb": [{"encoding": "UTF8"}, "no-sync"]},
        "postgresql": {
            "listen": f"127.0.0.1:{port}",
            "connect_address": f"127.0.0.1:{port}",
            "data_dir": str(directory / name),
            "bin_dir": str(postgres.programs()),
            "pgpass": str(directory / f"{name}.pgpass"),
            "authentication": {"superuser": whose, "replication": whose, "rewind": whose},
            "parameters": {"unix_socket_directories": str(directory)},
            "pg_hba": [
                "local all all trust",
                "host all all 127.0.0.1/32 trust",
                "host replication all 127.0.0.1/32 trust",
            ],
        },
    }
