"""The root: every part made once and handed to the doors that need it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sidemeter_control.api.agents import AgentDoor
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.backups import backup_routes
from sidemeter_control.api.bodies import Room
from sidemeter_control.api.events import event_routes
from sidemeter_control.api.graphql import graphql_routes
from sidemeter_control.api.headers import Headers
from sidemeter_control.api.health import health_routes
from sidemeter_control.api.live.bounds import WAITS, Waits
from sidemeter_control.api.live.hub import Hub
from sidemeter_control.api.measured import Measured
from sidemeter_control.api.operations import Operations
from sidemeter_control.api.problems import PROBLEM_HANDLERS, problem
from sidemeter_control.api.sessions import session_routes
from sidemeter_control.api.turns import InTurn
from sidemeter_control.clock import Clock
from sidemeter_control.dashboard import pages
from sidemeter_control.errors import ArchiveUnavailable, Conflict, StoreUnavailable
from sidemeter_control.limits.alerting import Alerting, sweep_once
from sidemeter_control.limits.delivering import Delivering
from sidemeter_control.limits.doubting import Doubting
from sidemeter_control.limits.foreseeing import Foreseeing
from sidemeter_control.limits.forgetting import forget_deliveries_once, forget_once
from sidemeter_control.limits.posting import Poster
from sidemeter_control.metering import months
from sidemeter_control.metering.archiving import Archiving
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.holders import look_at_start
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Meter, Reader
from sidemeter_control.metering.pacing import Pacer
from sidemeter_control.pricing.closing import Closing
from sidemeter_control.pricing.credits.topping_up import settle_once, top_up_once
from sidemeter_control.settings import Settings
from sidemeter_control.store.database import Database
from sidemeter_control.traces import NO_TRACES, Traces

__all__ = ["Loop", "build", "loops", "repeat"]

FOLLOWS_AFTER_S: Final = 1.0
"""How soon one that does nothing of it looks whether it is its turn now."""

_log = logging.getLogger(__name__)


async def build(
    database: Database,
    gate: Gate,
    settings: Settings,
    clock: Clock,
    *,
    hub: Hub | None = None,
    waits: Waits = WAITS,
    reader: Callable[[Meter], Reader] = Reader,
    traces: Traces = NO_TRACES,
) -> ASGIApp:
    """The application on an open, migrated database, whose meters read events with `reader`; `hub` tells who subscribes,
    and waits for them as `waits` says.

    Requests are told to `traces`. The caller closes the hub, then, after the last request, the database.
    """
    await look_at_start(database, clock)
    ingest = Ingest(database, clock, settings.max_future_s, reader=reader, traces=traces)
    pacer = Pacer(rate_events_per_s=settings.rate_events_per_s, max_batches=settings.max_batches_at_once)
    operations = Operations(
        database,
        gate,
        ingest,
        hub or Hub(database, clock),
        clock,
        requests_per_s=settings.requests_per_s,
        private_webhooks=settings.private_webhooks,
        traces=traces,
    )
    agents = AgentDoor(database, gate, ingest, clock, pacer, sync_interval_ms=settings.sync_interval_ms)
    measured = Measured(clock)

    async def unexpected(request: Request, exc: Exception) -> Response:
        incident = clock.new_id("err")
        _log.error(
            "%s: %s %s failed",
            incident,
            request.method,
            request.url.path,
            exc_info=exc,
            extra={"incident_id": incident},
        )
        return problem(500, "internal", f"something failed on our side; its id is {incident}")

    app = Starlette(
        routes=[
            *graphql_routes(gate, operations, waits),  # who is asked for most is looked for first
            *agents.routes(),
            *event_routes(database, gate, ingest, clock),
            *backup_routes(database, gate, clock),
            *health_routes(database, gate, ingest, agents, clock, measured=measured),
            *session_routes(gate, clock),
            *pages.routes(),
        ],
        middleware=[Middleware(Room)],
        exception_handlers={**PROBLEM_HANDLERS, Exception: unexpected},
    )
    guarded = InTurn(Headers(_with_cors(app, settings), tls=gate.origins.is_secure))
    return traces.answering(measured.around(guarded))


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Pages of other sites may ask with a key of their own where a setting says so; never with a session."""
    if not settings.allowed_origins:
        return app
    asked = ("Authorization", "Content-Type")
    return CORSMiddleware(app, settings.allowed_origins, allow_methods=("GET", "POST"), allow_headers=asked)


@dataclass(frozen=True, slots=True)
class Loop:
    """Something done again and again, `every_s` seconds after it was done.

    `until_done`: while it answers that it did something it goes on sooner, after a rest as long as its turn was, so that
    ingest, which has the same one writer, has every other one. Of several control planes on one database one does it, which
    others take up as they find it; `everywhere`: each does its own.
    """

    name: str
    once: Callable[[], Awaitable[object]]
    every_s: float
    until_done: bool = False
    everywhere: bool = False


def loops(database: Database, settings: Settings, clock: Clock, gate: Gate) -> Sequence[Loop]:
    """What is done in the background while the control plane runs, each for `repeat`."""
    closing = Closing(database, clock, settings.close_after_s)
    delivering = Delivering(database, clock, Poster(private=settings.private_webhooks).post)
    return (
        Loop("filling meters", lambda: fill_once(database, clock), every_s=1, until_done=True),
        Loop("closing billing periods", closing.once, every_s=30, until_done=True),
        Loop("topping credits up", lambda: top_up_once(database, clock), every_s=10),
        Loop("forgetting leases", lambda: forget_once(database, clock), every_s=600, until_done=True),
        Loop("raising alerts", Alerting(database, clock).once, every_s=1),
        Loop("looking for leases in doubt", Doubting(database, clock).once, every_s=30),
        Loop("sending alerts", delivering.once, every_s=1, until_done=True),
        Loop("looking at every customer for alerts", lambda: sweep_once(database, clock), every_s=600),
        Loop("forgetting deliveries", lambda: forget_deliveries_once(database), every_s=600, until_done=True),
        Loop("looking ahead for alerts", Foreseeing(database, clock).once, every_s=10, until_done=True),
        Loop("noting when keys were used", gate.note_uses_once, every_s=60, everywhere=True),
        *_archiving(database, settings, clock),
        Loop("settling credits", lambda: settle_once(database, clock), every_s=3600),
    )


def _archiving(database: Database, settings: Settings, clock: Clock) -> Sequence[Loop]:
    days = settings.archive_after_days
    if not days:
        return ()
    archiving = Archiving(database, clock, lambda: months.due_before(clock.now_us(), days))
    return (Loop("archiving events", archiving.once, every_s=600, until_done=True),)


async def repeat(loop: Loop, clock: Clock, leads: Callable[[], bool] = lambda: True) -> None:
    """The one loop, until it is cancelled. What escapes `once` is a fault of ours or of the disk: say so, and go on.

    `leads`: whether what one control plane does is this one's to do.
    """
    while True:
        if not (loop.everywhere or leads()):
            await asyncio.sleep(FOLLOWS_AFTER_S)
            continue
        began_s, done = clock.monotonic_s(), False
        try:
            done = bool(await loop.once())
        except StoreUnavailable as exc:
            _log.warning("%s waits for the database: %s", loop.name, exc)
        except ArchiveUnavailable as exc:
            _log.warning("%s waits for a file: %s", loop.name, exc)
        except Conflict as exc:
            _log.warning("%s is left to another: %s", loop.name, exc)
        except Exception:  # noqa: BLE001 -- a loop that ends would end in silence
            incident = clock.new_id("err")
            _log.exception("%s: %s failed, and is tried again", incident, loop.name, extra={"incident_id": incident})
        rest_s = clock.monotonic_s() - began_s if done and loop.until_done else loop.every_s
        await asyncio.sleep(rest_s)
