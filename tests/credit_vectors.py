"""Worked examples of burning credits down, read into the nouns of the product."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from sidemeter_control.metering.events import parse_time
from sidemeter_control.pricing.credits.instants import Grant, Overdraw, Recurs, Reset, worth
from sidemeter_control.pricing.periods import Interval, Period, Recurrence

VECTORS = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[2] / "shared")) / "vectors" / "credits.jsonl"
INTERVALS = {"D": (Interval.DAY, 1), "W": (Interval.WEEK, 1), "M": (Interval.MONTH, 1), "Y": (Interval.YEAR, 1)}

Case = Mapping[str, Any]


def cases() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{VECTORS} is not here"), id="absent")]
    return [
        pytest.param(case, id=case["id"], marks=[pytest.mark.skip(reason=case["why"])] if case.get("disputed") else [])
        for case in map(json.loads, VECTORS.read_text().splitlines())
    ]


def at(text: str | None) -> int | None:
    return None if text is None else parse_time(text)


def interval(text: str) -> tuple[Interval, int]:
    """`P1D`, `P7D`, `P1M` and the like; KeyError for steps that are shorter than a day."""
    if text.startswith("PT"):
        raise KeyError(text)
    unit, count = INTERVALS[text[-1]][0], int(text[1:-1])
    return (Interval.WEEK, count // 7) if unit is Interval.DAY and count % 7 == 0 else (unit, count)


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of one length, shorter than a day."""

    step_us: int
    anchor_us: int

    def meeting(self, from_us: int, to_us: int) -> Iterator[Period]:
        start_us = from_us - (from_us - self.anchor_us) % self.step_us
        while start_us < to_us:
            yield Period(start_us, start_us + self.step_us)
            start_us += self.step_us


def recurrence(case: Case | None, effective_us: int) -> Recurs | None:
    if case is None:
        return None
    anchor_us, text = at(case.get("anchor")), case["interval"]
    if anchor_us is None:
        anchor_us = effective_us
    if text.startswith("PT"):
        return Steps(int(text[2:-1]) * {"H": 3_600_000_000, "M": 60_000_000, "S": 1_000_000}[text[-1]], anchor_us)
    return Recurrence.every(*interval(text), anchor_us, "UTC")


def grant(case: Case, start_us: int = 0) -> Grant:
    effective_us = at(case.get("effective_at"))
    if effective_us is None:
        effective_us = start_us
    scope = case.get("scope")
    return Grant(
        id=case["id"],
        amount=Decimal(case["amount"]),
        effective_at_us=effective_us,
        created_at_us=at(case.get("created_at")) or 0,
        priority=case.get("priority"),
        expires_at_us=at(case.get("expires_at")),
        voided_at_us=at(case.get("voided_at")),
        deleted_at_us=at(case.get("deleted_at")),
        purchased=case.get("kind") == "purchased",
        recurrence=recurrence(case.get("recurrence"), effective_us),
        rollover_max=Decimal(case.get("rollover_max") or 0),
        rollover_min=Decimal(case.get("rollover_min") or 0),
        scope=None if scope is None else frozenset(scope),
    )


def resets(case: Case) -> list[Reset]:
    preserved = bool(case.get("preserve_overage"))
    return [Reset(parse_time(text), preserved) for text in case["resets"]]


def overdraw(case: Case) -> Overdraw:
    return Overdraw[case.get("overdraw", "overage").upper()]


@dataclass(frozen=True, slots=True)
class Found:
    """What one of the two ways answered of a case; None: that way has no word for it."""

    balance: Decimal
    overage: Decimal
    used: Decimal
    per_grant: Mapping[str, Decimal]
    applied: Mapping[str, Decimal]
    rejected: bool


def money(case: Case, quantity: Decimal) -> Decimal:
    """So many credits at the case's rate, to its digits where it says how many."""
    amount = worth(quantity, Decimal(case.get("rate", 1)))
    digits = case.get("amount_precision")
    return amount if digits is None else amount.quantize(Decimal(1).scaleb(-int(digits)), ROUND_HALF_UP)


def check(case: Case, found: Found) -> None:
    """Everything that the case asserts of a balance or of who paid."""
    for name, expected in case["expected"].items():
        match name:
            case "balance" | "overage":
                assert getattr(found, name) == Decimal(expected), name
            case "usage":
                assert found.used == Decimal(expected)
            case "per_grant":
                assert {key: found.per_grant.get(key) for key in expected} == decimals(expected)
            case "per_grant_amount":
                assert {key: money(case, found.per_grant[key]) for key in expected} == decimals(expected)
            case "per_grant_total_of":
                for keys, total in totals(expected):
                    assert sum((found.per_grant[key] for key in keys), Decimal(0)) == total
            case "applied":
                assert found.applied == {key: each for key, each in decimals(expected).items() if each}
            case "rejected":
                assert found.rejected is expected
            case _:
                pytest.fail(f"nothing is known of {name}")


def decimals(texts: Mapping[str, str]) -> dict[str, Decimal]:
    return {key: Decimal(text) for key, text in texts.items()}


def totals(expected: Any) -> Iterator[tuple[Sequence[str], Decimal]]:
    """Sums over several grants: `{ids|grants, total|amount}`, a list of those, or a map of joined ids."""
    if isinstance(expected, list):
        for each in expected:
            yield from totals(each)
    elif ids := expected.get("ids") or expected.get("grants"):
        yield ids, Decimal(expected.get("total") or expected["amount"])
    else:
        for ids, total in expected.items():
            yield ids.replace("+", ",").split(","), Decimal(total)
