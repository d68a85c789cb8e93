"""The control plane by itself, on SQLite or PostgreSQL, driven over HTTP."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal

from postgres import in_use
from processes import ADMIN_KEY, ControlPlane, control_plane

from .harness import Bench, Figure, at_least, at_most, latency, rate, timed
from .load import UNBOUNDED, Load, load, post
from .postgres_copy import SUBJECTS, durable_server
from .traffic import CUSTOMER, PERIOD_BEGAN_DAYS_AGO, cost_of, prove_usage, sell
from .wire import BATCH_EVENTS, agent_door, numbered

__all__ = ["ingest", "ingest_on_postgres", "live_cost", "replicas"]

MOST_BATCHES_PER_S = 30
CONNECTIONS = 8
REPLICAS = (1, 2, 4)
DAY_US = 86_400_000_000
FEW, MANY = 10_000, 10_000_000

COST = """
query($customer: ID!) {
  customer(key: $customer) { cost { total { rounded currency } lines { charge quantity amount { amount rounded } } } }
}
"""


async def ingest(bench: Bench) -> list[Figure]:
    """Batches of one agent, one at a time; afterwards one of them again in another epoch, which changes nothing."""
    now_us = time.time_ns() // 1000

    def nth(n: int) -> tuple[str, int]:
        return f"customer-{n % SUBJECTS}", now_us + n

    samples: list[float] = []
    async with control_plane(bench.directory) as plane, agent_door(plane) as door:
        await sell(plane)
        bodies = await door.sealed(math.ceil(MOST_BATCHES_PER_S * bench.seconds), nth)
        with timed() as elapsed:
            for body in bodies:
                with timed() as took:
                    await door.send("batch", body)
                samples.append(took())
                if elapsed() >= bench.seconds:
                    break
        again = await door.send("batch", (await door.sealed(1, nth))[0])
        bench.prove("duplicates of a batch sent again", found=again["duplicates"], expected=BATCH_EVENTS)
        await prove_usage(bench, plane, BATCH_EVENTS * len(samples))
    events = BATCH_EVENTS * len(samples)
    return [
        rate("control plane: ingest, 3 meters", events, elapsed(), reach=at_least(60_000), reference="sqlite-keys"),
        latency("control plane: a batch of 5,000", samples, "ms", reference="commit"),
    ]


async def ingest_on_postgres(bench: Bench) -> list[Figure]:
    """The same on PostgreSQL, beside it on this machine and on the disk that SQLite's file is on otherwise."""
    with durable_server() as server, in_use(server):
        throughput, batch = await ingest(bench)
    of_postgres = {"reach": at_least(40_000), "reference": "postgres-copy"}
    return [
        replace(throughput, name=f"{throughput.name}, on PostgreSQL", **of_postgres),
        replace(batch, name=f"{batch.name}, on PostgreSQL"),
    ]


async def live_cost(bench: Bench) -> list[Figure]:
    """What one customer owes now, asked over and over; with --full also after a thousand times the events."""
    async with control_plane(bench.directory, **UNBOUNDED) as plane:
        await sell(plane)
        came = await _asked(bench, plane, FEW)
        figures = [
            rate(
                "GraphQL: live cost, 3 charges, 10 k events",
                came.answers,
                came.seconds,
                "requests/s",
                reach=at_least(1_000),
                reference="strawberry",
            ),
            latency("GraphQL: live cost, 10 k events", came.samples_s, "ms", of="p99", reach=at_most(10)),
        ]
        if bench.full:
            more = await _asked(bench, plane, MANY)
            slower = Figure(
                name="GraphQL: live cost, 10 M events to 10 k",
                value=more.seconds * came.answers / (more.answers * came.seconds),
                unit="times the time",
                reach=at_most(1.2),
            )
            many = [
                rate(
                    "GraphQL: live cost, 3 charges, 10 M events",
                    more.answers,
                    more.seconds,
                    "requests/s",
                    reach=at_least(1_000),
                ),
                latency("GraphQL: live cost, 10 M events", more.samples_s, "ms", of="p99", reach=at_most(10)),
            ]
            figures += [*many, slower]
    return figures


async def _asked(bench: Bench, plane: ControlPlane, events: int) -> Load:
    """Store `events` over the whole billing period, those of an earlier call among them; then ask what they cost."""
    began_us = time.time_ns() // 1000 - PERIOD_BEGAN_DAYS_AGO * DAY_US
    chance = random.Random(1)

    def nth(_: int) -> tuple[str, int]:
        return CUSTOMER, began_us + chance.randrange(DAY_US, PERIOD_BEGAN_DAYS_AGO * DAY_US)

    async with agent_door(plane) as door:
        await door.stream(numbered(range(events), nth))
    return await _cost(bench, [plane], events)


async def _cost(bench: Bench, planes: Sequence[ControlPlane], events: int) -> Load:
    """Prove what so many events cost, and ask it of every control plane at once."""
    plane, *_ = planes
    await prove_usage(bench, plane, events)
    cost = (await plane.ask(COST, customer=CUSTOMER))["customer"]["cost"]
    bench.prove("cost by GraphQL", found=Decimal(cost["total"]["rounded"]), expected=cost_of(events))

    request = post(
        "/graphql", {"query": COST, "variables": {"customer": CUSTOMER}}, {"Authorization": f"Bearer {ADMIN_KEY}"}
    )
    total = f'"{cost["total"]["rounded"]}"'.encode()
    came = await asyncio.gather(
        *(
            load(
                ("127.0.0.1", each.port),
                request,
                expect=total,
                connections=CONNECTIONS // len(planes),
                seconds=bench.seconds,
            )
            for each in planes
        )
    )
    return Load([each for one in came for each in one.samples_s], max(one.seconds for one in came))


async def replicas(bench: Bench) -> list[Figure]:
    """The same question, to one, two and four control planes that share a database of PostgreSQL."""
    figures = []
    with durable_server() as server, in_use(server):
        async with AsyncExitStack() as planes:
            first = await planes.enter_async_context(control_plane(bench.directory, **UNBOUNDED))
            await sell(first)
            serving = [first]
            for many in REPLICAS:
                while len(serving) < many:
                    serving.append(await planes.enter_async_context(_beside(bench, first, len(serving))))
                came = await (_asked(bench, first, FEW) if many == 1 else _cost(bench, serving, FEW))
                name = f"GraphQL: live cost, 3 charges, on PostgreSQL, {many} control plane{'s' * (many > 1)}"
                figures.append(rate(name, came.answers, came.seconds, "requests/s", reference="strawberry"))
    return figures


@asynccontextmanager
async def _beside(bench: Bench, first: ControlPlane, number: int) -> AsyncIterator[ControlPlane]:
    """One more control plane on the same database."""
    directory = bench.directory / str(number)
    directory.mkdir()
    with ControlPlane(directory, server_url=str(first.kept_in), **UNBOUNDED) as plane:
        async with plane.http:
            await plane.start()
            yield plane
