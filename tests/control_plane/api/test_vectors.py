"""Aggregations through GraphQL, all of them on one control plane: the meter first, then real events and corrections."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio
from aggregation_vectors import Case, Row, cases
from planes import Plane, plane

from sidemeter_control.metering.events import parse_time

pytestmark = pytest.mark.asyncio(loop_scope="module")

INGEST = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted rejected { message } } }"
CORRECT = """mutation($source: String!, $id: String!, $data: JSON!) {
  correctEvent(source: $source, id: $id, data: $data, reason: "sent again") { id }
}"""
USAGE = """query($meter: ID!, $from: DateTime!, $to: DateTime!, $window: Window, $zone: String, $by: [String!]) {
  usage(meter: $meter, from: $from, to: $to, window: $window, timeZone: $zone, groupBy: $by, customer: "acme") {
    windowStart windowEnd dimensions value
  }
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    directory = tmp_path_factory.mktemp("vectors")
    async with plane(directory) as opened:
        opened.clock.set_wall(parse_time("2100-01-01T00:00:00Z"))
        await opened.make("upsertCustomer", key="acme")
        yield opened


@pytest.mark.parametrize("case", list(cases()))
async def test_an_aggregation_gives_the_asserted_figures(control: Plane, case: Case) -> None:
    name = case.given["id"]
    await control.make("createMeter", key=name, eventType=name, **case.meter)
    sent = [
        {"id": id_, "source": name, "type": name, "subject": "acme", "time": shown(each["at_us"]), "data": each["data"]}
        for id_, each in case.events.items()
    ]
    assert (await control.ask(INGEST, events=sent))["ingest"] == {"accepted": len(sent), "rejected": []}
    for id_, each in case.corrected.items():
        await control.ask(CORRECT, source=name, id=id_, data=each["data"])
    start, end = case.interval
    variables = {"meter": name, "from": start, "to": end, "window": case.window, "zone": case.zone, "by": case.by}
    rows = (await control.ask(USAGE, **variables))["usage"]
    case.check(
        [
            Row(
                parse_time(row["windowStart"]),
                parse_time(row["windowEnd"]),
                row["dimensions"],
                None if row["value"] is None else Decimal(row["value"]),
            )
            for row in rows
        ]
    )


def shown(at_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat()
