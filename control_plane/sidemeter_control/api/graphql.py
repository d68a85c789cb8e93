"""`/graphql`: a bounded request with a key in, one answer out, or one that goes on."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sidemeter_control.api import explorer
from sidemeter_control.api.auth import Gate, Narrow
from sidemeter_control.api.bodies import release
from sidemeter_control.api.live import sse
from sidemeter_control.api.live.bounds import Waits
from sidemeter_control.api.live.sockets import Socket
from sidemeter_control.api.operations import Operations, encoded
from sidemeter_control.api.problems import answer_problem
from sidemeter_control.api.requests import read
from sidemeter_control.errors import Busy
from sidemeter_control.store.keys import Key, Scope

__all__ = ["graphql_routes"]

_HEEDS = tuple(Narrow)
"""`reach` keeps narrow keys to what they are for."""


def graphql_routes(gate: Gate, operations: Operations, waits: Waits) -> list[BaseRoute]:
    """`/graphql` for clients and, as a page, for browsers; `/graphql/assets/<name>` for the page.

    Problems leave as `Refused` or as ControlErrors, for the app's `PROBLEM_HANDLERS`.
    """

    async def graphql(request: Request) -> Response:
        if explorer.wanted(request):
            return explorer.page()

        async def admit() -> Key:
            return await gate.let_in(request, *Scope, heeds=_HEEDS)

        key = await admit()
        asked = await read(request)
        if sse.wanted(request) and (request.method == "POST" or operations.is_subscription(asked)):
            release(request)
            return sse.EventStream(operations, asked, admit, waits)
        return _response(request, encoded(await operations.answer(asked, key, request.method)))

    async def socket(websocket: WebSocket) -> None:
        async def admit(header: str | None) -> Key:
            if header is None:
                return await gate.let_in(websocket, *Scope, heeds=_HEEDS)
            source = gate.origins.source_of(websocket)
            return await gate.admit(header, *Scope, source=source, heeds=_HEEDS)

        try:
            with operations.places.stream():
                await Socket(websocket, operations, admit, waits).serve()
        except Busy as exc:
            await websocket.send_denial_response(await answer_problem(Request({"type": "http"}), exc))

    return [
        Route("/graphql", graphql, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", socket),
        Route("/graphql/assets/{name}", explorer.asset),
    ]


def _response(request: Request, body: bytes) -> Response:
    """An answer to GET has a name, so that who asks again takes no more than that it is the same."""
    if request.method != "GET":
        return Response(body, media_type="application/json")
    named = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": named, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie, Accept"}
    asked_for = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if named in asked_for:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
