"""Bands of the day and week: which price the clock on the wall says, and when it changes.

A band begins on each of its days at `from` and ends at `to`, on the next day where `to` is not later: 22:00 to 06:00 on
Fridays ends on Saturday morning. The local clock decides: a night that is an hour shorter or longer by a change to or
from daylight saving time has an hour less or more in the band that the clock shows, and an hour that comes twice is in
its band both times.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges.parameters import not_negative
from sidemeter_control.pricing.charges.spec import BandSpec

__all__ = ["MAX_BANDS", "Band", "BandWindow", "Week", "read_bands"]

MAX_BANDS = 100
"""More than any tariff has; each is a line of every price."""

_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN
_EVERY_DAY = frozenset(range(1, 8))
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

BandWindow = tuple[int, int, int | None]
"""`[from_us, to_us)` and the number of the band that holds all of it, counted from 0; None: no band."""


@dataclass(frozen=True, slots=True)
class Band:
    """A price from `begin` to `end` (HH:MM) on `days`, 1 Monday to 7 Sunday."""

    days: frozenset[int]
    begin: str
    end: str
    unit_price: Decimal

    def minutes(self) -> Iterator[tuple[int, int]]:
        """The parts of a week it covers, as `[from, to)` in minutes since Monday 00:00."""
        begin, end = _minute(self.begin), _minute(self.end)
        length = end - begin if end > begin else end + _DAY_MIN - begin
        for day in sorted(self.days):
            start = (day - 1) * _DAY_MIN + begin
            yield start, min(start + length, _WEEK_MIN)
            if start + length > _WEEK_MIN:
                yield 0, start + length - _WEEK_MIN


@dataclass(frozen=True, slots=True)
class Week:
    """A local week cut where the price changes: from minute `starts[i]` on, the band `bands[i]` (None: none) holds."""

    starts: tuple[int, ...]
    bands: tuple[int | None, ...]

    @classmethod
    def of(cls, bands: Sequence[Band]) -> "Week":
        """The week of bands that do not overlap."""
        covered = sorted((start, end, number) for number, band in enumerate(bands) for start, end in band.minutes())
        starts: list[int] = []
        numbers: list[int | None] = []
        last = 0
        for start, end, number in covered:
            if start > last:
                starts.append(last)
                numbers.append(None)
            starts.append(start)
            numbers.append(number)
            last = end
        if last < _WEEK_MIN:
            starts.append(last)
            numbers.append(None)
        return cls(tuple(starts), tuple(numbers))

    def uncovered(self) -> str | None:
        """The first moment of a week that no band covers, for people; None: the whole week is covered."""
        if None not in self.bands:
            return None
        day, minute = divmod(self.starts[self.bands.index(None)], _DAY_MIN)
        return f"{_DAY_NAMES[day]} {minute // 60:02}:{minute % 60:02}"

    def band_at(self, at_us: int, time_zone: str) -> int | None:
        """The band of an instant on the clocks of that zone."""
        return self._band_of(_local(at_us, ZoneInfo(time_zone)))

    def windows(self, from_us: int, to_us: int, time_zone: str) -> list[BandWindow]:
        """`[from_us, to_us)` cut at every instant at which the band changes."""
        zone = ZoneInfo(time_zone)
        cut: list[BandWindow] = []
        for start, end in self._steady(from_us, to_us, zone):
            band = self._band_of(_local(start, zone))
            if cut and cut[-1][2] == band:
                cut[-1] = (cut[-1][0], end, band)
            else:
                cut.append((start, end, band))
        return cut

    def _band_of(self, local: datetime) -> int | None:
        minute = local.weekday() * _DAY_MIN + local.hour * 60 + local.minute
        return self.bands[bisect_right(self.starts, minute) - 1]

    def _steady(self, from_us: int, to_us: int, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
        """The interval cut so that in each part the local clock neither jumps nor crosses a boundary."""
        start = from_us
        for at_us in sorted(set(self._boundaries(from_us, to_us, zone))):
            if start < at_us <= to_us:
                jump = _jump(start, at_us, zone)
                if jump is not None:
                    yield start, jump
                    start = jump
                if start < at_us:
                    yield start, at_us
                start = at_us

    def _boundaries(self, from_us: int, to_us: int, zone: ZoneInfo) -> Iterator[int]:
        """Every instant at which local clocks show a boundary or midnight, both times where they show it twice."""
        yield to_us
        day, last = _local(from_us, zone).date() - timedelta(1), _local(to_us, zone).date() + timedelta(1)
        while day <= last:
            first = day.weekday() * _DAY_MIN
            inside = [start - first for start in self.starts if first < start < first + _DAY_MIN]
            for minute in (0, *inside):
                yield from _instants(day, minute, zone)
            day += timedelta(1)


def _instants(day: date, minute: int, zone: ZoneInfo) -> Iterator[int]:
    shown = datetime.combine(day, time(minute // 60, minute % 60), zone)
    for fold in (0, 1):
        yield (shown.replace(fold=fold) - _EPOCH) // _MICROSECOND


def _local(at_us: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + at_us * _MICROSECOND).astimezone(zone)


def _jump(from_us: int, to_us: int, zone: ZoneInfo) -> int | None:
    """The instant within a day at which the clocks of a zone are put forward or back; None: they are not."""
    before = _local(from_us, zone).utcoffset()
    if _local(to_us - 1, zone).utcoffset() == before:
        return None
    low, high = from_us, to_us - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _local(middle, zone).utcoffset() == before else (low, middle)
    return high


def read_bands(path: str, specs: Sequence[BandSpec]) -> tuple[Band, ...]:
    """The bands, checked; InvalidInput names the band and its field, and of two that overlap the later one."""
    if not 1 <= len(specs) <= MAX_BANDS:
        raise InvalidInput(path, f"must have 1 to {MAX_BANDS} bands")
    bands = tuple(_read_band(f"{path}[{index}]", spec) for index, spec in enumerate(specs))
    _check_apart(path, bands)
    return bands


def _read_band(path: str, spec: BandSpec) -> Band:
    days = _EVERY_DAY if spec.days is None else frozenset(spec.days)
    if not days or not days <= _EVERY_DAY or len(days) < len(spec.days or days):
        raise InvalidInput(f"{path}.days", "must be numbers from 1 (Monday) to 7 (Sunday), each once")
    for field, text in (("from", spec.from_), ("to", spec.to)):
        if not _TIME.fullmatch(text):
            raise InvalidInput(f"{path}.{field}", "must be a time of day as HH:MM")
    if spec.from_ == "24:00":
        raise InvalidInput(f"{path}.from", "must be before 24:00")
    if spec.from_ == spec.to != "00:00":
        raise InvalidInput(f"{path}.to", "must differ from `from`")
    return Band(days, spec.from_, spec.to, not_negative(f"{path}.unitPrice", spec.unit_price))


def _check_apart(path: str, bands: Sequence[Band]) -> None:
    taken: dict[int, int] = {}
    for number, band in enumerate(bands):
        for start, end in band.minutes():
            for minute in range(start, end):
                other = taken.setdefault(minute, number)
                if other != number:
                    raise InvalidInput(f"{path}[{number}]", f"must not overlap with {path}[{other}]")


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
