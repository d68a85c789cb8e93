"""The way out: only to checked addresses, once, within a time, and whatever the receiver does."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from receivers import Receiver, answer, hang, receiver

from sidemeter_control.limits.posting import ANSWERS_WITHIN_S, MAX_ERROR_CHARS, Posted, Poster, Resolve

CERTIFICATE = Path(__file__).parents[2] / "hooks_test.pem"  # of hooks.test, signed by itself


def stands_for(*addresses: str) -> Resolve:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


@asynccontextmanager
async def poster(**fields: Any) -> AsyncIterator[Poster]:
    made = Poster(**({"private": True} | fields))
    try:
        yield made
    finally:
        await made.close()


async def post(url: str, **fields: Any) -> Posted:
    async with poster(**fields) as out:
        return await out.post(url, {"webhook-id": "m"}, b"{}")


async def test_the_receiver_gets_method_path_headers_and_body() -> None:
    async with receiver() as got:
        assert await post(got.url) == Posted(204)
        (received,) = got.received
        assert (received.line, received.body) == ("POST /hook?of=test HTTP/1.1", b"{}")
        assert received.headers["webhook-id"] == "m"
        assert received.headers["host"] == f"127.0.0.1:{got.port}"


async def test_a_name_is_looked_up_and_stays_in_the_request() -> None:
    async with receiver() as got:
        assert (await post(f"http://localhost:{got.port}/")).delivered
        assert (await post(f"http://hooks.test:{got.port}/", resolve=stands_for("127.0.0.1"))).delivered
        hosts = [each.headers["host"] for each in got.received]
        assert hosts == [f"localhost:{got.port}", f"hooks.test:{got.port}"]


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://127.0.0.1:{port}/", None),
        ("http://localhost:{port}/", None),
        ("http://2130706433:{port}/", None),
        ("http://0x7f.1:{port}/", None),
        ("http://[::ffff:127.0.0.1]:{port}/", None),
        ("http://hooks.test:{port}/", ["127.0.0.1"]),
        ("http://hooks.test:{port}/", ["8.8.8.8", "127.0.0.1"]),
    ],
)
async def test_a_private_address_gets_nothing_whatever_it_is_called(url: str, addresses: list[str] | None) -> None:
    async with receiver() as got:
        resolve = None if addresses is None else stands_for(*addresses)
        posted = await post(url.format(port=got.port), private=False, resolve=resolve)
        assert not posted.delivered
        assert "which is a private address" in (posted.error or "")
        assert got.received == []


async def test_only_an_address_that_was_checked_is_connected_to() -> None:
    """What a name stands for when it is asked a second time does not matter: it is asked once."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with receiver() as got:
        assert (await post(f"http://rebound.test:{got.port}/", resolve=resolve)).delivered
    assert asked == ["rebound.test"]


async def test_the_next_address_is_tried_where_one_cannot_be_connected_to() -> None:
    async with receiver() as got:
        posted = await post(f"http://hooks.test:{got.port}/", resolve=stands_for("127.0.0.2", "127.0.0.1"))
        assert posted == Posted(204)
        assert len(got.received) == 1


async def test_no_redirect_is_followed() -> None:
    async with receiver() as target, receiver() as got:
        got.answer = answer(302, f"Location: {target.url}")
        posted = await post(got.url)
        assert (posted.status, posted.delivered) == (302, False)
        assert target.received == []


async def test_a_receiver_that_hangs_is_left_after_a_time() -> None:
    async with receiver() as got:
        got.answer = hang
        assert await post(got.url, within_ms=1000) == Posted(error="no answer within 1 s")
        assert len(got.received) == 1
    assert ANSWERS_WITHIN_S == 15


async def test_one_that_never_ends_its_head_has_no_more_time() -> None:
    async def beginning(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        await hang(writer)

    async with receiver() as got:
        got.answer = beginning
        assert await post(got.url, within_ms=100) == Posted(error="no answer within 0.1 s")


async def test_of_a_huge_answer_only_the_status_is_read() -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with receiver() as got:
        got.answer = endless
        began_s = time.monotonic()
        assert await post(got.url) == Posted(200)
        assert time.monotonic() - began_s < 5
    assert sent < 64 * 1024 * 1024  # what fits into buffers between


async def test_a_huge_head_is_no_answer() -> None:
    async with receiver() as got:
        got.answer = answer(200, "x: " + "y" * 1_000_000)
        posted = await post(got.url)
        assert posted.status is None
        assert posted.error is not None


@pytest.mark.parametrize(
    "said", [b"", b"no http\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 999999 X\r\n\r\n", b"\x00" * 100], ids=repr
)
async def test_what_is_no_http_is_no_answer(said: bytes) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with receiver() as got:
        got.answer = write
        posted = await post(got.url)
        assert not posted.delivered
        assert 0 < len(posted.error or "") <= MAX_ERROR_CHARS


async def test_where_nobody_listens_or_nothing_is_known_the_reason_is_said() -> None:
    async with receiver() as got:
        port = got.port
    refused = await post(f"http://127.0.0.1:{port}/")
    assert (refused.error or "").startswith("ConnectError: ")

    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    nobody = await post("http://nothing.invalid/", resolve=unknown)
    assert nobody == Posted(error="the address of nothing.invalid is not found: Name or service not known")
    assert await post("http://hooks.test/", resolve=stands_for()) == Posted(error="hooks.test stands for no address")


@asynccontextmanager
async def with_tls() -> AsyncIterator[tuple[Receiver, ssl.SSLContext]]:
    """A receiver with the certificate of hooks.test, and who trusts that alone."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(CERTIFICATE)
    async with receiver(own) as got:
        yield got, ssl.create_default_context(cafile=str(CERTIFICATE))


async def test_a_certificate_has_to_be_that_of_the_name_and_not_of_the_address() -> None:
    async with with_tls() as (got, trusting):
        at = stands_for("127.0.0.1")
        assert await post(f"https://hooks.test:{got.port}/", resolve=at, tls=trusting) == Posted(204)
        other = await post(f"https://other.test:{got.port}/", resolve=at, tls=trusting)
        assert "Hostname mismatch" in (other.error or "")
        stranger = await post(f"https://hooks.test:{got.port}/", resolve=at)
        assert "CERTIFICATE_VERIFY_FAILED" in (stranger.error or "")
        assert len(got.received) == 1


async def test_a_connection_to_one_name_serves_no_other_of_the_same_address() -> None:
    async with with_tls() as (got, trusting), poster(resolve=stands_for("127.0.0.1"), tls=trusting) as out:
        first = await out.post(f"https://hooks.test:{got.port}/", {}, b"{}")
        second = await out.post(f"https://other.test:{got.port}/", {}, b"{}")
        assert (first.delivered, second.delivered) == (True, False)
