"""The API over real sockets: what is taken, and every refusal, after which a good event still gets through."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest
import pytest_asyncio
from agent import whole_agent
from agent.control_plane_double import ControlPlaneDouble
from doors import Sidecar, open_doors, sidecar
from fakes import eventually

from sidemeter.agent import Agent
from sidemeter.api import MAX_BODIES, MAX_NEAREST, Api
from sidemeter.errors import AgentStopped, BufferFull, NotRecorded, StorageRefused
from sidemeter.events import Event, Receipt
from sidemeter.limits import Decision, Limit, QuotaView
from sidemeter.meters import Meter
from sidemeter.reservation import Reserving
from sidemeter.server import Doors, serving
from sidemeter.settings import Settings
from sidemeter.state import AgentState

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack"}
CLOUDEVENT = {"Content-Type": "application/cloudevents+json"}
CALL = {"type": "call", "subject": "acme"}
GOOD = json.dumps(CALL).encode()
MAX_BODY = 65_536
ACCEPTED = {"accepted": 1, "duplicates": 0, "rejected": [], "durability": "disk"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with sidecar(tmp_path, max_body_bytes=MAX_BODY, max_array_events=10) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sidecar]:
    """One agent through all refusals: whatever came before, it still works."""
    async with sidecar(tmp_path_factory.mktemp("lasting"), max_body_bytes=MAX_BODY, max_array_events=10) as served:
        yield served


@pytest.fixture(params=["unix", "tcp"])
def caller(request: pytest.FixtureRequest, served: Sidecar) -> httpx.AsyncClient:
    client: httpx.AsyncClient = getattr(served, request.param)
    return client


async def assert_a_good_event_gets_through(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/v1/events", content=GOOD, headers=JSON)
    assert (answer.status_code, answer.json()) == (202, ACCEPTED)


def packed(**changes: object) -> bytes:
    return msgpack.packb(CALL | changes)


def text(**changes: object) -> bytes:
    return json.dumps(CALL | changes).encode()


REFUSALS: list[tuple[str, str, dict[str, str], bytes, int, str]] = [
    ("nothing", "/v1/events", JSON, b"", 400, "malformed"),
    ("not-json", "/v1/events", JSON, b"{", 400, "malformed"),
    ("not-utf-8", "/v1/events", JSON, b'{"type":"\xff","subject":"acme"}', 400, "malformed"),
    ("nan", "/v1/events", JSON, b'{"type":"call","subject":"acme","data":{"n":NaN}}', 400, "malformed"),
    ("json-bomb", "/v1/events", JSON, b"[" * 60_000, 400, "malformed"),
    ("not-msgpack", "/v1/events", MSGPACK, b"\xc1", 400, "malformed"),
    ("msgpack-bomb", "/v1/events", MSGPACK, b"\x91" * 60_000, 400, "malformed"),
    ("lying-length", "/v1/events", MSGPACK, b"\x81\xdb\xff\xff\xff\xffx", 400, "malformed"),
    ("lying-array", "/v1/events", MSGPACK, b"\xdd\xff\xff\xff\xff", 413, "too_many"),
    ("too-large", "/v1/events", JSON, b" " * (MAX_BODY + 1), 413, "too_large"),
    ("too-many", "/v1/events", JSON, b"[" + b",".join([GOOD] * 11) + b"]", 413, "too_many"),
    ("no-type", "/v1/events", {}, GOOD, 415, "unsupported_media_type"),
    ("other-type", "/v1/events", {"Content-Type": "text/plain"}, GOOD, 415, "unsupported_media_type"),
    (
        "charset",
        "/v1/events",
        {"Content-Type": "application/json; charset=utf-16"},
        GOOD,
        415,
        "unsupported_media_type",
    ),
    ("gzip", "/v1/events", JSON | {"Content-Encoding": "gzip"}, gzip.compress(GOOD), 415, "unsupported_media_type"),
    ("no-subject", "/v1/events", JSON, b'{"type":"call"}', 422, "nothing_valid"),
    ("typo", "/v1/events", JSON, text(subjekt="acme"), 422, "nothing_valid"),
    ("long-type", "/v1/events", JSON, text(type="x" * 129), 422, "nothing_valid"),
    ("long-id", "/v1/events", JSON, text(id="x" * 257), 422, "nothing_valid"),
    ("naive-time", "/v1/events", JSON, text(time="2026-01-01T00:00:00"), 422, "nothing_valid"),
    ("array-data", "/v1/events", JSON, text(data=[1]), 422, "nothing_valid"),
    ("deep-data", "/v1/events", JSON, text(data={"a": json.loads("[" * 16 + "]" * 16)}), 422, "nothing_valid"),
    ("no-event", "/v1/events", JSON, b"[]", 422, "nothing_valid"),
    ("no-object", "/v1/events", JSON, b'"call"', 422, "nothing_valid"),
    ("msgpack-nan", "/v1/events", MSGPACK, packed(data={"n": float("nan")}), 422, "nothing_valid"),
    ("msgpack-ext", "/v1/events", MSGPACK, packed(data={"n": msgpack.ExtType(5, b"x")}), 422, "nothing_valid"),
    ("msgpack-bytes", "/v1/events", MSGPACK, packed(data={"n": b"x"}), 422, "nothing_valid"),
    ("not-a-cloud-event", "/v1/events", CLOUDEVENT, GOOD, 422, "nothing_valid"),
    ("cloud-event-array", "/v1/events", CLOUDEVENT, b"[]", 422, "invalid_input"),
    ("binary-without-id", "/v1/events", JSON | {"ce-specversion": "1.0", "ce-type": "call"}, b"{}", 422, "missing"),
    ("no-feature", "/v1/check", JSON, b'{"subject":"acme"}', 422, "missing"),
    ("quantity-zero", "/v1/check", JSON, b'{"subject":"acme","feature":"x","quantity":0}', 422, "invalid_input"),
    ("quantity-text", "/v1/check", JSON, b'{"subject":"acme","feature":"x","quantity":"NaN"}', 422, "invalid_input"),
    ("check-not-json", "/v1/check", JSON, b"", 400, "malformed"),
    ("consume-array", "/v1/consume", JSON, b"[" + GOOD + b"]", 422, "invalid_input"),
    ("consume-typo", "/v1/consume", JSON, text(subjekt="acme"), 422, "unknown_field"),
    ("unknown-route", "/v2/events", JSON, GOOD, 404, "not_found"),
]


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "code"), [each[1:] for each in REFUSALS], ids=[each[0] for each in REFUSALS]
)
@pytest.mark.parametrize("door", ["unix", "tcp"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_refusal_names_its_reason_and_a_good_event_follows(
    lasting: Sidecar, door: str, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    caller: httpx.AsyncClient = getattr(lasting, door)
    answer = await caller.post(path, content=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:sidemeter:problem:{code}"
    assert (problem["status"], bool(problem["title"]), bool(problem["detail"])) == (status, True, True)
    await assert_a_good_event_gets_through(caller)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/events", "POST"),
        ("PUT", "/v1/check", "POST"),
        ("DELETE", "/v1/consume", "POST"),
        ("POST", "/metrics", "GET"),
        ("POST", "/v1/quota/acme", "GET"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_wrong_method_is_told_the_right_one(lasting: Sidecar, method: str, path: str, allow: str) -> None:
    answer = await lasting.tcp.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert allow in answer.headers["allow"]
    await assert_a_good_event_gets_through(lasting.tcp)


async def test_a_422_names_index_field_and_rule_of_each_event(served: Sidecar) -> None:
    answer = await served.unix.post("/v1/events", json=[CALL | {"type": ""}, {"type": "call"}])
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"index": 0, "field": "type", "code": "invalid_input", "message": "type: must be 1 to 128 characters"},
        {"index": 1, "field": "subject", "code": "missing", "message": "subject: is missing"},
    ]


async def test_good_events_of_a_mixed_array_are_taken(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/v1/events", json=[CALL, {"type": 1}, CALL, CALL | {"id": "1"}, CALL | {"id": "1"}])
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["duplicates"], [bad["index"] for bad in body["rejected"]]) == (3, 1, [1])


async def test_receipts_are_given_when_asked_for(served: Sidecar) -> None:
    answer = await served.unix.post("/v1/events", json=CALL | {"id": "1"}, headers={"Prefer": "return=representation"})
    assert answer.json()["receipts"] == [{"id": "1", "source": "chat", "duplicate": False, "durability": "disk"}]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, text(id="1", source="s", time="2026-01-01T00:00:00Z", data={"n": 1})),
        (MSGPACK, packed(id="1", source="s", time="2026-01-01T00:00:00Z", data={"n": 1})),
        (CLOUDEVENT, text(specversion="1.0", id="1", source="s", data={"n": 1})),
        (
            {"Content-Type": "application/cloudevents-batch+json"},
            b"[" + text(specversion="1.0", id="1", source="s") + b"]",
        ),
        (
            JSON | {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "call", "ce-subject": "acme"},
            b'{"n":1}',
        ),
    ],
    ids=["json", "msgpack", "structured", "batch", "binary"],
)
async def test_one_event_is_the_same_in_every_form(
    caller: httpx.AsyncClient, headers: dict[str, str], body: bytes
) -> None:
    assert (await caller.post("/v1/events", content=body, headers=headers)).json() == ACCEPTED
    again = await caller.post("/v1/events", json=CALL | {"id": "1", "source": "s"})
    assert again.json() == ACCEPTED | {"accepted": 0, "duplicates": 1}


async def test_a_body_in_pieces_is_taken_and_one_without_end_is_not(caller: httpx.AsyncClient) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        yield GOOD
        for _ in range(count):
            yield b" " * 4096

    assert (await caller.post("/v1/events", content=pieces(3), headers=JSON)).json() == ACCEPTED
    answer = await caller.post("/v1/events", content=pieces(40), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    await assert_a_good_event_gets_through(caller)


REQUEST_LINE = (
    b"POST /v1/events HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


async def test_a_caller_that_hangs_up_leaves_nothing_behind(served: Sidecar) -> None:
    _, writer = await asyncio.open_unix_connection(served.socket)
    writer.write(REQUEST_LINE + b"5\r\n[1,2,\r\n")
    await writer.drain()
    await eventually(lambda: served.api.at_work == 1)
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: served.api.at_work == 0)
    assert served.api.arriving_bytes == 0
    assert served.api.answered["/v1/events", 499] == 1
    await assert_a_good_event_gets_through(served.unix)


async def test_large_requests_at_once_are_bounded(served: Sidecar) -> None:
    piece = b"[" + b" " * (MAX_BODY - 1)
    writers = []
    for _ in range(MAX_BODIES):
        _, writer = await asyncio.open_unix_connection(served.socket)
        writer.write(REQUEST_LINE + b"%x\r\n%b\r\n" % (len(piece), piece))
        writers.append(writer)
    await eventually(lambda: served.api.arriving_bytes == MAX_BODIES * MAX_BODY)

    async def pieces() -> AsyncIterator[bytes]:
        yield GOOD
        yield b" "

    answer = await served.unix.post("/v1/events", content=pieces(), headers=JSON)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "1")
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    await eventually(lambda: served.api.arriving_bytes == 0)
    await assert_a_good_event_gets_through(served.unix)


async def test_callers_at_once_each_get_their_answer(served: Sidecar) -> None:
    answers = await asyncio.gather(
        *(served.unix.post("/v1/events", json=CALL | {"id": str(n % 20)}) for n in range(40))
    )
    assert sum(answer.json()["accepted"] for answer in answers) == 20
    assert sum(answer.json()["duplicates"] for answer in answers) == 20


class Refusing:
    """An agent that takes nothing, for one reason."""

    ready = False

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    def status(self) -> AgentState:
        return AgentState()

    def check(self, subject: str, feature: str, quantity: Any = 1) -> Decision:
        return Decision(allowed=False, reason="unknown_subject", subject=subject, feature=feature)

    def quotas(self, subject: str) -> tuple[QuotaView, ...] | None:
        return None

    async def nearest(self, count: int) -> list[QuotaView]:
        return []

    async def learn(self, subject: str) -> bool:
        return False

    async def ask(self, subject: str, feature: str, quantity: Any = 1) -> Decision:
        return self.check(subject, feature, quantity)

    def reserve_event(self, event: Event, ttl_s: float) -> Reserving:
        raise self.reason

    async def commit(self, hold_id: str, data: Any) -> Receipt | None:
        raise self.reason

    async def release(self, hold_id: str) -> bool:
        raise self.reason

    async def extend(self, hold_id: str, ttl_s: float) -> bool:
        raise self.reason

    async def record_many(self, events: Sequence[Event]) -> list[Receipt]:
        raise self.reason

    async def consume_event(self, event: Event) -> Decision:
        raise self.reason


@pytest.mark.parametrize("path", ["/v1/events", "/v1/consume"])
@pytest.mark.parametrize(
    ("reason", "status", "retry_after"),
    [
        (BufferFull("the buffer is full", retry_after_s=7), 503, "7"),
        (AgentStopped("the agent is stopping"), 503, "1"),
        (StorageRefused("the disk is full"), 507, None),
    ],
    ids=["full", "stopped", "disk"],
)
async def test_what_the_agent_cannot_keep_is_refused(
    tmp_path: Path, path: str, reason: NotRecorded, status: int, retry_after: str | None
) -> None:
    async with open_doors(Refusing(reason), Settings(service="chat"), tmp_path) as served:
        answer = await served.unix.post(path, json=CALL)
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["detail"]) == (status, reason.code, str(reason))
        assert answer.headers.get("retry-after") == retry_after
        assert (await served.unix.get("/readyz")).status_code == 503
        assert (await served.unix.get("/healthz")).status_code == 200
        assert (await served.unix.get("/v1/quota/acme")).json()["code"] == "unknown_subject"
        assert (await served.unix.post("/v1/check", json={"subject": "a", "feature": "f"})).json()["allowed"] is False


async def test_the_limits_that_end_soonest_come_first_and_are_bounded(tmp_path: Path) -> None:
    def limit(number: int) -> Limit:
        whose = {"id": f"c{number}/chat", "customer": f"c{number}", "feature": "chat"}
        how = {"kind": "METERED", "enforcement": "HARD", "policy_version": 1}
        return Limit(**whose, **how, limit=Decimal(2000), used=Decimal(number), meter=Meter("call", "COUNT", None))

    given = Settings(service="chat", data_dir=tmp_path / "data")
    async with Agent(given) as agent, open_doors(agent, given, tmp_path) as served:
        assert (await served.unix.get("/v1/quotas")).json() == {"quotas": []}
        known = agent._running.limits
        known.learn({}, [(limit(number), 1, 0) for number in range(1200)])
        answer = (await served.unix.get("/v1/quotas?nearest=2")).json()["quotas"]
        assert [(each["customer"], each["remaining"]) for each in answer] == [("c1199", "801"), ("c1198", "802")]
        assert len((await served.unix.get(f"/v1/quotas?nearest={MAX_NEAREST}")).json()["quotas"]) == MAX_NEAREST
        for wrong in ("0", str(MAX_NEAREST + 1), "-1", "x", "1" * 5000, "\u0661"):
            refused = await served.unix.get("/v1/quotas", params={"nearest": wrong})
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")


class Hanging(Refusing):
    """Its disk does not answer."""

    async def record_many(self, events: Sequence[Event]) -> list[Receipt]:
        return await asyncio.get_running_loop().create_future()

    async def consume_event(self, event: Event) -> Decision:
        return await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/consume"])
async def test_whom_a_stop_leaves_in_doubt_is_told_so(tmp_path: Path, path: str) -> None:
    api = Api(Hanging(AgentStopped("")), Settings(service="chat"))
    with Doors(tmp_path / "agent.sock", None) as doors:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(tmp_path / "agent.sock"))) as caller:
            async with serving(api, doors.sockets, drain_s=0):
                asking = asyncio.create_task(caller.post(f"http://agent{path}", json=CALL))
                await eventually(lambda: api.at_work)
            answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (504, "in_doubt")


class Faulty(Refusing):
    """An agent with a fault in it."""

    def status(self) -> AgentState:
        raise ZeroDivisionError("secret")

    def check(self, subject: str, feature: str, quantity: Any = 1) -> Decision:
        raise ZeroDivisionError("secret")


@pytest.mark.parametrize("request_line", [b"POST /v1/events", b"POST /v1/check", b"POST /v1/consume", b"GET /metrics"])
async def test_a_fault_is_told_by_an_id_that_the_log_explains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request_line: bytes
) -> None:
    faulty = Faulty(ZeroDivisionError("secret"))
    body = b'{"subject":"a","feature":"f"}' if b"check" in request_line else GOOD if b"POST" in request_line else b""
    head = request_line + b" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    async with open_doors(faulty, Settings(service="chat"), tmp_path) as served:
        reader, writer = await asyncio.open_unix_connection(served.socket)
        for number in (1, 2):  # on one connection
            writer.write(head + body)
            answer = await reader.readuntil(b"}")
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"application/problem+json" in answer
            assert b"secret" not in answer
            detail = json.loads(answer[answer.index(b"{") :])["detail"]
            assert caplog.records[number - 1].getMessage().split()[1] == detail.split()[-1]
            assert caplog.records[number - 1].exc_info
        writer.close()
        await writer.wait_closed()


async def test_a_full_disk_is_told_and_taken_up_again_without_a_restart(tmp_path: Path) -> None:
    given = Settings(service="chat", data_dir=tmp_path / "data")
    async with Agent(given) as agent, open_doors(agent, given, tmp_path) as served:
        await assert_a_good_event_gets_through(served.unix)
        assert agent._parts
        disk = agent._parts.buffer._database._conn
        await disk.execute("PRAGMA max_page_count = 1")  # of what is there already: not one page more
        nobody_waits = agent.record_nowait("call", "acme", {"text": "x" * 9000})
        large = CALL | {"data": {"text": "x" * 9000}}
        answer = await served.unix.post("/v1/events", json=large)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_refused")
        assert "database or disk is full" in answer.json()["detail"]
        await disk.execute("PRAGMA max_page_count = 100000")
        await eventually(lambda: not agent.status().disk_refusing)
        assert (await served.unix.post("/v1/events", json=large)).json() == ACCEPTED
        await agent.flush()
        assert (agent.status().recorded_events, agent.status().refused_events) == (3, 1)
        assert nobody_waits


async def test_a_caller_waits_for_room_in_a_full_buffer_or_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with ControlPlaneDouble() as double:
        double.held.clear()
        small = {"max_buffer_bytes": 256 * 1024, "when_full": "wait", "full_wait_s": 0.3, "max_batch_bytes": 128 * 1024}
        given = whole_agent.settings(tmp_path / "data", double, **small)
        async with Agent(given) as agent, open_doors(agent, given, tmp_path) as served:
            large = CALL | {"data": {"text": "x" * 60_000}}
            for _ in range(5):
                assert (await served.unix.post("/v1/events", json=large)).status_code == 202
            refused = await served.unix.post("/v1/events", json=large)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (refused.json()["code"], agent.status().refused_events) == ("buffer_full", 1)
            patient = asyncio.create_task(served.unix.post("/v1/events", json=large))
            await eventually(lambda: agent._parts and agent._parts.recorder.line.events == 1)
            double.held.set()
            assert (await patient).status_code == 202


async def test_a_ready_agent_says_so_and_tells_its_figures(served: Sidecar) -> None:
    await assert_a_good_event_gets_through(served.tcp)
    assert (await served.tcp.get("/readyz")).json() == {"status": "ready"}
    assert (await served.tcp.get("/healthz")).json() == {"status": "ok"}
    metrics = await served.tcp.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'sidemeter_http_answers_total{route="/v1/events",status="202"} 1.0' in metrics.text
    assert "sidemeter_agent_recorded_events_total 1.0" in metrics.text


async def test_without_a_control_plane_a_check_says_why(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/v1/check", json={"subject": "acme", "feature": "tokens", "quantity": "0.5"})
    assert answer.status_code == 200
    assert (answer.json()["allowed"], answer.json()["reason"]) == (False, "no_control_plane")
