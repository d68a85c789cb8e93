"""Worked examples of well-known billing systems for periods and proration hold, exactly, through the public functions."""

import json
import os
from calendar import monthrange
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sidemeter_control.pricing.periods import Interval, Period, Recurrence, local_day
from sidemeter_control.pricing.plans import PlanSpec, read_plan
from sidemeter_control.pricing.proration import (
    ProrationRule,
    credit,
    days_between,
    months_of_thirty_days,
    prorated,
    share,
    share_of_days,
)
from sidemeter_control.pricing.subscriptions import Subscribed, SubscribeSpec, new_subscription

VECTORS = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[4] / "shared")) / "vectors"

Share = Callable[[Mapping[str, Any], Mapping[str, Any]], Fraction]
"""What share of a vector's period one of its parts is."""

INTERVALS = {"D": Interval.DAY, "W": Interval.WEEK, "M": Interval.MONTH, "Y": Interval.YEAR}


def vectors(name: str) -> list[Any]:
    path = VECTORS / name
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{path} is not here"), id="absent")]
    return [pytest.param(vector, id=vector["id"]) for vector in map(json.loads, path.read_text().splitlines())]


def instant_us(text: str) -> int:
    at = datetime.fromisoformat(text)
    return (at.replace(tzinfo=at.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def interval(text: str) -> tuple[Interval, int]:
    return INTERVALS[text[-1]], int(text[1:-1])


def recurrence(vector: Mapping[str, Any]) -> Recurrence:
    return Recurrence.every(*interval(vector["unit"]), instant_us(vector["anchor"] or vector["start"]), "UTC")


def next_after(vector: Mapping[str, Any]) -> int:
    at_us = instant_us(vector["at"])
    return recurrence(vector).period_at(at_us - 1 if vector["inclusive"] else at_us).end_us


def prev_before(vector: Mapping[str, Any]) -> int:
    at_us = instant_us(vector["at"])
    return recurrence(vector).period_at(at_us if vector["inclusive"] else at_us - 1).start_us


def seconds(whole: Mapping[str, Any], part: Mapping[str, Any]) -> Fraction:
    period = Period(instant_us(whole["period_start"]), instant_us(whole["period_end"]))
    return share(ProrationRule.SECONDS, period, Period(instant_us(part["from"]), instant_us(part["to"])), "UTC")


def days(between: Callable[[date, date], int] = days_between, last: int = 0) -> Share:
    """`last`: how many days after the ends that are written the ends lie that are not counted."""

    def ratio(whole: Mapping[str, Any], part: Mapping[str, Any]) -> Fraction:
        first, start = (date.fromisoformat(text) for text in (whole["period_start"], part["from"]))
        ends = (date.fromisoformat(text) + timedelta(days=last) for text in (whole["period_end"], part["to"]))
        end, stop = ends
        return share_of_days(first, end, start, stop, between)

    return ratio


SHARES: Mapping[str, Share] = {
    "seconds": seconds,
    "days": days(),
    "days_inclusive": days(last=1),
    "fixed_30": days(months_of_thirty_days),
    "nominal_days": lambda whole, _: Fraction(whole["days"], whole["nominal"]),
    "none": lambda _, __: Fraction(1),
}


def legs(vector: Mapping[str, Any]) -> Decimal:
    ratio, digits = SHARES[vector["inner"]], vector["expected_dp"]
    parts = [(Decimal(leg["amount"]), ratio(vector, leg)) for leg in vector["legs"]]
    if vector.get("round_legs", True):
        return sum((prorated(*part, digits) for part in parts), Decimal(0))
    return prorated(Decimal(1), sum((Fraction(amount) * part for amount, part in parts), Fraction(0)), digits)


def day_count(vector: Mapping[str, Any]) -> Decimal:
    return Decimal(days_between(*(datetime.fromisoformat(vector[end]).date() for end in ("from", "to"))))


def credit_cap(vector: Mapping[str, Any]) -> Decimal:
    return credit(Decimal(vector["potential"]), Decimal(vector["original"]), Decimal(vector["previous"]))


def on_cycle_day(start: date, day: int, months: int) -> date:
    """A day of the cycle that has the first `day` of a month at or after `start` in it, or the end of a shorter month.

    It lies so far back that its month has that day, or else is as long as any of the cycle's.
    """
    month = start.year * 12 + start.month - 1
    if min(day, monthrange(start.year, start.month)[1]) < start.day:
        month += 1
    before = [divmod(month - back * months, 12) for back in range(9)]
    year, index = max(before, key=lambda each: min(day, monthrange(each[0], each[1] + 1)[1]))
    return date(year, index + 1, min(day, monthrange(year, index + 1)[1]))


def billing_cycles(vector: Mapping[str, Any]) -> Mapping[str, object]:
    """What a subscription is billed for by the target date, in advance: each leg, of the billing period it lies in."""
    unit, count = interval(vector["period"])
    months = count * {Interval.MONTH: 1, Interval.YEAR: 12}[unit]
    anchor = on_cycle_day(date.fromisoformat(vector["start"]), vector["bill_cycle_day"], months)
    spec = PlanSpec(key="p", currency="USD", charges=(), interval=unit, interval_count=count)
    plan = read_plan(spec, 1, 0)
    wanted = SubscribeSpec(
        customer="c", plan="p", start_at_us=instant_us(vector["start"]), anchor_us=instant_us(anchor.isoformat())
    )
    end_us = None if vector["end"] is None else instant_us(vector["end"])
    own = Subscribed.to(plan, replace(new_subscription(wanted, plan, "s", 0), end_at_us=end_us), {})
    found: dict[str, Any] = {"leading": None, "whole": 0, "trailing": None}
    for leg in own.legs(0, instant_us(vector["target_date"]) + 1):
        if leg.period == leg.cycle:
            found["whole"] += 1
            continue
        cut = "leading" if leg.cycle.start_us < leg.period.start_us else "trailing"
        ends = ((local_day(each.start_us, "UTC"), local_day(each.end_us, "UTC")) for each in (leg.period, leg.cycle))
        lengths = (days_between(*each) for each in ends)
        found[cut] = "/".join(map(str, lengths))
    return found


OTHERS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "period_starts": lambda vector: [
        each.start_us for each in recurrence(vector).meeting(instant_us(vector["start"]), instant_us(vector["end"]))
    ],
    "next_after": next_after,
    "prev_before": prev_before,
    "legs": legs,
    "day_count": day_count,
    "credit_cap": credit_cap,
    "billing_cycles": billing_cycles,
}


def expected(vector: Mapping[str, Any]) -> object:
    match vector["rule"]:
        case "period_starts":
            return [instant_us(text) for text in vector["expected"]]
        case "next_after" | "prev_before":
            return instant_us(vector["expected"])
        case "billing_cycles":
            return vector["expected"]
    return Decimal(vector["expected"])


@pytest.mark.parametrize("vector", vectors("proration.jsonl"))
def test_proration(vector: Mapping[str, Any]) -> None:
    rule = vector["rule"]
    if rule in OTHERS:
        found = OTHERS[rule](vector)
    else:
        found = prorated(Decimal(vector["amount"]), SHARES[rule](vector, vector), vector["expected_dp"])
    assert found == expected(vector)
