"""Checks of single parameters; each returns the value or raises InvalidInput with its path and rule."""

from decimal import Decimal

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import decimal_text

__all__ = ["MAX_DIGITS_AFTER", "MAX_DIGITS_BEFORE", "not_negative", "positive"]

MAX_DIGITS_BEFORE = 18
MAX_DIGITS_AFTER = 18


def not_negative(path: str, value: Decimal) -> Decimal:
    """A price, a fee or a quantity: zero or more, with at most 18 digits before and 18 after the point."""
    if not value.is_finite() or value < 0:
        raise InvalidInput(path, "must not be negative")
    before, _, after = decimal_text(value).partition(".")
    if len(before) > MAX_DIGITS_BEFORE or len(after) > MAX_DIGITS_AFTER:
        raise InvalidInput(
            path, f"must have at most {MAX_DIGITS_BEFORE} digits before and {MAX_DIGITS_AFTER} after the point"
        )
    return value


def positive(path: str, value: Decimal) -> Decimal:
    """The same, and more than zero."""
    if value.is_finite() and value <= 0:
        raise InvalidInput(path, "must be more than zero")
    return not_negative(path, value)
