"""A control plane with something on every page: three plans, customers near and at their limits, a month of events."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from processes import ControlPlane

DAYS = 45
"""A month and a half: two weeks of the period that runs have gone by, whatever day it is."""
MORE_CUSTOMERS = 30
AT_ONCE = 500
MODELS = ("gpt-large", "gpt-small", "embedding")
LONG_NAME = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft mbH & Co. KG"
CUSTOMERS = {"acme": "Acme <b>& Sons</b>", "globex": "Globex Corporation", "initech": None, "donau": LONG_NAME}


async def stock(plane: ControlPlane, *, now: datetime | None = None) -> None:
    """Meters, features, plans, customers, their usage, budgets, credits, an alert and a dead letter."""
    now = now or datetime.now(UTC)
    began = now - timedelta(days=DAYS)
    await define(plane)
    for key, name in CUSTOMERS.items():
        language = "DE" if key == "donau" else "EN"
        await plane.make("upsertCustomer", "CustomerInput", key=key, name=name, language=language)
        plan = {"initech": "starter"}.get(key, "pro")
        await plane.make("subscribe", "SubscribeInput", customer=key, plan=plan, startAt=began.isoformat())
    await many(plane, began)
    await caps(plane)
    events = usage(began, now)
    for first in range(0, len(events), AT_ONCE):
        await send(plane, events[first : first + AT_ONCE])
    await send(plane, [{"type": "completion", "subject": "acme", "data": {"tokens": "many", "model": "gpt-large"}}])


async def define(plane: ControlPlane) -> None:
    """What is counted, and what it costs."""
    by_model = [{"key": "model", "property": "model"}, {"key": "region", "property": "region"}]
    await plane.make(
        "createMeter", "MeterInput", key="tokens", name="Tokens", eventType="completion", aggregation="SUM",
        valueProperty="tokens", unit="tokens", groupBy=by_model,
    )  # fmt: skip
    await plane.make(
        "createMeter", "MeterInput", key="requests", name="Requests", eventType="completion", aggregation="COUNT",
        unit="requests", groupBy=by_model[:1],
    )  # fmt: skip
    await plane.make("createFeature", "FeatureInput", key="chat", name="Chat requests", meter="requests")
    await plane.make("createFeature", "FeatureInput", key="sso", name="Single sign-on")
    await plane.make("createFeature", "FeatureInput", key="tokens", name="Tokens", meter="tokens")
    tokens = [
        {"upTo": "100000", "unitPrice": "0.00003"},
        {"upTo": "500000", "unitPrice": "0.00002"},
        {"unitPrice": "0.00001"},
    ]
    for key, name, fee, limit, hard in (
        ("starter", "Starter", "9", "400", True),
        ("pro", "Pro", "49", "700", True),
        ("scale", "Scale", "199", "5000", False),
    ):
        charges = [
            {"key": "base", "name": "Base fee", "model": "FLAT", "amount": fee},
            {"key": "tokens", "name": "Tokens", "meter": "tokens", "model": "GRADUATED", "tiers": tokens},
            {
                "key": "requests",
                "name": "Requests",
                "meter": "requests",
                "model": "PER_UNIT",
                "unitPrice": "0.002",
                "includedUnits": "100",
            },
        ]
        allowed = [
            {"feature": "chat", "kind": "METERED", "limit": limit, "enforcement": "HARD" if hard else "SOFT"},
            {"feature": "tokens", "kind": "METERED", "limit": "2000000"},
            {"feature": "sso", "kind": "BOOLEAN"},
        ]
        await plane.make(
            "publishPlan",
            "PlanInput",
            key=key,
            name=name,
            currency="EUR",
            charges=charges,
            entitlements=allowed[: 2 if key == "starter" else 3],
        )


async def many(plane: ControlPlane, began: datetime) -> None:
    """More customers than a page shows, all alike."""
    made = " ".join(
        f'c{number}: upsertCustomer(input: {{key: "customer-{number:03}", name: "Customer {number}"}}) {{ key }}'
        for number in range(MORE_CUSTOMERS)
    )
    sold = " ".join(
        f's{number}: subscribe(input: {{customer: "customer-{number:03}", plan: "starter", startAt: $at}}) {{ id }}'
        for number in range(MORE_CUSTOMERS)
    )
    await plane.ask(f"mutation {{ {made} }}")
    await plane.ask(f"mutation($at: DateTime!) {{ {sold} }}", at=began.isoformat())


async def caps(plane: ControlPlane) -> None:
    """Budgets and credits, and where alerts would go: nobody has that name, ever."""
    await plane.make("setWebhook", "WebhookInput", url="https://hooks.example.invalid/sidemeter")
    await plane.make(
        "setBudget", "BudgetInput", key="acme-monthly", customer="acme", amount="80", thresholds=[50, 75, 90, 100]
    )
    await plane.make(
        "setBudget",
        "BudgetInput",
        key="acme-large-model",
        customer="acme",
        unit="METER",
        meter="tokens",
        amount="600000",
        slice={"model": "gpt-large"},
        enforcement="HARD",
    )
    await plane.make("grantCredits", "CreditGrantInput", customer="acme", amount="25", purchased=True)


def usage(began: datetime, now: datetime) -> list[dict[str, Any]]:
    """The completions, by day: many in office hours, few at weekends; the same for the same days."""
    dice = random.Random(7)
    events = []
    for day in range(DAYS):
        start = began + timedelta(days=day)
        count = 8 if start.weekday() >= 5 else 26
        for key, share in (("acme", 1.0), ("globex", 0.6), ("initech", 0.5), ("donau", 0.8)):
            for _ in range(int(count * share)):
                at = start + timedelta(minutes=dice.randrange(24 * 60))
                if at < now:
                    data = {
                        "tokens": dice.randrange(200, 2400),
                        "model": dice.choice(MODELS),
                        "region": dice.choice(("eu", "us")),
                    }
                    events.append({"type": "completion", "subject": key, "time": at.isoformat(), "data": data})
    return events


async def send(plane: ControlPlane, events: list[dict[str, Any]]) -> None:
    """Count events, those too that cannot be counted."""
    await plane.ask("mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }", events=events)
