"""Worked examples of well-known billing systems hold, exactly, through the public functions."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sidemeter_control.pricing.charges import Charge, ChargeSpec, Price, PricingModel, Rounding, TierSpec
from sidemeter_control.pricing.periods import Interval, Recurrence
from sidemeter_control.pricing.words import Words

VECTORS = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[4] / "shared")) / "vectors"

OUT_OF_SCOPE = {
    "stairstep": "STAIRSTEP is not built",
    "percentage": "PERCENTAGE is not built",
    "graduated_percentage": "GRADUATED_PERCENTAGE is not built",
    "matrix": "MATRIX is not built",
    "dynamic": "DYNAMIC is not built",
    "tier_block": "started blocks are not built",
    "minimum_commitment": "minimums are not built",
    "maximum_spend": "maximums are not built",
    "discount_percentage": "percentage discounts are not built",
    "discount_amount": "fixed discounts are not built",
    "sum": "its parts are minimum commitments",
    "transform": "unit conversion is not built",
    "tier_quantity": "choosing the tier by another figure is not built",
}

RECURRING = {"period_starts", "next_after", "prev_before"}
"""The rules of proration.jsonl about periods; the others are about changes of plan, which are not built."""

INTERVALS = {"D": Interval.DAY, "W": Interval.WEEK, "M": Interval.MONTH, "Y": Interval.YEAR}


def vectors(name: str) -> list[Any]:
    path = VECTORS / name
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{path} is not here"), id="absent")]
    return [pytest.param(vector, id=vector["id"]) for vector in map(json.loads, path.read_text().splitlines())]


def decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def charge(model: str, params: Mapping[str, Any]) -> Charge:
    """The charge that a vector describes. Free units and a usage discount are both included units."""
    included = params.get("free_units") or params.get("discount_quantity")
    if model == "discount_usage":
        model, params = params["price"]["model"], params["price"]["params"]
    tiers = params.get("tiers")
    spec = ChargeSpec(
        key=model,
        meter=None if model == "flat" else "meter",
        model=PricingModel(model.upper()),
        amount=decimal(params.get("amount")),
        unit_price=decimal(params.get("unit_price")),
        package_price=decimal(params.get("package_price")),
        package_size=decimal(params.get("package_size")),
        package_rounding=Rounding(params.get("rounding", "up").upper()),
        tiers=tiers and tuple(TierSpec(**{key: decimal(text) for key, text in tier.items()}) for tier in tiers),
        included_units=decimal(included),
        charge_flat_fee_at_zero=params.get("zero_usage_flat_fee") == "charged",
    )
    return Charge.read("charge", spec)


def price(vector: Mapping[str, Any], quantity: str) -> Price:
    params = vector["params"]
    priced, words = charge(vector["model"], params), Words(params["currency"])
    if "previous_usage" in params:
        return priced.price_since(Decimal(params["previous_usage"]), Decimal(quantity), words)
    return priced.price(Decimal(quantity), words)


@pytest.mark.parametrize("vector", vectors("pricing.jsonl"))
def test_price(vector: Mapping[str, Any]) -> None:
    params, expected = vector["params"], Decimal(vector["expected"]["amount"])
    for reason in (OUT_OF_SCOPE.get(key) for key in (vector["model"], *params)):
        if reason:
            pytest.skip(reason)
    quantities = vector["usage"] if params.get("apply") == "per_item" else [vector["usage"]]
    totals = [price(vector, quantity).total for quantity in quantities]
    assert sum(total.rounded if "round" in params else total.amount for total in totals) == expected


def instant_us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def recurrence(vector: Mapping[str, Any]) -> Recurrence:
    anchor = vector["anchor"] or vector["start"]
    unit, count = vector["unit"][-1], int(vector["unit"][1:-1])
    return Recurrence.every(INTERVALS[unit], count, instant_us(anchor), "UTC")


@pytest.mark.parametrize("vector", vectors("proration.jsonl"))
def test_period(vector: Mapping[str, Any]) -> None:
    if vector["rule"] not in RECURRING:
        pytest.skip(f"{vector['rule']}: proration is not built")
    periods = recurrence(vector)
    if vector["rule"] == "period_starts":
        met = periods.meeting(instant_us(vector["start"]), instant_us(vector["end"]))
        assert [each.start_us for each in met] == [instant_us(text) for text in vector["expected"]]
        return
    at_us, expected = instant_us(vector["at"]), instant_us(vector["expected"])
    if vector["rule"] == "next_after":
        found = periods.period_at(at_us - 1 if vector["inclusive"] else at_us).end_us
    else:
        found = periods.period_at(at_us if vector["inclusive"] else at_us - 1).start_us
    assert found == expected
