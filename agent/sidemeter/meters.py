"""Meters: what an event adds to a limit, decided exactly as the control plane will decide it. Pure.

The two programs share no code; a property test holds them to the same values and filters.
"""

import functools
import re
from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Final

import msgspec

from sidemeter.errors import InvalidInput
from sidemeter.events import Event

__all__ = ["EXACT", "Filter", "Meter", "PriceCap", "check_quantity", "data_of", "price_of"]

EXACT: Final = Context(prec=1000, traps=[InvalidOperation])
"""The context of every sum: quantities are never rounded here."""

_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)
_DIGITS_BEFORE: Final = 18
_TOO_LARGE: Final = 10**_DIGITS_BEFORE
_SMALLEST: Final = Decimal("1e-9")
_NUMERIC: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_LONGEST_TEXT: Final = 256
"""Characters of a numeric string, and digits that a number is written out with: 1e999999999 would take all memory."""
_parse: Final = msgspec.json.Decoder(float_hook=Decimal).decode


class Filter(msgspec.Struct, frozen=True, rename={"is_in": "in"}):
    """Which events a meter takes: the text of `property` is one of `is_in`, and none of `not_in`. None: no such rule."""

    property: str
    is_in: tuple[str, ...] | None = None
    not_in: tuple[str, ...] | None = None

    def passes(self, data: object) -> bool:
        """Whether an event's data passes. A missing property is in nothing."""
        text = _text(_find(data, self.property))
        if self.is_in is not None and text not in self.is_in:
            return False
        return self.not_in is None or text not in self.not_in


class Meter(msgspec.Struct, frozen=True):
    """How the control plane turns events into the quantity of a limit."""

    event_type: str
    aggregation: str
    value_property: str | None = None
    filters: tuple[Filter, ...] = ()

    def amount(self, data: object) -> Decimal | None:
        """What an event of the meter's type adds; None when a filter keeps it out.

        An event without a usable value is never counted, so it adds nothing; no more does one to a meter that is
        neither COUNT nor SUM.

        >>> Meter("call", "SUM", "tokens").amount({"tokens": "1.5"})
        Decimal('1.5')
        """
        if not all(each.passes(data) for each in self.filters):
            return None
        if self.aggregation == "COUNT":
            return _ONE
        if self.aggregation != "SUM" or self.value_property is None:
            return _ZERO
        return _number(_find(data, self.value_property))


class PriceCap(msgspec.Struct, frozen=True):
    """What an event that a meter takes costs at most: `per_event`, and `per_unit` of what it adds to the meter."""

    meter: Meter
    per_unit: Decimal
    per_event: Decimal

    def of(self, data: object) -> Decimal | None:
        """What an event of the meter's type costs at most; None when a filter keeps it out. Never less than nothing.

        >>> PriceCap(Meter("call", "SUM", "tokens"), Decimal("0.002"), Decimal(1)).of({"tokens": 500})
        Decimal('2.000')
        """
        amount = self.meter.amount(data)
        return None if amount is None else EXACT.fma(max(amount, _ZERO), self.per_unit, self.per_event)


def price_of(prices: Sequence[PriceCap], event_type: str, data: object) -> Decimal | None:
    """What an event costs at most by all caps together; None when none of them is about it."""
    priced = (each.of(data) for each in prices if each.meter.event_type == event_type)
    amounts = [amount for amount in priced if amount is not None]
    return functools.reduce(EXACT.add, amounts) if amounts else None


def check_quantity(quantity: object) -> int | Decimal:
    """A quantity that the control plane could count, or `InvalidInput`: the one rule for every door.

    >>> check_quantity(0.5)
    Traceback (most recent call last):
    sidemeter.errors.InvalidInput: quantity: must be an int or a Decimal above 0, with at most 18 digits before and 9 after the point
    """
    if type(quantity) is int:
        if 0 < quantity < _TOO_LARGE:
            return quantity
    elif isinstance(quantity, Decimal) and quantity.is_finite() and 0 < quantity < _TOO_LARGE and _is_exact(quantity):
        return quantity
    raise InvalidInput(
        "quantity", "must be an int or a Decimal above 0, with at most 18 digits before and 9 after the point"
    )


def data_of(event: Event) -> object:
    """The event's data, its numbers exact; empty for none, and for what no decimal can hold."""
    try:
        return _parse(event.data) if event.data is not None else {}
    except msgspec.ValidationError:  # an integer of thousands of digits: nobody counts it, so it has no value
        return {}


def _number(found: object) -> Decimal:
    if isinstance(found, str) and len(found) <= _LONGEST_TEXT and _NUMERIC.fullmatch(found):
        found = Decimal(found)
    if isinstance(found, bool) or not isinstance(found, int | Decimal):
        return _ZERO
    value = Decimal(found)
    return value if value.adjusted() < _DIGITS_BEFORE and _is_exact(value) else _ZERO


def _is_exact(value: Decimal) -> bool:
    return EXACT.quantize(value, _SMALLEST) == value


def _find(data: object, path: str) -> object:
    for name in path.split("."):
        if not isinstance(data, dict):
            return None
        data = data.get(name)
    return data


def _text(value: object) -> str | None:
    """A property as filters compare it: text as it is, numbers in plain notation, true or false."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        if abs(value.adjusted()) > _LONGEST_TEXT:
            return str(value)
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    return str(value) if isinstance(value, int) else None
