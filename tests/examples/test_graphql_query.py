"""Asking for a bill with plain httpx."""

import sys
from pathlib import Path

from processes import ControlPlane, control_plane, run

FEE = [{"key": "base", "model": "FLAT", "amount": "1249.50"}]


async def sell(plane: ControlPlane) -> None:
    await plane.make("publishPlan", "PlanInput", key="basic", currency="USD", charges=FEE)
    await plane.make("upsertCustomer", "CustomerInput", key="acme", currency="USD")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="basic")


async def test_it_prints_the_running_bill(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        key = await plane.new_key("READ")
        printed = run(sys.executable, "examples/graphql_query.py", f"{plane.url}/graphql", key, "acme")
    assert "acme owes 1,249.5 USD so far" in printed


async def test_an_unknown_customer_is_said_to_be_one(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        key = await plane.new_key("READ")
        command = (sys.executable, "examples/graphql_query.py", f"{plane.url}/graphql", key, "nobody")
        assert run(*command, exit_code=1) == "no customer 'nobody'\n"
