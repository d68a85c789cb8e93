"""POST /v1/events: events straight from a caller, stored and counted before the answer."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.api.auth import Gate, Narrow
from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.problems import MEDIA_TYPE, Refused
from sidemeter_control.api.reach import check_events
from sidemeter_control.clock import Clock
from sidemeter_control.metering.events import BadEvent
from sidemeter_control.metering.formats import Form, ReadEvents, Rejection, form_of, read_binary, read_events
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store import customers
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope

__all__ = ["MAX_BODY_BYTES", "event_routes"]

MAX_BODY_BYTES = 8 * 1024 * 1024

_STATUS = {"malformed": 400, "too_many": 413}


class Accepted(msgspec.Struct, frozen=True):
    """What became of the events. A dead letter is an accepted event too: kept, and not counted yet."""

    accepted: int
    duplicates: int
    rejected: Sequence[Rejection]
    durability: str = "disk"


class NothingValid(msgspec.Struct, frozen=True):
    """The problem of a request without one valid event."""

    errors: Sequence[Rejection]
    type: str = "urn:sidemeter:problem:invalid_input"
    title: str = "Unprocessable Content"
    status: int = 422
    detail: str = "no event keeps every rule"
    code: str = "invalid_input"


def event_routes(database: Database, gate: Gate, ingest: Ingest, clock: Clock) -> list[BaseRoute]:
    """`POST /v1/events`, for keys with the scope AGENT or WRITE."""

    async def owners(subjects: Iterable[str]) -> Mapping[str, str]:
        async with database.read() as conn:
            return await customers.owners(conn, subjects)

    async def door(request: Request) -> Response:
        key = await gate.let_in(request, Scope.AGENT, Scope.WRITE, heeds=(Narrow.CUSTOMER, Narrow.SERVICE))
        found = await _read(request, clock)
        await check_events(owners, key, [(event.source, event.subject) for event in found.events])
        if found.rejected and not found.events:
            return Response(msgspec.json.encode(NothingValid(found.rejected)), 422, media_type=MEDIA_TYPE)
        done = await ingest.record(found.events)
        accepted = Accepted(done.accepted + done.dead_letters, done.duplicates, found.rejected)
        return Response(msgspec.json.encode(accepted), 202, media_type="application/json")

    return [Route("/v1/events", door, methods=["POST"])]


async def _read(request: Request, clock: Clock) -> ReadEvents:
    headers = request.headers
    form = form_of(headers.get("content-type", ""))
    if form is None:
        raise Refused(415, "unsupported_media_type", f"send one of {', '.join(each.value for each in Form)}")
    body = await read_body(request, max_bytes=MAX_BODY_BYTES, max_decoded_bytes=MAX_BODY_BYTES)
    if "ce-specversion" in headers:
        attributes = {name[3:]: text for name, text in headers.items() if name.startswith("ce-")}
        return read_binary(attributes, form, body, clock.now_us())
    try:
        return read_events(form, body, lambda: clock.new_id("event"), clock.now_us())
    except BadEvent as exc:
        raise Refused(_STATUS[exc.code], exc.code, str(exc)) from exc
