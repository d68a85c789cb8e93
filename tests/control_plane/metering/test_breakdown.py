"""The parts of a quantity add up to it, whatever they are split by."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from fakes import ManualClock
from planes import open_database
from shop import us

from sidemeter_control.metering.breakdown import amounts, by_dimensions, over
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, Meter, new_meter
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store.database import Database

HOUR_US = timedelta(hours=1) // timedelta(microseconds=1)
BEGAN_US = us("2026-11-01T00:30:00+00:00")
MONTH = Interval(BEGAN_US, us("2026-12-01"))


def paid(id_: str, after_us: int, amount: str, region: str | None = "eu", subject: str = "acme") -> Event:
    data = {"amount": amount} if region is None else {"amount": amount, "region": region}
    return Event(id_, "shop", "payment", subject, BEGAN_US + after_us, json.dumps(data))


EVENTS = [
    paid("late", 30 * HOUR_US, "7"),
    paid("b", HOUR_US, "2.5", "us", "acme-eu"),
    paid("a", HOUR_US, "-1"),
    paid("first", 0, "10", None),
    paid("unreadable", 5, "much"),
    paid("before", -1, "100"),
    paid("other", 9, "100", subject="other"),
]
OURS = ["acme", "acme-eu"]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path) as database:
        yield database


@pytest.fixture
async def meter(database: Database) -> Meter:
    made = new_meter(
        "paid",
        "payment",
        Aggregation.SUM,
        value_property="amount",
        dimensions=[Dimension("region", "region"), Dimension("kind", "kind")],
        now_us=0,
    )
    meter = await create_meter(database, made)
    await Ingest(database, ManualClock(us("2026-12-02"))).record(EVENTS)
    return meter


async def test_each_group_of_a_dimension_has_its_part(database: Database, meter: Meter) -> None:
    async with database.read() as conn:
        found = await by_dimensions(conn, meter, OURS, MONTH, ["region"])
    assert {row["region"]: quantity for row, quantity in found} == {
        None: Decimal(10),
        "eu": Decimal(6),
        "us": Decimal("2.5"),
    }


async def test_intervals_that_do_not_meet_have_a_quantity_together(database: Database, meter: Meter) -> None:
    first, second, last = (
        Interval(BEGAN_US, BEGAN_US + HOUR_US),
        Interval(BEGAN_US + HOUR_US, BEGAN_US + HOUR_US + 1),
        Interval(BEGAN_US + 20 * HOUR_US, MONTH.to_us),
    )
    async with database.read() as conn:
        found = [await over(conn, meter, OURS, cut) for cut in ([first], [second], [first, last], [])]
    assert found == [Decimal(10), Decimal("1.5"), Decimal(17), Decimal(0)]


async def test_amounts_come_one_by_one_in_the_order_of_time_source_and_id(database: Database, meter: Meter) -> None:
    async with database.read() as conn:
        found = [amount async for some in amounts(conn, meter, OURS, MONTH, first=2) for amount in some]
    assert found == [Decimal(10), Decimal(-1), Decimal("2.5"), Decimal(7)]
