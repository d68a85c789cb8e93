"""A load generator for one HTTP request over many connections, on a Unix socket or on TCP.

Every request sent is waited for, so the answers counted are exactly what the server saw: unlike wrk, which leaves up to
one request per connection unanswered when its time is over, and which knows no Unix sockets.
"""

import asyncio
import json
import re
import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["UNBOUNDED", "Address", "Load", "load", "post"]

Address = Path | tuple[str, int]
ANSWER_WITHIN_S = 30.0
UNBOUNDED = {"SIDEMETER_REQUESTS_PER_S": "0"}
"""For a control plane that is loaded with one key: a thousand requests a second are as many as one may send."""
HEAD_ENDS = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it: `samples_s` holds one round trip per answer. Every answer was as expected."""

    samples_s: list[float]
    seconds: float

    @property
    def answers(self) -> int:
        return len(self.samples_s)


def post(path: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a POST with a JSON body."""
    encoded = json.dumps(body, separators=(",", ":")).encode()
    fields = {"Host": "bench", "Content-Type": "application/json", "Content-Length": len(encoded), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + encoded


async def load(address: Address, request: bytes, *, expect: bytes, connections: int, seconds: float) -> Load:
    """Send `request` again and again for `seconds`, one at a time on each connection.

    Raises AssertionError for an answer that is not 2xx with `expect` in it, or that does not come.
    """
    return await asyncio.to_thread(_drive, address, request, expect, connections, seconds)


def _drive(address: Address, request: bytes, expect: bytes, connections: int, seconds: float) -> Load:
    samples: list[float] = []
    with selectors.DefaultSelector() as selector:
        lanes = [_connect(address) for _ in range(connections)]
        sent_at = [0.0] * connections
        began = time.perf_counter()
        try:
            for n, lane in enumerate(lanes):
                selector.register(lane, selectors.EVENT_READ, n)
                sent_at[n] = time.perf_counter()
                lane.sendall(request)
            while selector.get_map():
                ready = selector.select(ANSWER_WITHIN_S)
                assert ready, f"no answer within {ANSWER_WITHIN_S} s"
                for key, _ in ready:
                    n, lane = key.data, lanes[key.data]
                    _take_answer(lane, expect)
                    now = time.perf_counter()
                    samples.append(now - sent_at[n])
                    if now - began < seconds:
                        sent_at[n] = now
                        lane.sendall(request)
                    else:
                        selector.unregister(lane)
            return Load(samples, time.perf_counter() - began)
        finally:
            for lane in lanes:
                lane.close()


def _connect(address: Address) -> socket.socket:
    if isinstance(address, Path):
        lane = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lane.connect(str(address))
    else:
        lane = socket.create_connection(address)
        lane.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lane.settimeout(ANSWER_WITHIN_S)
    return lane


def _take_answer(lane: socket.socket, expect: bytes) -> None:
    answer = lane.recv(65536)
    while not _complete(answer):
        more = lane.recv(65536)
        assert more, f"the connection ended after {answer!r}"
        answer += more
    assert answer.startswith(b"HTTP/1.1 2"), answer
    assert expect in answer, f"{expect!r} is not in {answer!r}"


def _complete(answer: bytes) -> bool:
    head_ends = answer.find(HEAD_ENDS)
    if head_ends < 0:
        return False
    length = CONTENT_LENGTH.search(answer, 0, head_ends)
    assert length, f"no length in {answer[:head_ends]!r}"
    return len(answer) >= head_ends + len(HEAD_ENDS) + int(length[1])
