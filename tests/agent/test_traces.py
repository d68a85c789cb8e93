"""Spans: what an event goes through is told in the caller's trace and the batch's, and linked."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from agent import whole_agent
from agent.control_plane_double import ControlPlaneDouble
from doors import Sidecar, open_doors
from fakes import eventually
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sidemeter import Agent, Client
from sidemeter.record import Recorder
from sidemeter.spans import MAX_LINKS, MAX_REMEMBERED, Spans
from sidemeter.traces import NO_TRACES, traces_of

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CALLER[:-1] + "0"


class Told:
    """Spans of one agent, and what came of them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(self.provider)

    def of(self, name: str) -> list[ReadableSpan]:
        return [each for each in self._exporter.get_finished_spans() if each.name == name]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def double() -> AsyncIterator[ControlPlaneDouble]:
    async with ControlPlaneDouble() as running:
        yield running


def links(span: ReadableSpan) -> set[int]:
    return {each.context.span_id for each in span.links}


def span_id(span: ReadableSpan) -> int:
    context = span.context
    assert context is not None
    return context.span_id


def parent_id(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


async def test_an_event_is_followed_from_the_callers_span_to_the_request_that_carries_it(
    tmp_path: Path, told: Told, double: ControlPlaneDouble
) -> None:
    tracer = told.provider.get_tracer("service")
    async with Agent(whole_agent.settings(tmp_path, double), traces=told.spans) as agent:
        with tracer.start_as_current_span("request") as request:
            await agent.record("call", "acme")
        await whole_agent.counted(double, 1)
        await eventually(lambda: told.of("sidemeter send"))
    (record,), (commit,), (seal,) = (told.of(f"sidemeter {name}") for name in ("record", "commit", "seal"))
    (send,) = told.of("sidemeter send")
    assert parent_id(record) == request.get_span_context().span_id
    assert links(commit) == links(seal) == {span_id(record)}
    assert (commit.parent, seal.parent, parent_id(send)) == (None, None, span_id(seal))
    assert send.attributes == {
        "sidemeter.agent_id": double.requests[-1][1]["agent_id"],
        "sidemeter.epoch": 1,
        "sidemeter.batch_no": 1,
        "sidemeter.events": 1,
    }
    context = send.context
    assert context is not None
    carried = f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}-"
    assert [each for each in double.traceparents if each.startswith(carried)]


async def test_what_nobody_waits_for_is_linked_too(tmp_path: Path, told: Told, double: ControlPlaneDouble) -> None:
    async with Agent(whole_agent.settings(tmp_path, double), traces=told.spans) as agent:
        for _ in range(3):
            agent.record_nowait("call", "acme")
        await whole_agent.counted(double, 3)
    recorded = {span_id(each) for each in told.of("sidemeter record")}
    assert len(recorded) == 3
    assert set().union(*map(links, told.of("sidemeter commit"))) == recorded
    assert set().union(*map(links, told.of("sidemeter seal"))) == recorded


async def test_each_attempt_is_a_span_of_the_batchs_trace_and_failed_ones_say_why(
    tmp_path: Path, told: Told, double: ControlPlaneDouble
) -> None:
    async with Agent(whole_agent.settings(tmp_path, double), traces=told.spans) as agent:
        await agent.record("call", "acme")
        await whole_agent.counted(double, 1)
        double.faults.append(500)
        await agent.record("call", "acme")
        await whole_agent.counted(double, 2)
        await eventually(lambda: len(told.of("sidemeter send")) == 3)
    _, failed, sent = told.of("sidemeter send")
    assert parent_id(failed) == parent_id(sent)
    assert (failed.status.is_ok, sent.status.is_unset) == (False, True)
    assert "500" in (failed.status.description or "")


async def test_a_span_has_a_bounded_number_of_links(tmp_path: Path, told: Told) -> None:
    async with Agent(whole_agent.settings(tmp_path), traces=told.spans) as agent:
        for _ in range(MAX_LINKS + 10):
            agent.record_nowait("call", "acme")
        await agent.flush()
    assert max(len(each.links) for each in told.of("sidemeter commit")) == MAX_LINKS


def test_of_calls_without_end_only_so_many_are_remembered(told: Told) -> None:
    tracer = told.provider.get_tracer("service")
    for seq in range(MAX_REMEMBERED + 10):
        with tracer.start_as_current_span("call"):
            told.spans.taken(seq, seq)
    assert len(told.spans._unsealed._waiting) == MAX_REMEMBERED
    assert told.spans._unsealed._waiting[0][0] == 10


@pytest.fixture
async def sidecar(tmp_path: Path, told: Told) -> AsyncIterator[Sidecar]:
    settings = whole_agent.settings(tmp_path / "data")
    async with (
        Agent(settings, traces=told.spans) as agent,
        open_doors(agent, settings, tmp_path, traces=told.spans) as served,
    ):
        yield served


async def post(caller: httpx.AsyncClient, traceparent: str) -> int:
    body = json.dumps({"type": "call", "subject": "acme"})
    headers = {"Content-Type": "application/json", "traceparent": traceparent}
    return (await caller.post("/v1/events", content=body, headers=headers)).status_code


async def test_the_door_goes_on_from_its_callers_trace(sidecar: Sidecar, told: Told) -> None:
    assert await post(sidecar.unix, CALLER) == 202
    (door,) = await eventually(lambda: told.of("POST /v1/events"))
    (record,) = told.of("sidemeter record")
    assert door.parent is not None
    assert trace.format_trace_id(door.parent.trace_id) in CALLER
    assert trace.format_span_id(door.parent.span_id) in CALLER
    assert parent_id(record) == span_id(door)
    assert (door.attributes or {})["http.response.status_code"] == 202


async def test_a_client_hands_its_callers_span_on(sidecar: Sidecar, told: Told) -> None:
    with told.provider.get_tracer("service").start_as_current_span("request") as request:
        for traces in (True, False):
            async with Client(socket=sidecar.socket, traces=traces) as client:
                await client.record("call", "acme")
    followed, alone = await eventually(lambda: len(told.of("POST /v1/events")) == 2 and told.of("POST /v1/events"))
    assert (parent_id(followed), parent_id(alone)) == (request.get_span_context().span_id, None)


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5000])
async def test_a_wrong_traceparent_stops_nothing(sidecar: Sidecar, told: Told, traceparent: str) -> None:
    assert await post(sidecar.tcp, traceparent) == 202
    (door,) = await eventually(lambda: told.of("POST /v1/events"))
    assert door.parent is None


async def test_what_the_caller_does_not_sample_is_not_told(sidecar: Sidecar, told: Told) -> None:
    assert await post(sidecar.unix, UNSAMPLED) == 202
    assert await post(sidecar.unix, CALLER) == 202
    (door,) = await eventually(lambda: told.of("POST /v1/events"))
    assert len(told.of("sidemeter record")) == 1
    assert door.parent is not None


async def test_names_of_spans_hold_no_ids(sidecar: Sidecar, told: Told) -> None:
    await sidecar.unix.get("/v1/quota/acme")
    await sidecar.unix.post("/v1/reservations/a-b-c/commit", json={})
    names = await eventually(lambda: {each.name for each in told._exporter.get_finished_spans()})
    assert names >= {"GET /v1/quota/{subject}", "POST /v1/reservations/{id}/commit"}


async def test_without_traces_the_hot_path_does_not_even_ask(tmp_path: Path) -> None:
    settings = whole_agent.settings(tmp_path)
    assert traces_of(settings) is NO_TRACES
    async with Agent(settings) as agent:
        assert type(agent._running.recorder) is Recorder
    assert NO_TRACES.answering(app := object()) is app  # type: ignore[arg-type]
