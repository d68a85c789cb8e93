"""The agent's HTTP API: what it asks of a request, and what it answers.

The hot routes are plain ASGI: through a router and its request objects they would take three times as long.
Starlette serves the rest.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from sidemeter.answers import (
    Accepted,
    DecisionAnswer,
    Ended,
    Nearest,
    Problem,
    Quota,
    Quotas,
    Rejection,
    ReservationAnswer,
    encode,
)
from sidemeter.clock import Clock, SystemClock
from sidemeter.errors import AgentStopped, BufferFull, InDoubt, InvalidInput, SidemeterError, StorageRefused
from sidemeter.events import Event, Receipt, mint
from sidemeter.formats import (
    Form,
    Reading,
    form_of,
    read_binary_event,
    read_check,
    read_end,
    read_event,
    read_events,
    read_reserved,
)
from sidemeter.limits import Decision, QuotaView
from sidemeter.metrics import exposition
from sidemeter.reservation import Reserving
from sidemeter.settings import Settings
from sidemeter.state import AgentState

__all__ = ["MAX_BODIES", "MAX_NEAREST", "MAX_REQUESTS", "AgentVerbs", "Api"]

log = logging.getLogger(__name__)

MAX_REQUESTS: Final = 1024
"""Requests at work at once: each waits for one commit at most, so more of them only wait longer."""

MAX_BODIES: Final = 4
"""Bodies of the largest size that may be on their way in at once, in whatever pieces."""

MAX_NEAREST: Final = 100
"""Limits in one answer of those nearest to their end."""

RETRY_AFTER: Final = {"Retry-After": "1"}
JSON_TYPE: Final = "application/json"
RESERVATIONS: Final = "/v1/reservations/"
PROBLEM_TYPE: Final = "application/problem+json"

_ONE_ACCEPTED: Final = encode(Accepted(1, 0, [], "disk"))
_STATUS_OF_CODE: Final = {"malformed": 400, "too_many": 413}

T = TypeVar("T")

Headers = Mapping[bytes, bytes]
Verb = Callable[[Headers, bytes], Awaitable[tuple[int, bytes]]]


class AgentVerbs(Protocol):
    """What this door asks the agent for."""

    @property
    def ready(self) -> bool:
        """Whether it takes events now."""

    def status(self) -> AgentState:
        """Its figures at this moment."""

    def check(self, subject: str, feature: str, quantity: Decimal | int = 1) -> Decision:
        """May this happen? From memory."""

    def quotas(self, subject: str) -> tuple[QuotaView, ...] | None:
        """The limits of a subject; None while they are not known."""

    async def nearest(self, count: int) -> Sequence[QuotaView]:
        """The known limits that are nearest to their end."""

    async def learn(self, subject: str) -> bool:
        """Fetch them, within a bound; whether that worked."""

    async def record_many(self, events: Sequence[Event]) -> list[Receipt]:
        """One receipt for each, once all are on disk."""

    async def ask(self, subject: str, feature: str, quantity: Decimal | int = 1) -> Decision:
        """`check`, which waits within a bound where that may help."""

    async def consume_event(self, event: Event) -> Decision:
        """Check and record as one step."""

    def reserve_event(self, event: Event, ttl_s: float) -> Reserving:
        """Set aside what an event may take at most."""

    async def commit(self, hold_id: str, data: Mapping[str, object] | str | None) -> Receipt | None:
        """End a reservation with what was used; None if it is not known."""

    async def release(self, hold_id: str) -> bool:
        """End one whose operation did not start; whether it was open."""

    async def extend(self, hold_id: str, ttl_s: float) -> bool:
        """Let one go on; whether it was open."""


class _Refused(Exception):
    """A refusal in which no event and no agent takes part."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem.of(status, code, detail)
        self.headers = headers or {}


class _NothingValid(Exception):
    """Not one event of the request keeps the rules."""

    def __init__(self, rejected: list[Rejection]) -> None:
        self.problem = Problem.of(422, "nothing_valid", f"none of {len(rejected)} events keeps the rules", rejected)
        self.headers: Mapping[str, str] = {}


class _Gone(Exception):
    """The caller hung up before its request was complete."""


class Api:
    """The ASGI application of one agent.

    `at_work` requests are inside, `arriving_bytes` of bodies that come in pieces; `answered` counts by route and status.
    """

    def __init__(self, agent: AgentVerbs, settings: Settings, clock: Clock | None = None) -> None:
        self._agent = agent
        self._fault_id = mint((clock or SystemClock()).token_hex(4))
        self._max_events = settings.max_array_events
        self._max_body = settings.max_body_bytes
        self.at_work = 0
        self.arriving_bytes = 0
        self._hot: dict[str, Verb] = {
            "/v1/events": self._events,
            "/v1/check": self._check,
            "/v1/consume": self._consume,
            "/v1/reservations": self._reserve,
        }
        self._ends: dict[str, Callable[[str, Headers, bytes], Awaitable[tuple[int, bytes]]]] = {
            "commit": self._commit,
            "release": self._release,
            "extend": self._extend,
        }
        self._rest = Starlette(
            routes=[
                Route("/v1/quota/{subject:path}", self._quota),
                Route("/v1/quotas", self._nearest),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _http_problem, Exception: self._fault_response},
        )
        self.answered: dict[tuple[str, int], int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = scope["path"]
        verb = self._hot.get(route)
        if verb is None and route.startswith(RESERVATIONS):
            route, verb = self._final_call(route)
        if verb is None:
            with contextlib.suppress(Exception):  # answered and logged; Starlette raises it once more
                await self._rest(scope, receive, send)
            return
        self.at_work += 1
        try:
            status, body = await verb(*await self._request(scope, receive))
            await _send(send, status, JSON_TYPE, body)
        except (SidemeterError, _Refused, _NothingValid) as exc:
            problem, headers = _problem(exc)
            status = problem.status
            await _send(send, status, PROBLEM_TYPE, encode(problem), headers)
        except _Gone:
            status = 499  # nobody reads it but the metric
        except Exception as exc:  # noqa: BLE001 -- a fault of ours: its caller is told so, and all others go on
            status = 500
            await _send(send, status, PROBLEM_TYPE, encode(self._fault(route, exc)))
        finally:
            self.at_work -= 1
        self.answered[route, status] = self.answered.get((route, status), 0) + 1

    def _fault(self, route: str, exc: Exception) -> Problem:
        """What a caller hears of a fault: nothing of the program, and an id that the log has too."""
        fault_id = self._fault_id()
        log.error("fault %s at %s", fault_id, route, exc_info=exc, extra={"incident_id": fault_id})
        return Problem.of(500, "fault", f"a fault of the agent, which its log explains as {fault_id}")

    async def _fault_response(self, request: Request, exc: Exception) -> Response:
        return _problem_response(self._fault(request.url.path, exc))

    async def _request(self, scope: Scope, receive: Receive) -> tuple[Headers, bytes]:
        if scope["method"] != "POST":
            raise _Refused(405, "method_not_allowed", "this route takes POST", {"Allow": "POST"})
        if self.at_work > MAX_REQUESTS:
            raise _Refused(503, "busy", f"{MAX_REQUESTS} requests are at work", RETRY_AFTER)
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise _Refused(415, "unsupported_media_type", "send the body as it is, without a Content-Encoding")
        if int(headers.get(b"content-length", b"0")) > self._max_body:
            raise self._too_large()
        message = await receive()
        body = _piece(message)
        return headers, await self._whole(body, receive) if message["more_body"] else body

    async def _whole(self, first: bytes, receive: Receive) -> bytes:
        """A body that arrives in pieces, while neither it nor all such bodies together grow too large."""
        body, counted, more = bytearray(first), 0, True
        try:
            while True:
                self.arriving_bytes += len(body) - counted
                counted = len(body)
                if counted > self._max_body:
                    raise self._too_large()
                if self.arriving_bytes > MAX_BODIES * self._max_body:
                    raise _Refused(503, "busy", "too many large requests at once", RETRY_AFTER)
                if not more:
                    return bytes(body)
                message = await receive()
                body += _piece(message)
                more = message["more_body"]
        finally:
            self.arriving_bytes -= counted

    def _too_large(self) -> _Refused:
        return _Refused(413, "too_large", f"a body must be at most {self._max_body} bytes")

    async def _events(self, headers: Headers, body: bytes) -> tuple[int, bytes]:
        if b"ce-specversion" in headers:
            reading = Reading([_binary_event(headers, body)], [])
        else:
            reading = read_events(_form(headers), body, self._max_events)
        if not reading.events:
            raise _NothingValid(reading.rejected)
        receipts = await _kept(self._agent.record_many(reading.events))
        shown = receipts if headers.get(b"prefer") == b"return=representation" else None
        if len(receipts) == 1 and not (shown or reading.rejected or receipts[0].duplicate):
            return 202, _ONE_ACCEPTED
        duplicates = sum(receipt.duplicate for receipt in receipts)
        return 202, encode(Accepted(len(receipts) - duplicates, duplicates, reading.rejected, "disk", shown))

    async def _check(self, headers: Headers, body: bytes) -> tuple[int, bytes]:
        asked = read_check(_form(headers), body)
        decision = self._agent.check(asked.subject, asked.feature, asked.quantity)
        if decision.reason == "unknown_subject" or decision.wait_s:
            decision = await self._agent.ask(asked.subject, asked.feature, asked.quantity)
        return 200, encode(DecisionAnswer.of(decision))

    async def _consume(self, headers: Headers, body: bytes) -> tuple[int, bytes]:
        binary = b"ce-specversion" in headers
        event = _binary_event(headers, body) if binary else read_event(_form(headers), body)
        return 200, encode(DecisionAnswer.of(await _kept(self._agent.consume_event(event))))

    async def _reserve(self, headers: Headers, body: bytes) -> tuple[int, bytes]:
        event, ttl_s = read_reserved(_form(headers), body)
        made = await self._agent.reserve_event(event, ttl_s)
        return 200, encode(ReservationAnswer(made.id, DecisionAnswer.of(made.decision)))

    def _final_call(self, route: str) -> tuple[str, Verb | None]:
        """The verb of a reservation's final call, and the route without its id."""
        hold_id, _, what = route.removeprefix(RESERVATIONS).rpartition("/")
        end = self._ends.get(what)
        if end is None or not hold_id:
            return route, None
        return f"{RESERVATIONS}{{id}}/{what}", lambda headers, body: end(hold_id, headers, body)

    async def _commit(self, hold_id: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        data, _ = read_end(_form(headers) if body else Form.JSON, body)
        receipt = await _kept(self._agent.commit(hold_id, data))
        if receipt is None:
            raise _Refused(404, "unknown_reservation", "no reservation of this id is open or was committed")
        return 200, encode(Ended(hold_id, not receipt.duplicate, receipt))

    async def _release(self, hold_id: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        read_end(_form(headers) if body else Form.JSON, body)
        return 200, encode(Ended(hold_id, await _kept(self._agent.release(hold_id))))

    async def _extend(self, hold_id: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        _, ttl_s = read_end(_form(headers) if body else Form.JSON, body)
        return 200, encode(Ended(hold_id, await self._agent.extend(hold_id, ttl_s)))

    async def _quota(self, request: Request) -> Response:
        subject = request.path_params["subject"]
        quotas = self._agent.quotas(subject)
        if quotas is None and await self._agent.learn(subject):
            quotas = self._agent.quotas(subject)
        if quotas is None:
            return _problem_response(Problem.of(404, "unknown_subject", "the limits of this subject are not known"))
        return Response(encode(Quotas(subject, [Quota.of(view) for view in quotas])), media_type=JSON_TYPE)

    async def _nearest(self, request: Request) -> Response:
        asked = request.query_params.get("nearest", str(MAX_NEAREST))
        if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked[:9]) <= MAX_NEAREST:
            rule = f"nearest: must be a whole number from 1 to {MAX_NEAREST}"
            return _problem_response(Problem.of(422, "invalid_input", rule))
        views = await self._agent.nearest(int(asked))
        return Response(encode(Nearest([Quota.of(view) for view in views])), media_type=JSON_TYPE)

    async def _healthz(self, _: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type=JSON_TYPE)

    async def _readyz(self, _: Request) -> Response:
        if self._agent.ready:
            return Response(b'{"status":"ready"}', media_type=JSON_TYPE)
        return _problem_response(Problem.of(503, "not_ready", "the agent does not take events now"), RETRY_AFTER)

    async def _metrics(self, _: Request) -> Response:
        return Response(exposition(self._agent.status(), self.answered), media_type="text/plain; version=0.0.4")


async def _kept(recording: Awaitable[T]) -> T:
    """What the agent says once its disk has said it; a stop does not wait for that for ever."""
    try:
        return await recording
    except asyncio.CancelledError:
        raise InDoubt("the agent stopped before its disk said whether this is kept") from None


def _piece(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise _Gone
    body: bytes = message["body"]
    return body


def _form(headers: Headers) -> Form:
    form = form_of(headers.get(b"content-type", b""))
    if form is None:
        expected = "application/json, application/msgpack, application/cloudevents+json"
        raise _Refused(
            415, "unsupported_media_type", f"Content-Type must be one of {expected}", {"Accept-Post": expected}
        )
    return form


def _binary_event(headers: Headers, body: bytes) -> Event:
    form = _form(headers) if body else Form.JSON
    attributes = {name[3:].decode(): value.decode("latin-1") for name, value in headers.items() if name[:3] == b"ce-"}
    return read_binary_event(form, attributes, body)


def _problem(exc: SidemeterError | _Refused | _NothingValid) -> tuple[Problem, Mapping[str, str]]:
    match exc:
        case _Refused() | _NothingValid():
            return exc.problem, exc.headers
        case InvalidInput():
            status = _STATUS_OF_CODE.get(exc.code, 422)
            return Problem.of(status, exc.code, str(exc), [Rejection.of(0, exc)] if status == 422 else []), {}
        case BufferFull():
            return Problem.of(503, exc.code, str(exc)), {"Retry-After": str(exc.retry_after_s)}
        case StorageRefused():
            return Problem.of(507, exc.code, str(exc)), {}
        case AgentStopped():
            return Problem.of(503, exc.code, str(exc)), RETRY_AFTER
    return Problem.of(504 if isinstance(exc, InDoubt) else 500, exc.code, str(exc)), {}


async def _http_problem(_: Request, exc: Exception) -> Response:
    """Starlette's own refusals, of an unknown route or a wrong method."""
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    phrase = HTTPStatus(status).phrase
    headers = exc.headers if isinstance(exc, HTTPException) else None
    return _problem_response(Problem.of(status, phrase.lower().replace(" ", "_"), phrase), headers)


def _problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(problem), problem.status, headers, PROBLEM_TYPE)


async def _send(
    send: Send, status: int, media_type: str, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    lines = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
    if headers:
        lines += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
