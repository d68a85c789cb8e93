"""OpenTelemetry: the only module that knows it, and loaded only where spans are wanted."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidemeter.batches import Batch, Row

__all__ = ["MAX_LINKS", "MAX_REMEMBERED", "Spans", "carried", "current_ids", "exporting"]

MAX_LINKS: Final = 128
"""Of one span; what the SDK keeps as well."""

MAX_REMEMBERED: Final = 10_000
"""Calls whose events wait to be sealed; of more, the oldest are not linked to. Some 3 MB."""

_wire: Final = TraceContextTextMapPropagator()
_FAULTS_FROM: Final = 500


class Spans:
    """Makes the spans of one agent, by the process's tracer provider or another one. See `Traces`."""

    enabled = True

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("sidemeter", tracer_provider=provider)
        self._uncommitted = _Calls()
        self._unsealed = _Calls()
        self._sealed: tuple[Batch, Context] | None = None

    @contextlib.contextmanager
    def recording(self, events: int) -> Iterator[None]:
        """See `Traces.recording`."""
        with self._tracer.start_as_current_span("sidemeter record", attributes={"sidemeter.events": events}):
            yield

    def taken(self, first_seq: int, last_seq: int) -> None:
        """See `Traces.taken`."""
        caller = trace.get_current_span().get_span_context()
        if caller.trace_flags.sampled:
            self._uncommitted.add(first_seq, last_seq, caller)
            self._unsealed.add(first_seq, last_seq, caller)

    @contextlib.contextmanager
    def committing(self, rows: Sequence[Row]) -> Iterator[Callable[[str], None]]:
        """See `Traces.committing`."""
        links = self._uncommitted.until(rows[-1][0]) if rows else []
        with self._tracer.start_as_current_span(
            "sidemeter commit", Context(), links=links, attributes={"sidemeter.events": len(rows)}
        ) as span:
            yield lambda reason: span.set_status(Status(StatusCode.ERROR, reason))

    @contextlib.contextmanager
    def sealing(self, batch: Batch) -> Iterator[None]:
        """See `Traces.sealing`."""
        links = self._unsealed.until(batch.last_seq)
        with self._tracer.start_as_current_span(
            "sidemeter seal", Context(), links=links, attributes=_about(batch)
        ) as span:
            yield
        self._sealed = batch, trace.set_span_in_context(span, Context())

    @contextlib.contextmanager
    def sending(self, agent_id: str, batch: Batch) -> Iterator[Mapping[str, str]]:
        """See `Traces.sending`. Each attempt is a span of its own in the trace of the batch."""
        sealed = self._sealed
        context = sealed[1] if sealed is not None and sealed[0] == batch else Context()
        about: dict[str, str | int] = {**_about(batch), "sidemeter.agent_id": agent_id}
        with self._tracer.start_as_current_span("sidemeter send", context, SpanKind.CLIENT, about):
            headers: dict[str, str] = {}
            _wire.inject(headers)
            yield headers

    def answering(self, app: ASGIApp) -> ASGIApp:
        """See `Traces.answering`."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            method = scope["method"]
            about = {"http.request.method": method, "url.path": scope["path"]}
            with self._tracer.start_as_current_span(
                f"{method} {_route(scope['path'])}", _wire.extract(headers, Context()), SpanKind.SERVER, about
            ) as span:

                async def answer(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                        if message["status"] >= _FAULTS_FROM:
                            span.set_status(StatusCode.ERROR)
                    await send(message)

                await app(scope, receive, answer)

        return door


class _Calls:
    """The spans of calls by the rows that they recorded, in the order of these."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, int, SpanContext]] = deque(maxlen=MAX_REMEMBERED)

    def add(self, first_seq: int, last_seq: int, caller: SpanContext) -> None:
        self._waiting.append((first_seq, last_seq, caller))

    def until(self, seq: int) -> list[Link]:
        """Links to the calls whose rows begin at `seq` or before; those that end there as well are forgotten."""
        links: list[Link] = []
        while self._waiting and self._waiting[0][0] <= seq:
            _, last_seq, caller = self._waiting[0]
            if len(links) < MAX_LINKS:
                links.append(Link(caller))
            if last_seq > seq:
                break
            self._waiting.popleft()
        return links


def _about(batch: Batch) -> dict[str, int]:
    return {
        "sidemeter.epoch": batch.epoch,
        "sidemeter.batch_no": batch.batch_no,
        "sidemeter.events": batch.events,
    }


def _route(path: str) -> str:
    """The path without the ids in it: names of spans are few."""
    for route, shown in (("/v1/reservations/", "/v1/reservations/{id}/"), ("/v1/quota/", "/v1/quota/{subject}")):
        if path.startswith(route):
            return shown + path.rpartition("/")[2] if shown.endswith("/") else shown
    return path


def carried() -> Mapping[str, str]:
    """The headers by which whoever is asked goes on from the current span."""
    headers: dict[str, str] = {}
    _wire.inject(headers)
    return headers


def current_ids() -> Mapping[str, str]:
    """The ids of the current span, for a line of log; nothing where there is none."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(current.trace_id), "span_id": trace.format_span_id(current.span_id)}


@contextlib.contextmanager
def exporting(resource: Mapping[str, str]) -> Iterator[None]:
    """Send this process's spans over OTLP as long as the block lasts, in the name of `resource`."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 -- slow to load
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider as Provider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = Provider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
