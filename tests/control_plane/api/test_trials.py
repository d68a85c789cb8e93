"""A meter tried on stored events while it is defined, through GraphQL."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, plane

PREVIEW = """query($meter: MeterInput!, $first: Int) {
  meterPreview(meter: $meter, first: $first) { value events { gives dimensions problem event { id voided } } }
}"""
CALLS = [
    {"id": "1", "type": "call", "subject": "a", "data": {"ms": 20, "region": "eu", "by": "ann"}},
    {"id": "2", "type": "call", "subject": "a", "data": {"ms": "0.5", "region": "us", "by": "bob"}},
    {"id": "3", "type": "call", "subject": "b", "data": {"region": "eu", "by": "ann"}},
    {"id": "4", "type": "other", "subject": "b", "data": {"ms": 1}},
]


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        await opened.ask("mutation($all: [EventInput!]!) { ingest(events: $all) { accepted } }", all=CALLS)
        yield opened


async def tried(control: Plane, first: int = 50, **meter: Any) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """What the events come to, and each by its id."""
    given = {"key": "draft", "eventType": "call"} | meter
    found = (await control.ask(PREVIEW, meter=given, first=first))["meterPreview"]
    return found["value"], {each["event"]["id"]: each for each in found["events"]}


async def test_each_event_says_what_it_gives_or_why_it_cannot_be_counted(control: Plane) -> None:
    by_region = [{"key": "where", "property": "region"}]
    value, events = await tried(control, aggregation="SUM", valueProperty="ms", groupBy=by_region)
    assert value == "20.5"
    assert {id_: each["gives"] for id_, each in events.items()} == {"3": None, "2": "0.5", "1": "20"}
    assert events["1"]["dimensions"] == {"where": "eu"}
    assert events["3"]["problem"] == "data.ms is missing"
    assert events["3"]["dimensions"] is None


@pytest.mark.parametrize(
    ("aggregation", "property_", "value", "gives"),
    [
        ("COUNT", None, "3", "1"),
        ("UNIQUE_COUNT", "by", "2", "bob"),
        ("MAX", "ms", "20", "0.5"),
        ("LATEST", "ms", "0.5", "0.5"),
        ("TIME_WEIGHTED", "ms", None, "0.5"),
    ],
)
async def test_every_kind_of_meter_can_be_tried(
    control: Plane, aggregation: str, property_: str | None, value: str | None, gives: str
) -> None:
    found, events = await tried(control, aggregation=aggregation, valueProperty=property_)
    assert found == value
    assert events["2"]["gives"] == gives


async def test_what_a_filter_keeps_out_or_is_void_gives_nothing_and_is_no_problem(control: Plane) -> None:
    await control.ask('mutation { voidEvent(source: "graphql", id: "1", reason: "r") { id } }')
    value, events = await tried(control, aggregation="COUNT", filters=[{"property": "region", "in": ["eu"]}])
    assert value == "1"
    assert {id_: (each["gives"], each["problem"]) for id_, each in events.items()} == {
        "3": ("1", None),
        "2": (None, None),
        "1": (None, None),
    }
    assert events["1"]["event"]["voided"]


async def test_only_the_newest_are_looked_at_and_nothing_is_stored(control: Plane) -> None:
    _, events = await tried(control, first=1, aggregation="COUNT")
    assert list(events) == ["3"]
    assert await control.ask("{ meters { key } }") == {"meters": []}
    assert (await tried(control, aggregation="COUNT", eventType="none"))[0] is None


async def test_a_definition_that_is_wrong_is_refused_by_its_field(control: Plane) -> None:
    error = await control.refusal(PREVIEW, meter={"key": "draft", "eventType": "call", "aggregation": "SUM"}, first=1)
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "valueProperty"}
