"""One GraphQL operation, however it came: a query or mutation answered once, a subscription answered again and again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from graphql import GraphQLError
from graphql import OperationType as Kind
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from sidemeter_control.api import refusals
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.context import Context
from sidemeter_control.api.costs import operation_of
from sidemeter_control.api.documents import parsed
from sidemeter_control.api.live.feeds import Feeds, Rejected
from sidemeter_control.api.live.hub import Hub
from sidemeter_control.api.persisted import Persisted
from sidemeter_control.api.problems import Refused
from sidemeter_control.api.rates import Rates
from sidemeter_control.api.requests import Asked, whole
from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.clock import Clock
from sidemeter_control.errors import ControlError, Forbidden
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope
from sidemeter_control.traces import NO_TRACES, Traces

__all__ = ["Operations", "encoded"]

_GET = {OperationType.QUERY}
_NEEDS = {OperationType.QUERY: Scope.READ, OperationType.MUTATION: Scope.WRITE}

encoded = msgspec.json.Encoder(decimal_format="number").encode
"""A response as JSON."""


class Operations:
    """What `/graphql` does, for every way to it. `requests_per_s`: of one key; 0: as many as it likes."""

    def __init__(
        self,
        database: Database,
        gate: Gate,
        ingest: Ingest,
        hub: Hub,
        clock: Clock,
        *,
        requests_per_s: int = 0,
        private_webhooks: bool = False,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.clock, self.hub, self.places = clock, hub, hub.places
        self._database, self._gate, self._ingest = database, gate, ingest
        self._private_webhooks, self._traces = private_webhooks, traces
        self._persisted = Persisted()
        self._rates = Rates(clock, requests_per_s)
        self.feeds = Feeds(hub, clock, self.context)

    def context(self, key: Key) -> Context:
        """What one answer to a key shares."""
        return Context(
            self._database,
            self.clock,
            self._gate,
            self._ingest,
            key,
            hub=self.hub,
            private_webhooks=self._private_webhooks,
        )

    async def answer(self, asked: Asked, key: Key, method: str = "POST") -> dict[str, Any]:
        """The response to a query or a mutation. RateLimited, Refused: it never gets that far."""
        self._rates.take(key.id)
        try:
            asked = whole(asked, self._persisted)
        except ControlError as exc:
            return {"data": None, "errors": [refusals.of(exc, self.clock)]}
        async with self.context(key) as context:
            with self._traces.operation(asked.operation_name):
                return await _execute(asked, method, context)

    def is_subscription(self, asked: Asked) -> bool:
        """Whether it goes on. False as well of what is wrong: whoever answers it says so."""
        try:
            operation = operation_of(parsed(whole(asked, self._persisted).query or ""), asked.operation_name)
        except (ControlError, GraphQLError, RecursionError):
            return False
        return operation is not None and operation.operation is Kind.SUBSCRIPTION

    async def messages(self, asked: Asked, key: Key) -> AsyncGenerator[bytes, None]:
        """The responses to any operation, as JSON: one to a query or a mutation, one after the other to a subscription.

        Ends with Rejected when there is none, and with the error that ended it.
        """
        if not self.is_subscription(asked):
            body = await self.answer(asked, key)
            if body["data"] is None and not any("path" in each for each in body["errors"]):
                raise Rejected(body["errors"])
            yield encoded(body)
            return
        self._rates.take(key.id)
        async with aclosing(self.feeds.messages(whole(asked, self._persisted), key)) as messages:
            async for message in messages:
                yield message


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
        if method == "GET" and exc.operation_type is OperationType.MUTATION:
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
        return GraphQLError("a subscription goes on: ask with Accept: text/event-stream, or over a WebSocket")
    cause = Forbidden(f"the key lacks the scope {needed.value}")
    return GraphQLError(str(cause), original_error=cause)


def _refusal(error: GraphQLError, context: Context) -> dict[str, Any]:
    return {"data": None, "errors": [refusals.formatted(error, context.clock)]}
