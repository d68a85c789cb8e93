"""Forecasts: what will be used by an instant to come, with the range in which eight of ten end. Pure rules, no I/O.

What comes is a sum over the hours that are left: the shape of the customer's week, at the level that use has of late,
carried on by its trend. The range is measured, not assumed: the same rule is tried on every past day for as long an
interval, and what it was wrong by then is what it may be wrong by now. All of it in whole numbers, so that the same
usage has the same forecast everywhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import accumulate, islice
from math import isqrt
from operator import sub
from zoneinfo import ZoneInfo

from sidemeter_control.metering.meters import NANO, Aggregation, Meter
from sidemeter_control.metering.rollups import HOUR_US

__all__ = [
    "HISTORY_HOURS",
    "LEAST_DAYS",
    "MAX_AHEAD_HOURS",
    "NOTHING_AHEAD",
    "Edge",
    "Outlook",
    "Refusal",
    "WeekHours",
    "outlook",
    "unforeseeable",
    "week_hours",
]

HISTORY_HOURS = 8 * 7 * 24
"""What is older says little of the next weeks, and each hour is a row to be read."""

LEAST_DAYS = 14
"""Of use: one week to learn the shape of a week from, and one to try it on."""

MAX_AHEAD_HOURS = 400 * 24
"""More than a year; from eight weeks nobody can tell what comes later."""

_LEAST_TRIES = 5
_DAY, _WEEK = 24, 7 * 24

# The level takes 15 % of each day's surprise. Growth is at most 5 % a day, fades by 10 % a day, and half of it counts where
# its slope is three times as large as it is unsure. These were the best of those tried on seasonal, growing, shifting and
# wandering series and on a real trace: `python -m tests.backtest`.
_ONE = 10**9
_LEVEL, _UNSURE, _FADING, _STEEPEST = 15, 10, 90, _ONE // 20
_LEAST_FACTOR = _ONE // 5
_FINEST = _ONE // 10**6  # what is less comes from cut digits
# So many weeks' worth of trust in "hour of the day times day of the week" beside what the very hour of the week had.
_SMOOTHING = 2


class Refusal(Enum):
    """Why there is no forecast.

    TOO_LITTLE_DATA: less than two weeks of use, or too few past days to try the rule on. NOT_ADDITIVE: what the meter
    counts is no sum over time (peaks, last values, distinct values, means), so it has no pace. NEGATIVE: so has not what was
    also taken back. BEING_COUNTED: the meter is still being filled with older events. TOO_FAR: more than 400 days.
    """

    TOO_LITTLE_DATA = "TOO_LITTLE_DATA"
    NOT_ADDITIVE = "NOT_ADDITIVE"
    NEGATIVE = "NEGATIVE"
    BEING_COUNTED = "BEING_COUNTED"
    TOO_FAR = "TOO_FAR"


class Edge(Enum):
    """Of one forecast: what nine of ten are above, the most likely, what nine of ten are below."""

    LOW = "LOW"
    MIDDLE = "MIDDLE"
    HIGH = "HIGH"


@dataclass(frozen=True, slots=True)
class WeekHours:
    """The hour of the week (0: Monday, midnight to one) of each hour since 1970 from `first` on, on somebody's clock."""

    first: int
    slots: Sequence[int]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected from `now_us` until `until_us`, in nano-units, learnt from `days` of use.

    `hours` adds the shape's hours up from that of `now_us` on, of which each day has a `factor`; `low` and `high` are
    the edges of the range as billionths of the middle. A forecast of whole numbers is one of whole numbers: `grain`.
    """

    now_us: int
    until_us: int
    days: int
    hours: Sequence[int]
    factors: Sequence[int]
    low: int
    high: int
    grain: int

    def between(self, from_us: int, to_us: int, edge: Edge = Edge.MIDDLE) -> int:
        """What comes in a part of the time that is left, at an edge of the range; LOW is rounded down, HIGH up."""
        exact = max(0, self._by(min(to_us, self.until_us)) - self._by(max(from_us, self.now_us)))
        middle = (exact + self.grain // 2) // self.grain * self.grain
        match edge:
            case Edge.LOW:
                return middle * self.low // (_ONE * self.grain) * self.grain
            case Edge.HIGH:
                return -(-middle * self.high // (_ONE * self.grain)) * self.grain
            case Edge.MIDDLE:
                return middle

    def _by(self, at_us: int) -> int:
        """From the beginning of the hour of now until then."""
        hour, rest_us = divmod(at_us - self.now_us // HOUR_US * HOUR_US, HOUR_US)
        if hour < 0 or not self.factors:
            return 0
        whole = _ahead(self.hours, self.factors, 0, hour)
        return (
            whole + (_ahead(self.hours, self.factors, 0, hour + 1) - whole) * rest_us // HOUR_US if rest_us else whole
        )


NOTHING_AHEAD = Outlook(0, 0, 0, (), (), _ONE, _ONE, 1)
"""Of what is not used."""


def unforeseeable(meter: Meter) -> Refusal | None:
    """Why what the meter counts cannot be forecast, whatever was used; None: it can."""
    if meter.aggregation not in {Aggregation.COUNT, Aggregation.SUM}:
        return Refusal.NOT_ADDITIVE
    return None if meter.progress.done else Refusal.BEING_COUNTED


def week_hours(from_us: int, to_us: int, time_zone: str) -> WeekHours:
    """The hours of the week that touch `[from_us, to_us)`. One that a clock change skips is not there, another is twice.

    >>> week_hours(0, 2 * HOUR_US, "Europe/Berlin")  # a Thursday, 01:00
    WeekHours(first=0, slots=(73, 74))
    """
    zone, first, last = ZoneInfo(time_zone), from_us // HOUR_US, -(-to_us // HOUR_US)
    began = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=first)
    local = ((began + timedelta(hours=each)).astimezone(zone) for each in range(last - first))
    return WeekHours(first, tuple(each.weekday() * _DAY + each.hour for each in local))


def outlook(used: Mapping[int, int], week: WeekHours, now_us: int, until_us: int) -> Outlook | Refusal:
    """The forecast from what was used, in nano-units by hour since 1970; `week` holds the past hours and those to come.

    Hours of the last eight weeks that have ended count, in whole days from the first that has any use; where none has,
    nothing is expected.
    """
    this = now_us // HOUR_US
    ahead = -(-until_us // HOUR_US) - this
    if ahead > MAX_AHEAD_HOURS:
        return Refusal.TOO_FAR
    past = [used.get(hour, 0) for hour in range(this - HISTORY_HOURS, this)]
    first = next((index for index, each in enumerate(past) if each), None)
    if first is None or ahead <= 0:
        return NOTHING_AHEAD
    if min(past) < 0:
        return Refusal.NEGATIVE
    days = (HISTORY_HOURS - first) // _DAY
    if days < LEAST_DAYS:
        return Refusal.TOO_LITTLE_DATA
    past = past[-days * _DAY :]
    begin = this - days * _DAY - week.first
    learnt = _Learnt.of(past, week.slots[begin : begin + len(past) + ahead])
    return learnt.outlook(now_us, until_us, ahead)


# How far a growth has carried the level by each of the days to come, as billionths of the growth of the first one.
_CARRIED = tuple(accumulate(_ONE * _FADING**day // 100**day for day in range(1, MAX_AHEAD_HOURS // _DAY + 2)))


@dataclass(frozen=True, slots=True)
class _State:
    """What was known at the end of a day: the shape's hours from the first one on, added up, at a level with a growth."""

    hours: Sequence[int]
    level: int
    growth: int

    def factors(self, days: int) -> list[int]:
        """The level on each of the next days."""
        level, growth = self.level, self.growth
        return [level * max(_ONE + growth * carried // _ONE, _LEAST_FACTOR) // _ONE for carried in _CARRIED[:days]]


def _levels(expected: Iterable[int], used: Iterable[int], growths: Iterable[int], level: int) -> Iterator[int]:
    """The level after each day, given what the shape says of it, what was used and how it grew; `level` before all."""
    for of_shape, came, growth in zip(expected, used, growths, strict=False):
        if of_shape > 0:
            carried = level * (_ONE + growth) // _ONE
            level = max(1, carried + (came * _ONE // of_shape - carried) * _LEVEL // 100)
        yield level


def _growths(used: Sequence[int]) -> Iterator[int]:
    """The growth of a day, in billionths, at the end of each day: that of the straight line through the last weeks.

    Drawn to none by how unsure its slope is, so that noise is no trend.
    """
    for end in range(0, len(used), _DAY):
        weeks = [used[each] - used[each - _WEEK] for each in range(end, _WEEK - 1, -_WEEK)][::-1]
        yield _growth(weeks) if len(weeks) > 2 else 0


def _growth(weeks: Sequence[int]) -> int:
    count, whole = len(weeks), sum(weeks)
    places = range(1 - count, count, 2)
    spread, slope = (
        sum(each * each for each in places),
        sum(place * week for place, week in zip(places, weeks, strict=True)),
    )
    unexplained = (count * sum(each * each for each in weeks) - whole * whole) * spread - count * slope * slope
    sure = slope * slope * count * (count - 2)
    at_end = 7 * (whole * spread + count * (count - 1) * slope)
    if not sure or at_end <= 0:
        return 0
    growth = 2 * slope * count * _ONE * sure // (at_end * (sure + _UNSURE * unexplained))
    return max(-_STEEPEST, min(growth, _STEEPEST))


def _by_day(hours: Sequence[int], days: int) -> list[int]:
    """What each of so many days has, of what is added up by the hour."""
    ends = hours[: days * _DAY + 1 : _DAY]
    return list(map(sub, ends[1:], ends))


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What each past day from the seventh on knew, told nothing of what came after it; the last one is now.

    `used` adds the past hours up; each day can be `tried` for so many hours.
    """

    past: Sequence[int]
    used: Sequence[int]
    tried: int
    states: Sequence[_State]

    @classmethod
    def of(cls, past: Sequence[int], slots: Sequence[int]) -> "_Learnt":
        """From whole days of hours, with the hour of the week of each of them and of those to come.

        The shape is learnt anew after every week, and the level replayed under it from the first day on: so it is the
        level of the same shape, and not of a worse one that was known then.
        """
        used, states, sums, length = [0, *accumulate(past)], list[_State](), [0] * _WEEK, len(past)
        tried = min(len(slots) - length, (length - _WEEK) // 2, length - _WEEK - (_LEAST_TRIES - 1) * _DAY)
        came, growths = _by_day(used, length // _DAY), list(_growths(used))
        for first in range(_WEEK, length + 1, _WEEK):
            for slot, amount in zip(slots[first - _WEEK : first], past[first - _WEEK : first], strict=True):
                sums[slot] += amount
            last = min(first + _WEEK - _DAY, length)
            end = len(slots) if last == length else min(last + tried, length)
            hours = [0, *accumulate(map(_shape(sums, first // _WEEK).__getitem__, slots[:end]))]
            expected, level = _by_day(hours, last // _DAY), max(1, used[first] * _ONE // (hours[first] or 1))
            known = islice(_levels(expected, came, growths, level), first // _DAY - 1, None)
            states += [_State(hours, each, growths[day]) for day, each in enumerate(known, start=first // _DAY)]
        return cls(past, used, tried, states)

    def outlook(self, now_us: int, until_us: int, ahead: int) -> Outlook | Refusal:
        """What is expected, with the range that the past gives it."""
        now, wrong, length = self.states[-1], self._wrong(), len(self.past)
        hours = [each - now.hours[length] for each in now.hours[length:]]
        if not hours[-1]:
            return NOTHING_AHEAD
        if len(wrong) < _LEAST_TRIES:
            return Refusal.TOO_LITTLE_DATA
        low, high = _range(wrong, self.tried, ahead)
        grain = 1 if any(each % NANO for each in self.past) else NANO
        return Outlook(now_us, until_us, length // _DAY, hours, now.factors(-(-ahead // _DAY)), low, high, grain)

    def _wrong(self) -> list[int]:
        """What was used after each past day that can be tried, as billionths of what was expected."""
        begins = range(_WEEK, len(self.past) - self.tried + 1, _DAY)
        days = -(-self.tried // _DAY)
        expected = [
            _ahead(state.hours, state.factors(days), begin, self.tried)
            for state, begin in zip(self.states, begins, strict=False)
        ]
        came = [self.used[begin + self.tried] - self.used[begin] for begin in begins]
        return [used * _ONE // each for used, each in zip(came, expected, strict=True) if each > 0]


def _ahead(hours: Sequence[int], factors: Sequence[int], begin: int, count: int) -> int:
    """What so many hours add up to from the hour `begin` on, each day at its factor."""
    total, end = 0, begin + count
    for factor in factors:
        if begin >= end:
            break
        until = min(begin + _DAY, end)
        total += (hours[until] - hours[begin]) * factor // _ONE
        begin = until
    return total


def _shape(sums: Sequence[int], weeks: int) -> list[int]:
    """The use of each hour of the week beside the others, from what so many weeks had together.

    An hour of the week was seen a few times only: it is drawn to what its hour of the day and its day of the week say.
    """
    whole = sum(sums) or 1
    by_hour = [sum(sums[hour::_DAY]) for hour in range(_DAY)]
    shape: list[int] = []
    for begin in range(0, _WEEK, _DAY):
        day = sums[begin : begin + _DAY]
        drawn = _SMOOTHING * sum(day)
        shape += [own * weeks + drawn * hour // whole for own, hour in zip(day, by_hour, strict=True)]
    return shape


def _range(wrong: Sequence[int], tried: int, ahead: int) -> tuple[int, int]:
    """The edges, as billionths of the middle, from what the rule was wrong by.

    Wider by what the past cannot show: tries that overlap count as few (of n that do not, the error is 1/n more), and an
    error over a longer time than could be tried grows as one that wanders does, with the root of the time.
    """
    ordered = sorted(wrong)
    hours = len(ordered) * _DAY
    wider = isqrt(ahead * 10**12 // tried) * (hours + max(_DAY, tried)), 10**6 * hours
    low, high = (_quantile(ordered, tenths) - _ONE for tenths in (1, 9))
    below, above = (each * wider[0] // wider[1] // _FINEST * _FINEST for each in (max(0, -low), max(0, high)))
    return max(0, _ONE - below), _ONE + above


def _quantile(ordered: Sequence[int], tenths: int) -> int:
    last = len(ordered) - 1
    place, rest = divmod(min(max(tenths * (last + 2) - 10, 0), last * 10), 10)
    lower, upper = ordered[place], ordered[min(place + 1, last)]
    return lower + (upper - lower) * rest // 10
