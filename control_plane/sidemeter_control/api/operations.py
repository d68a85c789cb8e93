"""One GraphQL operation, however it came: a query or mutation answered once, a subscription answered again and again."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from inspect import isawaitable
from typing import Any

import msgspec
from graphql import ExecutionResult, GraphQLError, OperationType, execute_root_selection_set

from sidemeter_control.api import refusals
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.context import Context
from sidemeter_control.api.costs import operation_of
from sidemeter_control.api.documents import Operation, parsed, ready
from sidemeter_control.api.live.feeds import Feeds, Rejected
from sidemeter_control.api.live.hub import Hub
from sidemeter_control.api.persisted import Persisted
from sidemeter_control.api.problems import Refused
from sidemeter_control.api.rates import Rates
from sidemeter_control.api.requests import Asked, whole
from sidemeter_control.clock import Clock
from sidemeter_control.errors import ControlError, Forbidden
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope
from sidemeter_control.traces import NO_TRACES, Traces

__all__ = ["Operations", "encoded"]

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
                return await _answered(asked, method, context)

    def is_subscription(self, asked: Asked) -> bool:
        """Whether it goes on. False as well of what is wrong: whoever answers it says so."""
        try:
            operation = operation_of(parsed(whole(asked, self._persisted).query or ""), asked.operation_name)
        except (ControlError, GraphQLError, RecursionError):
            return False
        return operation is not None and operation.operation is OperationType.SUBSCRIPTION

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


async def _answered(asked: Asked, method: str, context: Context) -> dict[str, Any]:
    """The response to what was asked, as far as the key's scopes allow it."""
    operation = ready(asked)
    if isinstance(operation, tuple):
        return _response(None, operation, context)
    kind = operation.operation.operation
    if method == "GET" and kind is OperationType.MUTATION:
        raise Refused(405, "method_not_allowed", "GET is for queries: send POST", {"Allow": "POST"})
    refusal = _refusal(kind, context.key)
    if refusal is not None:
        return _response(None, [refusal], context)
    result = await _executed(operation, context)
    return _response(result.data, result.errors or (), context)


async def _executed(operation: Operation, context: Context) -> ExecutionResult:
    operation.context_value = context
    result = execute_root_selection_set(operation)
    return await result if isawaitable(result) else result


def _refusal(kind: OperationType, key: Key) -> GraphQLError | None:
    needed = _NEEDS.get(kind)
    if needed is None:
        return GraphQLError("a subscription goes on: ask with Accept: text/event-stream, or over a WebSocket")
    if key.allows(needed):
        return None
    cause = Forbidden(f"the key lacks the scope {needed.value}")
    return GraphQLError(str(cause), original_error=cause)


def _response(data: dict[str, Any] | None, errors: Sequence[GraphQLError], context: Context) -> dict[str, Any]:
    if not errors:
        return {"data": data}
    return {"data": data, "errors": [refusals.formatted(error, context.clock) for error in errors]}
