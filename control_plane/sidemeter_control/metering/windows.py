"""Intervals of time: cut into windows of somebody's time zone, covered by whole buckets of rollups. Pure rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.rollups import DAY_US, HOUR_US

__all__ = ["MAX_WINDOWS", "Cover", "Interval", "Span", "Window", "cover", "windows"]

# More than a year of hours. Each window costs some microseconds, and memory in the answer.
MAX_WINDOWS = 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND - 400 * DAY_US
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND + 400 * DAY_US


class Window(Enum):
    """What an interval is cut into: hours, days, weeks from Monday, or months of the local calendar."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class Interval(NamedTuple):
    """From `from_us` on, before `to_us`."""

    from_us: int
    to_us: int


class Span(NamedTuple):
    """Every bucket of one grain (3600 or 86400 seconds) that begins in `[from_us, to_us)`."""

    grain_s: int
    from_us: int
    to_us: int


_REMEMBERED = 100
"""Intervals of a cover: a year by the day is asked for once."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Intervals as whole buckets, and the edges, each within one hour, that only events can fill."""

    spans: tuple[Span, ...]
    edges: tuple[Interval, ...]


def windows(interval: Interval, window: Window | None, time_zone: str) -> list[Interval]:
    """The interval cut at every beginning of a window in that zone; whole when `window` is None.

    A local day may have 23 or 25 hours. InvalidInput when there are more than MAX_WINDOWS.

    >>> [each.to_us // HOUR_US for each in windows(Interval(0, 30 * HOUR_US), Window.DAY, "Europe/Berlin")]
    [23, 30]
    """
    if interval.from_us >= interval.to_us:
        return []
    if window is None:
        return [interval]
    if not _FIRST_US < interval.from_us < interval.to_us < _LAST_US:
        raise InvalidInput("from", "windows are cut in the years 3 to 9998")
    cut: list[Interval] = []
    start = interval.from_us
    for boundary in _boundaries(start, window, ZoneInfo(time_zone)):
        cut.append(Interval(start, min(boundary, interval.to_us)))
        if boundary >= interval.to_us:
            break
        if len(cut) == MAX_WINDOWS:
            raise InvalidInput("window", f"would cut the interval into more than {MAX_WINDOWS}")
        start = boundary
    return cut


def _boundaries(after_us: int, window: Window, zone: ZoneInfo) -> Iterator[int]:
    """Every beginning of a window after `after_us`, in order."""
    if window is Window.HOUR:
        while True:
            local = (_EPOCH + timedelta(microseconds=after_us)).astimezone(zone)
            into_hour = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            after_us += HOUR_US - into_hour // _MICROSECOND
            yield after_us
    day = (_EPOCH + timedelta(microseconds=after_us)).astimezone(zone).date()
    while True:
        day = _next(day, window)
        # A midnight that a clock change skips is the instant of the change; of two midnights the first one counts.
        yield (datetime.combine(day, time(), zone).astimezone(UTC) - _EPOCH) // _MICROSECOND


def _next(day: date, window: Window) -> date:
    match window:
        case Window.WEEK:
            return day + timedelta(days=7 - day.weekday())
        case Window.MONTH:
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            return day + timedelta(days=1)


def cover(cut: Sequence[Interval]) -> Cover:
    """The fewest buckets that lie within the intervals, neighbours joined, and what is left at the ends of each.

    >>> cover([Interval(HOUR_US // 2, 2 * HOUR_US)])
    Cover(spans=(Span(grain_s=3600, from_us=3600000000, to_us=7200000000),), edges=(Interval(from_us=1800000000, to_us=3600000000),))
    """
    return _known_cover(tuple(cut)) if len(cut) <= _REMEMBERED else _cover(cut)


@lru_cache(maxsize=256)
def _known_cover(cut: tuple[Interval, ...]) -> Cover:
    """Of a billing period, and of its nights, they are the same at every look at its cost."""
    return _cover(cut)


def _cover(cut: Sequence[Interval]) -> Cover:
    spans: list[Span] = []
    edges: list[Interval] = []
    for interval in cut:
        inner = _whole(interval, HOUR_US)
        if inner is None:
            edges += _edges(interval)
            continue
        edges += [each for each in _around(interval, inner) if each.from_us < each.to_us]
        days = _whole(inner, DAY_US)
        hours = [inner] if days is None else _around(inner, days)
        found = [Span(3600, *each) for each in hours] + ([] if days is None else [Span(86400, *days)])
        for span in sorted(found, key=lambda each: each.from_us):
            _join(spans, span)
    return Cover(tuple(spans), tuple(edges))


def _whole(interval: Interval, unit_us: int) -> Interval | None:
    """The part of the interval that whole units fill."""
    start, end = -(-interval.from_us // unit_us) * unit_us, interval.to_us // unit_us * unit_us
    return Interval(start, end) if start < end else None


def _around(outer: Interval, inner: Interval) -> list[Interval]:
    return [Interval(outer.from_us, inner.from_us), Interval(inner.to_us, outer.to_us)]


def _edges(interval: Interval) -> list[Interval]:
    """An interval without a whole hour in it: within one, or on both sides of a boundary."""
    boundary = interval.to_us // HOUR_US * HOUR_US
    if interval.from_us < boundary < interval.to_us:
        return [Interval(interval.from_us, boundary), Interval(boundary, interval.to_us)]
    return [interval]


def _join(spans: list[Span], span: Span) -> None:
    if span.from_us == span.to_us:
        return
    if spans and spans[-1].grain_s == span.grain_s and spans[-1].to_us == span.from_us:
        spans[-1] = Span(span.grain_s, spans[-1].from_us, span.to_us)
    else:
        spans.append(span)
