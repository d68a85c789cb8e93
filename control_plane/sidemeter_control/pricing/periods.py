"""Periods: where an anchored recurrence begins and ends on the clock of a time zone."""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

from sidemeter_control.errors import InvalidInput

__all__ = [
    "EVER",
    "LATEST_US",
    "MONTHS",
    "Interval",
    "Period",
    "Recurrence",
    "check_instant",
    "check_interval",
    "local_day",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Interval(Enum):
    """How long one step of a recurrence is, on the calendar."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    QUARTER = "QUARTER"
    YEAR = "YEAR"


_DAYS = {Interval.DAY: 1, Interval.WEEK: 7}
MONTHS = {Interval.MONTH: 1, Interval.QUARTER: 3, Interval.YEAR: 12}
"""How many months an interval has; the others are shorter than one."""


@dataclass(frozen=True, slots=True)
class Period:
    """`[start_us, end_us)` in microseconds since 1970."""

    start_us: int
    end_us: int

    def clipped(self, start_us: int, end_us: int | None = None) -> "Period":
        """The part of the period within `[start_us, end_us)`; None leaves the end open."""
        end = self.end_us if end_us is None else min(self.end_us, end_us)
        return Period(max(self.start_us, start_us), end)

    def days(self, time_zone: str) -> tuple[date, date]:
        """Its first and its last day on the zone's calendar."""
        return local_day(self.start_us, time_zone), local_day(self.end_us - 1, time_zone)


def local_day(at_us: int, time_zone: str) -> date:
    """The day of an instant on the zone's calendar."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(time_zone)).date()


EVER = Period(-62_135_596_800_000_000, 253_402_300_800_000_000)
"""Every instant that can be written down: the years 1 to 9999."""


LATEST_US = 221_845_392_000_000_000
"""The year 9000: periods that begin before it end within the years that can be written down."""


def check_instant(field: str, at_us: int) -> None:
    """Raise InvalidInput for `field` unless periods can be laid around the instant."""
    if not 0 <= at_us < LATEST_US:
        raise InvalidInput(field, "must lie between the years 1970 and 9000")


def check_interval(asked: Period) -> None:
    """Raise InvalidInput for `from` or `to` unless the interval can be asked about: it has an instant, in those years."""
    check_instant("from", asked.start_us)
    check_instant("to", asked.end_us)
    if asked.start_us >= asked.end_us:
        raise InvalidInput("to", "must be after from")


_MOST_LAST: Final = 10_000
_last: dict[tuple[Interval, int, datetime, tzinfo | None], Period] = {}
"""Of each recurrence the period that was asked for last: every live cost asks for that of now."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Boundaries every `count` intervals before and after an anchor, at the anchor's time of day in its zone.

    A month too short for the anchor's day ends the period on its last day, and the next month returns to the day.
    A time of day that a clock change skips moves on by the skipped hour; one that comes twice is the anchor's.

    >>> monthly = Recurrence.every(Interval.MONTH, 1, 1_769_814_000_000_000, "Europe/Berlin")  # 31 January, midnight
    >>> [f"{monthly.local(n):%d %b %H:%M}" for n in range(4)]
    ['31 Jan 00:00', '28 Feb 00:00', '31 Mar 00:00', '30 Apr 00:00']
    """

    interval: Interval
    count: int
    anchor: datetime

    @classmethod
    def every(cls, interval: Interval, count: int, anchor_us: int, time_zone: str) -> "Recurrence":
        """Boundaries `count` intervals apart, one of them at `anchor_us` (before or after the instants of interest)."""
        anchor = _EPOCH + timedelta(microseconds=anchor_us)
        return cls(interval, count, anchor.astimezone(ZoneInfo(time_zone)))

    @classmethod
    def on_calendar(cls, interval: Interval, time_zone: str) -> "Recurrence":
        """The calendar's own periods: from midnight, Monday, the first of the month or the first of January."""
        return cls(interval, 1, datetime(2001, 1, 1, tzinfo=ZoneInfo(time_zone)))  # a Monday

    def local(self, number: int) -> datetime:
        """The boundary `number` steps after the anchor, on the zone's clock. OverflowError outside years 1 to 9999."""
        steps = number * self.count
        if days := _DAYS.get(self.interval):
            day = self.anchor.date() + timedelta(days=days * steps)
        else:
            day = _months_later(self.anchor.date(), MONTHS[self.interval] * steps)
        return datetime.combine(day, self.anchor.time(), self.anchor.tzinfo)

    def start_us(self, number: int) -> int:
        """The same boundary as an instant."""
        return (self.local(number) - _EPOCH) // _MICROSECOND

    def period_at(self, at_us: int) -> Period:
        """The period in which an instant lies; mostly that of the instant before."""
        # One instant in two zones is equal, and begins other periods.
        which = self.interval, self.count, self.anchor, self.anchor.tzinfo
        last = _last.get(which)
        if last is None or not last.start_us <= at_us < last.end_us:
            if len(_last) >= _MOST_LAST:
                _last.clear()
            last = _last[which] = self._period_at(at_us)
        return last

    def _period_at(self, at_us: int) -> Period:
        number = self._guess(at_us)
        start_us, end_us = self.start_us(number), self.start_us(number + 1)
        # The day and the hour were not looked at: the guess is at most a step off, either way.
        while start_us > at_us:
            number -= 1
            start_us, end_us = self.start_us(number), start_us
        while end_us <= at_us:
            number += 1
            start_us, end_us = end_us, self.start_us(number + 1)
        return Period(start_us, end_us)

    def meeting(self, from_us: int, to_us: int) -> Iterator[Period]:
        """The periods, in order, that share an instant with `[from_us, to_us)`."""
        while from_us < to_us:
            period = self.period_at(from_us)
            yield period
            from_us = period.end_us

    def _guess(self, at_us: int) -> int:
        at = (_EPOCH + timedelta(microseconds=at_us)).astimezone(self.anchor.tzinfo)
        if days := _DAYS.get(self.interval):
            return (at.date() - self.anchor.date()).days // (days * self.count)
        months = (at.year - self.anchor.year) * 12 + at.month - self.anchor.month
        return months // (MONTHS[self.interval] * self.count)


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not date.min.year <= year <= date.max.year:
        raise OverflowError(f"year {year} is out of range")
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
