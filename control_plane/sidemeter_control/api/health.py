"""Whether the control plane lives, whether it can take events, and its figures for Prometheus."""

import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.api.agent_messages import PROTOCOL
from sidemeter_control.api.agents import AgentDoor
from sidemeter_control.api.auth import Gate
from sidemeter_control.api.measured import Measured
from sidemeter_control.clock import Clock
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.store import agents, archived, dead_letters, leases, losses, recoveries
from sidemeter_control.store.agents import Agent, AgentState
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope

__all__ = ["health_routes"]

_RECOVERING = "recovering: nothing more is granted of hard limits until all that was granted is known, or endRecovery\n"

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


_VERSION = importlib.metadata.version("sidemeter")


class About(msgspec.Struct, frozen=True, rename="camel"):
    """What a control plane says of itself to whoever has a key: who it is, what it speaks, its time, the key's scopes."""

    version: str
    protocol: str
    now_us: int
    scopes: tuple[str, ...]


_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the database says of agents at the moment of a scrape."""

    agents: Sequence[Agent]
    dead_letters: int
    losses: losses.Known
    leases: leases.Figures
    is_recovering: bool
    archive: archived.Known
    now_us: int


def health_routes(
    database: Database, gate: Gate, ingest: Ingest, door: AgentDoor, clock: Clock, *, measured: Measured
) -> list[BaseRoute]:
    """`GET /healthz` and `/readyz` for everybody, `/metrics` for keys with the scope READ, `/v1/about` for any key."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        async with database.write() as conn:  # a database nobody can write to refuses here, with 503
            recovering = await recoveries.current(conn) is not None
        return PlainTextResponse("ready\n" + (_RECOVERING if recovering else ""))

    async def metrics(request: Request) -> Response:
        await gate.let_in(request, Scope.READ)
        async with database.read() as conn:
            stored = _Stored(
                agents=await agents.list_all(conn),
                dead_letters=await dead_letters.waiting(conn),
                losses=await losses.known(conn),
                leases=await leases.figures(conn, clock.now_us() - agents.PENDING_WITHIN_US),
                is_recovering=await recoveries.current(conn) is not None,
                archive=await archived.known(conn),
                now_us=clock.now_us(),
            )
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Figures(ingest, door, stored, measured))
        ProcessCollector(registry=registry)
        return Response(generate_latest(registry), headers={"Content-Type": _TEXT})

    async def about(request: Request) -> Response:
        key = await gate.admit(request.headers.get("authorization"), *Scope)
        scopes = tuple(sorted(scope.value for scope in key.scopes))
        return Response(_encode(About(_VERSION, PROTOCOL, clock.now_us(), scopes)), media_type="application/json")

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/v1/about", about),
    ]


class _Figures(Collector):
    """The figures of one scrape."""

    def __init__(self, ingest: Ingest, door: AgentDoor, stored: _Stored, measured: Measured) -> None:
        self._ingest = ingest
        self._door = door
        self._stored = stored
        self._measured = measured

    def collect(self) -> list[Metric]:
        """What was counted since the start, then what is stored now."""
        build = InfoMetricFamily("sidemeter_build", "The version that runs.", {"version": _VERSION})
        return [
            build,
            *self._counted(),
            *self._measured.figures(),
            *self._pace(),
            *self._now(),
            *self._leases(),
            *self._archive(),
        ]

    def _counted(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        ingest, syncs = self._ingest, {status.value: count for status, count in self._door.syncs.items()}
        batches = {status.value: count for status, count in ingest.batches.items()}
        return [
            _labelled("sidemeter_events", "Events, by what became of them.", "outcome", ingest.events),
            _labelled("sidemeter_batches", "Batches, by the answer given.", "status", batches),
            _labelled("sidemeter_syncs", "Syncs, by the answer given; FENCED are clones of an agent.", "status", syncs),
            CounterMetricFamily(
                "sidemeter_rollbacks",
                "Times that agents showed this database to be an older copy, so that it took a new generation.",
                ingest.rollbacks.noticed,
            ),
        ]

    def _pace(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        door, pacer = self._door, self._door.pacer
        return [
            _labelled("sidemeter_sent_away", "Batches told to come later, unread.", "reason", door.sent_away),
            GaugeMetricFamily(
                "sidemeter_announced_events_per_second",
                "Events a second that all agents together may send.",
                pacer.announced_events_per_s,
            ),
            GaugeMetricFamily("sidemeter_batches_inside", "Batches that are worked on.", pacer.inside),
            GaugeMetricFamily("sidemeter_agents_in_line", "Agents that wait for their turn.", pacer.waiting_agents),
        ]

    def _now(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        stored = self._stored
        states = Counter(each.state(stored.now_us).value for each in stored.agents)
        backlog = sum(each.backlog for each in stored.agents if each.is_pending(stored.now_us))
        by_state = GaugeMetricFamily("sidemeter_agents_by_state", "Agents, by how they are doing.", labels=["state"])
        for each in AgentState:
            by_state.add_metric([each.value], states[each.value])
        return [
            GaugeMetricFamily("sidemeter_dead_letters", "Dead letters that wait to be replayed.", stored.dead_letters),
            GaugeMetricFamily("sidemeter_agents", "Agents that ever said hello.", len(stored.agents)),
            by_state,
            GaugeMetricFamily("sidemeter_backlog_events", "Events that agents said they still hold.", backlog),
            GaugeMetricFamily(
                "sidemeter_loss_declarations", "Losses that agents declared.", stored.losses.declarations
            ),
            GaugeMetricFamily(
                "sidemeter_lost_events", "Events lost, of losses whose number is known.", stored.losses.events
            ),
        ]

    def _archive(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        known = self._stored.archive
        return [
            GaugeMetricFamily("sidemeter_archive_files", "Files of archived events.", known.files),
            GaugeMetricFamily("sidemeter_archive_events", "Events that are in files of the archive.", known.events),
            GaugeMetricFamily("sidemeter_archive_bytes", "What the files of the archive take.", known.size_bytes),
            GaugeMetricFamily(
                "sidemeter_archive_data_bytes", "What these events took of the database.", known.data_bytes
            ),
        ]

    def _leases(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        stored, syncs = self._stored, {status.value: count for status, count in self._door.lease_syncs.items()}
        holders = GaugeMetricFamily(
            "sidemeter_lease_holders", "Epochs of agents, by what became of them.", labels=["state"]
        )
        for standing, count in stored.leases.holders.items():
            holders.add_metric([standing.value], count)
        return [
            _labelled(
                "sidemeter_denials", "What agents said they refused, by reason.", "reason", self._door.denials.by_reason
            ),
            _labelled("sidemeter_lease_syncs", "Syncs that told of leases, by the answer given.", "status", syncs),
            holders,
            GaugeMetricFamily("sidemeter_lease_pools", "Limits and periods that leases are of.", stored.leases.pools),
            GaugeMetricFamily(
                "sidemeter_leases_held",
                "Parts of limits that are not used up, of holders that may spend them.",
                stored.leases.held,
            ),
            GaugeMetricFamily(
                "sidemeter_leases_in_doubt",
                "Parts of limits that are not used up, of holders that are gone.",
                stored.leases.in_doubt,
            ),
            GaugeMetricFamily(
                "sidemeter_leases_stranded",
                "Those of them whose agent was not heard of for ten minutes: nobody is left to return them.",
                stored.leases.stranded,
            ),
            GaugeMetricFamily(
                "sidemeter_recovering",
                "1 while nothing is granted of hard limits, because this database is an older copy of itself.",
                int(stored.is_recovering),
            ),
        ]


def _labelled(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
