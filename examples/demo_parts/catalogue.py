"""What the demo sells, how the control plane is told and asked, and what it must cost, worked out without Sidemeter."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx

from demo_parts.programs import DemoFailed

__all__ = ["CUSTOMERS", "TRIAL_REQUESTS", "Control", "Counted", "expected_cost", "set_up"]

BASE_FEE = {"scale": "49", "trial": "0"}
INPUT_TIERS = (("100000", "0.000003"), ("1000000", "0.0000025"), (None, "0.000002"))
OUTPUT_PRICE = "0.000015"
TRIAL_REQUESTS = 12
CUSTOMERS = {"acme": "scale", "globex": "scale", "initech": "trial"}

COUNTED = """
query Counted($from: DateTime!, $to: DateTime!) {
  customers {
    edges { node { key cost { total { rounded currency } } quota(feature: "chat") { used limit remaining } } }
  }
  requests: usage(meter: "requests", from: $from, to: $to) { customer events }
  input: usage(meter: "input-tokens", from: $from, to: $to) { customer value events }
  output: usage(meter: "output-tokens", from: $from, to: $to, groupBy: ["model"]) { customer dimensions value }
  agents { service backlog state }
}
"""


class Control:
    """The control plane at `url`, asked over GraphQL with the key that `http` carries."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self.http = http
        self.since = datetime.now(UTC)

    async def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The answer's data; raises DemoFailed for an error in it."""
        answer = await self.http.post(f"{self.url}/graphql", json={"query": query, "variables": variables})
        body = answer.raise_for_status().json()
        if body.get("errors"):
            raise DemoFailed(f"GraphQL answered {body['errors']}")
        data: dict[str, Any] = body["data"]
        return data

    async def make(self, mutation: str, input_type: str, select: str = "__typename", **fields: object) -> Any:
        """Run a mutation that takes one `input`."""
        query = f"mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ {select} }} }}"
        return (await self.ask(query, input=fields))[mutation]

    async def new_key(self, name: str, scope: str) -> str:
        """The secret of a fresh key."""
        made = await self.make("createApiKey", "ApiKeyInput", "secret", name=name, scopes=[scope])
        return str(made["secret"])

    async def counted(self) -> "Counted":
        """Everything that is counted now."""
        until = datetime.now(UTC) + timedelta(days=1)
        interval = {"from": (self.since - timedelta(days=1)).isoformat(), "to": until.isoformat()}
        return Counted.of(await self.ask(COUNTED, **interval))


@dataclass(frozen=True, slots=True)
class Account:
    """What the control plane has counted for one customer."""

    requests: int
    completions: int
    input_tokens: Decimal
    output_tokens: dict[str, Decimal]
    cost: Decimal
    currency: str
    quota: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counted:
    """One answer of the control plane: every customer and every agent at one instant."""

    customers: dict[str, Account]
    agents: list[dict[str, Any]]

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Counted":
        """Read the answer to COUNTED. Customers without usage have no rows."""
        requests = {row["customer"]: row["events"] for row in data["requests"]}
        completions = {row["customer"]: (row["events"], Decimal(row["value"])) for row in data["input"]}
        customers = {}
        for node in (edge["node"] for edge in data["customers"]["edges"]):
            key, total = node["key"], node["cost"]["total"]
            output = {
                row["dimensions"]["model"]: Decimal(row["value"]) for row in data["output"] if row["customer"] == key
            }
            events, tokens = completions.get(key, (0, Decimal(0)))
            customers[key] = Account(
                requests.get(key, 0),
                events,
                tokens,
                output,
                Decimal(total["rounded"]),
                total["currency"],
                node["quota"],
            )
        return cls(customers, data["agents"])

    @property
    def events(self) -> int:
        """How many events are counted."""
        return sum(each.requests + each.completions for each in self.customers.values())


async def set_up(control: Control) -> None:
    """Meters, a feature, two plans and three customers. The trial's requests are limited hard."""
    completion = {"eventType": "llm.completion", "aggregation": "SUM"}
    by_model = [{"key": "model", "property": "model"}]
    for meter in (
        {"key": "requests", "eventType": "http.request", "aggregation": "COUNT"},
        {"key": "input-tokens", "valueProperty": "input_tokens", **completion},
        {"key": "output-tokens", "valueProperty": "output_tokens", "groupBy": by_model, **completion},
    ):
        await control.make("createMeter", "MeterInput", **meter)
    await control.make("createFeature", "FeatureInput", key="chat", name="Chat", meter="requests")
    entitlements = {
        "scale": {"feature": "chat", "kind": "METERED", "limit": "1000000", "enforcement": "SOFT"},
        "trial": {"feature": "chat", "kind": "METERED", "limit": str(TRIAL_REQUESTS), "enforcement": "HARD"},
    }
    for plan, entitlement in entitlements.items():
        await control.make(
            "publishPlan", "PlanInput", key=plan, currency="USD", charges=charges(plan), entitlements=[entitlement]
        )
    for customer, plan in CUSTOMERS.items():
        await control.make("upsertCustomer", "CustomerInput", key=customer, name=customer.title(), currency="USD")
        await control.make("subscribe", "SubscribeInput", customer=customer, plan=plan)


def charges(plan: str) -> list[dict[str, object]]:
    """A base fee, graduated input tokens, output tokens per unit."""
    tiers = [{"unitPrice": price} | ({"upTo": up_to} if up_to else {}) for up_to, price in INPUT_TIERS]
    return [
        {"key": "base", "name": "Base fee", "model": "FLAT", "amount": BASE_FEE[plan]},
        {"key": "input", "name": "Input tokens", "meter": "input-tokens", "model": "GRADUATED", "tiers": tiers},
        {
            "key": "output",
            "name": "Output tokens",
            "meter": "output-tokens",
            "model": "PER_UNIT",
            "unitPrice": OUTPUT_PRICE,
        },
    ]


def expected_cost(customer: str, input_tokens: int, output_tokens: int) -> Decimal:
    """The bill by hand: each line rounded to the cent, half away from zero."""
    graduated, below = Decimal(0), 0
    for up_to, price in INPUT_TIERS:
        reached = input_tokens if up_to is None else min(int(up_to), input_tokens)
        graduated += max(reached - below, 0) * Decimal(price)
        below = reached
    lines = (Decimal(BASE_FEE[CUSTOMERS[customer]]), graduated, output_tokens * Decimal(OUTPUT_PRICE))
    return sum((line.quantize(Decimal("0.01"), ROUND_HALF_UP) for line in lines), Decimal(0))
