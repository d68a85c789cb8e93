"""A deployment to be broken: a control plane, agents beside it, and callers that keep sending to them."""

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol, TypeVar

import httpx
from fakes import eventually
from processes import AgentProcess, ControlPlane, Process, Program, forked

from .oracle import EVENT_TYPE, WHEN, Event, Oracle, Tally

__all__ = [
    "QUICK",
    "Deployment",
    "Door",
    "at_work",
    "deliver",
    "deliver_straight",
    "deployed",
    "free_port",
    "has_drained",
    "has_ended",
    "pause",
    "post",
    "running",
    "sell",
    "traffic",
]

QUICK: Final = {"SIDEMETER_FLUSH_AFTER_S": "0.02", "SIDEMETER_SYNC_INTERVAL_S": "0.2", "SIDEMETER_DRAIN_S": "1"}
"""Settings that let a round end soon; none of them changes what is promised."""

SETTLES_WITHIN_S: Final = 120.0
ARRIVES_WITHIN_S: Final = 5.0
"""After every agent said that nothing waits with it. Longer where an agent has to notice first that it must send again."""

USAGE: Final = """query($meter: ID!) {
  usage(meter: $meter, from: "0001-01-01T00:00:00Z", to: "9999-01-01T00:00:00Z") { value events }
}"""


Launch = Callable[[list[str], dict[str, str], Path], Process]
"""Makes the process of a program from its arguments, environment and log."""


class Door(Protocol):
    """Where events are sent to: an agent, or what stands before one."""

    @property
    def http(self) -> httpx.AsyncClient: ...


class Deployment:
    """Both programs, running, and the oracle that watches them."""

    def __init__(
        self,
        plane: ControlPlane,
        agents: list[AgentProcess],
        oracle: Oracle,
        rng: random.Random,
        others: Sequence[ControlPlane] = (),
    ) -> None:
        self.plane = plane
        self.planes = [plane, *others]
        """All that share its database."""
        self.kept_in = plane.kept_in
        """Where the oracle reads it."""
        self.agents = agents
        self.oracle = oracle
        self.rng = rng
        self.arrives_within_s = ARRIVES_WITHIN_S
        self.traces_are_wrong = False
        """Whether the trace of an error in a log is a violation too: where no disk fails, a mistake is behind it."""

    async def settle(self, within_s: float = SETTLES_WITHIN_S, *, prove_usage: bool = True) -> Tally:
        """After the last fault: everything still open is sent again, all of it arrives, and the verdict is given.

        A fresh event must get through each agent. Programs that do not run are started; nothing else is done by hand.
        The usage cannot be proven while anyone else sends to the same control plane.
        """
        for plane in self.planes:
            if not plane.running:
                await plane.start()
        for agent in self.agents:
            if not agent.running:
                await agent.start()
        async with asyncio.timeout(within_s):
            for agent in self.agents:
                fresh = self.oracle.issue(1, own_ids=True)
                await eventually(lambda agent=agent, fresh=fresh: deliver(self.oracle, agent, fresh), within_s)
            while again := self.oracle.to_repeat(500):
                await deliver(self.oracle, self.rng.choice(self.agents), again)
        for agent in self.agents:
            await eventually(lambda agent=agent: has_drained(agent), within_s)
        with contextlib.suppress(AssertionError):  # then the verdict says what is lost
            await eventually(lambda: self.oracle.missing(self.kept_in) == 0, self.arrives_within_s)
        tally = self.oracle.verdict(self.kept_in)
        if prove_usage:
            for plane in self.planes:
                await self.prove_usage(tally, plane)
        if self.traces_are_wrong:
            tally.wrong += [trace for program in (*self.planes, *self.agents) for trace in _traces(program)]
        return tally

    async def prove_usage(self, tally: Tally, plane: ControlPlane) -> None:
        """What GraphQL answers there must be the sum over the stored events."""
        counted = (await plane.ask(USAGE, meter="calls"))["usage"]
        summed = (await plane.ask(USAGE, meter="units"))["usage"]
        events, units = self.oracle.totals(self.kept_in)
        told = sum(row["events"] for row in counted), sum((Decimal(row["value"]) for row in summed), Decimal(0))
        if told != (events, units):
            tally.wrong.append(f"usage says {told}, the stored events add up to {(events, units)}")


@asynccontextmanager
async def deployed(
    rng: random.Random,
    directory: Path,
    *,
    agents: int = 1,
    planes: Sequence[ControlPlane] = (),
    through: Callable[[str], str] | None = None,
    host: str = "127.0.0.1",
    launch: Callable[[int], Launch] = lambda n: forked,
    launch_plane: Launch = forked,
    database: Path | None = None,
    data: Path | None = None,
    environ_of: Callable[[int], dict[str, str]] = lambda n: {},
    **environ: str,
) -> AsyncIterator[Deployment]:
    """A running deployment in `directory`; the agents reach the control plane by the URL `through` makes of its own.

    `planes` are control planes that run already and share a database; without them there is one, with a file of its own.
    `launch` makes the process of agent `n`, `launch_plane` the control plane's; `environ` is for all agents, and what
    `environ_of` says for agent `n`. `database`
    and `data` are where the control plane's file and the agents' directories are, if they are not in `directory` too.
    """
    async with AsyncExitStack() as stack:
        if planes:
            plane, *others = planes
        else:
            plane, others = stack.enter_context(ControlPlane(directory, host)), []
            plane.launch = launch_plane
            plane.database = (database or directory) / plane.database.name
            await stack.enter_async_context(plane.http)
            await plane.start()
        await sell(plane)
        running = []
        for n in range(agents):
            url = through(plane.url) if through else plane.url
            place, log = (data or directory) / f"agent-{n}", directory / f"agent-{n}.log"
            key = await plane.new_key("AGENT")
            agent = stack.enter_context(AgentProcess(place, url, key, log, **(QUICK | environ | environ_of(n))))
            agent.launch = launch(n)
            await stack.enter_async_context(agent.http)
            await agent.start()
            running.append(agent)
        yield Deployment(plane, running, Oracle(rng), rng, others)


def _traces(program: Program) -> list[str]:
    return [line for line in program.log.read_text().splitlines() if "Traceback (most recent call last)" in line]


Either = TypeVar("Either", AgentProcess, ControlPlane)


@asynccontextmanager
async def running(program: Either) -> AsyncIterator[Either]:
    """A program that forks when it is started; what still runs at the end of the block is killed."""
    with program:
        async with program.http:
            yield program


async def pause(program: Program) -> None:
    """Stop a program between two system calls, until a SIGCONT."""
    assert program.process is not None
    tasks = Path("/proc", str(program.process.pid), "task")
    program.process.send_signal(signal.SIGSTOP)
    await eventually(lambda: all(_state(task) == "T" for task in tasks.iterdir()))


def has_ended(program: Program) -> bool:
    """Whether it runs no more, also if whoever traces it has not let its parent know."""
    return not program.running or _state(Path("/proc", str(program.process.pid))) == "Z"


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def has_drained(agent: AgentProcess) -> bool:
    figures = (await agent.http.get("/metrics")).text
    return all(f"sidemeter_agent_{name} 0.0\n" in figures for name in ("pending_events", "backlog_events"))


async def sell(plane: ControlPlane) -> None:
    """The meters whose totals the verdict compares."""
    await plane.make("createMeter", "MeterInput", key="calls", eventType=EVENT_TYPE, aggregation="COUNT")
    await plane.make(
        "createMeter", "MeterInput", key="units", eventType=EVENT_TYPE, aggregation="SUM", valueProperty="n"
    )


async def deliver(oracle: Oracle, agent: Door, events: Sequence[Event], timeout_s: float = 5.0) -> bool:
    """One request, and what its answer means; whether the events were acknowledged."""
    return await post(oracle, agent, events, timeout_s) == 202


async def post(oracle: Oracle, agent: Door, events: Sequence[Event], timeout_s: float = 5.0) -> int | None:
    """As `deliver`; the status of the agent's answer, or None where there was none."""
    try:
        answer = await agent.http.post("/v1/events", json=events, timeout=timeout_s)
    except httpx.HTTPError:
        oracle.left_open(events)
        return None
    if "x-fault" in answer.headers:  # no agent said so
        oracle.left_open(events)
        return None
    if answer.status_code == 202:
        body = answer.json()
        assert (body["accepted"] + body["duplicates"], body["rejected"]) == (len(events), []), body
        assert body["durability"] == "disk", body
        oracle.answered(events, agent)
    elif answer.status_code == 504:
        oracle.left_open(events)
    else:
        assert answer.status_code in {503, 507}, f"{answer.status_code}: {answer.text}"
        oracle.turned_away(events)
    return answer.status_code


async def deliver_straight(oracle: Oracle, plane: ControlPlane, key: str, events: Sequence[Event]) -> bool:
    """One request to the control plane, of events with ids of their own: whatever is no yes may be sent again."""
    oracle.left_open(events)
    try:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await plane.http.post(f"{plane.url}/v1/events", json=events, headers=headers, timeout=5.0)
    except httpx.HTTPError:
        return False
    assert answer.status_code in {202, 503}, f"{answer.status_code}: {answer.text}"
    if answer.status_code == 202:
        oracle.answered(events)
    return answer.status_code == 202


async def traffic(
    oracle: Oracle,
    agent: Door,
    rng: random.Random,
    pause_s: float = 0.002,
    *,
    own_ids: bool | None = None,
    timeout_s: float = 5.0,
    time: str = WHEN,
) -> None:
    """A caller that sends until it is cancelled: fresh events, and now and then those it has no answer for."""
    while True:
        again = oracle.to_repeat(20) if rng.random() < 0.2 else []
        events = again or oracle.issue(rng.choice((1, 1, 2, 10, 60)), own_ids=own_ids, time=time)
        acknowledged = await deliver(oracle, agent, events, timeout_s)
        await asyncio.sleep(pause_s if acknowledged else 0.02)


@asynccontextmanager
async def at_work(callers: Sequence[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run `callers` inside the block, and end them with it; what one of them raises fails the block."""
    tasks = [asyncio.create_task(caller) for caller in callers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
