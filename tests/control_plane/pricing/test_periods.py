"""Billing periods: anchored on the zone's clock, month ends clamp and return, daylight saving changes nothing."""

from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.pricing.periods import EVER, Interval, Period, Recurrence

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def starts(interval: Interval, count: int, anchor: str, zone: str, numbers: range) -> list[str]:
    recurrence = Recurrence.every(interval, count, us(anchor), zone)
    return [datetime.fromtimestamp(recurrence.start_us(n) // 1_000_000, ZoneInfo(zone)).isoformat() for n in numbers]


@pytest.mark.parametrize(
    ("interval", "count", "anchor", "zone", "expected"),
    [
        (Interval.MONTH, 1, "2026-01-31T00:00:00+00:00", "UTC",
         ["2026-01-31T00:00:00+00:00", "2026-02-28T00:00:00+00:00", "2026-03-31T00:00:00+00:00"]),
        (Interval.MONTH, 1, "2024-01-30T12:00:00+00:00", "UTC",
         ["2024-01-30T12:00:00+00:00", "2024-02-29T12:00:00+00:00", "2024-03-30T12:00:00+00:00"]),
        (Interval.QUARTER, 1, "2025-11-30T00:00:00+00:00", "UTC",
         ["2025-11-30T00:00:00+00:00", "2026-02-28T00:00:00+00:00", "2026-05-30T00:00:00+00:00"]),
        (Interval.YEAR, 1, "2024-02-29T00:00:00+00:00", "UTC",
         ["2024-02-29T00:00:00+00:00", "2025-02-28T00:00:00+00:00", "2026-02-28T00:00:00+00:00"]),
        (Interval.WEEK, 2, "2026-03-20T09:30:00+01:00", "Europe/Berlin",
         ["2026-03-20T09:30:00+01:00", "2026-04-03T09:30:00+02:00", "2026-04-17T09:30:00+02:00"]),
        (Interval.DAY, 1, "2026-03-28T02:30:00+01:00", "Europe/Berlin",
         ["2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]),
        (Interval.DAY, 1, "2026-10-24T02:30:00+02:00", "Europe/Berlin",
         ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        (Interval.DAY, 1, "2026-10-25T02:30:00+01:00", "Europe/Berlin",
         ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]),
    ],
    ids=["month end clamps and returns", "leap february", "quarter", "29 february", "across daylight saving",
         "a skipped hour", "an hour that comes twice", "anchored in the second one"],
)  # fmt: skip
def test_boundaries(interval: Interval, count: int, anchor: str, zone: str, expected: list[str]) -> None:
    assert starts(interval, count, anchor, zone, range(len(expected))) == expected


def test_a_local_day_lasts_23_and_25_hours_where_the_clocks_change() -> None:
    daily = Recurrence.on_calendar(Interval.DAY, "Europe/Berlin")
    spring, autumn = (daily.period_at(us(f"{day}T12:00:00+00:00")) for day in ("2026-03-29", "2026-10-25"))
    assert [(p.end_us - p.start_us) // 3_600_000_000 for p in (spring, autumn)] == [23, 25]


def test_a_boundary_before_the_anchor_is_found_too() -> None:
    monthly = Recurrence.every(Interval.MONTH, 1, us("2026-05-31T00:00:00+00:00"), "UTC")
    assert monthly.period_at(us("2026-02-28T00:00:00+00:00")) == Period(
        us("2026-02-28T00:00:00+00:00"), us("2026-03-31T00:00:00+00:00")
    )


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        (Interval.DAY, "2026-11-19", "2026-11-20"),
        (Interval.WEEK, "2026-11-16", "2026-11-23"),
        (Interval.MONTH, "2026-11-01", "2026-12-01"),
        (Interval.QUARTER, "2026-10-01", "2027-01-01"),
        (Interval.YEAR, "2026-01-01", "2027-01-01"),
    ],
)
def test_the_calendars_periods_begin_where_people_expect(interval: Interval, start: str, end: str) -> None:
    new_york = ZoneInfo("America/New_York")
    first, last = (us(datetime.fromisoformat(day).replace(tzinfo=new_york).isoformat()) for day in (start, end))
    at_us = us("2026-11-19T23:00:00-05:00")
    assert Recurrence.on_calendar(interval, "America/New_York").period_at(at_us) == Period(first, last)


def test_periods_that_meet_an_interval_are_those_that_share_an_instant_with_it() -> None:
    daily = Recurrence.on_calendar(Interval.DAY, "UTC")
    met = list(daily.meeting(us("2026-01-01T12:00:00+00:00"), us("2026-01-03T00:00:00+00:00")))
    assert [p.start_us for p in met] == [us("2026-01-01T00:00:00+00:00"), us("2026-01-02T00:00:00+00:00")]
    assert not list(daily.meeting(us("2026-01-01T12:00:00+00:00"), us("2026-01-01T12:00:00+00:00")))


def test_one_instant_in_two_zones_begins_other_periods_whichever_was_asked_for_first() -> None:
    at, anchor = us("2026-04-15T00:00:00+00:00"), us("2026-02-01T00:00:00+01:00")
    berlin, utc = (Recurrence.every(Interval.MONTH, 1, anchor, zone) for zone in ("Europe/Berlin", "UTC"))
    found = [(each.period_at(at).start_us, each.period_at(at).end_us) for each in (berlin, utc, berlin)]
    assert found[0] == found[2] == (us("2026-04-01T00:00:00+02:00"), us("2026-05-01T00:00:00+02:00"))
    assert found[1] == (us("2026-03-31T23:00:00+00:00"), us("2026-04-30T23:00:00+00:00"))


def test_ever_holds_every_year_that_can_be_written() -> None:
    assert Period(us("0001-01-01T00:00:00+00:00"), us("9999-12-31T23:59:59+00:00") + 1_000_000) == EVER


instants = st.integers(us("1970-01-02T00:00:00+00:00"), us("2200-01-01T00:00:00+00:00"))


@given(st.sampled_from(Interval), st.integers(1, 5), instants, st.sampled_from(ZONES), instants)
def test_periods_tile_time_and_each_instant_lies_in_its_own(
    interval: Interval, count: int, anchor_us: int, zone: str, at_us: int
) -> None:
    recurrence = Recurrence.every(interval, count, anchor_us, zone)
    assert recurrence.start_us(0) == anchor_us
    period = recurrence.period_at(at_us)
    assert period.start_us <= at_us < period.end_us
    assert recurrence.period_at(period.start_us) == period
    tiles = list(islice(recurrence.meeting(at_us, at_us + 10**18), 4))
    assert tiles[0] == period
    assert all(left.end_us == right.start_us and left.start_us < left.end_us for left, right in pairwise(tiles))
