"""Whether the control plane lives, whether it can take events, and its figures for Prometheus."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.api.auth import Gate
from sidemeter_control.clock import Clock
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store import agents, dead_letters, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope

__all__ = ["health_routes"]

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def health_routes(database: Database, gate: Gate, ingest: Ingest, clock: Clock) -> list[BaseRoute]:
    """`GET /healthz` and `/readyz` for everybody, `/metrics` for keys with the scope READ."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        async with database.write() as conn:  # a database nobody can write to refuses here, with 503
            await state.get(conn)
        return PlainTextResponse("ready\n")

    async def metrics(request: Request) -> Response:
        await gate.admit(request.headers.get("authorization"), Scope.READ)
        async with database.read() as conn:
            known = await agents.list_all(conn)
            letters = await dead_letters.waiting(conn)
        now_us = clock.now_us()
        registry = CollectorRegistry(auto_describe=False)
        backlog = sum(each.backlog for each in known if each.is_pending(now_us))
        registry.register(_Figures(ingest, backlog, len(known), letters))
        return Response(generate_latest(registry), headers={"Content-Type": _TEXT})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


class _Figures(Collector):
    """The figures of one scrape."""

    def __init__(self, ingest: Ingest, backlog: int, agents_known: int, dead_letters_waiting: int) -> None:
        self._ingest = ingest
        self._backlog = backlog
        self._agents = agents_known
        self._dead_letters = dead_letters_waiting

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        events = CounterMetricFamily("sidemeter_events", "Events, by what became of them.", labels=["outcome"])
        batches = CounterMetricFamily("sidemeter_batches", "Batches, by the answer given.", labels=["status"])
        for outcome, count in self._ingest.events.items():
            events.add_metric([outcome], count)
        for status, count in self._ingest.batches.items():
            batches.add_metric([status.value], count)
        return [
            events,
            batches,
            GaugeMetricFamily("sidemeter_dead_letters", "Dead letters that wait to be replayed.", self._dead_letters),
            GaugeMetricFamily("sidemeter_agents", "Agents that ever said hello.", self._agents),
            GaugeMetricFamily("sidemeter_backlog_events", "Events that agents said they still hold.", self._backlog),
        ]
