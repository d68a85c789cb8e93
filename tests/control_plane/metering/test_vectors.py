"""Aggregations through the public functions: a meter that comes after its events, asked as `aggregation_vectors` says."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from aggregation_vectors import Case, Row, cases
from fakes import ManualClock
from planes import open_database

from sidemeter_control.metering import usage
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.correcting import correct_event
from sidemeter_control.metering.events import Event, parse_time
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, PropertyFilter, new_meter

NOW_US = parse_time("2100-01-01T00:00:00Z")


@pytest.mark.parametrize("case", list(cases()))
async def test_an_aggregation_gives_the_asserted_figures(case: Case, tmp_path: Path) -> None:
    given = case.meter
    meter = new_meter(
        "vector",
        "event",
        Aggregation[given["aggregation"]],
        value_property=given["valueProperty"],
        percentile=None if given["percentile"] is None else Decimal(given["percentile"]),
        dimensions=[Dimension(**each) for each in given["groupBy"]],
        filters=[
            PropertyFilter(each["property"], _texts(each.get("in")), _texts(each.get("notIn")))
            for each in given["filters"]
        ],
        now_us=0,
    )
    async with open_database(tmp_path) as database:
        await Ingest(database, ManualClock(NOW_US)).record(
            [
                Event(id_, "vectors", "event", "acme", event["at_us"], json.dumps(event["data"]))
                for id_, event in case.events.items()
            ]
        )
        meter = await create_meter(database, meter)
        for id_, event in case.corrected.items():
            await correct_event(database, "vectors", id_, json.dumps(event["data"]), "again", by="key", now_us=NOW_US)
        async with database.read() as conn:
            rows = await usage.rows(
                conn,
                meter,
                subjects={"acme": "acme"},
                from_us=parse_time(case.interval[0]),
                to_us=parse_time(case.interval[1]),
                window=case.window,  # type: ignore[arg-type]
                time_zone=case.zone,
                group_by=case.by,
            )
    case.check([Row(row.window_start_us, row.window_end_us, row.dimensions, row.value) for row in rows])


def _texts(texts: list[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)
