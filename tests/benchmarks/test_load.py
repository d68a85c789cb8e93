"""The load generator counts exactly what a server saw."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .load import load, post

REQUEST = post("/v1/events", {"type": "call"})


@asynccontextmanager
async def server(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """What a server on `path` has read, which answers everything with `answer`, in two pieces."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(len(REQUEST)):
            seen.append(request)
            writer.write(answer[:20])
            await writer.drain()
            writer.write(answer[20:])
            await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield seen


async def test_every_request_sent_is_answered_and_counted(tmp_path: Path) -> None:
    async with server(tmp_path / "s", b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok") as seen:
        came = await load(tmp_path / "s", REQUEST, expect=b"ok", connections=7, seconds=0.1)
    assert came.answers == len(seen) >= 7
    assert set(seen) == {REQUEST}
    assert all(0 < sample < came.seconds for sample in came.samples_s)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\nok", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"],
    ids=["refused", "another answer"],
)
async def test_an_answer_other_than_the_expected_ends_the_run(tmp_path: Path, answer: bytes) -> None:
    async with server(tmp_path / "s", answer):
        with pytest.raises(AssertionError):
            await load(tmp_path / "s", REQUEST, expect=b"ok", connections=1, seconds=5)
