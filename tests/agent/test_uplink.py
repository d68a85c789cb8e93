"""HTTP as the agent speaks it: errors translated once, by what they ask for."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from agent.control_plane_double import KEY, ControlPlaneDouble

from sidemeter.batches import encode_events, seal
from sidemeter.errors import Unacceptable, Unreachable
from sidemeter.events import Event, encode
from sidemeter.uplink import Answer, BatchMessage, Hello, Link, Uplink

HELLO = Hello("a", "h", "b", None, "chat", "1")


def message(size: int = 10) -> BatchMessage:
    body = encode(Event("1", "chat", "call", "acme", 0, "x" * size))
    batch = seal([(1, body)], None, 1, max_events=1, max_bytes=1 << 20)
    return BatchMessage.of("a", batch, encode_events([body]), backlog=0, oldest_pending_us=None)


@pytest.fixture
async def uplink(double: ControlPlaneDouble) -> AsyncIterator[Uplink]:
    link = Link(url=double.url)
    yield Uplink(link, api_key=KEY, compress=True)
    await link.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("lose", Unreachable),
        (408, Unreachable),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
        (400, Unacceptable),
        (401, Unacceptable),
        (403, Unacceptable),
        (404, Unacceptable),
        (302, Unacceptable),
        ({"status": "OK"}, Unacceptable),
        ({"status": "PERHAPS", "next_batch_no": 1}, Unacceptable),
    ],
)
async def test_what_is_no_answer_says_later_or_never(
    double: ControlPlaneDouble, uplink: Uplink, fault: str | int | dict[str, object], error: type[Exception]
) -> None:
    double.faults.append(fault)
    with pytest.raises(error):
        await uplink.batch(message(), 1)


async def test_a_batch_too_large_for_the_door_is_refused_like_any_other(
    double: ControlPlaneDouble, uplink: Uplink
) -> None:
    double.faults.append(413)
    answer = await uplink.batch(message(), 1)
    assert (answer.status, answer.next_batch_no) == ("REFUSED", 1)


async def test_what_an_answer_says_beyond_its_form_is_ignored(double: ControlPlaneDouble, uplink: Uplink) -> None:
    double.faults.append(double.answer("/agent/v1/hello", {"agent_id": "a", "hello_id": "h"}) | {"later": [1]})
    assert (await uplink.hello(HELLO)).epoch == 1


async def test_an_answer_to_another_request_is_no_answer_to_this_one(
    double: ControlPlaneDouble, uplink: Uplink
) -> None:
    """As a cache gives it, or a pool of connections that lost count: taken for its own, it would settle what nobody has."""
    await uplink.hello(HELLO)
    await uplink.batch(message(10), 1)
    double.answers_again = True
    with pytest.raises(Unreachable, match="another request"):
        await uplink.batch(message(20), 1)
    double.answers_again = False
    assert (await uplink.batch(message(10), 1)).status == "DUPLICATE"


async def test_a_control_plane_that_does_not_say_what_it_answers_is_believed(
    double: ControlPlaneDouble, uplink: Uplink
) -> None:
    double.names_requests = False
    assert (await uplink.hello(HELLO)).epoch == 1


@pytest.mark.parametrize("size", [10, 5000])
async def test_a_body_arrives_whole_whether_compressed_or_not(
    double: ControlPlaneDouble, uplink: Uplink, size: int
) -> None:
    await uplink.hello(HELLO)
    assert (await uplink.batch(message(size), 1)).status == "OK"
    assert double.messages("batch")[0]["events"] == [["1", "chat", "call", "acme", 0, "x" * size]]
    assert ("content-encoding" in double.headers) == (size == 5000)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("0", 0.0), ("999999", 3600.0), ("", None), ("soon", None), ("-1", None)]
)
def test_retry_after_is_read_within_its_bound(text: str, seconds: float | None) -> None:
    assert Answer(503, {"retry-after": text}, b"").retry_after_s == seconds


async def test_a_socket_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    link = Link(socket=tmp_path / "none.sock")
    with pytest.raises(Unreachable, match=r"none\.sock"):
        await link.request("GET", "/healthz")
    await link.close()


class ResetAtOnce(httpx.AsyncBaseTransport):
    """As anyio's: a connection that was reset between being made and being looked at has no socket any more."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return getattr(None, "getpeername")  # noqa: B009 -- to fail as it does


async def test_a_connection_that_is_reset_as_soon_as_it_is_made_is_unreachable() -> None:
    link = Link(url="http://control.test")
    await link.close()
    link._transport = ResetAtOnce()
    with pytest.raises(Unreachable, match="reset"):
        await link.request("GET", "/healthz")


async def test_a_request_says_nothing_in_the_log_of_its_host(
    double: ControlPlaneDouble, uplink: Uplink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await uplink.hello(HELLO)
    assert caplog.records == []


@pytest.mark.parametrize("excepted", [False, True])
async def test_the_environments_proxy_is_used(
    double: ControlPlaneDouble, monkeypatch: pytest.MonkeyPatch, excepted: bool
) -> None:
    monkeypatch.setenv("http_proxy", double.url)
    monkeypatch.setenv("no_proxy", "control-plane.invalid" if excepted else "")
    link = Link(url="http://control-plane.invalid")
    hello = Uplink(link, api_key=KEY, compress=True).hello(HELLO)
    if excepted:
        with pytest.raises(Unreachable):
            await hello
    else:
        assert (await hello).epoch == 1
    await link.close()
