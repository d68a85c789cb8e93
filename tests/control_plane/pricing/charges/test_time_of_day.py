"""TIME_OF_DAY: which band an instant is in, right across every change of the clocks."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from charges import charge, lines
from hypothesis import given
from hypothesis import strategies as st
from shop import us

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import Used, UsedLine
from sidemeter_control.pricing.charges.time_of_day import TimeOfDay

HOUR_US = 3_600_000_000
PEAK = {"days": [1, 2, 3, 4, 5], "from": "07:00", "to": "22:00", "unitPrice": "0.3"}
WEEKEND_NIGHT = {"days": [5, 6], "from": "22:00", "to": "06:00", "unitPrice": "0.5"}


def model(*bands: dict[str, Any], default: str | None = "0.1") -> TimeOfDay:
    own = charge("TIME_OF_DAY", bands=list(bands), **({} if default is None else {"defaultUnitPrice": default})).model
    assert isinstance(own, TimeOfDay)
    return own


def band_at(own: TimeOfDay, text: str, zone: str) -> int:
    at = datetime.fromisoformat(text)
    at_us = us(str(at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))))
    return own.number_of(UsedLine(Decimal(1), at_us=at_us), zone)


@pytest.mark.parametrize(
    ("at", "number"),
    [
        ("2026-03-06T06:59:59", 2),
        ("2026-03-06T07:00:00", 0),
        ("2026-03-06T21:59:59", 0),
        ("2026-03-06T22:00:00", 1),
        ("2026-03-07T05:59:59", 1),
        ("2026-03-07T06:00:00", 2),
        ("2026-03-07T23:00:00", 1),
        ("2026-03-08T03:00:00", 1),
        ("2026-03-08T23:00:00", 2),
        ("2026-03-09T03:00:00", 2),
    ],
)
def test_a_band_holds_from_its_beginning_on_its_days_to_before_its_end(at: str, number: int) -> None:
    assert band_at(model(PEAK, WEEKEND_NIGHT), at, "Europe/Berlin") == number


def test_a_band_of_sunday_night_goes_on_into_monday() -> None:
    own = model({"days": [7], "from": "22:00", "to": "06:00", "unitPrice": "1"})
    assert [band_at(own, at, "UTC") for at in ("2026-03-08T22:00", "2026-03-09T05:59", "2026-03-09T06:00")] == [0, 0, 1]


@pytest.mark.parametrize("end", ["24:00", "00:00"])
def test_midnight_ends_a_day(end: str) -> None:
    own = model({"days": [1], "from": "00:00", "to": end, "unitPrice": "1"})
    assert [band_at(own, at, "UTC") for at in ("2026-03-09T00:00", "2026-03-09T23:59", "2026-03-10T00:00")] == [0, 0, 1]


# 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC. 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
NIGHT = {"from": "22:00", "to": "02:30", "unitPrice": "1"}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (
            "2026-03-28T20:00Z",
            "2026-03-29T03:00Z",
            [("2026-03-28T20:00Z", 1.0, None), ("2026-03-28T21:00Z", 4.0, 0), ("2026-03-29T01:00Z", 2.0, None)],
        ),
        (
            "2026-10-24T19:00Z",
            "2026-10-25T03:00Z",
            [
                ("2026-10-24T19:00Z", 1.0, None),
                ("2026-10-24T20:00Z", 4.5, 0),
                ("2026-10-25T00:30Z", 0.5, None),
                ("2026-10-25T01:00Z", 0.5, 0),
                ("2026-10-25T01:30Z", 1.5, None),
            ],
        ),
    ],
    ids=["a night an hour shorter", "a night an hour longer, in which 02:30 comes twice"],
)
def test_the_clock_on_the_wall_decides_when_it_is_changed(
    start: str, end: str, expected: list[tuple[str, float, int | None]]
) -> None:
    found = model(NIGHT).bands_within(us(start), us(end), "Europe/Berlin")
    assert found == [(us(at), us(at) + int(hours * HOUR_US), band) for at, hours, band in expected]


ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "America/Santiago",
)

CHANGES = ("2026-03-29T01:00Z", "2026-10-25T01:00Z", "2026-03-08T07:00Z", "2026-11-01T06:00Z", "2026-04-04T15:00Z",
           "2026-10-03T15:30Z", "2026-02-15T02:00Z", "2026-03-22T02:00Z", "2026-04-05T03:00Z", "2026-09-06T04:00Z")  # fmt: skip


@st.composite
def tariffs(draw: st.DrawFn) -> TimeOfDay:
    """One to four bands that follow each other within a day, on some days; the last may go on into the next."""
    minutes = sorted(draw(st.sets(st.integers(0, 95), min_size=2, max_size=5)))
    times = [f"{15 * m // 60:02}:{15 * m % 60:02}" for m in minutes]
    days = draw(st.sets(st.integers(1, 7), min_size=1))
    bands = [{"days": sorted(days), "from": a, "to": b, "unitPrice": "1"} for a, b in pairwise(times)]
    if draw(st.booleans()):
        bands.append({"days": sorted(days), "from": times[-1], "to": times[0], "unitPrice": "2"})
    return model(*bands)


@given(tariffs(), st.sampled_from(ZONES), st.sampled_from(CHANGES), st.integers(0, 48), st.integers(1, 60))
def test_windows_are_what_every_quarter_of_an_hour_alone_says(
    own: TimeOfDay, zone: str, change: str, before_h: int, hours: int
) -> None:
    start = us(change) - before_h * HOUR_US
    end = start + hours * HOUR_US
    windows = own.bands_within(start, end, zone)
    assert [windows[0][0], windows[-1][1]] == [start, end]
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(windows))
    for from_us, to_us, band in windows:
        number = len(own.bands) if band is None else band
        for at_us in [*range(from_us, to_us, HOUR_US // 4), to_us - 1]:
            assert own.number_of(UsedLine(Decimal(1), at_us=at_us), zone) == number


@given(tariffs(), st.sampled_from(ZONES), st.sampled_from(CHANGES))
def test_windows_of_two_halves_are_those_of_the_whole(own: TimeOfDay, zone: str, change: str) -> None:
    middle = us(change) + 7
    start, end = middle - 40 * HOUR_US, middle + 40 * HOUR_US
    halves = own.bands_within(start, middle, zone) + own.bands_within(middle, end, zone)
    assert within(halves) == within(own.bands_within(start, end, zone))


def within(windows: Sequence[tuple[int, int, int | None]]) -> dict[int | None, int]:
    spent: dict[int | None, int] = {}
    for from_us, to_us, band in windows:
        spent[band] = spent.get(band, 0) + to_us - from_us
    return spent


def test_a_year_of_windows_is_cut_quickly_and_every_local_day_has_its_hours() -> None:
    own = model({"from": "08:00", "to": "20:00", "unitPrice": "1"})
    spent = within(own.bands_within(us("2026-01-01T00:00+01:00"), us("2027-01-01T00:00+01:00"), "Europe/Berlin"))
    assert spent == {0: 365 * 12 * HOUR_US, None: 365 * 12 * HOUR_US}


def test_lines_name_days_and_hours_and_add_up_in_the_order_of_the_bands() -> None:
    own = charge("TIME_OF_DAY", bands=[PEAK, WEEKEND_NIGHT], defaultUnitPrice="0.1")
    at = [datetime(2026, 3, 5, tzinfo=ZoneInfo("Europe/Berlin")) + timedelta(hours=hour) for hour in range(72)]
    used = Used.of_lines([UsedLine(Decimal(1), at_us=us(str(each))) for each in reversed(at)], "Europe/Berlin")
    assert lines(own, used) == [
        ("30 tokens, Mon–Fri 07:00 to 22:00 at 0.3 USD", "9"),
        ("10 tokens, Fri–Sat 22:00 to 06:00 at 0.5 USD", "5"),
        ("32 tokens at all other times at 0.1 USD", "3.2"),
    ]


def test_without_a_default_the_bands_cover_the_week() -> None:
    day, night = {"from": "06:00", "to": "22:00", "unitPrice": "2"}, {"from": "22:00", "to": "06:00", "unitPrice": "1"}
    assert model(day, night, default=None).default_unit_price is None
    with pytest.raises(InvalidInput) as caught:
        model(day, {**night, "days": [1, 2, 3, 4, 5, 6]}, default=None)
    assert str(caught.value) == "charges.input.defaultUnitPrice: must be given: no band covers Monday 00:00"


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ([], "bands: must have 1 to 100 bands"),
        ([PEAK | {"days": []}], "bands[0].days: must be numbers from 1 (Monday) to 7 (Sunday), each once"),
        ([PEAK | {"days": [0]}], "bands[0].days: must be numbers from 1 (Monday) to 7 (Sunday), each once"),
        ([PEAK | {"days": [1, 1]}], "bands[0].days: must be numbers from 1 (Monday) to 7 (Sunday), each once"),
        ([PEAK | {"from": "7:00"}], "bands[0].from: must be a time of day as HH:MM"),
        ([PEAK | {"to": "24:01"}], "bands[0].to: must be a time of day as HH:MM"),
        ([PEAK | {"from": "24:00"}], "bands[0].from: must be before 24:00"),
        ([PEAK | {"to": "07:00"}], "bands[0].to: must differ from `from`"),
        ([PEAK | {"unitPrice": "-1"}], "bands[0].unitPrice: must not be negative"),
        ([PEAK, PEAK | {"days": [5, 6], "from": "21:59"}], "bands[1]: must not overlap with charges.input.bands[0]"),
        (
            [WEEKEND_NIGHT, PEAK | {"days": [7], "from": "05:00"}],
            "bands[1]: must not overlap with charges.input.bands[0]",
        ),
    ],
)
def test_a_wrong_definition_is_refused(bands: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        model(*bands)
    assert str(caught.value) == f"charges.input.{message}"


def test_a_line_without_an_instant_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="needs the instant of every line"):
        lines(charge("TIME_OF_DAY", bands=[PEAK], defaultUnitPrice="1"), "3")
