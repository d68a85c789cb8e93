"""Forecasts: exact where the week repeats, honest where it does not, and refused where nothing can be said."""

import itertools
from dataclasses import replace
from decimal import Decimal
from statistics import median

import pytest
from backtest import AT, TRACE, looks, series, trace, warnings
from hypothesis import given, settings
from hypothesis import strategies as st

from sidemeter_control.metering.forecasts import (
    HISTORY_HOURS,
    MAX_AHEAD_HOURS,
    NOTHING_AHEAD,
    Edge,
    Outlook,
    Refusal,
    outlook,
    unforeseeable,
    week_hours,
)
from sidemeter_control.metering.meters import NANO, Aggregation, Progress, new_meter
from sidemeter_control.metering.rollups import HOUR_US

MONDAY = 490_992
"""Hours since 1970 at the beginning of a week, 5 January 2026."""


def foretold(used: dict[int, int], now: int, until: int, zone: str = "UTC", *, minutes: int = 0) -> Outlook | Refusal:
    """Of hours counted from that Monday, in nano-units."""
    now_us, until_us = (MONDAY + now) * HOUR_US + minutes * 60_000_000, (MONDAY + until) * HOUR_US
    week = week_hours(now_us - HISTORY_HOURS * HOUR_US - HOUR_US, until_us, zone)
    return outlook({MONDAY + hour: amount for hour, amount in used.items()}, week, now_us, until_us)


def weekly(hour: int) -> int:
    """So much at each hour of the week, most on working days' afternoons, none on Sunday."""
    day, of_day = divmod(hour % 168, 24)
    return (0 if day == 6 else (of_day + 1) * (5 if day < 5 else 2)) * NANO


def ends(found: Outlook | Refusal) -> list[int]:
    assert isinstance(found, Outlook), found
    return [found.between(found.now_us, found.until_us, edge) for edge in Edge]


@pytest.mark.parametrize("weeks", [2, 3, 8])
@pytest.mark.parametrize("ahead", [1, 5, 24, 100, 168, 500])
def test_a_week_that_repeats_is_told_to_the_unit(weeks: int, ahead: int) -> None:
    now = 10 * 168 + 31
    used = {hour: weekly(hour) for hour in range(now - weeks * 168 - 5, now)}
    low, middle, high = ends(foretold(used, now, now + ahead))
    came = sum(weekly(hour) for hour in range(now, now + ahead))
    assert abs(middle - came) <= came // 20 + NANO
    assert low <= middle <= high
    assert high - low <= came // 5 + 2 * NANO


def test_parts_of_the_time_that_is_left_add_up_and_hours_are_cut_where_they_are() -> None:
    now = 9 * 168 + 10
    used = {hour: weekly(hour) + hour % 7 for hour in range(now)}
    found = foretold(used, now, now + 60, minutes=20)
    assert isinstance(found, Outlook)
    cuts = [found.now_us, found.now_us + HOUR_US, (MONDAY + now + 15) * HOUR_US + 12_345_678, found.until_us]
    whole = found.between(found.now_us, found.until_us)
    parts = [found.between(*cut) for cut in itertools.pairwise(cuts)]
    assert abs(sum(parts) - whole) <= 2
    assert found.between(0, found.now_us) == 0
    assert found.between(0, found.until_us * 2) == whole
    hour = found.between(found.now_us, (MONDAY + now + 1) * HOUR_US)
    full = ends(foretold(used, now, now + 1))[1]
    assert abs(hour - full * 2 // 3) <= full // 50


def test_what_grows_is_expected_to_go_on_for_a_while() -> None:
    now = 8 * 168
    used = {hour: int(1000 * 1.01 ** (hour / 24)) * NANO for hour in range(now)}
    came = sum(int(1000 * 1.01 ** (hour / 24)) * NANO for hour in range(now, now + 168))
    flat = 168 * used[now - 1]
    low, middle, high = ends(foretold(used, now, now + 168))
    assert flat < middle
    assert low <= came <= high
    assert abs(middle - came) < came // 20


def test_whole_numbers_are_forecast_as_whole_numbers_and_the_range_is_rounded_outward() -> None:
    now = 8 * 168
    whole = {hour: (hour * 7919 % 13) * NANO for hour in range(now)}
    assert [end % NANO for end in ends(foretold(whole, now, now + 50))] == [0, 0, 0]
    cut = {hour: amount + 5 for hour, amount in whole.items()}
    assert any(end % NANO for end in ends(foretold(cut, now, now + 50)))


@settings(max_examples=8, deadline=None)
@given(factor=st.integers(2, 10**9), ahead=st.integers(1, 700), seed=st.integers(0, 3))
def test_the_unit_something_is_counted_in_does_not_matter(factor: int, ahead: int, seed: int) -> None:
    now = 9 * 168
    once = {hour: amount * NANO for hour, amount in enumerate(series("seasonal", seed, 9))}
    many = {hour: amount * factor for hour, amount in once.items()}
    for one, other in zip(ends(foretold(once, now, now + ahead)), ends(foretold(many, now, now + ahead)), strict=True):
        assert abs(one * factor - other) <= 2 * NANO * factor + other // 10**6


@settings(max_examples=25, deadline=None)
@given(
    amounts=st.lists(st.integers(0, 10**12), min_size=24, max_size=60),
    now=st.integers(20 * 24, 70 * 24),
    ahead=st.integers(0, 900),
)
def test_any_usage_has_a_range_that_is_in_order_and_never_below_nothing(
    amounts: list[int], now: int, ahead: int
) -> None:
    used = {hour: amounts[hour * hour % len(amounts)] for hour in range(now)}
    found = foretold(used, now, now + ahead)
    if isinstance(found, Outlook):
        low, middle, high = ends(found)
        assert 0 <= low <= middle <= high
    else:
        assert found is Refusal.TOO_LITTLE_DATA


def test_two_weeks_of_use_are_needed_from_the_first_hour_that_has_any() -> None:
    now = 8 * 168
    for days, expected in ((13, Refusal), (14, Outlook)):
        used = dict.fromkeys(range(now - days * 24, now), NANO)
        assert isinstance(foretold(used, now, now + 24), expected)
    assert foretold({now - 1: NANO}, now, now + 24) is Refusal.TOO_LITTLE_DATA


def test_of_what_is_not_used_nothing_is_expected() -> None:
    assert foretold({}, 0, 700) is NOTHING_AHEAD
    assert ends(foretold({}, 0, 700)) == [0, 0, 0]
    old = dict.fromkeys(range(1000), NANO)
    assert foretold(old, 1000 + HISTORY_HOURS, 1000 + HISTORY_HOURS + 24) is NOTHING_AHEAD


def test_what_was_taken_back_has_no_pace() -> None:
    used = dict.fromkeys(range(1000), NANO) | {500: -NANO}
    assert foretold(used, 1000, 1100) is Refusal.NEGATIVE


def test_nobody_tells_more_than_a_year_ahead() -> None:
    used = dict.fromkeys(range(1000), NANO)
    assert isinstance(foretold(used, 1000, 1000 + MAX_AHEAD_HOURS), Outlook)
    assert foretold(used, 1000, 1001 + MAX_AHEAD_HOURS) is Refusal.TOO_FAR


def test_a_range_is_wider_over_a_longer_time_than_could_be_tried() -> None:
    now = 8 * 168
    used = {hour: amount * NANO for hour, amount in enumerate(series("wandering", 5, 8))}
    month, year = (foretold(used, now, now + days * 24) for days in (30, 365))
    assert isinstance(month, Outlook)
    assert isinstance(year, Outlook)
    assert year.high - year.low > 2 * (month.high - month.low)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_only_what_adds_up_over_time_has_a_pace(aggregation: Aggregation) -> None:
    percentile = Decimal(90) if aggregation is Aggregation.PERCENTILE else None
    meter = new_meter("m", "t", aggregation, value_property="v", percentile=percentile, now_us=0)
    additive = aggregation in {Aggregation.COUNT, Aggregation.SUM}
    assert unforeseeable(meter) is (None if additive else Refusal.NOT_ADDITIVE)
    if additive:
        assert unforeseeable(replace(meter, progress=Progress(3, 9))) is Refusal.BEING_COUNTED


def test_hours_are_those_of_the_customers_clock_also_where_it_is_changed() -> None:
    """2026: clocks in Berlin go forward on 29 March at 2, back on 25 October at 3."""
    spring = week_hours(1_774_738_800_000_000, 1_774_738_800_000_000 + 5 * HOUR_US, "Europe/Berlin")
    assert spring.slots == (144, 145, 147, 148, 149)
    autumn = week_hours(1_792_879_200_000_000, 1_792_879_200_000_000 + 5 * HOUR_US, "Europe/Berlin")
    assert autumn.slots == (144, 145, 146, 146, 147)
    assert week_hours(0, HOUR_US, "Asia/Kolkata").slots == (77,)


def test_over_a_change_of_clocks_the_same_hour_on_the_wall_is_expected() -> None:
    """Used at noon in Berlin every day: from the night of the change on that is an hour earlier in UTC."""
    change = (1_774_746_000_000_000 // HOUR_US) - MONDAY
    noons = {hour: 50 * NANO for hour in range(change) if (hour + 1) % 24 == 12}
    found = foretold(noons, change, change + 24, "Europe/Berlin")
    assert isinstance(found, Outlook)
    began = MONDAY + change
    by_hour = [found.between((began + each) * HOUR_US, (began + each + 1) * HOUR_US) for each in range(24)]
    assert by_hour[9] == max(by_hour) > 45 * NANO  # from 10:00 UTC on, in what was 11:00 before


def test_what_comes_lies_in_the_range_eight_times_in_ten_and_the_middle_beats_a_straight_line() -> None:
    """Shifts and what wanders can not be foreseen: there the middle is as good as a line, and the range has to hold."""
    found = {
        kind: [look for seed in range(8) for look in looks(series(kind, seed), 240)]
        for kind in ("seasonal", "growing", "shifting", "wandering")
    }
    all_ = [look for some in found.values() for look in some]
    assert 0.7 <= sum(look.held for look in all_) / len(all_) <= 0.9
    for at in AT:
        some = [look for look in (*found["seasonal"], *found["growing"]) if look.at == at]
        assert median(look.off(look.middle) for look in some) < median(look.off(look.line) for look in some), at
    assert sum(look.off(look.middle) for look in all_) < sum(look.off(look.line) for look in all_)


def test_alerts_are_rarely_for_nothing_and_come_days_before() -> None:
    found = [
        each
        for kind in ("seasonal", "growing", "wandering")
        for seed in range(2)
        for each in warnings(series(kind, seed), 240)
    ]
    kept, gone = [each for each in found if each.of >= 1], [each for each in found if each.of < 1]
    assert sum(each.days_before is not None for each in kept) <= len(kept) * 12 // 100
    said = [each.days_before for each in gone if each.days_before is not None]
    assert len(said) >= len(gone) * 9 // 10
    assert median(said) >= 7


@pytest.mark.skipif(not TRACE.exists(), reason="the real trace is not here")
def test_on_a_real_trace_the_range_holds_as_well() -> None:
    found = [look for used in trace() for look in looks(used, 240)]
    assert 0.7 <= sum(look.held for look in found) / len(found) <= 0.9
    assert sum(look.off(look.middle) for look in found) < sum(look.off(look.line) for look in found)
