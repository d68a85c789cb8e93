"""Whether what an event goes through here is told as OpenTelemetry spans. By default it is not, and nothing of them is loaded."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from starlette.types import ASGIApp

from sidemeter.batches import Batch, Row
from sidemeter.errors import SettingsError
from sidemeter.settings import Settings
from sidemeter.version import VERSION

__all__ = ["NO_TRACES", "Traces", "carrying", "exported", "traces_of"]

_MISSING: Final = "needs OpenTelemetry, which is not installed: pip install 'sidemeter[otel]'"


class Traces(Protocol):
    """What becomes a span. Each is over with its block, and failed where the block raises."""

    enabled: bool
    """Whether there is anybody to ask at all: then events are recorded by a `TracedRecorder`."""

    def recording(self, events: int) -> AbstractContextManager[None]:
        """A caller records so many events; it goes on from the caller's own span."""

    def taken(self, first_seq: int, last_seq: int) -> None:
        """They are these rows: the spans of the commit and of the batch that take them link to the current one."""

    def committing(self, rows: Sequence[Row]) -> AbstractContextManager[Callable[[str], None]]:
        """Rows are committed together. What it gives says that they were not, and why."""

    def sealing(self, batch: Batch) -> AbstractContextManager[None]:
        """A batch is sealed."""

    def sending(self, agent_id: str, batch: Batch) -> AbstractContextManager[Mapping[str, str]]:
        """A batch is sent, with these headers: by them the control plane goes on from here."""

    def answering(self, app: ASGIApp) -> ASGIApp:
        """The door, each request of which goes on from the `traceparent` of its caller."""


class _NoTraces:
    """Tells nothing."""

    enabled = False

    def recording(self, events: int) -> AbstractContextManager[None]:  # noqa: ARG002
        return contextlib.nullcontext()

    def taken(self, first_seq: int, last_seq: int) -> None:
        pass

    def committing(self, rows: Sequence[Row]) -> AbstractContextManager[Callable[[str], None]]:  # noqa: ARG002
        return contextlib.nullcontext(lambda _: None)

    def sealing(self, batch: Batch) -> AbstractContextManager[None]:  # noqa: ARG002
        return contextlib.nullcontext()

    def sending(self, agent_id: str, batch: Batch) -> AbstractContextManager[Mapping[str, str]]:  # noqa: ARG002
        return contextlib.nullcontext({})

    def answering(self, app: ASGIApp) -> ASGIApp:
        return app


NO_TRACES: Final[Traces] = _NoTraces()


def traces_of(settings: Settings) -> Traces:
    """What the settings ask for: spans of the process's own tracer provider, or none.

    SettingsError where they ask for what is not installed.
    """
    if not settings.traces:
        return NO_TRACES
    try:
        from sidemeter.spans import Spans  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as exc:
        raise SettingsError("traces", _MISSING) from exc
    return Spans()


def carrying(wanted: bool) -> Callable[[], Mapping[str, str]]:
    """What gives the headers by which an agent goes on from its caller's span; none, unless that is wanted.

    SettingsError where it is, and what is needed is not installed.
    """
    if not wanted:
        return dict
    try:
        from sidemeter.spans import carried  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as exc:
        raise SettingsError("traces", _MISSING) from exc
    return carried


@contextlib.contextmanager
def exported(settings: Settings) -> Iterator[Callable[[], Mapping[str, str]]]:
    """Send the spans of this process over OTLP meanwhile, if there are to be any, and at the end what is left of them.

    Gives what knows the ids of the current span. Where they are sent, and how many of them, is for the OTEL_ variables
    to say, as everywhere. SettingsError where what is needed is not installed.
    """
    if not settings.traces:
        yield dict
        return
    try:
        from sidemeter import spans  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as exc:
        raise SettingsError("traces", _MISSING) from exc
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "sidemeter-agent"}
    with spans.exporting({**named, "service.version": VERSION}):
        yield spans.current_ids
