"""Usage over any interval equals adding up the events one by one, however they arrived."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import naive
import pytest
from fakes import ManualClock
from heavy import few
from hypothesis import given
from hypothesis import strategies as st
from planes import open_database

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering import usage
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, Meter, PropertyFilter, new_meter
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.metering.windows import Interval
from sidemeter_control.pricing.customers import new_customer
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.store.database import Database

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Beirut"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The weeks around both clock changes of Berlin in 2026.
SPRING_US, AUTUMN_US = (
    (datetime(2026, month, 24, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) for month in (3, 10)
)
NOW_US = AUTUMN_US + 40 * 24 * HOUR_US

METERS = [
    new_meter(
        aggregation.value.lower(),
        "call",
        aggregation,
        value_property=None if aggregation is Aggregation.COUNT else "n",
        percentile=Decimal("62.5") if aggregation is Aggregation.PERCENTILE else None,
        dimensions=[Dimension("model", "model"), Dimension("region", "at.region")],
        filters=[PropertyFilter("mode", not_in=("test",))],
        now_us=0,
    )
    for aggregation in Aggregation
]
OWNERS = {"a": "acme", "b": "acme", "c": "other", "d": None}

instants = st.builds(
    lambda start, hours, rest: start + hours * HOUR_US + rest,
    st.sampled_from([SPRING_US, AUTUMN_US]),
    st.integers(0, 24 * 12),
    st.sampled_from([0, 0, 1, 1_800_000_000, HOUR_US - 1]) | st.integers(0, HOUR_US - 1),
)
intervals = st.builds(
    lambda start, hours, rest: (start, start + hours * HOUR_US + rest),
    instants,
    st.integers(0, 24 * 12),
    st.sampled_from([0, 1, HOUR_US // 2]) | st.integers(0, HOUR_US - 1),
)
numbers = st.decimals(min_value=-(10**17), max_value=10**17, places=9) | st.integers(-5, 5).map(Decimal)


@st.composite
def event_lists(draw: st.DrawFn) -> list[Event]:
    found = []
    for index in range(draw(st.integers(1, 40))):
        data: dict[str, object] = {"n": str(draw(numbers))}
        if draw(st.booleans()):
            data["model"] = draw(st.sampled_from(["small", "large", "größer", 1, True]))
        if draw(st.booleans()):
            data["at"] = {"region": draw(st.sampled_from(["eu", "us"]))}
        if draw(st.integers(0, 4)) == 0:
            data["mode"] = "test"
        subject = draw(st.sampled_from(sorted(OWNERS)))
        found.append(Event(f"e{index}", "s", "call", subject, draw(instants), json.dumps(data)))
    return found


def dimensions(event: Event) -> dict[str, str | None]:
    data = json.loads(event.data or "")
    return {"model": naive.shown(data.get("model")), "region": data.get("at", {}).get("region")}


def counted_in(meter: Meter, events: Sequence[Event], interval: Interval) -> usage.Quantity:
    inside = [event for event in events if interval.from_us <= event.time_us < interval.to_us]
    before = [event for event in events if event.time_us < interval.from_us]
    return usage.Quantity(naive.added_up(meter, inside, tuple(interval), before), len(inside))


def begins_new_window(before: datetime, after: datetime, window: str) -> bool:
    match window:
        case "HOUR":
            return (before.date(), before.hour, before.utcoffset()) != (after.date(), after.hour, after.utcoffset())
        case "DAY":
            return before.date() != after.date()
        case "WEEK":
            return before.isocalendar()[:2] != after.isocalendar()[:2]
        case _:
            return (before.year, before.month) != (after.year, after.month)


def window_starts(from_us: int, to_us: int, window: str | None, zone: str) -> list[int]:
    """Where windows begin, by looking at every quarter of an hour: no clock changes at a finer instant."""
    quarter = HOUR_US // 4
    starts = [from_us]
    before = local(from_us, zone)
    for at_us in range(from_us // quarter * quarter + quarter, to_us, quarter) if window else ():
        now = local(at_us, zone)
        if begins_new_window(before, now, str(window)):
            starts.append(at_us)
        before = now
    return starts


def local(at_us: int, zone: str) -> datetime:
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone))


async def ingested(database: Database, events: Sequence[Event], chance: random.Random) -> list[Meter]:
    """The events in any order, in any batches, some of them twice; half of the meters are there from the start."""
    ingest = Ingest(database, ManualClock(NOW_US))
    sent = [*events, *chance.sample(events, len(events) // 2)]
    chance.shuffle(sent)
    early = chance.sample(METERS, len(METERS) // 2)
    made = [await create_meter(database, meter) for meter in early]
    while sent:
        size = chance.randint(1, len(sent))
        await ingest.record(sent[:size])
        del sent[:size]
    return made + [await create_meter(database, meter) for meter in METERS if meter not in early]


@pytest.mark.no_cover
@few(15)
@given(
    events=event_lists(),
    seed=st.integers(0, 2**32),
    intervals=st.lists(intervals, min_size=1, max_size=4),
    window=st.sampled_from([None, "HOUR", "DAY", "WEEK", "MONTH"]),
    zone=st.sampled_from(ZONES),
    group_by=st.sampled_from([(), ("model",), ("region", "model")]),
    kept=st.sampled_from([{}, {"model": {"small", "1"}}]),
)
async def test_usage_is_what_the_events_add_up_to(
    events: list[Event],
    seed: int,
    intervals: list[tuple[int, int]],
    window: str | None,
    zone: str,
    group_by: tuple[str, ...],
    kept: dict[str, set[str]],
) -> None:
    with TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            made = await ingested(database, events, random.Random(seed))
            counted = [event for event in events if json.loads(event.data or "").get("mode") != "test"]
            kept_events = [event for event in counted if not kept or dimensions(event)["model"] in kept["model"]]
            async with database.read() as conn:
                for (from_us, to_us), meter in zip(intervals * len(METERS), made, strict=False):
                    rows = await usage.rows(
                        conn,
                        meter,
                        subjects=OWNERS,
                        from_us=from_us,
                        to_us=to_us,
                        window=window,  # type: ignore[arg-type]
                        time_zone=zone,
                        group_by=group_by,
                        filters=kept,
                    )
                    starts = [*window_starts(from_us, to_us, window, zone), to_us]
                    assert {
                        (row.window_start_us, row.window_end_us, row.customer, tuple(row.dimensions.values())): (
                            row.value,
                            row.events,
                        )
                        for row in rows
                    } == naive.rows(
                        meter,
                        kept_events,
                        list(pairwise(starts)),
                        lambda event: (OWNERS[event.subject], tuple(dimensions(event)[key] for key in group_by)),
                    )
                    mine = [event for event in counted if OWNERS[event.subject] == "acme"]
                    inside = [event for event in mine if from_us <= event.time_us < to_us]
                    before = [event for event in mine if event.time_us < from_us]
                    quantity = await usage.quantity(conn, meter, ["a", "b"], from_us, to_us)
                    expected = naive.added_up(meter, inside, (from_us, to_us), before)
                    assert quantity == usage.Quantity(expected, len(inside))
                    cut = [Interval(*each) for each in pairwise([*starts, to_us]) if each[0] < each[1]]
                    some = cut[:24:2]
                    assert await usage.series(conn, meter, ["a", "b"], some) == [
                        counted_in(meter, mine, each) for each in some
                    ]
                    assert await usage.running(conn, meter, ["a", "b"], cut[:24]) == [
                        counted_in(meter, mine, Interval(from_us, each.to_us)) for each in cut[:24]
                    ]


async def test_usage_of_everybody_comes_by_customer_and_what_is_nobodys_last(database: Database) -> None:
    for key in ("zeta", "acme"):
        await upsert_customer(database, new_customer(key, subjects=[f"{key}-1", f"{key}-2"], now_us=0))
    subjects = ["zeta-1", "acme-1", "acme-2", "nobody", "stranger"]
    sent = [Event(str(n), "s", "call", subject, SPRING_US + n, None) for n, subject in enumerate(subjects)]
    await Ingest(database, ManualClock(NOW_US)).record(sent)
    meter = await create_meter(database, METERS[0])
    async with database.read() as conn:
        for from_us, to_us in ((0, NOW_US), (SPRING_US, SPRING_US + 5), (SPRING_US - 1, SPRING_US + HOUR_US)):
            rows = await usage.rows(conn, meter, subjects=None, from_us=from_us, to_us=to_us)
            assert [(row.customer, row.events) for row in rows] == [("acme", 2), ("zeta", 1), (None, 2)]


async def test_a_subject_assigned_later_brings_all_its_usage(database: Database) -> None:
    await Ingest(database, ManualClock(NOW_US)).record([Event("1", "s", "call", "team", SPRING_US, None)])
    meter = await create_meter(database, METERS[0])
    await upsert_customer(database, new_customer("acme", subjects=["team"], now_us=0))
    async with database.read() as conn:
        (row,) = await usage.rows(conn, meter, subjects=None, from_us=0, to_us=NOW_US)
    assert row == usage.UsageRow(0, NOW_US, "acme", {}, Decimal(1), 1)


async def test_a_dimension_the_meter_has_not_is_refused_by_name(database: Database) -> None:
    meter = await create_meter(database, METERS[0])
    async with database.read() as conn:
        with pytest.raises(InvalidInput, match=r"^groupBy: 'colour' is not a dimension"):
            await usage.rows(conn, meter, subjects=None, from_us=0, to_us=1, group_by=["colour"])
        with pytest.raises(InvalidInput, match=r"^filter: 'colour' is not a dimension"):
            await usage.rows(conn, meter, subjects=None, from_us=0, to_us=1, filters={"colour": {"red"}})


async def test_nothing_was_used_by_nobody_and_in_no_time(database: Database) -> None:
    meter = await create_meter(database, METERS[0])
    async with database.read() as conn:
        assert await usage.quantity(conn, meter, [], 0, NOW_US) == usage.Quantity(Decimal(0), 0)
        assert await usage.quantity(conn, meter, ["acme"], 9, 9) == usage.Quantity(Decimal(0), 0)
        assert await usage.rows(conn, meter, subjects={}, from_us=9, to_us=3) == []


async def test_a_meter_or_a_subject_named_twice_counts_once(database: Database) -> None:
    meter = await create_meter(database, METERS[0])
    await Ingest(database, ManualClock(NOW_US)).record([Event("1", "s", "call", "acme", SPRING_US, None)])
    async with database.read() as conn:
        found = await usage.quantities(conn, [meter, meter], ["acme", "acme"], 0, NOW_US)
    assert found == [usage.Quantity(Decimal(1), 1)] * 2
