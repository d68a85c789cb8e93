"""Doors: who may open the socket, what is found in its place, what is left behind, and how a request may arrive."""

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from doors import sidecar

from sidemeter.connections import MAX_HEAD_BYTES, Bounds
from sidemeter.server import Doors

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n"
BODY = b'{"type":"call","subject":"acme"}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def test_only_the_owner_may_use_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    with Doors(path, None) as doors:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert doors.names == [f"unix:{path}"]
        assert connects(path)
    assert not path.exists()


def test_the_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert not connects(path)
    with Doors(path, None):
        assert connects(path)


def test_the_socket_of_a_live_agent_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with Doors(path, None):
        with pytest.raises(OSError, match="another process answers on it"):
            Doors(path, None)
        assert connects(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is not a socket"):
        Doors(path, None)
    assert path.read_text() == "precious"


def test_a_successors_socket_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    first = Doors(path, None)
    path.unlink()
    with Doors(path, None):
        first.close()
        assert connects(path)


@pytest.mark.parametrize(
    ("listen", "name"), [("127.0.0.1:0", "http://127.0.0.1:"), ("localhost:0", "http://127.0.0.1:")]
)
def test_port_zero_takes_a_free_port_and_tells_it(listen: str, name: str) -> None:
    with Doors(None, listen) as doors:
        port = doors.sockets[0].getsockname()[1]
        assert port > 0
        assert doors.names == [f"{name}{port}"]


def test_a_taken_port_is_named_and_no_socket_is_left(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with Doors(None, "127.0.0.1:0") as doors:
        listen = doors.names[0].removeprefix("http://")
        with pytest.raises(OSError, match=listen):
            Doors(path, listen)
    assert not path.exists()


class Wire:
    """One connection to an agent, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of the answer to what is sent, each piece in a packet of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split(b" ")[1]), json.loads(await self.reader.readexactly(length))

    async def ends(self) -> bool:
        return await self.reader.read() == b""


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_unix_connection(path))
    try:
        yield wire
    finally:
        wire.writer.close()
        await wire.writer.wait_closed()


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of an agent that gives a request little time to arrive."""
    async with sidecar(tmp_path, Bounds(100, arrives_within_s=1.0)) as served:
        yield served.socket


@pytest.fixture
async def wire(hasty: Path) -> AsyncIterator[Wire]:
    async with connected(hasty) as wire:
        yield wire


@pytest.mark.parametrize(
    "sent",
    [b"P", HEAD, HEAD + b"Content-Length: 3\r\n\r\n", HEAD + b"Content-Length: 3\r\n\r\n{", WHOLE + HEAD],
    ids=["first byte", "half a head", "no body", "half a body", "after a good one"],
)
async def test_a_request_that_does_not_arrive_in_time_is_refused(wire: Wire, sent: bytes) -> None:
    if sent.startswith(WHOLE):
        assert (await wire.ask(WHOLE))[0] == 202
    status, problem = await wire.ask(sent.removeprefix(WHOLE))
    assert (status, problem["code"]) == (408, "too_slow")
    assert await wire.ends()


async def test_a_connection_may_rest_between_two_requests(wire: Wire, hasty: Path) -> None:
    for _ in range(2):
        assert (await wire.ask(HEAD, WHOLE.removeprefix(HEAD)[:-3], WHOLE[-3:]))[0] == 202
        async with connected(hasty) as slow:  # begun later, so its refusal says that the time of a request has passed
            assert (await slow.ask(b"P"))[0] == 408


@pytest.mark.parametrize(
    ("sent", "more"),
    [(b"GET /", b"x" * 16_384), (HEAD + b"X: ", b"x" * 16_384), (HEAD, b"X: yyy\r\n" * 2048)],
    ids=["url", "one", "many"],
)
async def test_a_head_without_end_is_refused(wire: Wire, sent: bytes, more: bytes) -> None:
    status, problem = await wire.ask(sent, *[more] * (MAX_HEAD_BYTES // len(more)))
    assert (status, problem["code"]) == (431, "head_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused(wire: Wire, sent: bytes) -> None:
    status, problem = await wire.ask(sent)
    assert (status, problem["code"]) == (400, "malformed")
    assert await wire.ends()
