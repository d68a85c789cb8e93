"""Faults seen in the field, where limits are counters in a shared store: here with real agents, a control plane, and their
processes. Each test says what goes wrong elsewhere, and what has to hold here."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from fakes import eventually
from faults.clocks import DAY_S, WallClock, skip_reason
from faults.rig import QUICK, running
from processes import AgentProcess, ControlPlane, Process

from sidemeter import Client

AGENTS: Final = 8
PATIENT: Final = {"SIDEMETER_FIRST_CHECK_WAIT_S": "10"}
LIMIT: Final = '{ limit(id: "acme/calls") { committed limit } }'
USAGE: Final = """query($from: DateTime!, $to: DateTime!) { usage(meter: "calls", from: $from, to: $to) { value } }"""

Launch = Callable[[list[str], dict[str, str], Path], Process]

needs_a_clock = pytest.mark.skipif(skip_reason() is not None, reason=str(skip_reason()))


async def sell(plane: ControlPlane, limit: int, reset: str = "NEVER") -> None:
    """Acme may make so many calls, once and for all or in each period."""
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("createFeature", "FeatureInput", key="calls", meter="calls")
    calls = {"feature": "calls", "kind": "METERED", "limit": str(limit), "enforcement": "HARD", "reset": reset}
    await plane.make("publishPlan", "PlanInput", key="capped", currency="EUR", charges=[], entitlements=[calls])
    await plane.make("upsertCustomer", "CustomerInput", key="acme", currency="EUR")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="capped")


@asynccontextmanager
async def replicas(
    directory: Path, plane: ControlPlane, key: str, number: int = AGENTS, launch: Launch | None = None, **environ: str
) -> AsyncIterator[list[AgentProcess]]:
    """Agents that have not heard of any limit yet."""
    async with AsyncExitStack() as stack:
        agents = [AgentProcess(directory / f"agent-{n}", plane.url, key, **QUICK | environ) for n in range(number)]
        for each in agents:
            await stack.enter_async_context(running(each))
            each.launch = launch or each.launch
        await asyncio.gather(*(each.start() for each in agents))
        yield agents


async def consume(agent: AgentProcess) -> dict[str, Any]:
    return await agent.post("/v1/consume", {"type": "call", "subject": "acme"})


async def knows(agent: AgentProcess) -> bool:
    """Whether it has heard of the limit."""
    return (await agent.http.get("/v1/quota/acme")).status_code == 200


async def all_of(agent: AgentProcess) -> int:
    """How many calls an agent allows until it says no."""
    allowed = 0
    while (await consume(agent))["allowed"]:
        allowed += 1
    return allowed


async def everything(plane: ControlPlane, agents: list[AgentProcess]) -> int:
    """How many calls all agents allow, asked at once, until nothing of the limit is left anywhere, and once more.

    That an agent says no is not enough: where the machine is busy, a grant may come later than it waits.
    """
    allowed = 0

    async def is_gone() -> bool:
        nonlocal allowed
        allowed += sum(await asyncio.gather(*map(all_of, agents)))
        limit = (await plane.ask(LIMIT))["limit"]
        is_handed_out = limit is not None and int(limit["committed"]) >= int(
            limit["limit"]
        )  # more, of what is there twice
        return is_handed_out and bool((await standing(plane))["leased"] == "0")

    await eventually(is_gone, 200)
    return allowed + sum(await asyncio.gather(*map(all_of, agents)))


async def standing(plane: ControlPlane) -> dict[str, Any]:
    question = '{ customer(key: "acme") { quota(feature: "calls") { used leased inDoubt } } }'
    quota: dict[str, Any] = (await plane.ask(question))["customer"]["quota"]
    return quota


async def uses(plane: ControlPlane, calls: int) -> bool:
    """Whether so many are counted."""
    return bool((await standing(plane))["used"] == str(calls))


async def test_concurrent_first_requests_on_a_new_budget_are_never_allowed_more_than_it(tmp_path: Path) -> None:
    """Elsewhere each of them finds no counter, begins one at nothing, and is allowed. Here nobody has a lease, and nobody
    knows the limit: all wait for their part of it, and together they get all of it and no more."""
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 20)
        async with replicas(tmp_path, plane, await plane.new_key("AGENT"), **PATIENT) as agents:
            first = await asyncio.gather(*(consume(agent) for agent in agents for _ in range(10)))
            allowed = sum(each["allowed"] for each in first)
            assert 0 < allowed <= 20
            assert allowed + await everything(plane, agents) == 20


async def test_eight_replicas_allow_one_limit_and_not_eight_and_leave_nothing_of_it(tmp_path: Path) -> None:
    """Elsewhere each replica counts for itself, or by a total that is seconds old, and N replicas allow up to N times the
    budget; a static share of it for each leaves what some do not use. Here they allow it once, and all of it."""
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 1000)
        async with replicas(tmp_path, plane, await plane.new_key("AGENT"), **PATIENT) as agents:
            assert await everything(plane, agents) == 1000, (
                "without faults, a hundredth of a per cent is less than one call"
            )
            codes = Counter([await agent.stop() for agent in agents])
        assert codes == {0: AGENTS}
        assert await standing(plane) == {"used": "1000", "leased": "0", "inDoubt": "0"}


@pytest.mark.parametrize("on_unknown", ["deny", "allow"])
async def test_while_the_store_is_away_nobody_takes_a_limit_for_none_unless_told_to(
    tmp_path: Path, on_unknown: str
) -> None:
    """Elsewhere an error of the store means yes, to everybody, for as long as it lasts. Here agents that start without it
    say no. What they let through, being told to, counts against the limit once the control plane has heard of it: once, or,
    where its event was counted before its agent had a part of the limit and spoke for it too, twice; never less."""
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 20)
        key = await plane.new_key("AGENT")
        plane.kill()
        async with replicas(tmp_path, plane, key, SIDEMETER_ON_UNKNOWN=on_unknown, **PATIENT) as agents:
            blind = await asyncio.gather(*map(consume, agents))
            assert {(each["allowed"], each["reason"]) for each in blind} == {(on_unknown == "allow", "unknown_subject")}
            await plane.start()
            for agent in agents:
                await eventually(lambda agent=agent: knows(agent), 60)
            let_through = AGENTS if on_unknown == "allow" else 0
            await eventually(lambda: uses(plane, let_through), 60)
            allowed = await everything(plane, agents)
            assert 20 - 2 * let_through <= allowed <= 20 - let_through
            assert let_through or allowed == 20


async def test_a_reservation_is_not_leaked_by_a_call_that_is_cancelled(tmp_path: Path) -> None:
    """Elsewhere a call that is cancelled, or whose client hangs up, never says what it used: what it reserved is gone from
    the budget until the period ends, and some such calls stop everybody. Here its end is said by whoever reserved, also
    when cancelled: what was used is charged, and the rest is free at once."""
    async with running(ControlPlane(tmp_path)) as plane:
        await plane.start()
        await sell(plane, 20)
        async with replicas(tmp_path, plane, await plane.new_key("AGENT"), 1, **PATIENT) as (agent,):
            async with Client(socket=agent.socket) as client:
                for number in range(30):  # more than there is, if a single one of them stayed reserved
                    await _cancelled(client, uses=number % 3 == 0)
            assert await everything(plane, [agent]) == 20 - 10
            assert "sidemeter_agent_open_reservations 0.0" in (await agent.http.get("/metrics")).text
            assert await agent.stop() == 0
        assert await standing(plane) == {"used": "20", "leased": "0", "inDoubt": "0"}


async def _cancelled(client: Client, *, uses: bool) -> None:
    """A call that is cancelled after its first word, or before it."""
    reserved = asyncio.Event()

    async def call() -> None:
        async with client.reserve("call", "acme") as held:
            assert held.allowed
            try:
                if uses:
                    held.used = {"words": 1}
                reserved.set()
                await asyncio.Event().wait()
            finally:
                if not uses:
                    await held.release()

    calling = asyncio.create_task(call())
    await asyncio.wait([calling, asyncio.create_task(reserved.wait())], return_when=asyncio.FIRST_COMPLETED)
    calling.cancel()
    await asyncio.wait([calling])
    assert calling.cancelled()


class Days:
    """A wall clock that programs take for the time of day: noon, until it is `next`."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._noon_s = time.time() // DAY_S * DAY_S + DAY_S / 2
        self.launch = clock.launch
        self._put()

    def next(self) -> None:
        """It is noon of the day after."""
        self._noon_s += DAY_S
        self._put()

    def of(self, days_ago: int = 0) -> dict[str, str]:
        """The instants between which a day is."""
        begins_s = self._noon_s - DAY_S / 2 - days_ago * DAY_S
        instants = (time.gmtime(begins_s), time.gmtime(begins_s + DAY_S))
        return dict(zip(("from", "to"), (time.strftime("%Y-%m-%dT%H:%M:%SZ", each) for each in instants), strict=True))

    def _put(self) -> None:
        self._clock.set(self._noon_s - time.time())


@asynccontextmanager
async def by_the_day(directory: Path, limit: int) -> AsyncIterator[tuple[Days, ControlPlane, list[AgentProcess]]]:
    """Two agents, and a limit that begins anew each day."""
    async with AsyncExitStack() as stack:
        days = Days(stack.enter_context(WallClock(directory / "clock")))
        plane = await stack.enter_async_context(running(ControlPlane(directory)))
        plane.launch = days.launch
        await plane.start()
        await sell(plane, limit, "DAY")
        key = await plane.new_key("AGENT")
        agents = replicas(directory, plane, key, 2, days.launch, **PATIENT)
        yield days, plane, await stack.enter_async_context(agents)


async def counts(plane: ControlPlane, day: dict[str, str], calls: int) -> None:
    """Wait until so many calls are counted in a day."""

    async def counted() -> bool:
        return sum(int(row["value"]) for row in (await plane.ask(USAGE, **day))["usage"]) == calls

    await eventually(counted, 60)


@needs_a_clock
async def test_a_counter_that_is_reset_while_a_reservation_is_open_is_not_changed_by_its_end(tmp_path: Path) -> None:
    """Elsewhere what a call reserved before the reset is taken off the new counter at its end, which never held it: the
    counter falls below nothing, and more is allowed than there is. Or what it used is charged to the new period. Here
    it ends in the period that it began in, whoever spends of the new one at that moment."""
    async with by_the_day(tmp_path, 10) as (days, plane, agents):
        call = {"type": "call", "subject": "acme", "ttl_s": 600}
        held = [await agents[0].post("/v1/reservations", call) for _ in range(6)]
        assert all(each["decision"]["allowed"] for each in held)
        before = sum([await all_of(agent) for agent in agents])
        assert before <= 10 - 6
        days.next()
        ends = ["commit", "release", "commit", "release", "commit", "commit"]
        routes = [f"/v1/reservations/{each['id']}/{end}" for each, end in zip(held, ends, strict=True)]
        spending = asyncio.create_task(everything(plane, agents))
        done = await asyncio.gather(*(agents[0].post(route, {}) for route in routes))
        assert all(each["done"] for each in done)
        assert await spending == 10
        await counts(plane, days.of(), 10)
        await counts(plane, days.of(1), before + ends.count("commit"))
        assert (await standing(plane))["used"] == "10"


@needs_a_clock
async def test_no_counter_is_still_cached_after_a_reset(tmp_path: Path) -> None:
    """Elsewhere a replica that cached the counter denies what the new period allows, until its copy is old enough; one that
    cached what was left allows that in the new period once more. Here a period that is over decides nothing from its last
    instant on, also while the control plane cannot be asked."""
    async with by_the_day(tmp_path, 10) as (days, plane, agents):
        assert await everything(plane, agents) == 10
        days.next()
        assert [(await consume(agent))["allowed"] for agent in agents] == [True, True], "nobody still denies"
        plane.kill()
        days.next()
        refused = [await consume(agent) for agent in agents]
        assert {(each["allowed"], each["reason"]) for each in refused} == {(False, "no_lease")}, "the rest is gone"
        await plane.start()
        for agent in agents:
            await eventually(lambda agent=agent: _is_connected(agent), 60)
        assert await everything(plane, agents) == 10
        await counts(plane, days.of(), 10)
        await counts(plane, days.of(1), 2)
        await counts(plane, days.of(2), 10)


async def _is_connected(agent: AgentProcess) -> bool:
    """Whether it has reached the control plane again, and asks it again for what it lacks."""
    asked = {"subject": "acme", "feature": "calls", "quantity": 1}
    return bool((await agent.post("/v1/check", asked))["allowed"])
