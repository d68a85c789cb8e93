"""OpenTelemetry: the only module that knows it, and loaded only where spans are wanted."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidemeter_control.routes import NOWHERE, route_of

__all__ = ["Spans", "current_ids", "exporting"]

_wire: Final = TraceContextTextMapPropagator()
_FAULTS_FROM: Final = 500


class Spans:
    """Makes the spans of a control plane, by the process's tracer provider or another one. See `Traces`."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("sidemeter_control", tracer_provider=provider)

    def answering(self, app: ASGIApp) -> ASGIApp:
        """See `Traces.answering`."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            about = {"http.request.method": scope["method"]}
            with self._tracer.start_as_current_span(
                scope["method"], _wire.extract(headers, Context()), SpanKind.SERVER, about
            ) as span:

                async def answer(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                        if message["status"] >= _FAULTS_FROM:
                            span.set_status(StatusCode.ERROR)
                    await send(message)

                await app(scope, receive, answer)
                if (route := route_of(scope)) != NOWHERE:
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)

        return door

    @contextlib.contextmanager
    def operation(self, name: str | None) -> Iterator[None]:
        """See `Traces.operation`."""
        about = {} if name is None else {"graphql.operation.name": name}
        with self._tracer.start_as_current_span("sidemeter graphql", attributes=about):
            yield

    @contextlib.contextmanager
    def ingesting(self, events: int, about: Mapping[str, str | int]) -> Iterator[None]:
        """See `Traces.ingesting`."""
        named = {f"sidemeter.{name}": value for name, value in about.items()}
        with self._tracer.start_as_current_span("sidemeter ingest", attributes={**named, "sidemeter.events": events}):
            yield

    @contextlib.contextmanager
    def rolling_up(self, events: int) -> Iterator[None]:
        """See `Traces.rolling_up`."""
        with self._tracer.start_as_current_span("sidemeter rollup", attributes={"sidemeter.events": events}):
            yield


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
