"""Whether requests are told as OpenTelemetry spans. By default they are not, and nothing of it is loaded."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Final, Protocol

from starlette.types import ASGIApp

from sidemeter_control.errors import SettingsError

__all__ = ["NO_TRACES", "Traces", "exported", "traces_of"]

_MISSING: Final = "needs OpenTelemetry, which is not installed: pip install 'sidemeter[otel]'"


class Traces(Protocol):
    """What becomes a span. Each is over with its block, and failed where the block raises."""

    def answering(self, app: ASGIApp) -> ASGIApp:
        """The application, each request of which goes on from the `traceparent` of its caller."""

    def operation(self, name: str | None) -> AbstractContextManager[None]:
        """A GraphQL operation, by the name that it was asked under. Nothing of its text or variables is told."""

    def ingesting(self, events: int, about: Mapping[str, str | int]) -> AbstractContextManager[None]:
        """Events are taken, up to the end of their transaction."""

    def rolling_up(self, events: int) -> AbstractContextManager[None]:
        """What of them is new is stored and counted, inside that transaction."""


class _NoTraces:
    """Tells nothing."""

    def answering(self, app: ASGIApp) -> ASGIApp:
        return app

    def operation(self, name: str | None) -> AbstractContextManager[None]:  # noqa: ARG002
        return contextlib.nullcontext()

    def ingesting(self, events: int, about: Mapping[str, str | int]) -> AbstractContextManager[None]:  # noqa: ARG002
        return contextlib.nullcontext()

    def rolling_up(self, events: int) -> AbstractContextManager[None]:  # noqa: ARG002
        return contextlib.nullcontext()


NO_TRACES: Final[Traces] = _NoTraces()


def traces_of(wanted: bool) -> Traces:
    """Spans of the process's own tracer provider, or none. SettingsError where what is wanted is not installed."""
    if not wanted:
        return NO_TRACES
    try:
        from sidemeter_control.spans import Spans  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as exc:
        raise SettingsError("traces", _MISSING) from exc
    return Spans()


@contextlib.contextmanager
def exported(wanted: bool) -> Iterator[Callable[[], Mapping[str, str]]]:
    """Send the spans of this process over OTLP meanwhile, if they are wanted, and at the end what is left of them.

    Gives what knows the ids of the current span. Where they are sent, and how many of them, is for the OTEL_ variables
    to say, as everywhere. SettingsError where what is needed is not installed.
    """
    if not wanted:
        yield dict
        return
    try:
        from sidemeter_control import spans  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as exc:
        raise SettingsError("traces", _MISSING) from exc
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "sidemeter-control"}
    with spans.exporting({**named, "service.version": version("sidemeter")}):
        yield spans.current_ids
