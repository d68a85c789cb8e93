"""Too much at once: an hour's backlog of twenty agents, events and batches as large as they may be, poison, a slow plane."""

import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from fakes import eventually
from processes import AgentProcess

from .oracle import Event, Tally, batches_of
from .rig import Deployment, at_work, deliver, deployed, traffic

__all__ = ["DRAINED", "DRAINING", "FAULTS", "POISONED", "drain", "round"]

MAX_DATA_BYTES: Final = 64 * 1024
POISONED: Final = 40

PATIENCE_S: Final = 1.0
STOPPED_S: Final = (1.5, 2.5)
"""How long the control plane stands still: longer than an agent waits."""

DRAINING: Final = 20
A_REQUEST: Final = 400
DRAINED: Final = "fresh event counted while others drain"
BATCHES_BEFORE: Final = 3 * DRAINING
"""How many batches of others may be counted before a fresh event is: each agent has one under way. Counted in batches and
not in seconds, it is the same on a busy machine."""

PATIENT: Final = {
    "SIDEMETER_REQUEST_TIMEOUT_S": "60",
    "SIDEMETER_SYNC_INTERVAL_S": "2",
    "SIDEMETER_MAX_BATCH_EVENTS": "100",
}


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """One half or the other: what is too large, poisonous or slow, or the hour after an outage."""
    return await (drain(rng, directory, hour=1_800) if rng.random() < 0.3 else burden(rng, directory))


async def burden(rng: random.Random, directory: Path) -> Tally:
    """Two agents at work; every fault happens, in any order."""
    async with deployed(rng, directory, agents=2, SIDEMETER_REQUEST_TIMEOUT_S=str(PATIENCE_S)) as it:
        it.traces_are_wrong = True
        async with at_work([traffic(it.oracle, agent, rng, 0.02) for agent in it.agents]):
            for fault in rng.sample(sorted(FAULTS), len(FAULTS)):
                await FAULTS[fault](it, rng.choice(it.agents))
                it.oracle.faults[fault] += 1
        return await it.settle()


async def _insist(it: Deployment, agent: AgentProcess, events: list[Event]) -> None:
    """Deliver them, however often it takes: they have ids of their own."""
    await eventually(lambda: deliver(it.oracle, agent, events, 30.0), 60.0)


def _giant(it: Deployment, size: int, *, own_ids: bool) -> Event:
    """An event whose data are `size` bytes as JSON, of what no compression makes smaller."""
    (event,) = it.oracle.issue(1, own_ids=own_ids, fill="")
    missing = size - len(json.dumps(event["data"], separators=(",", ":")))
    event["data"]["fill"] = it.rng.randbytes(missing // 2 + 1).hex()[:missing]
    return event


async def _giant_events(it: Deployment, agent: AgentProcess) -> None:
    for _ in range(20):
        await _insist(it, agent, [_giant(it, MAX_DATA_BYTES, own_ids=True)])


async def _too_giant_event(it: Deployment, agent: AgentProcess) -> None:
    """Refused by field and rule, and nothing of it is kept."""
    event = _giant(it, MAX_DATA_BYTES + 1, own_ids=False)
    answer = await agent.http.post("/v1/events", json=[event])
    assert (answer.status_code, "data" in answer.text) == (422, True), answer.text
    it.oracle.turned_away([event])


async def _giant_batch(it: Deployment, agent: AgentProcess) -> None:
    """As many events as one request may bring."""
    await _insist(it, agent, it.oracle.issue(10_000, own_ids=True))


async def _poison(it: Deployment, agent: AgentProcess) -> None:
    """Good events between bad ones: 400 digits, years ahead, text and nothing where a number belongs."""
    for _ in range(POISONED // 4):
        bad = [
            *_bad(it, "value_out_of_range", n=10**400 + it.rng.getrandbits(32)),
            *_bad(it, "time_in_future", time="9999-12-31T23:59:59Z"),
            *_bad(it, "value_not_a_number", n="many"),
            *_bad(it, "value_missing", n=None),
        ]
        events = [*bad, *it.oracle.issue(8, own_ids=True)]
        it.rng.shuffle(events)
        await _insist(it, agent, events)


def _bad(it: Deployment, code: str, **fields: Any) -> list[Event]:
    return it.oracle.issue(1, own_ids=True, bad=code, surely=True, **fields)


async def _slow(it: Deployment, agent: AgentProcess) -> None:
    """The control plane stands still, and then works off what waited in its sockets."""
    it.plane.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(it.rng.uniform(*STOPPED_S))
    it.plane.process.send_signal(signal.SIGCONT)


async def _slow_then_dead(it: Deployment, agent: AgentProcess) -> None:
    """It stands still, goes on for a moment, stands still again, and dies with what waited."""
    await _slow(it, agent)
    await asyncio.sleep(0.05)
    it.plane.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(it.rng.uniform(*STOPPED_S) / 2)
    it.plane.kill()
    await asyncio.sleep(0.5)
    await it.plane.start()


async def _slow_agent(it: Deployment, agent: AgentProcess) -> None:
    """An agent stands still while its callers and its requests wait."""
    agent.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(it.rng.uniform(*STOPPED_S))
    agent.process.send_signal(signal.SIGCONT)


FAULTS: Final[dict[str, Callable[[Deployment, AgentProcess], Awaitable[None]]]] = {
    "events of 64 KiB": _giant_events,
    "an event one byte too large": _too_giant_event,
    "10,000 events in one request": _giant_batch,
    "poison among good events": _poison,
    "control plane stands still": _slow,
    "control plane slow, then dead": _slow_then_dead,
    "agent stands still": _slow_agent,
}


async def drain(rng: random.Random, directory: Path, hour: int) -> Tally:
    """The control plane comes back after an hour: twenty agents send `hour` events each, and one has none to catch up."""
    async with deployed(rng, directory, agents=DRAINING + 1, **PATIENT) as it:
        it.traces_are_wrong = True
        it.plane.kill()
        fresh, *draining = it.agents
        for agent in draining:
            for _ in range(0, hour, A_REQUEST):
                await _insist(it, agent, it.oracle.issue(min(A_REQUEST, hour), own_ids=True))
        it.oracle.faults["hour's backlog of an agent"] += len(draining)
        await it.plane.start()
        most = 0
        while await _held(draining):
            most = max(most, await _fresh_one(it, fresh))
        tally = await it.settle()
        if most > BATCHES_BEFORE:
            tally.wrong.append(f"{most} batches of others were counted before a fresh event")
        return tally


async def _fresh_one(it: Deployment, agent: AgentProcess) -> int:
    """How many batches are counted from when a fresh event is recorded until it is counted itself."""
    (event,) = it.oracle.issue(1, own_ids=True)
    await _insist(it, agent, [event])
    before = batches_of(it.plane.database)
    await eventually(lambda: it.oracle.has_arrived(it.plane.database, event), 180.0)
    it.oracle.faults[DRAINED] += 1
    return batches_of(it.plane.database) - before


async def _held(agents: list[AgentProcess]) -> bool:
    """Whether any of them has something to send."""
    figures = await asyncio.gather(*(agent.http.get("/metrics") for agent in agents))
    return any("sidemeter_agent_backlog_events 0.0\n" not in answer.text for answer in figures)
