"""Aggregations against the figures that well-known billing systems assert: how a case becomes events, a meter, a question.

A case's value is `data.value`, its properties are under `data.props`; `match` is a filter `in` for each key, an exclusion of
one key is `notIn`. An initial value is an earlier event. Of events with one id and time the last one sent is a correction of
the first. What has no place in this product is in `why_not`, with the reason.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sidemeter_control.metering.events import parse_time

__all__ = ["Case", "Row", "cases"]

ROOT = Path(__file__).parents[1]
VECTORS = Path(os.environ.get("SIDEMETER_SHARED", ROOT.parent / "shared")) / "vectors" / "aggregation.jsonl"

NAMES = {
    **{name: name.upper() for name in ("count", "sum", "min", "max", "avg", "latest", "unique_count", "percentile")},
    "weighted_sum": "TIME_WEIGHTED",
}
SIZES = {"PT1H": "HOUR", "P1D": "DAY", "P7D": "WEEK", "P1M": "MONTH"}
ZERO_OF_NOTHING = {"COUNT", "SUM", "UNIQUE_COUNT", "TIME_WEIGHTED"}

PRORATED = "a day's share is not the meter's: prices are prorated by subscriptions and charges"
NOT_HERE = {
    "stored_at": "asks what was stored by an instant: an answer is always of all that is counted",
    "align": "windows begin where hours, days, weeks and months do in the asker's time zone; nothing else can be chosen",
    "proration_days": PRORATED,
    "persisted_days": PRORATED,
}


def why_not(case: Mapping[str, Any]) -> str | None:
    """Why a case has no place in this product; None: it has one."""
    if case["aggregation"] not in NAMES:
        return PRORATED if case["aggregation"].startswith("prorated") else f"there is no {case['aggregation']}"
    if case.get("window_size") not in {None, *SIZES}:
        return f"usage is cut into hours, days, weeks and months, not into {case['window_size']}"
    if any(event.get("op") == "remove" for event in case["events"]):
        return "distinct values are not taken back by later events, only by corrections"
    if any(len(each) > 1 for each in case.get("filters", {}).get("exclude", [])):
        return "a filter looks at one property: there is no exclusion of several at once"
    if "initial_value" in case and (case["aggregation"] != "weighted_sum" or "group_by" in case):
        return "only a running total has something before its window, and an earlier event has a group"
    return next((why for name, why in NOT_HERE.items() if name in case), None)


def cases() -> Iterator[Any]:
    """A parameter for each case, skipped with the reason where it has no place here, or where systems disagree."""
    if not VECTORS.exists():
        yield pytest.param(None, marks=pytest.mark.skip(reason=f"{VECTORS} is not here"))
        return
    for line in VECTORS.read_text().splitlines():
        case = json.loads(line)
        why = why_not(case) or (case.get("why", "disputed") if case.get("disputed") else None)
        yield pytest.param(Case(case), id=case["id"], marks=[pytest.mark.skip(reason=why)] if why else [])


class Row(NamedTuple):
    """A row of an answer."""

    start_us: int
    end_us: int
    dimensions: Mapping[str, str | None]
    value: Decimal | None


@dataclass
class Case:
    """A vector in the words of this product."""

    given: Mapping[str, Any]
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    corrected: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """`events` are sent first, by id; then `corrected` says what some of them say in the end."""
        if "initial_value" in self.given:
            start = parse_time(self.given["window"]["from"]) - timedelta(days=1) // timedelta(microseconds=1)
            self.events["initial"] = {"at_us": start, "data": {"value": self.given["initial_value"], "props": {}}}
        for index, event in enumerate(self.given["events"]):
            data = {"value": event.get("value"), "props": event.get("props", {})}
            match self.given.get("dedupe"):
                case "id_ts_last":
                    id_, again = f"{event['id']} at {event['ts']}", self.corrected
                case "id":
                    id_, again = str(event["id"]), {}
                case _:
                    id_, again = str(index), {}
            (again if id_ in self.events else self.events)[id_] = {"at_us": parse_time(event["ts"]), "data": data}

    @property
    def by(self) -> list[str]:
        return [*dict.fromkeys([*self.given.get("group_by", []), *self.given.get("group_values", {})])]

    @property
    def meter(self) -> dict[str, Any]:
        """A MeterInput without key and type of event."""
        filters = self.given.get("filters", {"match": {}, "exclude": []})
        wanted = [{"property": f"props.{name}", "in": texts} for name, texts in filters.get("match", {}).items()]
        unwanted = [
            {"property": f"props.{name}", "notIn": texts}
            for each in filters.get("exclude", [])
            for name, texts in each.items()
        ]
        return {
            "aggregation": NAMES[self.given["aggregation"]],
            "valueProperty": "value",
            "percentile": self.given.get("percentile"),
            "groupBy": [{"key": name, "property": f"props.{name}"} for name in self.by],
            "filters": wanted + unwanted,
        }

    @property
    def interval(self) -> tuple[str, str]:
        """Open ends are far away."""
        window = self.given["window"]
        return window.get("from") or "0100-01-01T00:00:00Z", window.get("to") or "9000-01-01T00:00:00Z"

    @property
    def window(self) -> str | None:
        return SIZES.get(self.given.get("window_size", ""))

    @property
    def zone(self) -> str:
        return self.given.get("timezone", "UTC")

    def check(self, rows: Sequence[Row]) -> None:
        """The rows of usage by `by` are what the case asserts."""
        expected = self.given["expected"]
        wanted = self.given.get("group_values", {})
        rows = [row for row in rows if all(row.dimensions[name] == text for name, text in wanted.items())]
        if "windows" in expected:
            self.same(
                {(row.start_us, row.end_us): row.value for row in rows},
                {(parse_time(each["from"]), parse_time(each["to"])): each["value"] for each in expected["windows"]},
            )
        elif "groups" in expected:
            by = self.given["group_by"]
            self.same(
                {tuple(row.dimensions[name] for name in by): row.value for row in rows},
                {tuple(each["by"].get(name) for name in by): each["value"] for each in expected["groups"]},
            )
        else:
            nothing = Decimal(0) if self.meter["aggregation"] in ZERO_OF_NOTHING else None
            (found,) = [row.value for row in rows] or [nothing]
            self.same({None: found}, {None: expected["value"]})

    def same(self, found: Mapping[Any, Decimal | None], expected: Mapping[Any, str | None]) -> None:
        assert found.keys() == expected.keys()
        for place, text in expected.items():
            value = found[place]
            if value is None or text is None:
                assert (value, text) == (None, None), place
            elif "expected_dp" in self.given:
                assert abs(value - Decimal(text)) <= Decimal(1).scaleb(-self.given["expected_dp"]), place
            else:
                assert value == Decimal(text), place
