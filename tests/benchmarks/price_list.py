"""The live cost of one customer on a plan of twelve charges, one of each model, and what it must come to."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from fakes import eventually
from processes import ADMIN_KEY, ControlPlane, control_plane

from sidemeter_control.pricing.charges import Charge, ChargeSpec, Outcome, Used, UsedLine
from sidemeter_control.pricing.words import Words

from .harness import Bench, Figure, at_most, latency
from .load import UNBOUNDED, load, post
from .traffic import CUSTOMER, PERIOD_BEGAN_DAYS_AGO
from .wire import agent_door

__all__ = ["price_list"]

FEW, MANY = 10_000, 10_000_000
HOUR_US = 3_600_000_000
TIERS = [{"upTo": "1000000", "unitPrice": "0.0000029"}, {"unitPrice": "0.0000017"}]
STEPS = [{"upTo": "1000", "flatFee": "5"}, {"upTo": "1000000", "flatFee": "50"}, {"flatFee": "500"}]
RATES = [{"match": {"model": "large"}, "unitPrice": "0.00001"}, {"match": {"model": "small"}, "unitPrice": "0.000001"}]
CHARGES = [
    {"key": "base", "model": "FLAT", "amount": "250"},
    {"key": "output", "meter": "output", "model": "PER_UNIT", "unitPrice": "0.0000131"},
    {"key": "calls", "meter": "calls", "model": "PACKAGE", "packagePrice": "2", "packageSize": "1000"},
    {"key": "input", "meter": "input", "model": "GRADUATED", "tiers": TIERS},
    {"key": "volume", "meter": "calls", "model": "VOLUME", "tiers": TIERS},
    {"key": "seat", "meter": "calls", "model": "STAIRSTEP", "tiers": STEPS},
    {
        "key": "fees",
        "meter": "paid",
        "model": "PERCENTAGE",
        "percentage": "2.9",
        "fixedPerEvent": "0.3",
        "minPerEvent": "0.5",
        "maxPerEvent": "2",
        "freeEvents": 100,
    },
    {
        "key": "share",
        "meter": "paid",
        "model": "GRADUATED_PERCENTAGE",
        "tiers": [{"upTo": "5000", "percentage": "1"}, {"percentage": "0.5"}],
    },
    {"key": "models", "meter": "input", "model": "MATRIX", "rates": RATES, "defaultUnitPrice": "0.000002"},
    {
        "key": "night",
        "meter": "calls",
        "model": "TIME_OF_DAY",
        "bands": [{"from": "22:00", "to": "06:00", "unitPrice": "0.0001"}],
        "defaultUnitPrice": "0.0003",
    },
    {"key": "passed-on", "meter": "paid", "model": "DYNAMIC", "multiplier": "1.1"},
    {
        "key": "resolved",
        "meter": "cases",
        "model": "OUTCOME",
        "unitPrice": "0.9",
        "outcome": {"confirmType": "case.kept", "reverseType": "case.reopened", "windowHours": 72, "property": "case"},
    },
]
METERS = [
    {
        "key": "input",
        "eventType": "llm",
        "aggregation": "SUM",
        "valueProperty": "input",
        "groupBy": [{"key": "model", "property": "model"}],
    },
    {"key": "output", "eventType": "llm", "aggregation": "SUM", "valueProperty": "output"},
    {"key": "calls", "eventType": "llm", "aggregation": "COUNT"},
    {"key": "paid", "eventType": "payment", "aggregation": "SUM", "valueProperty": "amount"},
    {"key": "cases", "eventType": "case.resolved", "aggregation": "COUNT"},
]
COST = """
query($customer: ID!) {
  customer(key: $customer) { cost { total { rounded currency } lines { charge quantity amount { rounded } } } }
}
"""


@dataclass
class Expected:
    """What was sent, added up here: the prices are the product's rules, the quantities are not."""

    tokens: Counter[str] = field(default_factory=Counter)
    by_night: Counter[bool] = field(default_factory=Counter)
    states: Counter[Outcome] = field(default_factory=Counter)
    payments: list[tuple[int, str, int]] = field(default_factory=list)

    def total(self) -> Decimal:
        words = Words("USD")
        specs = (msgspec.convert(each, ChargeSpec) for each in CHARGES)
        found = (Charge.read("charge", spec).price(self.used(spec), words).total.rounded for spec in specs)
        return sum(found, Decimal(0))

    def used(self, spec: ChargeSpec) -> Used:
        calls = sum(self.by_night.values())
        match spec.key:
            case "base":
                return Used.of(Decimal(0))
            case "output" | "input":
                return Used.of(Decimal(sum(n for key, n in self.tokens.items() if key.startswith(spec.key))))
            case "share" | "passed-on":
                return Used.of(Decimal(sum(cents for _, _, cents in self.payments)) / 100)
            case "fees":
                return Used.of_amounts(Decimal(cents) / 100 for _, _, cents in sorted(self.payments))
            case "models":
                return Used.of_lines(
                    UsedLine(Decimal(self.tokens[f"input {model}"]), {"model": model}) for model in ("large", "small")
                )
            case "night":
                at_us = {True: 23 * HOUR_US, False: 12 * HOUR_US}
                return Used.of_lines(UsedLine(Decimal(n), at_us=at_us[night]) for night, n in self.by_night.items())
            case "resolved":
                return Used.of_lines(UsedLine(Decimal(n), outcome=state) for state, n in self.states.items())
        return Used.of(Decimal(calls))


def events(count: int, began_us: int, expected: Expected) -> Iterator[list[object]]:
    """So many events of the period: calls, one payment in twenty, a case in fifty, of which some are reopened or kept."""
    chance = random.Random(7)
    span_us = (PERIOD_BEGAN_DAYS_AGO - 5) * 24 * HOUR_US  # every window is over: nothing is provisional by now
    case = None
    for n in range(count):
        at_us = began_us + HOUR_US + chance.randrange(span_us)
        id_ = f"5f0e8f9a2b7c4d10-{n:010d}"
        if case is not None:
            type_, state, at_us = case[1:]
            data = {"case": case[0]}
            expected.states[state] += 1
            expected.states[Outcome.EXPIRED] -= 1
            case = None
        elif n % 50 == 7:
            type_, data = "case.resolved", {"case": str(n)}
            expected.states[Outcome.EXPIRED] += 1
            if n % 500 == 7:
                case = (str(n), "case.reopened", Outcome.REVERSED, at_us + 5 * HOUR_US)
            elif n % 500 == 57:
                case = (str(n), "case.kept", Outcome.CONFIRMED, at_us + 71 * HOUR_US)
        elif n % 20 == 3:
            cents = chance.randrange(1, 20_000)
            type_, data = "payment", {"amount": f"{cents // 100}.{cents % 100:02d}"}
            expected.payments.append((at_us, id_, cents))
        else:
            model = "large" if n % 3 else "small"
            type_, data = "llm", {"model": model, "input": 100 + n % 4001, "output": n % 503}
            expected.tokens[f"input {model}"] += 100 + n % 4001
            expected.tokens["output"] += n % 503
            hour = at_us // HOUR_US % 24
            expected.by_night[hour >= 22 or hour < 6] += 1
        yield [id_, "bench", type_, CUSTOMER, at_us, json.dumps(data)]


async def price_list(bench: Bench) -> list[Figure]:
    """Twelve charges with 10 k events behind them; with --full also with ten million."""
    figures = []
    for count, name in [(FEW, "10 k"), *([(MANY, "10 M")] if bench.full else [])]:
        directory = bench.directory / str(count)
        directory.mkdir()
        async with control_plane(directory, **UNBOUNDED) as plane:
            figures += await _measured(bench, plane, count, name)
    return figures


async def _measured(bench: Bench, plane: ControlPlane, count: int, name: str) -> list[Figure]:
    began = datetime.fromtimestamp(time.time_ns() // (HOUR_US * 1000) * 3600, UTC) - timedelta(
        days=PERIOD_BEGAN_DAYS_AGO
    )
    await _sell(plane, began)
    expected = Expected()
    stored = events(count, int(began.timestamp()) * 1_000_000, expected)
    async with agent_door(plane) as door:
        await door.stream(stored)
    for meter in METERS:
        await eventually(lambda meter=meter: _filled(plane, str(meter["key"])), within_s=600)
    cost = (await plane.ask(COST, customer=CUSTOMER))["customer"]["cost"]
    bench.prove(f"cost of {name} events", found=Decimal(cost["total"]["rounded"]), expected=expected.total())
    request = post(
        "/graphql", {"query": COST, "variables": {"customer": CUSTOMER}}, {"Authorization": f"Bearer {ADMIN_KEY}"}
    )
    total = f'"{cost["total"]["rounded"]}"'.encode()
    came = await load(("127.0.0.1", plane.port), request, expect=total, connections=1, seconds=bench.seconds)
    return [
        latency(f"GraphQL: live cost, 12 charges, {name} events", came.samples_s, "ms", of="p99", reach=at_most(10)),
    ]


async def _filled(plane: ControlPlane, meter: str) -> bool:
    found = await plane.ask("query($key: ID!) { meter(key: $key) { backfill { done } } }", key=meter)
    return bool(found["meter"]["backfill"]["done"])


async def _sell(plane: ControlPlane, began: datetime) -> None:
    for meter in METERS:
        await plane.make("createMeter", "MeterInput", **meter)
    await plane.make("publishPlan", "PlanInput", key="all", currency="USD", charges=CHARGES)
    await plane.make("upsertCustomer", "CustomerInput", key=CUSTOMER, currency="USD")
    await plane.make("subscribe", "SubscribeInput", customer=CUSTOMER, plan="all", startAt=began.isoformat())
