"""The events that every benchmark records, the price list they are sold under, and the totals they must come to."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from processes import ControlPlane

from .harness import Bench

__all__ = [
    "CUSTOMER",
    "EVENT_TYPE",
    "FEATURE",
    "KINDS",
    "PERIOD_BEGAN_DAYS_AGO",
    "cost_of",
    "counted",
    "data",
    "prove_usage",
    "sell",
    "tokens",
]

EVENT_TYPE, CUSTOMER, FEATURE = "llm.completion", "customer-17", "tokens"

_KINDS: list[dict[str, str | int]] = [
    {"model": f"model-{n % 3}", "input_tokens": 100 + 7919 * n % 4001, "output_tokens": 104729 * n % 503}
    for n in range(1000)
]
KINDS = len(_KINDS)
"""So many different events there are; then they come again."""

FEE, INCLUDED, FIRST_PRICE, THEN_PRICE, OUTPUT_PRICE = "250", "5000000", "0.0000029", "0.0000017", "0.0000131"
PERIOD_BEGAN_DAYS_AGO = 20
CENT = Decimal("0.01")

USAGE = """
query($from: DateTime!, $to: DateTime!) {
  calls: usage(meter: "calls", from: $from, to: $to) { value events }
  input: usage(meter: "input-tokens", from: $from, to: $to) { value events }
  output: usage(meter: "output-tokens", from: $from, to: $to, groupBy: ["model"]) { value events }
}
"""


def data(n: int) -> dict[str, str | int]:
    """Of the n-th event. They differ, so that one missing is never made up for by another counted twice."""
    return _KINDS[n % len(_KINDS)]


def tokens(kind: str, events: int, *, of: range | None = None) -> int:
    """ "Input" or "output" tokens of the first `events`; `of`: only of those whose number in each thousand is one of these."""
    rounds, rest = divmod(events, len(_KINDS))
    wanted = range(len(_KINDS)) if of is None else of
    return sum((rounds + (n < rest)) * int(_KINDS[n][f"{kind}_tokens"]) for n in wanted)


async def sell(plane: ControlPlane) -> None:
    """Three meters; a plan of a fee, graduated input tokens and output tokens by the piece; one customer on it."""
    summed = {"eventType": EVENT_TYPE, "aggregation": "SUM"}
    by_model = [{"key": "model", "property": "model"}]
    await plane.make("createMeter", "MeterInput", key="calls", eventType=EVENT_TYPE, aggregation="COUNT")
    await plane.make("createMeter", "MeterInput", key="input-tokens", valueProperty="input_tokens", **summed)
    await plane.make(
        "createMeter", "MeterInput", key="output-tokens", valueProperty="output_tokens", groupBy=by_model, **summed
    )
    await plane.make("createFeature", "FeatureInput", key=FEATURE, meter="input-tokens")
    tiers = [{"upTo": INCLUDED, "unitPrice": FIRST_PRICE}, {"unitPrice": THEN_PRICE}]
    charges = [
        {"key": "base", "model": "FLAT", "amount": FEE},
        {"key": "input", "meter": "input-tokens", "model": "GRADUATED", "tiers": tiers},
        {"key": "output", "meter": "output-tokens", "model": "PER_UNIT", "unitPrice": OUTPUT_PRICE},
    ]
    hard = {"feature": FEATURE, "kind": "METERED", "limit": "1000000000000", "enforcement": "HARD"}
    await plane.make("publishPlan", "PlanInput", key="llm", currency="USD", charges=charges, entitlements=[hard])
    await plane.make("upsertCustomer", "CustomerInput", key=CUSTOMER, currency="USD")
    began = datetime.now(UTC) - timedelta(days=PERIOD_BEGAN_DAYS_AGO)
    await plane.make("subscribe", "SubscribeInput", customer=CUSTOMER, plan="llm", startAt=began.isoformat())


async def counted(plane: ControlPlane) -> dict[str, tuple[Decimal, int]]:
    """Value and events of each meter, over all subjects."""
    day = timedelta(days=1)
    between = datetime.now(UTC) - (PERIOD_BEGAN_DAYS_AGO + 1) * day, datetime.now(UTC) + day
    answer = await plane.ask(USAGE, **{"from": between[0].isoformat(), "to": between[1].isoformat()})
    return {
        meter: (sum((Decimal(row["value"]) for row in rows), Decimal(0)), sum(row["events"] for row in rows))
        for meter, rows in answer.items()
    }


async def prove_usage(bench: Bench, plane: ControlPlane, events: int) -> None:
    """Every meter counts the first `events`, none missing and none twice, and adds up what each of them holds."""
    expected = {
        "calls": (events, events),
        "input": (tokens("input", events), events),
        "output": (tokens("output", events), events),
    }
    bench.prove("usage by GraphQL", found=await counted(plane), expected=expected)


def cost_of(events: int, *, of: range | None = None) -> Decimal:
    """What one customer owes for the first `events`, or some of them as for `tokens`, each line rounded to the cent."""
    quantity = Decimal(tokens("input", events, of=of))
    first = min(quantity, Decimal(INCLUDED))
    graduated = first * Decimal(FIRST_PRICE) + (quantity - first) * Decimal(THEN_PRICE)
    output = tokens("output", events, of=of) * Decimal(OUTPUT_PRICE)
    return Decimal(FEE) + graduated.quantize(CENT, ROUND_HALF_UP) + output.quantize(CENT, ROUND_HALF_UP)
