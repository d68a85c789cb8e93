"""A control plane in this process, asked over HTTP: a real database, real requests, a clock the test moves."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from alembic import command
from click.testing import CliRunner
from fakes import ManualClock
from postgres import Kind
from sqlalchemy import Connection, create_engine
from starlette.types import ASGIApp

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import build
from sidemeter_control.cli import main
from sidemeter_control.settings import Settings
from sidemeter_control.store import state
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope
from sidemeter_control.store.schema import _config, upgrade

__all__ = ["NOW_US", "Doors", "Plane", "control", "open_database", "open_doors", "plane"]

NOW_US = 1_767_225_600_000_000


def control(*arguments: str, exit_code: int = 0, **environ: str) -> str:
    """What `sidemeter-control` prints, run in this process."""
    unset = {name: None for name in os.environ if name.startswith("SIDEMETER_")}
    done = CliRunner(env=unset | environ).invoke(main, arguments)
    assert isinstance(done.exception, SystemExit | None), done.exc_info
    assert done.exit_code == exit_code, done.output
    return done.output


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
    "updateMeter": "MeterInput",
    "createFeature": "FeatureInput",
    "publishPlan": "PlanInput",
    "upsertCustomer": "CustomerInput",
    "subscribe": "SubscribeInput",
    "grantCredits": "CreditGrantInput",
    "resetCredits": "CreditResetInput",
    "setTopUp": "TopUpInput",
    "createApiKey": "ApiKeyInput",
    "grantAddOn": "AddOnInput",
    "setEntitlement": "EntitlementOverrideInput",
    "setBudget": "BudgetInput",
    "setWebhook": "WebhookInput",
}


def call(mutation: str, select: str) -> str:
    """The text of a mutation with one argument `input`."""
    return f"mutation($input: {INPUTS[mutation]}!) {{ {mutation}(input: $input) {{ {select} }} }}"


@cache
def _migrated() -> bytes:
    """An empty database of the newest schema: to migrate one takes a hundred times as long as to copy it."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "control.db"
        engine = create_engine(f"sqlite+pysqlite:///{path}")
        with engine.begin() as connection:
            upgrade(connection)
        engine.dispose()
        return path.read_bytes()


@asynccontextmanager
async def open_database(directory: Path) -> AsyncIterator[Database]:
    """A new, migrated database in `directory`, or on the server that the test is to be run with."""
    async with AsyncExitStack() as undo:
        if Kind.server is None:
            path = directory / "control.db"
            path.write_bytes(_migrated())
            path.chmod(0o600)
            url = f"sqlite:///{path}"
        else:
            url = await undo.enter_async_context(Kind.server.migrated())
        database = await Database.open(
            url, witness=str(directory / "control.holders"), archive=str(directory / "control.archive")
        )
        undo.push_async_callback(database.close)
        async with database.write() as conn:
            await state.set_generation(conn, f"gen_{token_hex(16)}")  # what is remembered goes by it
        yield database


@asynccontextmanager
async def older_database(directory: Path, revision: str, *statements: str) -> AsyncIterator[Database]:
    """A database that was of that revision, in which these statements were run, and is migrated since."""

    def older(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    database = await Database.open(f"sqlite:///{directory}/older.db")
    try:
        async with database.write() as conn:
            await conn.run_sync(older)
            for statement in statements:
                await conn.exec_driver_sql(statement)
        await database.migrate()
        yield database
    finally:
        await database.close()


def caller(app: ASGIApp, **headers: str) -> httpx.AsyncClient:
    """An HTTP client of the application, without a socket between."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://control.test", headers=headers)


@asynccontextmanager
async def plane(directory: Path) -> AsyncIterator[Plane]:
    """A control plane on a database in `directory`, asked with an admin key."""
    clock = ManualClock()
    async with open_database(directory) as database:
        gate = Gate(database, clock)
        app = await build(database, gate, Settings(), clock)
        async with caller(app, Authorization=f"Bearer {await gate.first_key(None)}") as http:
            yield Plane(database, gate, clock, http)


@dataclass(frozen=True, slots=True)
class Doors:
    """The whole application, and the secret of a key with each scope alone."""

    database: Database
    http: httpx.AsyncClient
    secrets: dict[Scope, str]

    def key(self, scope: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[scope]}"}


@asynccontextmanager
async def open_doors(directory: Path, **settings: Any) -> AsyncIterator[Doors]:
    """A control plane that is asked without a key, unless a test gives one."""
    clock = ManualClock(NOW_US)
    async with open_database(directory) as database:
        gate = Gate(database, clock)
        secrets = {scope: (await gate.make(scope.value, frozenset({scope}), None))[1] for scope in Scope}
        async with caller(await build(database, gate, Settings(**settings), clock)) as http:
            yield Doors(database, http, secrets)
