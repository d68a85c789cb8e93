"""Budgets over HTTP: set, shown with what is spent, replaced, taken away, and refused by field."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, call, plane

INGEST = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }"
ALL = """key unit amount spent remaining currency slice enforcement thresholds period periodStart resetsAt
leased inDoubt asOf meter { key }"""
NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands
TEAM = {
    "key": "team-a",
    "customer": "acme",
    "unit": "METER",
    "meter": "tokens",
    "amount": "100",
    "slice": {"team": "a"},
}


@pytest.fixture
async def sold(tmp_path: Path) -> AsyncIterator[Plane]:
    """Acme pays 10 EUR a month, and a cent for each token, which are split by team."""
    async with plane(tmp_path) as opened:
        split = [{"key": "team", "property": "team"}]
        await opened.make(
            "createMeter", key="tokens", eventType="llm", aggregation="SUM", valueProperty="n", groupBy=split
        )
        charges = [
            {"key": "base", "model": "FLAT", "amount": "10", "inAdvance": True},
            {"key": "tokens", "meter": "tokens", "model": "PER_UNIT", "unitPrice": "0.01"},
        ]
        await opened.make("publishPlan", key="pro", currency="EUR", charges=charges)
        await opened.make("upsertCustomer", key="acme")
        await opened.make("subscribe", customer="acme", plan="pro", startAt="2023-11-01T00:00:00Z")
        yield opened


async def use(control: Plane, tokens: int, team: str) -> None:
    event = {"type": "llm", "subject": "acme", "time": NOW, "data": {"n": tokens, "team": team}}
    await control.ask(INGEST, events=[event])


async def budgets(control: Plane, select: str = ALL) -> list[dict[str, Any]]:
    return (await control.ask(f'{{ customer(key: "acme") {{ budgets {{ {select} }} }} }}'))["customer"]["budgets"]


async def test_a_budget_says_what_is_spent_of_it(sold: Plane) -> None:
    await use(sold, 30, "a")
    await use(sold, 7, "b")
    made = await sold.make("setBudget", ALL, **TEAM, enforcement="HARD")
    assert made == {
        "key": "team-a",
        "unit": "METER",
        "amount": "100",
        "spent": "30",
        "remaining": "70",
        "currency": None,
        "slice": {"team": "a"},
        "enforcement": "HARD",
        "thresholds": [50, 75, 90, 100],
        "period": "MONTH",
        "periodStart": "2023-11-01T00:00:00Z",
        "resetsAt": "2023-12-01T00:00:00Z",
        "leased": "0",
        "inDoubt": "0",
        "asOf": NOW,
        "meter": {"key": "tokens"},
    }
    money = await sold.make("setBudget", ALL, key="all", customer="acme", amount="10.30", thresholds=[80])
    assert (money["spent"], money["remaining"], money["currency"]) == ("10.37", "0", "EUR")
    assert (money["unit"], money["meter"], money["slice"], money["thresholds"]) == ("MONEY", None, {}, [80])
    assert await budgets(sold) == [money, made]


async def test_a_budget_is_replaced_and_taken_away(sold: Plane) -> None:
    await sold.make("setBudget", **TEAM)
    await sold.make("setBudget", **TEAM | {"amount": "200", "period": "NEVER"})
    assert await budgets(sold, "amount resetsAt") == [{"amount": "200", "resetsAt": None}]
    remove = 'mutation { removeBudget(key: "team-a") }'
    assert [(await sold.ask(remove))["removeBudget"] for _ in range(2)] == [True, False]
    assert await budgets(sold) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": ""}, "key"),
        ({"amount": "0"}, "amount"),
        ({"meter": None}, "meter"),
        ({"slice": ["team"]}, "slice"),
        ({"slice": {"key": "a"}}, "slice.key"),
        ({"slice": {"team": {}}}, "slice.team"),
        ({"thresholds": [50, 1001]}, "thresholds[1]"),
        ({"unit": "MONEY"}, "meter"),
        ({"unit": "MONEY", "meter": None, "slice": {"key": "a"}}, "slice.key"),
        ({"unit": "MONEY", "meter": None, "slice": None, "period": "NEVER"}, "period"),
    ],
)
async def test_a_wrong_budget_names_its_field(sold: Plane, fields: dict[str, object], field: str) -> None:
    error = await sold.refusal(call("setBudget", "key"), input=TEAM | fields)
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": field}


async def test_a_budget_of_what_does_not_exist_is_not_found(sold: Plane) -> None:
    for fields, message in (({"customer": "x"}, "customer 'x'"), ({"meter": "x"}, "meter 'x'")):
        error = await sold.refusal(call("setBudget", "key"), input=TEAM | fields)
        assert (error["extensions"]["code"], error["message"]) == ("NOT_FOUND", f"there is no {message}")
