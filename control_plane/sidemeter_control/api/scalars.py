"""The three scalars of the contract, strict in and exact out. Nothing here ever becomes a binary float (P17)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NewType

import msgspec
import strawberry
from graphql import (
    BooleanValueNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)
from strawberry.types.scalar import ScalarDefinition

from sidemeter_control import money
from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.events import parse_time

__all__ = [
    "SCALARS",
    "Instant",
    "Json",
    "Unfit",
    "instant",
    "instant_text",
    "json_text",
    "parse_decimal",
    "parse_instant",
]

Instant = NewType("Instant", int)
"""Microseconds since 1970-01-01T00:00:00Z; DateTime in the schema."""

Json = NewType("Json", object)
"""Any JSON value; its fractions are Decimals. Text that is JSON already goes out as `msgspec.Raw`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Unfit(ValueError):
    """A value that is not of its scalar. The library says where it stands; the text says what would be right."""


def parse_decimal(value: object) -> Decimal:
    """An exact decimal from its text; Unfit for anything else.

    >>> parse_decimal("0.0025")
    Decimal('0.0025')
    >>> parse_decimal(0.0025)
    Traceback (most recent call last):
    sidemeter_control.api.scalars.Unfit: a Decimal is a string, like "0.0025"
    """
    if not isinstance(value, str):
        raise Unfit('a Decimal is a string, like "0.0025"')
    try:
        return money.parse_decimal(value)
    except ValueError as exc:
        raise Unfit(f"a Decimal {exc}") from exc


def parse_instant(value: object) -> Instant:
    """Microseconds from RFC 3339 text with an offset; digits past the sixth are cut. Unfit for anything else.

    >>> parse_instant("1970-01-01T01:00:00.0000019+01:00")
    1
    """
    try:
        return Instant(parse_time(value if isinstance(value, str) else ""))
    except InvalidInput as exc:
        raise Unfit(f"a DateTime {exc.rule}") from exc


def instant_text(value_us: int) -> str:
    """RFC 3339 in UTC, with microseconds where there are any.

    >>> instant_text(0), instant_text(1_500_000)
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:01.500000Z')
    """
    return (_EPOCH + timedelta(microseconds=value_us)).isoformat().replace("+00:00", "Z")


def instant(value_us: int | None) -> Instant | None:
    """An instant that may be absent."""
    return None if value_us is None else Instant(value_us)


def json_text(value: Json) -> str:
    """The value as JSON text, every number digit for digit.

    >>> json_text(Json({"rate": Decimal("1.10")}))
    '{"rate":1.10}'
    """
    return _encode(value).decode()


def _literal_decimal(node: ValueNode, _variables: Mapping[str, Any] | None = None) -> Decimal:
    return parse_decimal(node.value if isinstance(node, StringValueNode) else None)


def _literal_instant(node: ValueNode, _variables: Mapping[str, Any] | None = None) -> Instant:
    return parse_instant(node.value if isinstance(node, StringValueNode) else None)


def _literal_json(node: ValueNode, variables: Mapping[str, Any] | None = None) -> object:  # noqa: PLR0911 -- one per kind
    match node:
        case StringValueNode() | BooleanValueNode():
            return node.value
        case IntValueNode():
            return int(node.value)
        case FloatValueNode():
            return _number(node.value)
        case NullValueNode():
            return None
        case ListValueNode():
            return [_literal_json(each, variables) for each in node.values or ()]
        case ObjectValueNode():
            return {each.name.value: _literal_json(each.value, variables) for each in node.fields or ()}
        case VariableNode():
            return (variables or {}).get(node.name.value)
    raise Unfit("JSON has no enum values: quote it")


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as exc:
        raise Unfit("has an exponent that no decimal can hold") from exc


SCALARS: Mapping[object, ScalarDefinition] = {
    Decimal: strawberry.scalar(
        name="Decimal",
        description='An exact decimal, as a JSON string: "0.0025". Never a float; NaN and Infinity are refused.',
        serialize=money.decimal_text,
        parse_value=parse_decimal,
        parse_literal=_literal_decimal,
    ),
    Instant: strawberry.scalar(
        name="DateTime",
        description="RFC 3339 with offset. Naive values are refused.",
        serialize=instant_text,
        parse_value=parse_instant,
        parse_literal=_literal_instant,
    ),
    Json: strawberry.scalar(
        name="JSON",
        description="Any JSON value. Its numbers are exact decimals.",
        serialize=lambda value: value,
        parse_value=lambda value: value,
        parse_literal=_literal_json,
    ),
}
"""What `StrawberryConfig.scalar_map` takes."""
