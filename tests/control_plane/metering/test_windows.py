"""Intervals are cut where local time says so, and covered without gap or overlap."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.rollups import DAY_US, HOUR_US
from sidemeter_control.metering.windows import MAX_WINDOWS, Interval, Window, cover, windows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def hours(cut: list[Interval]) -> list[float]:
    return [(each.to_us - each.from_us) / HOUR_US for each in cut]


@pytest.mark.parametrize(
    ("from_", "to", "window", "zone", "lengths"),
    [
        ("2026-03-28T00:00+01:00", "2026-03-31T00:00+02:00", Window.DAY, "Europe/Berlin", [24, 23, 24]),
        ("2026-10-24T00:00+02:00", "2026-10-27T00:00+01:00", Window.DAY, "Europe/Berlin", [24, 25, 24]),
        ("2026-01-01T12:00+05:30", "2026-01-02T06:00+05:30", Window.DAY, "Asia/Kolkata", [12, 6]),
        ("2026-01-01T00:15+05:30", "2026-01-01T02:00+05:30", Window.HOUR, "Asia/Kolkata", [0.75, 1]),
        ("2026-01-28T00:00Z", "2026-02-04T00:00Z", Window.MONTH, "UTC", [96, 72]),
        ("2026-01-02T00:00Z", "2026-01-13T00:00Z", Window.WEEK, "UTC", [72, 168, 24]),
        ("2026-04-05T00:00+11:00", "2026-04-06T00:00+10:30", Window.DAY, "Australia/Lord_Howe", [24.5]),
        ("2026-03-28T00:00+02:00", "2026-03-30T00:00+03:00", Window.DAY, "Asia/Beirut", [24, 23]),
        ("2026-01-01T00:00Z", "2026-01-02T00:00Z", None, "UTC", [24]),
        ("2026-01-02T00:00Z", "2026-01-01T00:00Z", Window.HOUR, "UTC", []),
    ],
)
def test_windows_begin_with_the_local_clock(
    from_: str, to: str, window: Window | None, zone: str, lengths: list[float]
) -> None:
    cut = windows(Interval(us(from_), us(to)), window, zone)
    assert hours(cut) == lengths
    assert all(one.to_us == other.from_us for one, other in itertools.pairwise(cut))


def test_more_windows_than_an_answer_can_hold_are_refused() -> None:
    assert len(windows(Interval(0, MAX_WINDOWS * HOUR_US), Window.HOUR, "UTC")) == MAX_WINDOWS
    with pytest.raises(InvalidInput, match="window"):
        windows(Interval(0, MAX_WINDOWS * HOUR_US + 1), Window.HOUR, "UTC")
    with pytest.raises(InvalidInput, match="years 3 to 9998"):
        windows(Interval(0, us("9999-12-01T00:00Z")), Window.MONTH, "UTC")


instants = st.integers(-3 * DAY_US, 3 * DAY_US) | st.integers(-80, 80).map(lambda hour: hour * HOUR_US)


@given(st.lists(instants, min_size=2, max_size=6, unique=True).map(sorted))
def test_buckets_and_edges_fill_the_intervals_once(cuts: list[int]) -> None:
    intervals = [Interval(*each) for each in itertools.pairwise(cuts)]
    covered = cover(intervals)
    for span in covered.spans:
        grain_us = span.grain_s * 1_000_000
        assert span.from_us < span.to_us
        assert not span.from_us % grain_us
        assert not span.to_us % grain_us
    for edge in covered.edges:
        assert edge.from_us // HOUR_US == (edge.to_us - 1) // HOUR_US
        assert edge.to_us - edge.from_us < HOUR_US
    parts = sorted([(span.from_us, span.to_us) for span in covered.spans] + list(covered.edges))
    assert parts[0][0] == cuts[0]
    assert parts[-1][1] == cuts[-1]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))
