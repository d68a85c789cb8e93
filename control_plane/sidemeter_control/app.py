"""The root: every part made once and handed to the doors that need it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sidemeter_control.api.agents import AgentDoor
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.backups import backup_routes
from sidemeter_control.api.bodies import Room
from sidemeter_control.api.events import event_routes
from sidemeter_control.api.graphql import graphql_routes
from sidemeter_control.api.health import health_routes
from sidemeter_control.api.problems import PROBLEM_HANDLERS, problem
from sidemeter_control.clock import Clock
from sidemeter_control.dashboard import pages
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Meter, Reader
from sidemeter_control.metering.pacing import Pacer
from sidemeter_control.settings import Settings
from sidemeter_control.store.database import Database

__all__ = ["IDLE_S", "build", "keep_on"]

IDLE_S = 1.0
"""How long a loop rests when it finds nothing to do."""

_log = logging.getLogger(__name__)


async def keep_on(once: Callable[[], Awaitable[bool]], clock: Clock, name: str, idle_s: float = IDLE_S) -> None:
    """Do `once` again and again until cancelled; True from it says that there is more to do.

    Then it rests as long as it worked, so that whoever waits for the database gets a turn. A failure is logged, and what
    failed is tried again.
    """
    while True:
        began_s = clock.monotonic_s()
        try:
            more = await once()
        except Exception:  # noqa: BLE001 -- the root: whatever it was, the loop goes on
            _log.exception("%s failed, and is tried again", name)
            more = False
        await asyncio.sleep(clock.monotonic_s() - began_s if more else idle_s)


async def build(
    database: Database, gate: Gate, settings: Settings, clock: Clock, *, reader: Callable[[Meter], Reader] = Reader
) -> ASGIApp:
    """The application on an open, migrated database, whose meters read events with `reader`.

    The caller closes the database after the last request.
    """
    ingest = Ingest(database, clock, settings.max_future_s, reader=reader)
    pacer = Pacer(rate_events_per_s=settings.rate_events_per_s, max_batches=settings.max_batches_at_once)
    agents = AgentDoor(database, gate, ingest, clock, pacer, sync_interval_ms=settings.sync_interval_ms)

    async def unexpected(request: Request, exc: Exception) -> Response:
        incident = clock.new_id("err")
        _log.error("%s: %s %s failed", incident, request.method, request.url.path, exc_info=exc)
        return problem(500, "internal", f"something failed on our side; its id is {incident}")

    return Starlette(
        routes=[
            *agents.routes(),
            *event_routes(gate, ingest, clock),
            *backup_routes(database, gate, clock),
            *graphql_routes(database, gate, ingest, clock),
            *health_routes(database, gate, ingest, agents, clock),
            *pages.routes(),
        ],
        middleware=[Middleware(Room)],
        exception_handlers={**PROBLEM_HANDLERS, Exception: unexpected},
    )
