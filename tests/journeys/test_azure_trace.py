"""Two real traces go through two agents, one of them killed three times: every token counted once, every cent right."""

import asyncio
import csv
import os
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import eventually
from processes import ROOT, AgentProcess, ControlPlane, agent, control_plane

TRACES = Path(os.environ.get("SIDEMETER_SHARED", ROOT.parent / "shared")) / "data" / "azure-llm-2023"
TOKENS = {"code": (18_059_974, 245_896), "conversation": (22_361_870, 4_088_665)}  # input, output; from its README
CHUNK = 500
# Which of about 28 chunks an agent is killed with, and how long after it is sent: one takes 10 to 20 ms to answer, so
# the kills fall before, around and after its commit.
KILLED_S_AFTER = {7: 0.005, 14: 0.01, 21: 0.02}

BASE_FEE = "250"
INPUT_TIERS = (("5000000", "0.0000029"), ("20000000", "0.0000023"), (None, "0.0000017"))
OUTPUT_PRICE = "0.0000131"
NOVEMBER = {"from": "2023-11-01T00:00:00Z", "to": "2023-12-01T00:00:00Z"}

BILL = """
query($customer: ID!, $from: DateTime!, $to: DateTime!) {
  customer(key: $customer) { cost(from: $from, to: $to) { total { rounded currency } lines { charge amount { rounded } } } }
  input: usage(meter: "input-tokens", customer: $customer, from: $from, to: $to) { value events }
  output: usage(meter: "output-tokens", customer: $customer, from: $from, to: $to, groupBy: ["model"]) {
    dimensions value events
  }
}
"""
COUNTED = 'query($from: DateTime!, $to: DateTime!) { usage(meter: "input-tokens", from: $from, to: $to) { events } }'
Event = dict[str, Any]


def calls(trace: str) -> list[Event]:
    """The rows of one file as events; the ids come from the caller, so that sending one again is harmless."""
    with (TRACES / f"{trace}.csv").open(newline="") as file:
        return [
            {
                "id": f"{trace}-{n}",
                "source": "azure",
                "type": "llm.completion",
                "subject": trace,
                "time": row["TIMESTAMP"].replace(" ", "T") + "Z",
                "data": {
                    "model": f"{trace}-model",
                    "input_tokens": int(row["ContextTokens"]),
                    "output_tokens": int(row["GeneratedTokens"]),
                },
            }
            for n, row in enumerate(csv.DictReader(file))
        ]


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def graduated(quantity: int) -> Decimal:
    total, below = Decimal(0), Decimal(0)
    for up_to, price in INPUT_TIERS:
        above = Decimal(quantity) if up_to is None else min(Decimal(up_to), Decimal(quantity))
        total += max(above - below, Decimal(0)) * Decimal(price)
        below = above
    return total


def expected_lines(input_tokens: int, output_tokens: int) -> dict[str, Decimal]:
    return {
        "base": cents(Decimal(BASE_FEE)),
        "input": cents(graduated(input_tokens)),
        "output": cents(output_tokens * Decimal(OUTPUT_PRICE)),
    }


async def sell(plane: ControlPlane) -> None:
    tokens = {"eventType": "llm.completion", "aggregation": "SUM"}
    by_model = [{"key": "model", "property": "model"}]
    await plane.make("createMeter", "MeterInput", key="input-tokens", valueProperty="input_tokens", **tokens)
    await plane.make(
        "createMeter", "MeterInput", key="output-tokens", valueProperty="output_tokens", groupBy=by_model, **tokens
    )
    tiers = [{"unitPrice": price} | ({"upTo": up_to} if up_to else {}) for up_to, price in INPUT_TIERS]
    charges = [
        {"key": "base", "model": "FLAT", "amount": BASE_FEE},
        {"key": "input", "meter": "input-tokens", "model": "GRADUATED", "tiers": tiers},
        {"key": "output", "meter": "output-tokens", "model": "PER_UNIT", "unitPrice": OUTPUT_PRICE},
    ]
    await plane.make("publishPlan", "PlanInput", key="llm", currency="USD", charges=charges)
    for customer in TOKENS:
        await plane.make("upsertCustomer", "CustomerInput", key=customer, currency="USD")
        await plane.make("subscribe", "SubscribeInput", customer=customer, plan="llm", startAt=NOVEMBER["from"])


async def send_and_kill(process: AgentProcess, chunk: list[Event], after_s: float) -> None:
    """kill -9 with the request on its way: whether it was kept, nobody knows."""
    request = asyncio.create_task(process.http.post("/v1/events", json=chunk))
    await asyncio.wait([request], timeout=after_s)
    process.kill()
    await asyncio.wait([request])
    assert request.exception() is None or isinstance(request.exception(), httpx.TransportError)


async def play(process: AgentProcess, chunks: list[list[Event]], killed_s_after: Mapping[int, float]) -> None:
    for n, chunk in enumerate(chunks):
        if n in killed_s_after:
            await send_and_kill(process, chunk, killed_s_after[n])
            await process.start()
        answer = await process.post("/v1/events", chunk)
        assert answer["accepted"] + answer["duplicates"] == len(chunk)
        assert answer["rejected"] == []
        assert answer["durability"] == "disk"


async def usage_and_bill(plane: ControlPlane, customer: str) -> tuple[object, ...]:
    answer = await plane.ask(BILL, customer=customer, **NOVEMBER)
    cost = answer["customer"]["cost"]
    lines = {line["charge"]: Decimal(line["amount"]["rounded"]) for line in cost["lines"]}
    return answer["input"], answer["output"], lines, cost["total"]


async def counted_all(plane: ControlPlane, events: int) -> bool:
    rows = (await plane.ask(COUNTED, **NOVEMBER))["usage"]
    return sum(row["events"] for row in rows) >= events


def expected_usage_and_bill(customer: str, events: int) -> tuple[object, ...]:
    input_tokens, output_tokens = TOKENS[customer]
    lines = expected_lines(input_tokens, output_tokens)
    return (
        [{"value": str(input_tokens), "events": events}],
        [{"dimensions": {"model": f"{customer}-model"}, "value": str(output_tokens), "events": events}],
        lines,
        {"rounded": str(sum(lines.values())), "currency": "USD"},
    )


@pytest.mark.parametrize("run", [pytest.param(n, marks=[pytest.mark.soak] if n else []) for n in range(21)])
@pytest.mark.skipif(not TRACES.is_dir(), reason=f"the traces are not there: {TRACES} (set SIDEMETER_SHARED)")
async def test_two_real_traces_through_two_agents_one_killed_are_counted_once_and_priced_to_the_cent(
    tmp_path: Path, run: int
) -> None:
    events = {trace: calls(trace) for trace in TOKENS}
    everything = [event for trace in events.values() for event in trace]
    chunks = [everything[n : n + CHUNK] for n in range(0, len(everything), CHUNK)]

    async with (
        control_plane(tmp_path) as plane,
        agent(tmp_path / "steady", plane) as steady,
        agent(tmp_path / "killed", plane) as killed,
    ):
        await sell(plane)
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(play(steady, chunks[::2], {}))
            lanes.create_task(play(killed, chunks[1::2], KILLED_S_AFTER))
        doubtful = [chunks[1::2][n] for n in KILLED_S_AFTER]
        await play(steady, doubtful, {})  # once more, and through the other agent: still once counted

        await eventually(lambda: counted_all(plane, len(everything)), 60)
        assert [await steady.stop(), await killed.stop()] == [0, 0]
        for trace in TOKENS:
            assert await usage_and_bill(plane, trace) == expected_usage_and_bill(trace, len(events[trace]))
        assert (await plane.ask("{ deadLetters { edges { node { reason } } } }"))["deadLetters"]["edges"] == []
