"""Exact decimals and currencies: how numbers are read, written, computed and, once per line, rounded (P17)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from babel.numbers import get_currency_precision, is_currency

from sidemeter_control.errors import InvalidInput

__all__ = [
    "MAX_DECIMAL_DIGITS",
    "NO_CURRENCY",
    "Money",
    "check_currency",
    "check_minor_unit",
    "decimal_text",
    "exact",
    "minor_digits",
    "parse_decimal",
    "rounded",
]

P = ParamSpec("P")
R = TypeVar("R")

NO_CURRENCY = "XXX"
"""ISO 4217's code for "no currency": a total of nothing, for a customer who has none yet."""

MAX_DECIMAL_DIGITS = 40
"""Event values have 18 digits before and 9 after the point; amounts and rates stay far below twice that."""

_DECIMAL = re.compile(r"-?\d{1,64}(\.\d{1,64})?([eE][+-]?\d{1,3})?", re.ASCII)

# The longest product is a quantity, converted, times a price and five discounts: some 220 digits. Anything that would
# not fit raises instead of rounding.
_EXACT = Context(prec=300, rounding=ROUND_HALF_UP, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_ROUNDING = Context(prec=300, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Overflow])

# Babel knows the digits that people use; where ISO 4217 gives a currency others, an invoice needs ISO's.
_ISO_DIGITS = dict.fromkeys(
    ("AFN", "ALL", "IRR", "KPW", "LAK", "LBP", "MGA", "MMK", "RSD", "SLL", "SOS", "SYP", "YER"), 2
) | {"IQD": 3}


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with 300 digits and no rounding: a result that would lose a digit raises `decimal.Inexact`."""

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(_EXACT):
            return function(*args, **kwargs)

    return computed


def parse_decimal(text: str) -> Decimal:
    """An exact decimal of at most 40 digits written out; ValueError for NaN, Infinity, signs, blanks and the rest.

    >>> parse_decimal("2.5e3")
    Decimal('2.5E+3')
    >>> parse_decimal("1e99")
    Traceback (most recent call last):
    ValueError: must be a decimal like "0.0025", of at most 40 digits
    """
    if _DECIMAL.fullmatch(text):
        value = Decimal(text)
        if sum(map(str.isdigit, format(value, "f"))) <= MAX_DECIMAL_DIGITS:
            return value
    raise ValueError(f'must be a decimal like "0.0025", of at most {MAX_DECIMAL_DIGITS} digits')


def decimal_text(value: Decimal) -> str:
    """Plain notation without trailing zeros; ValueError if it is not a number.

    >>> decimal_text(Decimal("1.50")), decimal_text(Decimal("1E+3")), decimal_text(Decimal("-0.0"))
    ('1.5', '1000', '0')
    """
    if not value.is_finite():
        raise ValueError(f"{value} is not a number")
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def check_currency(field: str, code: str) -> None:
    """Raise InvalidInput for `field` unless `code` is a currency's ISO 4217 code in capitals."""
    if code == NO_CURRENCY or not is_currency(code):
        raise InvalidInput(field, 'must be the ISO 4217 code of a currency, like "EUR"')


@lru_cache(maxsize=512)
def _minor_unit(currency: str) -> Decimal:
    digits = _ISO_DIGITS.get(currency, get_currency_precision(currency))
    return Decimal(1).scaleb(-digits)


def minor_digits(currency: str) -> int:
    """How many digits after the point the currency's minor unit has.

    >>> minor_digits("USD"), minor_digits("JPY")
    (2, 0)
    """
    return -int(_minor_unit(currency).as_tuple().exponent)


def rounded(amount: Decimal, currency: str) -> Decimal:
    """`amount` rounded half away from zero to the currency's minor unit.

    >>> rounded(Decimal("-10.125"), "USD"), rounded(Decimal("100.5"), "JPY"), rounded(Decimal("0.0005"), "KWD")
    (Decimal('-10.13'), Decimal('101'), Decimal('0.001'))
    """
    return amount.quantize(_minor_unit(currency), context=_ROUNDING)


def check_minor_unit(field: str, amount: Decimal, currency: str) -> None:
    """Raise InvalidInput for `field` unless `amount` can be paid in the currency to the last digit."""
    if rounded(amount, currency) != amount:
        digits = -int(_minor_unit(currency).as_tuple().exponent)
        rule = f"must have at most {digits} digits after the point" if digits else "must be a whole number"
        raise InvalidInput(field, f"{rule}: {currency} has nothing smaller")


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in major units, and what it is when rounded to the currency's minor unit.

    The two differ by more than half a unit where the rounded one is a sum or a difference of rounded amounts.
    """

    amount: Decimal
    currency: str
    rounded: Decimal

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> "Money":
        """`amount` and its own rounding."""
        return cls(amount, currency, rounded(amount, currency))
