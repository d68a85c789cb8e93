"""Aggregations against the figures that well-known billing systems assert.

How a case becomes events and a meter: its value is `data.value`, its properties are under `data.props`; `match` is a
filter `in` for each key, an exclusion of one key is `notIn`. Of events with one id and time the last sent is taken, as
the case asks, before they are sent: ids count once here.
"""

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes import ManualClock

from sidemeter_control.metering import usage
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event, parse_time
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, PropertyFilter, new_meter
from sidemeter_control.store.database import Database

ROOT = Path(__file__).parents[3]
VECTORS = Path(os.environ.get("SIDEMETER_SHARED", ROOT.parent / "shared")) / "vectors" / "aggregation.jsonl"

NAMES = {"count", "sum", "min", "max", "avg", "latest", "unique_count"}
SIZES = {"PT1H": "HOUR", "P1D": "DAY", "P7D": "WEEK", "P1M": "MONTH"}
NOT_HERE = {
    "stored_at": "asks what was stored by an instant, which is no question of this API",
    "initial_value": "a running total begins at zero here",
}


def why_not(case: dict[str, Any]) -> str | None:
    """Why a case is out of scope."""
    if case["aggregation"] not in NAMES:
        return f"{case['aggregation']} is no aggregation yet"
    if case.get("window_size") not in {None, *SIZES}:
        return f"windows of {case['window_size']}"
    if any("op" in event for event in case["events"]):
        return "values are not taken back"
    if any(len(each) > 1 for each in case.get("filters", {}).get("exclude", [])):
        return "exclusions of several properties at once"
    return next((why for name, why in NOT_HERE.items() if name in case), None)


def cases() -> Iterator[Any]:
    if not VECTORS.exists():
        yield pytest.param(None, marks=pytest.mark.skip(reason=f"{VECTORS} is not here"))
        return
    for line in VECTORS.read_text().splitlines():
        case = json.loads(line)
        why = why_not(case)
        marks = (
            [pytest.mark.skip(reason=why)]
            if why
            else [pytest.mark.skip(reason=case["why"])]
            if case.get("disputed")
            else []
        )
        yield pytest.param(case, id=case["id"], marks=marks)


def sent(case: dict[str, Any]) -> list[Event]:
    """The case's events, as they would be sent."""
    found: dict[object, dict[str, Any]] = {}
    for index, event in enumerate(case["events"]):
        key = (event.get("id"), event["ts"]) if case.get("dedupe") == "id_ts_last" else event.get("id", index)
        if case.get("dedupe") != "id" or key not in found:
            found[key] = event
    return [
        Event(
            str(index),
            "vectors",
            "event",
            "acme",
            parse_time(event["ts"]),
            json.dumps({"value": event["value"], "props": event["props"]}),
        )
        for index, event in enumerate(found.values())
    ]


def instant(case: dict[str, Any], end: str, default: str) -> int:
    return parse_time(case["window"].get(end) or default)


@pytest.mark.parametrize("case", list(cases()))
async def test_an_aggregation_gives_the_asserted_figures(case: dict[str, Any], tmp_path: Path) -> None:
    filters = case.get("filters", {"match": {}, "exclude": []})
    by = [*case.get("group_by", []), *case.get("group_values", {})]
    meter = new_meter(
        "vector",
        "event",
        Aggregation[case["aggregation"].upper()],
        value_property="value",
        dimensions=[Dimension(name, f"props.{name}") for name in by],
        filters=[PropertyFilter(f"props.{name}", is_in=tuple(texts)) for name, texts in filters["match"].items()]
        + [
            PropertyFilter(f"props.{n}", not_in=tuple(texts))
            for each in filters["exclude"]
            for n, texts in each.items()
        ],
        now_us=0,
    )
    database = await Database.open(f"sqlite:///{tmp_path}/control.db")
    try:
        await database.migrate()
        await Ingest(database, ManualClock(parse_time("2100-01-01T00:00:00Z"))).record(sent(case))
        meter = await create_meter(database, meter)
        async with database.read() as conn:
            rows = await usage.rows(
                conn,
                meter,
                subjects={"acme": "acme"},
                from_us=instant(case, "from", "1970-01-01T00:00:00Z"),
                to_us=instant(case, "to", "2099-01-01T00:00:00Z"),
                window=SIZES.get(case.get("window_size", "")),  # type: ignore[arg-type]
                time_zone=case.get("timezone", "UTC"),
                group_by=by,
            )
    finally:
        await database.close()
    expected = case["expected"]
    if "windows" in expected:
        assert [(row.window_start_us, row.window_end_us, row.value) for row in rows] == [
            (parse_time(each["from"]), parse_time(each["to"]), Decimal(each["value"])) for each in expected["windows"]
        ]
    elif "groups" in expected:
        found = {tuple(row.dimensions.values()): row.value for row in rows}
        assert found == {tuple(each["by"][name] for name in by): Decimal(each["value"]) for each in expected["groups"]}
    else:
        wanted = [row for row in rows if row.dimensions == case.get("group_values", {})]
        value = (
            wanted[0].value
            if wanted
            else Decimal(0)
            if meter.aggregation in {Aggregation.COUNT, Aggregation.SUM}
            else None
        )
        assert value == (None if expected["value"] is None else Decimal(expected["value"]))
