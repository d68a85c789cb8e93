"""A control plane in this process, asked over HTTP: real SQLite, real requests, a clock the test moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fakes import ManualClock
from starlette.applications import Starlette

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.graphql import graphql_routes
from sidemeter_control.api.problems import PROBLEM_HANDLERS
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope

__all__ = ["Plane", "plane"]


class Plane:
    """What a test holds of a running control plane."""

    def __init__(self, database: Database, gate: Gate, clock: ManualClock, http: httpx.AsyncClient) -> None:
        self.database = database
        self.gate = gate
        self.clock = clock
        self.http = http

    async def post(self, query: str, *, key: str | None = None, **variables: object) -> dict[str, Any]:
        """The whole GraphQL answer; `key` in place of the admin's."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        answer = await self.http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The answer's data; an error fails the test."""
        body = await self.post(query, **variables)
        assert "errors" not in body, body["errors"]
        return body["data"]

    async def refusal(self, query: str, **variables: object) -> dict[str, Any]:
        """The one error of an answer without data."""
        body = await self.post(query, **variables)
        assert not any((body["data"] or {}).values()), body
        (error,) = body["errors"]
        return error

    async def make(self, mutation: str, select: str = "__typename", **fields: object) -> Any:
        """Run a mutation with one argument `input`; answers what was selected of its result."""
        return (await self.ask(call(mutation, select), input=fields))[mutation]

    async def key(self, *scopes: Scope) -> str:
        """The secret of a new key."""
        _, secret = await self.gate.make("test", frozenset(scopes), None)
        return secret


INPUTS = {
    "createMeter": "MeterInput",
    "createFeature": "FeatureInput",
    "publishPlan": "PlanInput",
    "upsertCustomer": "CustomerInput",
    "subscribe": "SubscribeInput",
    "createApiKey": "ApiKeyInput",
}


def call(mutation: str, select: str) -> str:
    """The text of a mutation with one argument `input`."""
    return f"mutation($input: {INPUTS[mutation]}!) {{ {mutation}(input: $input) {{ {select} }} }}"


@asynccontextmanager
async def plane(directory: Path) -> AsyncIterator[Plane]:
    """A control plane on a database in `directory`, asked with an admin key."""
    clock = ManualClock()
    database = await Database.open(f"sqlite:///{directory}/control.db")
    try:
        await database.migrate()
        gate = Gate(database, clock)
        routes = graphql_routes(database, gate, Ingest(database, clock), clock)
        app = Starlette(routes=routes, exception_handlers=PROBLEM_HANDLERS)
        secret = await gate.first_key(None)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://control.test",
            headers={"Authorization": f"Bearer {secret}"},
        ) as http:
            yield Plane(database, gate, clock, http)
    finally:
        await database.close()
