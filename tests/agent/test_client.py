"""The client: the agent's calls and errors from another process, and retries that count nothing twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from doors import Sidecar, sidecar

from sidemeter.client import MAX_REQUEST_EVENTS, Client
from sidemeter.errors import AgentStopped, BufferFull, InvalidInput, StorageRefused, Unacceptable, Unreachable
from sidemeter.events import Event


class Impatient:
    """A clock on which every wait is over at once, and ids are like no other's."""

    def __init__(self) -> None:
        self.waits = 0

    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def monotonic_s(self) -> float:
        return 0.0

    def token_hex(self, n_bytes: int) -> str:
        return "ab" * n_bytes

    async def sleep(self, seconds: float) -> None:
        self.waits += 1


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with sidecar(tmp_path) as served:
        yield served


@pytest.fixture(params=["unix", "tcp"])
async def client(request: pytest.FixtureRequest, served: Sidecar) -> AsyncIterator[Client]:
    where: dict[str, Any] = {"socket": served.socket} if request.param == "unix" else {"url": served.url}
    async with Client(**where) as client:
        yield client


async def test_an_event_recorded_twice_under_one_id_is_a_duplicate(client: Client) -> None:
    first = await client.record("call", "acme", {"n": Decimal("0.10")}, id="1", time="2026-01-01T00:00:00Z", source="s")
    again = await client.record("call", "acme", {"n": Decimal("0.10")}, id="1", source="s")
    assert (first.id, first.source, first.duplicate, first.durability) == ("1", "s", False, "disk")
    assert again.duplicate


async def test_every_event_of_many_gets_its_receipt_in_order(client: Client) -> None:
    ids = [str(number) for number in range(MAX_REQUEST_EVENTS + 1)]
    receipts = await client.record_many([Event.of("call", "acme", id=each) for each in ids])
    assert [receipt.id for receipt in receipts] == ids
    assert await client.record_many([]) == []


async def test_a_check_and_a_consume_say_why(client: Client) -> None:
    assert (await client.check("acme", "tokens", Decimal("0.5"))).reason == "no_control_plane"
    assert (await client.consume("call", "acme", {"n": 1})).reason == "no_control_plane"
    assert await client.quotas("acme/eu") is None


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client: client.record("", "acme"), "type"),
        (lambda client: client.record("call", "acme", {"n": float("nan")}), "data"),
        (lambda client: client.consume("call", "acme", time="now"), "time"),
        (lambda client: client.check("acme", "tokens", 0), "quantity"),
        (lambda client: client.check("acme", "tokens", "many"), "quantity"),
    ],
)
async def test_wrong_input_is_refused_as_in_process(
    client: Client, call: Callable[[Client], Awaitable[object]], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await call(client)
    assert refused.value.field == field
    assert not refused.value.rule.startswith(field)


class Flaky:
    """A server that answers each request as told: bytes, or None to hang up without a word."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.answers = answers
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        self.bodies += json.loads(await reader.readexactly(length))
        answer = self.answers.pop(0)
        if answer is not None:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()


def answered(status: int, body: object, headers: str = "") -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status,
        headers.encode(),
        len(content),
        content,
    )


def problem(status: int, code: str) -> bytes:
    body = {"type": "", "title": "", "status": status, "detail": "why", "code": code}
    return answered(status, body, "retry-after: 7\r\n")


ACCEPTED = answered(
    202,
    {
        "accepted": 1,
        "duplicates": 0,
        "rejected": [],
        "durability": "disk",
        "receipts": [{"id": "abababababababab-0000000001", "source": "chat"}],
    },
)


async def test_a_lost_answer_is_asked_for_again_with_the_same_id(tmp_path: Path) -> None:
    flaky, clock = Flaky([None, None, ACCEPTED]), Impatient()
    async with (
        await asyncio.start_unix_server(flaky, tmp_path / "s") as _,
        Client(socket=tmp_path / "s", clock=clock) as client,
    ):
        receipt = await client.record("call", "acme")
    assert receipt.id == "abababababababab-0000000001"
    assert {body["id"] for body in flaky.bodies} == {receipt.id}
    assert (len(flaky.bodies), clock.waits) == (3, 2)


async def test_an_agent_that_never_answers_is_unreachable_after_a_few_attempts(tmp_path: Path) -> None:
    clock = Impatient()
    async with Client(socket=tmp_path / "none", clock=clock) as client:
        with pytest.raises(Unreachable):
            await client.record("call", "acme")
    assert clock.waits == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(503, "buffer_full"), BufferFull),
        (problem(503, "agent_stopped"), AgentStopped),
        (problem(503, "busy"), AgentStopped),
        (problem(507, "storage_refused"), StorageRefused),
        (problem(413, "too_large"), InvalidInput),
        (problem(404, "not_found"), Unacceptable),
        (answered(200, "hello"), Unacceptable),
        (answered(502, "bad gateway"), Unacceptable),
    ],
)
async def test_a_refusal_is_the_error_that_the_agent_raised_and_is_not_repeated(
    tmp_path: Path, answer: bytes, error: type[Exception]
) -> None:
    flaky = Flaky([answer])
    async with (
        await asyncio.start_unix_server(flaky, tmp_path / "s") as _,
        Client(socket=tmp_path / "s", clock=Impatient()) as client,
    ):
        with pytest.raises(error) as refused:
            await client.record("call", "acme")
    assert len(flaky.bodies) == 1
    assert getattr(refused.value, "retry_after_s", 7) == 7


@pytest.mark.parametrize("where", [{}, {"socket": "s", "url": "http://127.0.0.1:1"}])
def test_a_client_needs_exactly_one_place_to_call(where: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="socket: must be given, or else url"):
        Client(**where)
