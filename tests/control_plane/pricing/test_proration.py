"""Proration: shares of a period by three rules, that add up to it wherever it is cut, and amounts rounded once."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.pricing.periods import Interval, Period, Recurrence
from sidemeter_control.pricing.proration import (
    ProrationRule,
    credit,
    days_between,
    months_of_thirty_days,
    prorated,
    share,
    share_of_days,
)

SECONDS, DAYS, THIRTY = ProrationRule.SECONDS, ProrationRule.CALENDAR_DAYS, ProrationRule.THIRTY_DAY_MONTHS


def us(text: str) -> int:
    at = datetime.fromisoformat(text)
    return (at.replace(tzinfo=at.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def period(start: str, end: str) -> Period:
    return Period(us(start), us(end))


@pytest.mark.parametrize(
    ("rule", "part", "expected"),
    [
        (SECONDS, ("2026-03-16T12:00", "2026-04-01"), Fraction(1, 2)),
        (SECONDS, ("2026-03-01", "2026-04-01"), Fraction(1)),
        (SECONDS, ("2026-02-01", "2026-05-01"), Fraction(1)),
        (SECONDS, ("2026-03-20", "2026-03-20"), Fraction(0)),
        (SECONDS, ("2026-03-20", "2026-03-10"), Fraction(0)),
        (DAYS, ("2026-03-16T12:00", "2026-04-01"), Fraction(16, 31)),
        (DAYS, ("2026-03-01", "2026-03-16T12:00"), Fraction(15, 31)),
        (THIRTY, ("2026-03-16T12:00", "2026-04-01"), Fraction(15, 30)),
        (THIRTY, ("2026-03-01", "2026-03-31"), Fraction(30, 30)),
    ],
)
def test_a_part_of_march_is_a_share_of_it(rule: ProrationRule, part: tuple[str, str], expected: Fraction) -> None:
    assert share(rule, period("2026-03-01", "2026-04-01"), period(*part), "UTC") == expected


def test_days_are_those_of_the_customers_calendar_and_one_with_a_clock_change_is_one() -> None:
    march = period("2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00")
    after_the_change = period("2026-03-29T00:00+01:00", "2026-04-01T00:00+02:00")
    assert share(DAYS, march, after_the_change, "Europe/Berlin") == Fraction(3, 31)
    assert share(SECONDS, march, after_the_change, "Europe/Berlin") == Fraction(3 * 24 - 1, 31 * 24 - 1)


def test_a_period_of_no_length_has_no_parts() -> None:
    assert share(SECONDS, period("2026-03-01", "2026-03-01"), period("2026-03-01", "2026-03-02"), "UTC") == 0


@pytest.mark.parametrize(
    ("first", "end", "days"),
    [
        ("2023-05-23", "2023-06-15", 22),
        ("2024-02-23", "2024-03-15", 22),
        ("2023-05-15", "2023-05-23", 8),
        ("2023-12-15", "2025-01-15", 390),
    ],
)
def test_every_month_can_count_as_thirty_days(first: str, end: str, days: int) -> None:
    assert months_of_thirty_days(date.fromisoformat(first), date.fromisoformat(end)) == days


def test_a_share_of_days_ends_before_its_last_day() -> None:
    days = [date(2025, 1, 1), date(2025, 1, 31), date(2025, 1, 16), date(2025, 1, 31)]
    assert share_of_days(*days) == Fraction(1, 2)
    assert days_between(date(2024, 11, 2), date(2024, 11, 4)) == 2


@pytest.mark.parametrize(
    ("amount", "digits", "expected"),
    [("29.99", 2, "15.00"), ("-29.99", 2, "-15.00"), ("0.01", 2, "0.01"), ("99", 0, "50"), ("0", 2, "0.00")],
)
def test_an_amount_is_rounded_once_half_away_from_zero(amount: str, digits: int, expected: str) -> None:
    assert str(prorated(Decimal(amount), Fraction(1, 2), digits)) == expected


@pytest.mark.parametrize(
    ("unused", "paid", "credited", "expected"),
    [("50", "200", "0", "50"), ("250", "200", "0", "200"), ("180", "200", "50", "150"), ("-5", "200", "0", "0")],
)
def test_a_credit_is_never_more_than_what_was_paid(unused: str, paid: str, credited: str, expected: str) -> None:
    assert credit(Decimal(unused), Decimal(paid), Decimal(credited)) == Decimal(expected)


@given(
    st.sampled_from(ProrationRule),
    st.sampled_from([Interval.MONTH, Interval.QUARTER, Interval.YEAR]),
    st.integers(us("1999-01-01"), us("2040-01-01")),
    st.lists(st.integers(0, 10**6), max_size=6),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Asia/Kolkata"]),
    st.integers(28, 31),
)
def test_the_shares_of_the_parts_of_a_period_add_up_to_it(
    rule: ProrationRule, interval: Interval, at_us: int, cuts: list[int], zone: str, day: int
) -> None:
    whole = Recurrence.every(interval, 1, us(f"2000-01-{day}"), zone).period_at(at_us)
    places = [
        whole.start_us,
        *(whole.start_us + (whole.end_us - whole.start_us) * cut // 10**6 for cut in sorted(cuts)),
    ]
    parts = [Period(*ends) for ends in pairwise([*places, whole.end_us])]
    assert sum(share(rule, whole, part, zone) for part in parts) == 1
