"""A control plane's application in this process, with a caller for each scope."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from fakes import ManualClock

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import build
from sidemeter_control.settings import Settings
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope

NOW_US = 1_767_225_600_000_000


@dataclass(frozen=True, slots=True)
class Plane:
    """The application, and the secret of a key with each scope alone."""

    database: Database
    http: httpx.AsyncClient
    secrets: dict[Scope, str]

    def key(self, scope: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[scope]}"}


@contextlib.asynccontextmanager
async def open_plane(directory: Path) -> AsyncIterator[Plane]:
    """Everything that `serve` builds, without the server."""
    clock = ManualClock(NOW_US)
    database = await Database.open(f"sqlite:///{directory}/control.db")
    try:
        await database.migrate()
        gate = Gate(database, clock)
        secrets = {scope: (await gate.make(scope.value, frozenset({scope}), None))[1] for scope in Scope}
        app = await build(database, gate, Settings(), clock)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://plane") as http:
            yield Plane(database, http, secrets)
    finally:
        await database.close()
