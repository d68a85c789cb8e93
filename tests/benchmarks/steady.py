"""Whether it can go on like this: both programs at 80 % of the rate that they reach, for minutes, looked at every few seconds."""

import asyncio
import re
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count

from fakes import eventually
from processes import AgentProcess, ControlPlane, agent, control_plane

from .harness import Bench, Figure, Percentiles, at_most, rate, resident_mb, timed
from .load import HEAD_ENDS, post
from .sidecar import ARRAY
from .traffic import counted
from .trend import Trend, trend

__all__ = ["steady"]

SHARE = 0.8
SAMPLES_LEAST, SAMPLE_EVERY_S = 20, 5.0
DRAINED_WITHIN_S = 120.0
COUNTED_ENOUGH = 20_000  # of what waits, so that the peak is not that of the buffer alone
SMALLEST_MB, SMALLEST_EVENTS, SMALLEST_MS = 10.0, 5_000.0, 250.0
"""Less than that is no growth: the memory of some thousand rows, one batch, and what one busy neighbour takes."""
LOOKED_AT = {
    "agent": ("MB", SMALLEST_MB),
    "control plane": ("MB", SMALLEST_MB),
    "backlog": ("events", SMALLEST_EVENTS),
    "record p99": ("ms", SMALLEST_MS),
    "visible after": ("ms", SMALLEST_MS),
}


@dataclass
class Sent:
    """What the agent has acknowledged: how many events by when, and how long the last ones took."""

    events: int = 0
    by_s: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=100_000))
    took_s: list[float] = field(default_factory=list)

    def acknowledged(self, began_s: float) -> None:
        now_s = time.perf_counter()
        self.events += len(ARRAY)
        self.took_s.append(now_s - began_s)
        self.by_s.append((now_s, self.events))

    def seen(self, events: int) -> float:
        """For how long the first event that is not among so many is acknowledged by now; 0 when none is."""
        now_s = time.perf_counter()
        while self.by_s and self.by_s[0][1] <= events:
            self.by_s.popleft()
        return now_s - self.by_s[0][0] if self.by_s else 0.0


class Caller:
    """One connection to the agent's socket that records arrays, each durable before the next."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._request = post("/v1/events", ARRAY)

    @classmethod
    async def to(cls, process: AgentProcess) -> "Caller":
        return cls(*await asyncio.open_unix_connection(process.socket))

    async def record(self, sent: Sent) -> None:
        began_s = time.perf_counter()
        self._writer.write(self._request)
        head = await self._reader.readuntil(HEAD_ENDS)
        assert head.startswith(b"HTTP/1.1 202"), head
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        assert length, head
        answer = await self._reader.readexactly(int(length[1]))
        assert f'"accepted":{len(ARRAY)},'.encode() in answer, answer
        sent.acknowledged(began_s)

    def close(self) -> None:
        self._writer.close()


async def steady(bench: Bench) -> list[Figure]:
    """First the rate itself, as fast as everything is counted; then 80 % of it, for the minutes that were asked for."""
    sent = Sent()
    async with control_plane(bench.directory) as plane, agent(bench.directory / "agent", plane) as process:
        await _sell_nothing(plane)
        caller = await Caller.to(process)
        peak = await _peak(bench, process, plane, caller, sent)
        samples = await _watched(bench, process, plane, caller, sent, SHARE * peak)
        caller.close()
        await eventually(lambda: _drained(plane, sent), DRAINED_WITHIN_S)
        await _prove(bench, plane, sent)
    trends = {name: trend([(at_s, each[name]) for at_s, each in samples]) for name in LOOKED_AT}
    bench.told += _told(peak, samples, trends)
    grown = [name for name, (_, smallest) in LOOKED_AT.items() if trends[name].grows(smallest)]
    bench.prove("what grows all the time", found=grown, expected=[])
    return [rate("steady: the rate everything is counted at", round(peak * 1000), 1000.0), *_figures(trends)]


def _figures(trends: dict[str, Trend]) -> list[Figure]:
    figures = []
    for name, (unit, smallest) in LOOKED_AT.items():
        found = trends[name]
        bound = at_most(max(smallest, found.noise))
        spread = Percentiles.of(found.values)
        figures.append(
            Figure(
                name=f"steady: {name}, rise from end to end",
                value=found.rise,
                unit=unit,
                percentiles=spread,
                reach=bound,
            )
        )
    return figures


async def _sell_nothing(plane: ControlPlane) -> None:
    """The three meters of the other benchmarks, without a limit: nothing is denied."""
    summed = {"eventType": str(ARRAY[0]["type"]), "aggregation": "SUM"}
    by_model = [{"key": "model", "property": "model"}]
    await plane.make("createMeter", "MeterInput", key="calls", eventType=summed["eventType"], aggregation="COUNT")
    await plane.make("createMeter", "MeterInput", key="input-tokens", valueProperty="input_tokens", **summed)
    await plane.make(
        "createMeter", "MeterInput", key="output-tokens", valueProperty="output_tokens", groupBy=by_model, **summed
    )


async def _peak(bench: Bench, process: AgentProcess, plane: ControlPlane, caller: Caller, sent: Sent) -> float:
    """Events a second that are counted while no more than some wait, over the time of a figure, twice as long."""
    with timed() as elapsed:
        while elapsed() < 2 * bench.seconds:
            if sent.events - await _seen(plane) < COUNTED_ENOUGH:
                for _ in range(COUNTED_ENOUGH // len(ARRAY) // 2):
                    await caller.record(sent)
        await eventually(lambda: _drained(plane, sent), DRAINED_WITHIN_S)
    return sent.events / elapsed()


async def _watched(
    bench: Bench, process: AgentProcess, plane: ControlPlane, caller: Caller, sent: Sent, events_per_s: float
) -> list[tuple[float, dict[str, float]]]:
    """A sample every few seconds, by the seconds since the beginning, while events come at that rate."""
    whole_s = 60 * bench.scale.minutes
    every_s = min(SAMPLE_EVERY_S, whole_s / SAMPLES_LEAST)
    began_s = time.perf_counter()
    sent.took_s.clear()
    samples: list[tuple[float, dict[str, float]]] = []
    sending = asyncio.create_task(_sending(caller, sent, events_per_s, began_s))
    try:
        for n in count(1):
            await asyncio.wait([sending], timeout=max(0.0, began_s + n * every_s - time.perf_counter()))
            if sending.done():
                break  # it failed, and says so below
            samples.append((time.perf_counter() - began_s, await _sample(process, plane, sent)))
            if time.perf_counter() - began_s >= whole_s:
                break
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
    return samples


async def _sending(caller: Caller, sent: Sent, events_per_s: float, began_s: float) -> None:
    before = sent.events
    while True:
        late_s = time.perf_counter() - began_s - (sent.events - before) / events_per_s
        if late_s < 0:
            await asyncio.sleep(-late_s)
        recording = asyncio.ensure_future(caller.record(sent))
        try:
            await asyncio.shield(recording)
        except asyncio.CancelledError:
            await recording  # what is under way is counted whole
            raise


async def _sample(process: AgentProcess, plane: ControlPlane, sent: Sent) -> dict[str, float]:
    assert process.process is not None
    assert plane.process is not None
    took_s, sent.took_s = sent.took_s or [0.0], []
    visible_s = sent.seen(await _seen(plane))
    metrics = (await process.http.get("/metrics")).text
    backlog = re.search(r"(?m)^\w*backlog_events (\S+)", metrics)
    assert backlog, metrics
    return {
        "agent": await resident_mb(process.process.pid),
        "control plane": await resident_mb(plane.process.pid),
        "backlog": float(backlog[1]),
        "record p99": 1000 * Percentiles.of(took_s).p99,
        "visible after": 1000 * visible_s,
        "recorded": float(sent.events),
    }


async def _seen(plane: ControlPlane) -> int:
    return (await counted(plane))["calls"][1]


async def _drained(plane: ControlPlane, sent: Sent) -> bool:
    return await _seen(plane) == sent.events


async def _prove(bench: Bench, plane: ControlPlane, sent: Sent) -> None:
    """Each array is the same events, so that totals are so many times its own."""
    arrays, rest = divmod(sent.events, len(ARRAY))
    bench.prove("whole arrays", found=rest, expected=0)
    found = await counted(plane)
    expected = {"calls": (Decimal(sent.events), sent.events)}
    for kind in ("input", "output"):
        each = sum(_tokens(event, f"{kind}_tokens") for event in ARRAY)
        expected[kind] = (Decimal(arrays * each), sent.events)
    bench.prove("usage by GraphQL", found=found, expected=expected)


def _tokens(event: dict[str, object], name: str) -> int:
    said = event["data"]
    assert isinstance(said, dict)
    return int(said[name])


def _told(peak: float, samples: list[tuple[float, dict[str, float]]], trends: dict[str, Trend]) -> list[str]:
    names = [*LOOKED_AT, "recorded"]
    heads = ["after (s)", *(f"{name} ({unit})" for name, (unit, _) in LOOKED_AT.items()), "recorded"]
    lines = [
        f"counted at most {peak:,.0f} events/s; then {SHARE:.0%} of that",
        "".join(f"{head:>22}" for head in heads),
    ]
    lines += [
        "".join(f"{value:>22,.1f}" for value in (at_s, *(each[name] for name in names))) for at_s, each in samples
    ]
    return [*lines, Trend.RULE, *(f"{name}: {trends[name].said()}" for name in LOOKED_AT)]
