"""POST, GET and DELETE /session: a page hands over its key or link once, and has a cookie from then on that no script reads."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.api.auth import Gate, Narrow
from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.problems import Refused
from sidemeter_control.api.scalars import Instant, instant_text
from sidemeter_control.clock import Clock
from sidemeter_control.errors import Forbidden
from sidemeter_control.store.keys import Key, Scope

__all__ = ["MAX_BODY_BYTES", "session_routes"]

MAX_BODY_BYTES = 4096
"""A link to a customer with the longest key takes 700."""


class Credential(msgspec.Struct):
    """A key, or the token of a portal link."""

    key: str


class Whose(msgspec.Struct, rename="camel"):
    """What a session is for. `customer`: the only one; null: for all."""

    name: str
    scopes: list[str]
    customer: str | None
    is_portal: bool
    expires_at: str | None


_decode = msgspec.json.Decoder(Credential).decode


def session_routes(gate: Gate, clock: Clock) -> list[BaseRoute]:
    """`/session`, for pages of this server alone: POST `{"key": …}` opens one, GET says whose it is, DELETE ends it."""

    async def door(request: Request) -> Response:
        if not gate.origins.is_from_here(request):
            raise Forbidden("sessions are for these pages alone: send their Origin, or the header Sidemeter-Page")
        if request.method == "POST":
            return await opened(request)
        if request.method == "DELETE":
            return await closed(request)
        return _whose(await gate.let_in(request, *Scope, heeds=tuple(Narrow)))

    async def opened(request: Request) -> Response:
        secret = (await _read(request)).key.strip()
        source = gate.origins.source_of(request)
        key = await gate.admit(f"Bearer {secret}", *Scope, source=source, heeds=tuple(Narrow))
        session = await gate.sessions.open(key, secret)
        response = _whose(key)
        gate.origins.keep(response, session.token, (session.expires_at_us - clock.now_us()) // 1_000_000)
        return response

    async def closed(request: Request) -> Response:
        token = gate.origins.session_of(request)
        if token is not None:
            await gate.sessions.close(token)
        response = Response(status_code=204)
        gate.origins.drop(response)
        return response

    return [Route("/session", door, methods=["GET", "POST", "DELETE"])]


async def _read(request: Request) -> Credential:
    media_type, _, _ = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "application/json":
        raise Refused(415, "unsupported_media_type", "send application/json")
    try:
        return _decode(await read_body(request, max_bytes=MAX_BODY_BYTES, max_decoded_bytes=MAX_BODY_BYTES))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise Refused(400, "malformed", 'send {"key": "…"}') from exc


def _whose(key: Key) -> Response:
    until = None if key.expires_at_us is None else instant_text(Instant(key.expires_at_us))
    scopes = sorted(scope.value for scope in key.scopes)
    whose = Whose(key.name, scopes, key.customer, key.is_link, until)
    return Response(msgspec.json.encode(whose), media_type="application/json")
