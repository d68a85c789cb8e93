"""What both programs allow a connection: how many there are, how long nothing, a request and an answer may take (P13)."""

import asyncio
import json
import os
import resource
import select
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from doors import sidecar
from fakes import eventually
from processes import ADMIN_KEY, URL

import sidemeter.connections as of_the_agent
import sidemeter_control.connections as of_the_control_plane
from sidemeter_control.server import serve
from sidemeter_control.settings import Settings

MOST = 3
MANY = 12
PROGRAMS = ["agent", "control plane"]


@asynccontextmanager
async def serving(program: str, directory: Path, drain_s: int = 1, **bounds: float) -> AsyncIterator[int]:
    """The port of a program with small bounds."""
    given = {"connections": MOST, "arrives_within_s": 30.0, "taken_within_s": 30.0} | bounds
    if program == "agent":
        async with sidecar(directory, of_the_agent.Bounds(**given)) as served:
            yield int(served.url.rpartition(":")[2])
    else:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        settings = Settings(
            database=f"sqlite:///{directory}/control.db", listen="127.0.0.1:0", admin_key=ADMIN_KEY, drain_s=drain_s
        )
        task = asyncio.create_task(serve(settings, ready.set_result, None, of_the_control_plane.Bounds(**given)))
        found = URL.search(await ready)
        assert found
        yield int(found[1])
        os.kill(os.getpid(), signal.SIGTERM)  # to the handler that `serve` has put there
        await task


class Wire:
    """A connection that speaks as a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self, *sent: bytes) -> tuple[int, dict[str, str]]:
        """The status and the problem or other JSON of the next answer."""
        for piece in sent:
            self.writer.write(piece)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        return int(head.split(b" ")[1]), json.loads(body) if body[:1] == b"{" else {}

    async def ended(self) -> bytes:
        """What still came before the other side hung up."""
        return await self.reader.read()


@asynccontextmanager
async def connected(port: int, **limits: int) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port, **limits))
    try:
        yield wire
    finally:
        wire.writer.close()


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
EVENTS = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
KEY = f"Authorization: Bearer {ADMIN_KEY}\r\n".encode()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_as_many_connections_as_allowed_are_served_one_more_is_refused_and_a_free_place_is_taken(
    program: str, tmp_path: Path
) -> None:
    async with serving(program, tmp_path) as port, AsyncExitStack() as open_:
        wires = [await open_.enter_async_context(connected(port)) for _ in range(MOST)]
        for wire in wires:
            assert (await wire.answer(HEALTH))[0] == 200
        async with connected(port) as one_more:
            status, problem = await one_more.answer()
            assert (status, problem["code"]) == (503, "busy")
            assert f"{MOST} connections are open" in problem["detail"]
            assert await one_more.ended() == b""
        assert (await wires[0].answer(HEALTH))[0] == 200  # nobody else noticed
        wires[1].writer.close()
        await wires[1].ended()
        async with asyncio.timeout(30):
            while True:
                async with connected(port) as another:
                    if (await another.answer(HEALTH))[0] == 200:
                        break


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_connection_that_says_nothing_is_closed_without_a_word(program: str, tmp_path: Path) -> None:
    async with serving(program, tmp_path, arrives_within_s=0.2) as port, connected(port) as wire:
        assert await wire.ended() == b""


ARRIVING = {
    "first byte": b"P",
    "half a head": EVENTS,
    "no body": EVENTS + KEY + b"Content-Length: 3\r\n\r\n",
    "half a body": EVENTS + KEY + b"Content-Length: 3\r\n\r\n{",
}


@pytest.mark.parametrize("sent", ARRIVING)
@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_request_that_does_not_arrive_in_time_is_refused(program: str, sent: str, tmp_path: Path) -> None:
    async with serving(program, tmp_path, arrives_within_s=0.3) as port, connected(port) as wire:
        status, problem = await wire.answer(ARRIVING[sent])
        assert (status, problem["code"]) == (408, "too_slow")
        assert await wire.ended() == b""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("size", [-1, 0, 1])
async def test_a_head_of_so_many_bytes_is_taken_and_not_one_more(program: str, size: int, tmp_path: Path) -> None:
    most = of_the_agent.MAX_HEAD_BYTES
    assert most == of_the_control_plane.MAX_HEAD_BYTES
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "
    padding = b"x" * (most + size - len(head))
    async with serving(program, tmp_path) as port, connected(port) as wire:
        for start in range(0, len(head + padding), 16_384):
            wire.writer.write((head + padding)[start : start + 16_384])
            await wire.writer.drain()
        if size > 0:
            status, problem = await wire.answer()
            assert (status, problem["code"]) == (431, "head_too_large")
        else:
            assert (await wire.answer(b"\r\n\r\n"))[0] == 200


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_caller_who_takes_nothing_of_an_answer_is_hung_up_on(program: str, tmp_path: Path) -> None:
    events = b"[" + b'{"type":1},' * 9_999 + b'{"type":1}]'
    ask = {
        "agent": EVENTS + b"Content-Length: %d\r\n\r\n" % len(events) + events,
        "control plane": EVENTS + KEY + b"Content-Length: %d\r\n\r\n" % len(events) + events,
    }
    async with serving(program, tmp_path, taken_within_s=0.3) as port:
        async with connected(port) as wire:
            status, problem = await wire.answer(ask[program])
            size = len(json.dumps(problem, separators=(",", ":")))
            assert (status, len(problem["errors"])) == (422, 10_000)
        async with connected(port, limit=1024) as wire:
            # Some of the answers fill the kernel's buffers, and the next one waits in the program.
            wire.writer.write(ask[program] * MANY)
            await asyncio.to_thread(wait_for_hang_up, wire.writer.get_extra_info("socket").fileno())
            assert await taken(wire) < MANY * size
        async with connected(port) as wire:
            assert (await wire.answer(HEALTH))[0] == 200


async def taken(wire: Wire) -> int:
    """How many bytes still come."""
    found = 0
    with suppress(ConnectionError):
        while piece := await wire.reader.read(65_536):
            found += len(piece)
    return found


def wait_for_hang_up(fd: int) -> None:
    """Return once the other side is gone, without taking a byte."""
    poll = select.poll()
    poll.register(fd, select.POLLHUP | select.POLLERR)
    assert poll.poll(30_000)


@pytest.mark.parametrize("module", [of_the_agent, of_the_control_plane], ids=PROGRAMS)
@pytest.mark.parametrize(
    ("descriptors", "connections"), [(40, 20), (128, 64), (129, 65), (1087, 1023), (1088, 1024), (4096, 1024)]
)
def test_connections_leave_file_descriptors_to_everything_else(module, descriptors: int, connections: int) -> None:
    assert (module.MAX_CONNECTIONS, module.RESERVED_FILES) == (1024, 64)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = os.fork()  # a hard limit cannot be raised again
    if not pid:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, 128), descriptors))
        os._exit(0 if module.accepted() == connections else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


async def test_a_control_plane_that_stops_beside_others_answers_what_is_on_its_way_to_it(tmp_path: Path) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with (
        serving("control plane", tmp_path, drain_s=30, leaves_after_s=30.0) as port,
        connected(port) as rests,
        connected(port) as asks,
    ):
        for wire in (rests, asks):
            wire.writer.write(ask)
            assert b"connection: close" not in (await wire.reader.readuntil(b"ok\n")).lower()
        os.kill(os.getpid(), signal.SIGTERM)

        async def is_refused() -> bool:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass  # just now
            return False

        await eventually(is_refused)
        for wire in (rests, asks):
            wire.writer.write(ask)
            assert b"connection: close" in (await wire.reader.readuntil(b"ok\n")).lower()
            assert await wire.reader.read() == b""
