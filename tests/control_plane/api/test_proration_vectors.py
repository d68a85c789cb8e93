"""Worked examples of well-known billing systems hold through GraphQL: subscriptions that begin, change and end."""

import json
import os
from calendar import monthrange
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, plane

VECTORS = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[4] / "shared")) / "vectors" / "proration.jsonl"

NO_PLACE = {
    "nominal_days": "a fee is prorated over the days of its own billing period, never over a nominal number of days",
    "none": "a fee recurs; there is no fee that is owed once",
    "day_count": "days are counted inside of a rule, and shown in words only",
    "credit_cap": "credits come from a change or an end, never from a caller, and what was paid is known",
}
"""Rules of proration.jsonl that a subscription cannot be asked for, and why."""

PRORATION = {"seconds": "SECONDS", "days": "CALENDAR_DAYS", "days_inclusive": "CALENDAR_DAYS"}
PRORATION["fixed_30"] = "THIRTY_DAY_MONTHS"
INTERVALS = {"D": "DAY", "W": "WEEK", "M": "MONTH", "Y": "YEAR"}
MILLION = Decimal(1_000_000)

COST = """
query($customer: ID!, $from: DateTime!, $to: DateTime!) {
  customer(key: $customer) { cost(from: $from, to: $to) { total { rounded } lines { amount { rounded } } } }
}
"""
PERIOD = "query($customer: ID!) { customer(key: $customer) { subscriptions { periodStart periodEnd } } }"
CHANGE = "mutation($id: ID!, $plan: ID!) { changePlan(subscription: $id, plan: $plan, at: NOW) { id } }"
CANCEL = "mutation($id: ID!) { cancelSubscription(subscription: $id, at: NOW) { endAt } }"

Vector = Mapping[str, Any]


def at(text: str, days: int = 0) -> datetime:
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)) + timedelta(days=days)


class Asked:
    """A vector's customer on a control plane whose clock the vector moves."""

    def __init__(self, control: Plane, name: str) -> None:
        self.control, self.name = control, name

    def now(self, instant: datetime) -> None:
        self.control.clock.set_wall((instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))

    async def plan(self, key: str, amount: object, interval: tuple[str, int], **more: object) -> str:
        unit, count = interval
        fee = {"key": "fee", "model": "FLAT", "amount": str(amount), "inAdvance": more.pop("inAdvance", False)}
        made = {"key": f"{self.name}.{key}", "currency": "USD", "interval": unit, "intervalCount": count, **more}
        return (await self.control.make("publishPlan", "key", charges=[fee], **made))["key"]

    async def subscribe(self, plan: str, start: datetime, anchor: datetime) -> str:
        await self.control.make("upsertCustomer", key=self.name)
        wanted = {"customer": self.name, "plan": plan, "startAt": start.isoformat(), "anchor": anchor.isoformat()}
        return (await self.control.make("subscribe", "id", **wanted))["id"]

    async def cost(self, start: datetime, end: datetime) -> dict[str, Any]:
        interval = {"from": start.isoformat(), "to": end.isoformat()}
        return (await self.control.ask(COST, customer=self.name, **interval))["customer"]["cost"]

    async def period(self, instant: datetime) -> tuple[datetime, datetime]:
        self.now(instant)
        (own,) = (await self.control.ask(PERIOD, customer=self.name))["customer"]["subscriptions"]
        return at(own["periodStart"]), at(own["periodEnd"])


def interval_of(start: datetime, end: datetime) -> tuple[str, int] | None:
    """The interval that has a period between the two; None: no billing period has those ends."""
    months = (end.year - start.year) * 12 + end.month - start.month
    if months and (start.day, start.time()) == (end.day, end.time()):
        return "MONTH", months
    days = end - start
    return None if days.seconds or not 1 <= days.days <= 366 else ("DAY", days.days)


async def part(asked: Asked, vector: Vector) -> bool | str:
    last = vector["rule"] == "days_inclusive"
    start, end = at(vector["period_start"]), at(vector["period_end"], last)
    begins, stops = at(vector["from"]), at(vector["to"], last)
    interval = interval_of(start, end)
    if interval is None:
        return "no billing period has those ends"
    if vector["expected_dp"] != 2:
        return "money is rounded to the currency's minor unit"
    plan = await asked.plan("p", vector["amount"], interval, proration=PRORATION[vector["rule"]])
    asked.now(begins)
    own = await asked.subscribe(plan, begins, start)
    if stops < end:
        asked.now(stops)
        await asked.control.ask(CANCEL, id=own)
    found = await asked.cost(start, end)
    return Decimal(found["total"]["rounded"]) == Decimal(vector["expected"])


async def legs(asked: Asked, vector: Vector) -> bool | str:
    """What is left of a plan is given back, and what is left of the period is paid for another one."""
    last = vector["inner"] == "days_inclusive"
    start, end = at(vector["period_start"]), at(vector["period_end"], last)
    back, owed = vector["legs"]
    interval = interval_of(start, end)
    if interval is None or Decimal(back["amount"]) > 0 or back["from"] != owed["from"]:
        return "no change of plan has those legs"
    terms = {"inAdvance": True, "proration": PRORATION[vector["inner"]]}
    paid = Decimal(back["amount"]).copy_abs()
    before = await asked.plan("before", paid, interval, **terms)
    after = await asked.plan("after", owed["amount"], interval, **terms)
    asked.now(start)
    own = await asked.subscribe(before, start, start)
    asked.now(at(back["from"]))
    await asked.control.ask(CHANGE, id=own, plan=after)
    found = await asked.cost(start, end)
    return Decimal(found["total"]["rounded"]) - paid == Decimal(vector["expected"])


async def billing_cycles(asked: Asked, vector: Vector) -> bool | str:
    start, target = at(vector["start"]), at(vector["target_date"])
    unit, count = vector["period"][-1], int(vector["period"][1:-1])
    anchor = on_cycle_day(start, vector["bill_cycle_day"], count * {"M": 1, "Y": 12}[unit])
    plan = await asked.plan("p", MILLION, (INTERVALS[unit], count), proration="CALENDAR_DAYS")
    asked.now(start)
    own = await asked.subscribe(plan, start, anchor)
    if vector["end"] is not None:
        asked.now(at(vector["end"]))
        await asked.control.ask(CANCEL, id=own)
    _, end = await asked.period(target)
    found = [Decimal(line["amount"]["rounded"]) for line in (await asked.cost(start, end))["lines"]]
    leading, trailing = (vector["expected"][key] for key in ("leading", "trailing"))
    return found == [*share(leading), *[MILLION] * vector["expected"]["whole"], *share(trailing)]


def on_cycle_day(start: datetime, day: int, months: int) -> datetime:
    """A day of the cycle with the first such day at or after the start, in a month that has it if there is one."""
    month = start.year * 12 + start.month - 1
    month += min(day, monthrange(start.year, start.month)[1]) < start.day
    places = [(year, index + 1) for year, index in (divmod(month - back * months, 12) for back in range(9))]
    days = {place: min(day, monthrange(*place)[1]) for place in places}
    year, month = max(places, key=lambda place: days[place])
    return start.replace(year=year, month=month, day=days[year, month])


def share(text: str | None) -> list[Decimal]:
    if text is None:
        return []
    part, whole = map(Decimal, text.split("/"))
    return [(MILLION * part / whole).quantize(Decimal("0.01"))]


async def recurring(asked: Asked, vector: Vector, begins: datetime) -> None:
    anchor = at(vector["anchor"] or vector["start"])
    plan = await asked.plan("p", 1, (INTERVALS[vector["unit"][-1]], int(vector["unit"][1:-1])))
    asked.now(begins)
    await asked.subscribe(plan, begins, anchor)


async def period_starts(asked: Asked, vector: Vector) -> bool | str:
    """The first period begins with the subscription."""
    start = at(vector["start"])
    await recurring(asked, vector, start)
    expected = [max(at(text), start) for text in vector["expected"]]
    return [(await asked.period(each))[0] for each in expected] == expected and (
        (await asked.period(expected[-1]))[1] >= at(vector["end"])
    )


async def boundary(asked: Asked, vector: Vector) -> bool | str:
    instant, is_next = at(vector["at"]), vector["rule"] == "next_after"
    await recurring(asked, vector, instant - timedelta(days=800))
    moment = timedelta(microseconds=int(vector["inclusive"] is is_next))
    start, end = await asked.period(instant - moment)
    return (end if is_next else start) == at(vector["expected"])


PLACES: Mapping[str, Callable[[Asked, Vector], Awaitable[bool | str]]] = {
    **dict.fromkeys(PRORATION, part),
    "legs": legs,
    "billing_cycles": billing_cycles,
    "period_starts": period_starts,
    "next_after": boundary,
    "prev_before": boundary,
}


async def test_every_vector_holds_through_graphql_or_has_no_place_there(tmp_path: Path) -> None:
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is not here")
    wrong: list[str] = []
    reasons: dict[str, str] = {}
    async with plane(tmp_path) as control:
        for vector in map(json.loads, VECTORS.read_text().splitlines()):
            if vector["rule"] in NO_PLACE:
                continue
            found = await PLACES[vector["rule"]](Asked(control, vector["id"]), vector)
            if isinstance(found, str):
                reasons[vector["id"]] = found
            elif not found:
                wrong.append(vector["id"])
    assert wrong == []
    assert set(reasons.values()) <= {
        "no billing period has those ends",
        "money is rounded to the currency's minor unit",
    }
