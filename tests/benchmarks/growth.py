"""What an event more, and an answer, cost when ever more events are stored: one control plane on SQLite, filled step by step."""

import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from processes import ADMIN_KEY, ControlPlane, control_plane

from .chart import Line, Panel, Point
from .harness import Bench, Figure, Percentiles, at_most, latency, timed
from .load import UNBOUNDED, load, post
from .traffic import CUSTOMER, KINDS, PERIOD_BEGAN_DAYS_AGO, cost_of, prove_usage, sell
from .wire import BATCH_EVENTS, Door, agent_door, numbered

__all__ = ["SUBJECTS", "growth", "panels"]

SUBJECTS = 100
THEIRS = range(17, KINDS, SUBJECTS)
"""The numbers of the customer's own events in each thousand."""
SIZES, SIZES_FULL = (10_000, 100_000), (10_000, 1_000_000, 10_000_000)
DAY_US = 86_400_000_000
FEWEST_BATCHES, MOST_BATCHES = 3, 20
"""That are measured at a size, and at most half as many as are stored."""
INGEST, ANSWER, FILE = "growth: an event ingested", "growth: live cost, one connection", "growth: file"
HOW = (
    "filled through the agents' door of a running control plane, in batches of 5,000, each size evenly over the billing period"
    f" and {SUBJECTS} customers"
)

COST = """
query($customer: ID!) {
  customer(key: $customer) { cost { total { rounded currency } lines { charge quantity amount { amount rounded } } } }
}
"""


async def growth(bench: Bench) -> list[Figure]:
    """At each size: some batches more, then what one customer owes, asked over and over; all totals are proven each time."""
    figures: list[Figure] = []
    stored = 0
    bench.told.append(HOW)
    async with control_plane(bench.directory, **UNBOUNDED) as plane, agent_door(plane) as door:
        await sell(plane)
        empty = _bytes(plane)
        for size in sorted(bench.scale.sizes or (SIZES_FULL if bench.full else SIZES)):
            with timed() as filling:
                await door.stream(numbered(range(stored, size), _spread(stored, size)))
            per_event, stored = await _ingested(bench, door, max(size, stored))
            await prove_usage(bench, plane, stored)
            answers = await _answered(bench, plane, stored)
            file = Figure(
                name=FILE, value=(_bytes(plane) - empty) / stored, unit="MB per million events", stored=stored
            )
            figures += [per_event, answers, file]
            bench.told.append(_row(figures[-3:], size, filling()))
    return figures


def _spread(first: int, end: int) -> Callable[[int], tuple[str, int]]:
    """Events `first` to `end` in order of time, over the whole period until an hour ago."""
    span_us = PERIOD_BEGAN_DAYS_AGO * DAY_US - DAY_US // 12
    began_us = time.time_ns() // 1000 - span_us - DAY_US // 24

    def nth(n: int) -> tuple[str, int]:
        return f"customer-{n % SUBJECTS}", began_us + span_us * (n - first) // (end - first)

    return nth


async def _ingested(bench: Bench, door: Door, stored: int) -> tuple[Figure, int]:
    """What an event costs that happens now, and how many are stored then."""
    now_us, samples = time.time_ns() // 1000, []
    batches = min(MOST_BATCHES, max(FEWEST_BATCHES, stored // BATCH_EVENTS // 2))
    bodies = await door.sealed(batches, lambda n: (f"customer-{n % SUBJECTS}", now_us + n - stored), first=stored)
    with timed() as elapsed:
        for body in bodies:
            with timed() as took:
                await door.send("batch", body)
            samples.append(took() / BATCH_EVENTS * 1e6)
            if elapsed() >= bench.seconds:
                break
    mean = sum(samples) / len(samples)
    after = stored + BATCH_EVENTS * len(samples)
    return Figure(name=INGEST, value=mean, unit="µs", percentiles=Percentiles.of(samples), stored=stored), after


async def _answered(bench: Bench, plane: ControlPlane, stored: int) -> Figure:
    cost = (await plane.ask(COST, customer=CUSTOMER))["customer"]["cost"]
    total = cost["total"]["rounded"]
    bench.prove(f"cost with {stored:,} stored", found=Decimal(total), expected=cost_of(stored, of=THEIRS))
    asked = {"query": COST, "variables": {"customer": CUSTOMER}}
    request = post("/graphql", asked, {"Authorization": f"Bearer {ADMIN_KEY}"})
    came = await load(
        ("127.0.0.1", plane.port), request, expect=f'"{total}"'.encode(), connections=1, seconds=bench.seconds
    )
    return latency(ANSWER, came.samples_s, "ms", of="p99", reach=at_most(10), stored=stored)


def _bytes(plane: ControlPlane) -> int:
    """Of the file and its log."""
    return sum(each.stat().st_size for each in plane.database.parent.glob(f"{plane.database.name}*"))


def _row(point: Sequence[Figure], size: int, filled_s: float) -> str:
    per_event, answer, file = point
    spread = answer.percentiles
    assert spread is not None
    return (
        f"{size:>12,} stored: {per_event.value:6.2f} µs an event, live cost {spread.p50:.2f} / {spread.p95:.2f} /"
        f" {spread.p99:.2f} ms (p50 / p95 / p99), {file.value:,.0f} MB per million events, filled in {filled_s:,.1f} s"
    )


def panels(figures: Iterable[Figure]) -> list[Panel]:
    """The curves of a run, ready to be drawn; none without points."""
    found = [each for each in figures if each.stored is not None and each.percentiles is not None]
    ingested = [Point(each.stored or 0, each.value) for each in found if each.name == INGEST]
    answers = [each for each in found if each.name.startswith(ANSWER)]
    if not ingested or not answers:
        return []
    percentiles = [(each.stored or 0, each.percentiles) for each in answers if each.percentiles]
    return [
        Panel("One event ingested", "µs", [Line("mean", ingested)]),
        Panel(
            "One live cost answered",
            "ms",
            [
                Line("p50", [Point(stored, each.p50) for stored, each in percentiles]),
                Line("p99", [Point(stored, each.p99) for stored, each in percentiles]),
            ],
        ),
    ]
