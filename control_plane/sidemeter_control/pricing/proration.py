"""Proration: what part of a recurring amount is owed for a part of its period, exactly, and rounded once per leg.

A rule places every instant on a scale; a share is a difference on that scale over that of the whole period. So the
shares of the parts of a period always add up to 1, wherever it is cut.
"""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import Enum
from fractions import Fraction

from sidemeter_control.money import exact
from sidemeter_control.pricing.periods import Period, local_day

__all__ = ["ProrationRule", "credit", "days_between", "months_of_thirty_days", "prorated", "share", "share_of_days"]


class ProrationRule(Enum):
    """How the parts of a billing period are compared.

    SECONDS: by their length. CALENDAR_DAYS: by the days on the customer's calendar, the one that a part ends on not
    counted. THIRTY_DAY_MONTHS: by days of which each month counts as 30.
    """

    SECONDS = "SECONDS"
    CALENDAR_DAYS = "CALENDAR_DAYS"
    THIRTY_DAY_MONTHS = "THIRTY_DAY_MONTHS"


def share(rule: ProrationRule, whole: Period, part: Period, time_zone: str) -> Fraction:
    """What share of `whole` lies in `part`, from 0 to 1.

    >>> february = Period(1_769_904_000_000_000, 1_772_323_200_000_000)
    >>> share(ProrationRule.SECONDS, february, Period(february.start_us, 1_770_508_800_000_000), "UTC")
    Fraction(1, 4)
    """
    if rule is ProrationRule.SECONDS:
        return _clamped(part.end_us - part.start_us, whole.end_us - whole.start_us)
    between = days_between if rule is ProrationRule.CALENDAR_DAYS else months_of_thirty_days
    first, end = (local_day(at_us, time_zone) for at_us in (whole.start_us, whole.end_us))
    start, stop = (local_day(at_us, time_zone) for at_us in (part.start_us, part.end_us))
    return share_of_days(first, end, start, stop, between)


def days_between(first: date, end: date) -> int:
    """Calendar days from the first to the end, which is not counted; a day of 23 or 25 hours is one."""
    return (end - first).days


def months_of_thirty_days(first: date, end: date) -> int:
    """The same, as if every month had 30 days.

    >>> months_of_thirty_days(date(2023, 2, 23), date(2023, 3, 15))
    22
    """
    return (end.year - first.year) * 360 + (end.month - first.month) * 30 + end.day - first.day


def share_of_days(
    whole_start: date, whole_end: date, start: date, end: date, between: Callable[[date, date], int] = days_between
) -> Fraction:
    """What share of the days from `whole_start` to `whole_end` lies between `start` and `end`; no end is counted."""
    return _clamped(between(start, end), between(whole_start, whole_end))


def _clamped(part: int, whole: int) -> Fraction:
    """A period of no length has no parts."""
    return max(Fraction(0), min(Fraction(part, whole), Fraction(1))) if whole > 0 else Fraction(0)


@exact
def prorated(amount: Decimal, part: Fraction, digits: int) -> Decimal:
    """That part of the amount, rounded half away from zero to so many digits after the point.

    >>> prorated(Decimal("-29.99"), Fraction(1, 2), 2)
    Decimal('-15.00')
    """
    units = Fraction(amount) * part * 10**digits
    whole, rest = divmod(abs(units.numerator), units.denominator)
    nearest = whole + (2 * rest >= units.denominator)
    return Decimal(-nearest if units < 0 else nearest).scaleb(-digits)


def credit(unused: Decimal, paid: Decimal, credited: Decimal = Decimal(0)) -> Decimal:
    """What may be given back for unused time: not less than nothing, nor more than is left of what was paid."""
    return max(Decimal(0), min(unused, paid - credited))
