"""The agent from another process: the same calls and the same errors, over its socket.

Each event gets its id here, before it is first sent, so a request whose answer was lost is sent again and counted once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import quote

import msgspec
from tenacity import retry_if_exception_type, stop_after_attempt

from sidemeter.answers import (
    Accepted,
    DecisionAnswer,
    Ended,
    Problem,
    Quotas,
    Rejection,
    ReservationAnswer,
    encode,
    rfc_3339,
)
from sidemeter.backoff import retrying
from sidemeter.clock import Clock, SystemClock
from sidemeter.errors import (
    AgentStopped,
    BufferFull,
    InDoubt,
    InvalidInput,
    SidemeterError,
    StorageRefused,
    Unacceptable,
    Unreachable,
)
from sidemeter.events import Event, Receipt, mint
from sidemeter.limits import Decision, QuotaView
from sidemeter.reservation import Reservation, Reserving, check_ttl
from sidemeter.traces import carrying
from sidemeter.uplink import Answer, Link

__all__ = ["Client"]

MAX_REQUEST_EVENTS: Final = 1000
MAX_REQUEST_BYTES: Final = 1 << 20
ATTEMPTS: Final = 4

HEADERS: Final = {"Content-Type": "application/json", "Prefer": "return=representation"}

Shape = TypeVar("Shape", bound=msgspec.Struct)


class Client:
    """Calls one agent on its Unix `socket` or loopback `url`; an async context manager. With `traces`, which needs
    sidemeter[otel], the agent's spans go on from the caller's.

    Raises what the agent in process raises, and Unreachable when it does not answer after a few attempts.

    >>> async def record_one() -> Receipt:
    ...     async with Client(socket=Path("sidemeter-data/agent.sock")) as client:
    ...         return await client.record("llm.completion", "acme", {"input_tokens": 812})
    """

    def __init__(
        self,
        socket: Path | str | None = None,
        url: str | None = None,
        *,
        clock: Clock | None = None,
        timeout_s: float = 10.0,
        traces: bool = False,
    ) -> None:
        if (socket is None) == (url is None):
            raise InvalidInput("socket", "must be given, or else url")
        self._clock = clock or SystemClock()
        self._link = Link(
            url=url, socket=None if socket is None else Path(socket), timeout_s=timeout_s, headers=HEADERS
        )
        self._retrying = retrying(self._clock).copy(
            stop=stop_after_attempt(ATTEMPTS), retry=retry_if_exception_type(Unreachable)
        )
        self._next_id = mint(self._clock.token_hex(8))
        self._open: set[str] = set()
        self._carried = carrying(traces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    async def record(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> Receipt:
        """Record one event; its receipt once it is on the agent's disk. See `Event.of` for the rules."""
        return (await self.record_many([Event.of(type, subject, data, id=id, time=time, source=source)]))[0]

    async def record_many(self, events: Sequence[Event]) -> list[Receipt]:
        """Record events; one receipt for each, in order, once all are on the agent's disk.

        They go in requests of up to 1,000; when one fails, those before it are kept, and repeating all is harmless only
        for events that have an id.
        """
        receipts: list[Receipt] = []
        for body in _bodies(self._json(event) for event in events):
            accepted = _read(await self._ask("POST", "/v1/events", body), Accepted)
            if accepted.rejected:
                raise _invalid(accepted.rejected[0])
            receipts += accepted.receipts or []
        return receipts

    async def check(self, subject: str, feature: str, quantity: Decimal | int | str = 1) -> Decision:
        """May `subject` use `quantity` of `feature` now? Answered from the agent's memory."""
        question = {"subject": subject, "feature": feature, "quantity": str(quantity)}
        return _read(await self._ask("POST", "/v1/check", encode(question)), DecisionAnswer).decision()

    async def consume(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> Decision:
        """Check and record as one step; `receipt` is set when it was allowed."""
        event = Event.of(type, subject, data, id=id, time=time, source=source)
        return _read(await self._ask("POST", "/v1/consume", self._json(event)), DecisionAnswer).decision()

    def reserve(
        self,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        ttl_s: float = 60.0,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        source: str | None = None,
    ) -> Reserving:
        """Set aside what an operation may take at most; await it, or enter it. See `Agent.reserve`."""
        check_ttl(ttl_s)
        event = Event.of(type, subject, data, id=id or self._next_id(), source=source)
        return Reserving(lambda: self._reserve(event, ttl_s))

    async def _reserve(self, event: Event, ttl_s: float) -> Reservation:
        fields = msgspec.json.decode(self._json(event), type=dict[str, msgspec.Raw])
        answer = await self._ask("POST", "/v1/reservations", encode({**fields, "ttl_s": str(ttl_s)}))
        made = _read(answer, ReservationAnswer)
        if made.decision.allowed:
            self._open.add(made.id)
        return Reservation(self, made.id, made.decision.decision())

    def is_open(self, hold_id: str) -> bool:
        """Whether a reservation that was made here has no end yet."""
        return hold_id in self._open

    async def commit(self, hold_id: str, data: Mapping[str, object] | None = None) -> Receipt | None:
        """End a reservation with what was used; None if the agent does not know it."""
        given = Event.of("x", "x", data).data
        body = encode({} if given is None else {"data": msgspec.Raw(given.encode())})
        answer = await self._end(hold_id, "commit", body)
        return None if answer is None else answer.receipt

    async def release(self, hold_id: str) -> bool:
        """End one whose operation did not start; whether it was open."""
        answer = await self._end(hold_id, "release", b"{}")
        return answer is not None and answer.done

    async def extend(self, hold_id: str, ttl_s: float) -> bool:
        """Let one go on until `ttl_s` from now; whether it was open."""
        check_ttl(ttl_s)
        answer = await self._ask(
            "POST", f"/v1/reservations/{quote(hold_id, safe='')}/extend", encode({"ttl_s": str(ttl_s)})
        )
        return _read(answer, Ended).done

    async def _end(self, hold_id: str, what: str, body: bytes) -> Ended | None:
        answer = await self._ask("POST", f"/v1/reservations/{quote(hold_id, safe='')}/{what}", body)
        ended = None if answer.status == 404 else _read(answer, Ended)
        self._open.discard(hold_id)
        return ended

    async def quotas(self, subject: str) -> tuple[QuotaView, ...] | None:
        """What the agent knows of the subject's limits; None when it knows nothing."""
        answer = await self._ask("GET", f"/v1/quota/{quote(subject, safe='')}")
        return None if answer.status == 404 else tuple(each.view() for each in _read(answer, Quotas).quotas)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return await self._retrying(self._link.request, method, path, body=body, headers=self._carried())

    def _json(self, event: Event) -> bytes:
        fields: dict[str, object] = {"id": event.id or self._next_id(), "type": event.type, "subject": event.subject}
        if event.source is not None:
            fields["source"] = event.source
        if event.time_us is not None:
            fields["time"] = rfc_3339(event.time_us)
        if event.data is not None:
            fields["data"] = msgspec.Raw(event.data.encode())
        return encode(fields)


def _bodies(items: Iterable[bytes]) -> Iterator[bytes]:
    """The items as JSON arrays, each within the bounds of one request."""
    waiting: list[bytes] = []
    size = 0
    for item in items:
        if len(waiting) == MAX_REQUEST_EVENTS or size + len(item) > MAX_REQUEST_BYTES:
            yield b"[" + b",".join(waiting) + b"]"
            waiting, size = [], 0
        waiting.append(item)
        size += len(item)
    if waiting:
        yield b"[" + b",".join(waiting) + b"]"


def _read(answer: Answer, shape: type[Shape]) -> Shape:
    try:
        if answer.status < 300:
            return msgspec.json.decode(answer.body, type=shape)
        problem = msgspec.json.decode(answer.body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Unacceptable(f"this is no agent: it answered {answer.status} with something else") from exc
    raise _error(problem, answer.retry_after_s)


def _error(problem: Problem, retry_after_s: float | None) -> SidemeterError:
    """The error that the agent raised before it became this problem."""
    match problem.status:
        case 503 if problem.code == BufferFull.code:
            return BufferFull(problem.detail, retry_after_s=int(retry_after_s or 1))
        case 503:
            return AgentStopped(problem.detail)
        case 504:
            return InDoubt(problem.detail)
        case 507:
            return StorageRefused(problem.detail)
        case 400 | 413 | 415 | 422:
            return (
                _invalid(problem.errors[0])
                if problem.errors
                else InvalidInput("body", problem.detail, code=problem.code)
            )
    return Unacceptable(f"{problem.code}: {problem.detail}")


def _invalid(rejection: Rejection) -> InvalidInput:
    rule = rejection.message.removeprefix(f"{rejection.field}: ")
    return InvalidInput(rejection.field, rule, code=rejection.code)
