"""Spans of requests, ingest and rollup; what stands in paths, queries and variables is in none of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fakes import ManualClock
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from planes import NOW_US, caller

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import build
from sidemeter_control.routes import NOWHERE, route_of
from sidemeter_control.settings import Settings
from sidemeter_control.spans import Spans
from sidemeter_control.store.database import Database
from sidemeter_control.traces import NO_TRACES, traces_of

KEY = "an-admin-key-of-the-tests"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """A control plane whose spans are kept."""

    def __init__(self, http: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
        self.http = http
        self._exporter = exporter

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def of(self, name: str) -> list[ReadableSpan]:
        return [each for each in self.spans() if each.name == name]


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncIterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    clock = ManualClock(NOW_US)
    database = await Database.open(f"sqlite:///{tmp_path}/control.db")
    try:
        await database.migrate()
        gate = Gate(database, clock)
        await gate.first_key(KEY)
        app = await build(database, gate, Settings(), clock, traces=Spans(provider))
        async with caller(app) as http:
            http.headers["Authorization"] = f"Bearer {KEY}"
            yield Traced(http, exporter)
    finally:
        await database.close()


def parent_id(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_ingest_goes_on_from_the_callers_trace(traced: Traced) -> None:
    event = {"type": "call", "subject": "acme", "id": "1"}
    answer = await traced.http.post("/v1/events", json=event, headers={"traceparent": CALLER})
    assert answer.status_code < 300
    (door,), (ingest,), (rollup,) = map(traced.of, ("POST /v1/events", "sidemeter ingest", "sidemeter rollup"))
    assert door.parent is not None
    assert trace.format_trace_id(door.parent.trace_id) in CALLER
    assert (parent_id(ingest), parent_id(rollup)) == (span_id(door), span_id(ingest))
    assert (ingest.attributes or {})["sidemeter.events"] == 1


async def test_graphql_is_told_by_its_name_alone(traced: Traced) -> None:
    query = "query Secrets($key: ID!) { customer(key: $key) { key } }"
    body = {"query": query, "variables": {"key": "a-customer"}, "operationName": "Secrets"}
    assert (await traced.http.post("/graphql", json=body)).status_code == 200
    (operation,) = traced.of("sidemeter graphql")
    assert operation.attributes == {"graphql.operation.name": "Secrets"}
    assert "a-customer" not in "".join(each.to_json() for each in traced.spans())


async def test_what_is_not_there_makes_no_names(traced: Traced) -> None:
    await traced.http.get("/a-secret-link")
    (span,) = traced.spans()
    assert span.name == "GET"
    assert (span.attributes or {})["http.response.status_code"] == 404
    assert "a-secret-link" not in span.to_json()


@pytest.mark.parametrize(
    ("path", "values", "route"),
    [
        ("/graphql/assets/a.js", {"name": "a.js"}, "/graphql/assets/{name}"),
        ("/portal/abc/abc", {"token": "abc"}, "/portal/{token}/{token}"),
        ("/metrics", {}, "/metrics"),
    ],
)
def test_a_route_has_no_values(path: str, values: dict[str, str], route: str) -> None:
    assert route_of({"path": path, "path_params": values, "endpoint": object()}) == route
    assert route_of({"path": path}) == NOWHERE


def test_without_traces_the_application_is_as_it_was() -> None:
    assert traces_of(False) is NO_TRACES
    assert NO_TRACES.answering(app := object()) is app  # type: ignore[arg-type]
