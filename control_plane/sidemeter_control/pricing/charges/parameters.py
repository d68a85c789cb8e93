"""Checks of single parameters; each returns the value or raises InvalidInput with its path and rule."""

from decimal import Decimal

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import decimal_text

__all__ = ["MAX_DIGITS_AFTER", "MAX_DIGITS_BEFORE", "bounded", "free_count", "not_negative", "positive"]

MAX_DIGITS_BEFORE = 18
MAX_DIGITS_AFTER = 18


def bounded(path: str, value: Decimal) -> Decimal:
    """Any number with at most 18 digits before and 18 after the point."""
    before, _, after = decimal_text(value.copy_abs()).partition(".") if value.is_finite() else ("", "", "")
    if not 1 <= len(before) <= MAX_DIGITS_BEFORE or len(after) > MAX_DIGITS_AFTER:
        raise InvalidInput(
            path,
            f"must be a number of at most {MAX_DIGITS_BEFORE} digits before and {MAX_DIGITS_AFTER} after the point",
        )
    return value


def not_negative(path: str, value: Decimal) -> Decimal:
    """A price or a quantity: zero or more, and bounded."""
    if bounded(path, value) < 0:
        raise InvalidInput(path, "must not be negative")
    return value


def positive(path: str, value: Decimal) -> Decimal:
    """More than zero, and bounded."""
    if bounded(path, value) <= 0:
        raise InvalidInput(path, "must be more than zero")
    return value


def free_count(path: str, value: int) -> int:
    """A number of events: zero or more."""
    if value < 0:
        raise InvalidInput(path, "must not be negative")
    return value
