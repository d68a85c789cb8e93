"""From a service's event to the live bill and back to the agent's "no", through kills and restarts of both programs."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from processes import AgentProcess, ControlPlane, agent, control_plane

LIMIT = 5
PATIENT = {"SIDEMETER_FIRST_CHECK_WAIT_S": "10"}
"""A first decision waits for the limits: on a busy machine, a hello and a sync take longer than callers would wait."""

BILL = """
query($customer: ID!) {
  customer(key: $customer) {
    cost { total { rounded } lines { charge quantity amount { rounded } } }
    quota(feature: "calls") { allowed used limit remaining enforcement }
  }
}
"""


async def sell(plane: ControlPlane) -> None:
    """Calls at 0.25 each on top of a fee of 10; acme may make LIMIT of them, globex as many as it likes."""
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("createFeature", "FeatureInput", key="calls", meter="calls")
    charges = [
        {"key": "base", "model": "FLAT", "amount": "10"},
        {"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "0.25"},
    ]
    calls = {"feature": "calls", "kind": "METERED"}
    plans = {"capped": calls | {"limit": str(LIMIT), "enforcement": "HARD"}, "free": calls | {"enforcement": "SOFT"}}
    for customer, (plan, entitlement) in zip(("acme", "globex"), plans.items(), strict=True):
        await plane.make(
            "publishPlan", "PlanInput", key=plan, currency="EUR", charges=charges, entitlements=[entitlement]
        )
        await plane.make("upsertCustomer", "CustomerInput", key=customer, currency="EUR")
        await plane.make("subscribe", "SubscribeInput", customer=customer, plan=plan)


async def customer(plane: ControlPlane, key: str) -> dict[str, Any]:
    return (await plane.ask(BILL, customer=key))["customer"]


async def used(plane: ControlPlane, key: str) -> int:
    return int((await customer(plane, key))["quota"]["used"])


async def counted(plane: ControlPlane, key: str, at_least: int) -> None:
    async def so_far() -> bool:
        return await used(plane, key) >= at_least

    await eventually(so_far, 60)


async def record(process: AgentProcess, key: str, n: int) -> None:
    """Event number n of a customer; recorded again, it is still one event."""
    answer = await process.post("/v1/events", {"id": f"{key}-{n}", "type": "call", "subject": key})
    assert answer["durability"] == "disk"


async def consume(process: AgentProcess, key: str) -> dict[str, Any]:
    return await process.post("/v1/consume", {"type": "call", "subject": key})


async def check(process: AgentProcess, key: str) -> dict[str, Any]:
    return await process.post("/v1/check", {"subject": key, "feature": "calls"})


@pytest.mark.both_databases
async def test_an_event_becomes_a_line_of_the_bill_and_at_the_hard_limit_the_agent_says_no(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with agent(tmp_path / "agent", plane, **PATIENT) as process:
            allowed = [await consume(process, "acme") for _ in range(LIMIT)]
            assert {(each["allowed"], each["reason"]) for each in allowed} == {(True, "within_limit")}
            refused = await consume(process, "acme")
            assert (refused["allowed"], refused["reason"]) == (False, "limit_reached")
            assert (refused["limit"], refused["used"], refused["remaining"]) == ("5", "5", "0")

            for n in range(2 * LIMIT):
                await record(process, "globex", n)
            assert (await check(process, "globex"))["allowed"]
            await counted(plane, "acme", LIMIT)
            await counted(plane, "globex", 2 * LIMIT)
            assert not (await check(process, "acme"))["allowed"]

        acme = await customer(plane, "acme")
        assert acme["cost"]["total"] == {"rounded": "11.25"}
        lines = {line["charge"]: (line["quantity"], line["amount"]["rounded"]) for line in acme["cost"]["lines"]}
        assert lines["calls"] == ("5", "1.25")
        assert lines["base"][1] == "10"
        assert acme["quota"] == {"allowed": False, "used": "5", "limit": "5", "remaining": "0", "enforcement": "HARD"}
        globex = await customer(plane, "globex")
        assert globex["cost"]["total"] == {"rounded": "12.5"}


@pytest.mark.both_databases
async def test_a_control_plane_killed_with_events_flowing_loses_none_and_counts_none_twice(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with agent(tmp_path / "agent", plane, SIDEMETER_FLUSH_AFTER_S="0.01") as process:
            acknowledged = 0

            async def flow() -> None:
                nonlocal acknowledged
                while True:
                    await record(process, "globex", acknowledged)
                    acknowledged += 1

            async def acknowledged_after(n: int) -> None:
                await eventually(lambda: acknowledged > n)

            flowing = asyncio.create_task(flow())
            for _ in range(3):
                await counted(plane, "globex", await used(plane, "globex") + 1)
                plane.kill()
                await acknowledged_after(acknowledged + 20)  # the service notices nothing
                await plane.start()
            flowing.cancel()
            await asyncio.wait([flowing])
            assert flowing.cancelled()
            await record(process, "globex", acknowledged)  # the one that was on its way: again, or for the first time
            acknowledged += 1

            await counted(plane, "globex", acknowledged)
            assert await process.stop() == 0
        globex = await customer(plane, "globex")
        assert int(globex["quota"]["used"]) == acknowledged
        assert Decimal(globex["cost"]["total"]["rounded"]) == 10 + acknowledged * Decimal("0.25")


async def test_an_agent_restarted_offline_keeps_the_limits_it_knew_and_spends_no_more_than_its_lease(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with agent(tmp_path / "agent", plane, **PATIENT) as process:
            assert (await consume(process, "acme"))["allowed"]
            await counted(plane, "acme", 1)
            plane.kill()
            allowed = 1 + sum([(await consume(process, "acme"))["allowed"] for _ in range(LIMIT)])
            process.kill()
            await process.start()
            decision = await check(process, "acme")
            assert (decision["limit"], decision["used"]) == (str(LIMIT), str(allowed))
            answers = [await consume(process, "acme") for _ in range(LIMIT)]
            assert not any(each["allowed"] for each in answers), "its lease was spent before the kill"

            async def all_spent() -> bool:
                nonlocal allowed
                allowed += (await consume(process, "acme"))["allowed"]
                return allowed == LIMIT

            await plane.start()
            await eventually(all_spent, 90)
            assert not (await consume(process, "acme"))["allowed"]
            await counted(plane, "acme", LIMIT)
            assert await process.stop() == 0
        assert await used(plane, "acme") == LIMIT


async def test_sigterm_drains_the_agent_then_ends_both_with_code_0(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with agent(tmp_path / "agent", plane, SIDEMETER_FLUSH_AFTER_S="60") as process:
            await process.post("/v1/events", [{"type": "call", "subject": "globex"} for _ in range(100)])
            assert await used(plane, "globex") == 0
            assert await process.stop() == 0
        assert await used(plane, "globex") == 100
        assert await plane.stop() == 0


async def test_a_second_agent_on_the_directory_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "agent"
    async with control_plane(tmp_path) as plane, agent(directory, plane) as first:
        with AgentProcess(directory, plane.url, "smk_unused", log=tmp_path / "second.log") as second:
            second.spawn()
            assert await second.exit_code() == 1
            assert f"{directory}" in second.log.read_text()
            await second.http.aclose()
        await record(first, "globex", 1)
