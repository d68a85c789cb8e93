"""POST and GET /graphql: one bounded request with a key in, one answer out, its errors named."""

from decimal import Decimal
from typing import Any

import msgspec
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from sidemeter_control.api import explorer, refusals
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.bounds import MAX_BODY_BYTES
from sidemeter_control.api.context import Context
from sidemeter_control.api.problems import Refused
from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.clock import Clock
from sidemeter_control.errors import Forbidden
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope
from sidemeter_control.traces import NO_TRACES, Traces

__all__ = ["graphql_routes"]

_GET = {OperationType.QUERY}
_NEEDS = {OperationType.QUERY: Scope.READ, OperationType.MUTATION: Scope.WRITE}


class Asked(msgspec.Struct, rename="camel"):
    """A GraphQL request. Its fractions are Decimals from the first byte on."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(Asked, float_hook=Decimal).decode
_decode_variables = msgspec.json.Decoder(dict[str, Any] | None, float_hook=Decimal).decode


def graphql_routes(
    database: Database,
    gate: Gate,
    ingest: Ingest,
    clock: Clock,
    *,
    private_webhooks: bool = False,
    traces: Traces = NO_TRACES,
) -> list[BaseRoute]:
    """`/graphql` for clients and, as a page, for browsers; `/graphql/assets/<name>` for the page.

    `private_webhooks`: alerts may be sent to private addresses.

    Problems leave as `Refused` or as ControlErrors, for the app's `PROBLEM_HANDLERS`.
    """

    async def graphql(request: Request) -> Response:
        if explorer.wanted(request):
            return explorer.page()
        key = await gate.admit(request.headers.get("authorization"), *Scope)
        asked = await _read(request)
        async with Context(database, clock, gate, ingest, key, private_webhooks=private_webhooks) as context:
            with traces.operation(asked.operation_name):
                return _response(await _execute(asked, request.method, context))

    return [Route("/graphql", graphql, methods=["GET", "POST"]), Route("/graphql/assets/{name}", explorer.asset)]


async def _read(request: Request) -> Asked:
    try:
        if request.method == "POST":
            return _decode(await _body(request))
        parameters = request.query_params
        variables = _decode_variables(parameters.get("variables") or "null")
        return Asked(parameters.get("query", ""), variables, parameters.get("operationName"))
    except (msgspec.DecodeError, UnicodeError, ArithmeticError, RecursionError) as exc:
        raise Refused(400, "malformed", f"not a GraphQL request in JSON: {exc}") from exc


async def _body(request: Request) -> bytes:
    media_type, _, _ = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "application/json":
        raise Refused(415, "unsupported_media_type", "send application/json")
    return await read_body(request, max_bytes=MAX_BODY_BYTES, max_decoded_bytes=MAX_BODY_BYTES)


async def _execute(asked: Asked, method: str, context: Context) -> dict[str, Any]:
    """The response to what was asked, as far as the key's scopes allow it."""
    allowed = {operation for operation, scope in _NEEDS.items() if context.key.allows(scope)}
    try:
        result = await SCHEMA.execute(
            asked.query,
            asked.variables,
            context_value=context,
            operation_name=asked.operation_name,
            allowed_operation_types=allowed & _GET if method == "GET" else allowed,
        )
    except InvalidOperationTypeError as exc:
        if method == "GET" and exc.operation_type not in _GET:
            raise Refused(405, "method_not_allowed", "GET is for queries: send POST", {"Allow": "POST"}) from exc
        return _refusal(_lacks(exc.operation_type), context)
    except MissingQueryError:
        return _refusal(GraphQLError("there is no query in the request"), context)
    except CannotGetOperationTypeError as exc:
        return _refusal(GraphQLError(exc.as_http_error_reason()), context)
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [refusals.formatted(error, context.clock) for error in result.errors]}


def _lacks(operation: OperationType) -> GraphQLError:
    needed = _NEEDS.get(operation)
    if needed is None:
        return GraphQLError("there are no subscriptions here")
    cause = Forbidden(f"the key lacks the scope {needed.value}")
    return GraphQLError(str(cause), original_error=cause)


def _refusal(error: GraphQLError, context: Context) -> dict[str, Any]:
    return {"data": None, "errors": [refusals.formatted(error, context.clock)]}


def _response(body: dict[str, Any]) -> Response:
    return Response(_encode(body), media_type="application/json")
