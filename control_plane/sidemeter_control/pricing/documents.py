"""Plans as documents: JSON values under the names of the API's PlanInput, as people keep them in files.

Everything follows from `PlanSpec`: a field that it gains can be written, read, compared and is in the schema.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias, cast

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import parse_decimal
from sidemeter_control.pricing.definitions import plain
from sidemeter_control.pricing.plans import Plan, PlanSpec

__all__ = ["Document", "document", "plan_schema", "read_document", "spec_of"]

Document: TypeAlias = dict[str, object]
"""What JSON can say; fractions are Decimals. Numbers that are decimals by their meaning are strings."""

_PLACE = re.compile(r"(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_DECIMAL = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"}
_ANY_JSON = {"description": "Any JSON value."}

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def document(spec: PlanSpec) -> Document:
    """The plan as it would be written, without what has its default.

    >>> document(PlanSpec(key="pro", currency="EUR", charges=()))
    {'key': 'pro', 'currency': 'EUR', 'charges': []}
    """
    written = cast("Document", plain(spec))
    for each in cast("list[Document]", written.get("entitlements", [])):
        if "value" in each:
            each["value"] = _decode(cast("str", each["value"]))
    return written


def spec_of(plan: Plan) -> PlanSpec:
    """What a published plan was written as."""
    written = {name: getattr(plan, name) for name in PlanSpec.__struct_fields__ if name != "charges"}
    return PlanSpec(charges=tuple(charge.spec for charge in plan.charges), **written)


def read_document(written: object) -> PlanSpec:
    """The plan that a document describes, of right form; `read_plan` says whether it makes sense.

    InvalidInput names the place, as `charges[0].amount`, and what it must be: a decimal must be a string.
    """
    try:
        spec = msgspec.convert(_with_values_as_text(written), PlanSpec)
    except msgspec.ValidationError as exc:
        place = cast("re.Match[str]", _PLACE.fullmatch(str(exc)))
        raise InvalidInput(place["path"] or "plan", place["rule"]) from exc
    _check_decimals("", written, msgspec.to_builtins(spec, builtin_types=(Decimal,)))
    return spec


def plan_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a document."""
    schema = _with_decimals(msgspec.json.schema(PlanSpec))
    schema["$defs"]["EntitlementSpec"]["properties"]["value"] = _ANY_JSON
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A plan of Sidemeter", **schema}


def _with_values_as_text(written: object) -> object:
    match written:
        case {"entitlements": [*entitlements]}:
            return {**cast("Document", written), "entitlements": [_with_value_as_text(each) for each in entitlements]}
    return written


def _with_value_as_text(written: object) -> object:
    match written:
        case {"value": value} if value is not None:
            return {**cast("Document", written), "value": _encode(value).decode()}
    return written


def _check_decimals(path: str, written: object, read: object) -> None:
    """Side by side, because only what was read says which of the values are decimals."""
    match read, written:
        case Decimal(), str():
            try:
                parse_decimal(written)
            except ValueError as exc:
                raise InvalidInput(path, str(exc)) from exc
        case Decimal(), _:
            raise InvalidInput(
                path, f'must be written as a string, "{written}": a bare number is a binary float to many'
            )
        case dict(), Mapping():
            for key, value in read.items():
                _check_decimals(f"{path}.{key}".lstrip("."), written.get(key), value)
        case ((list() | tuple()), list()):
            for index, (inner, value) in enumerate(zip(written, read, strict=True)):
                _check_decimals(f"{path}[{index}]", inner, value)


def _with_decimals(schema: Any) -> Any:
    match schema:
        case {"type": "string", "format": "decimal"}:
            return {key: value for key, value in schema.items() if key != "format"} | _DECIMAL
        case {"description": str(text)}:
            inner = {key: _with_decimals(value) for key, value in schema.items()}
            return inner | {"description": " ".join(text.split())}
        case dict():
            return {key: _with_decimals(value) for key, value in schema.items()}
        case list():
            return [_with_decimals(each) for each in schema]
    return schema
