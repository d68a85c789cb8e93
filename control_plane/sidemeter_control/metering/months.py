"""Months of UTC, by which events are archived. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.events import FIRST_US, LAST_US

__all__ = ["begin", "due_before", "end", "name", "parse"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_MONTH: Final = re.compile(r"(?!0000)(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def begin(time_us: int) -> int:
    """Where the month of an instant begins.

    >>> name(begin(1_784_894_400_000_000))
    '2026-07'
    """
    at = _EPOCH + time_us * _US
    return (datetime(at.year, at.month, 1, tzinfo=UTC) - _EPOCH) // _US


def end(month_us: int) -> int:
    """Where the month that begins there ends.

    >>> name(end(begin(LAST_US) - 1)), end(begin(LAST_US)) == LAST_US + 1
    ('9999-12', True)
    """
    at = _EPOCH + month_us * _US
    if (at.year, at.month) == (9999, 12):
        return LAST_US + 1
    following = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return (following - _EPOCH) // _US


def name(month_us: int) -> str:
    """A month as people write it."""
    at = _EPOCH + month_us * _US
    return f"{at.year:04}-{at.month:02}"


def parse(text: str, now_us: int) -> int:
    """The beginning of the month `YYYY-MM`, which must have begun: what is not over is not archived. Else InvalidInput."""
    written = _MONTH.fullmatch(text)
    if written is None:
        raise InvalidInput("before", "must be a month, YYYY-MM")
    found = (datetime(int(written[1]), int(written[2]), 1, tzinfo=UTC) - _EPOCH) // _US
    if not FIRST_US <= found <= now_us:
        raise InvalidInput("before", f"must be a month that has begun, {name(begin(now_us))} at most")
    return found


def due_before(now_us: int, after_days: int) -> int:
    """Months that end by then have been over for so many days."""
    return begin(max(now_us - after_days * 86_400_000_000, FIRST_US))
