"""The published JSON schema of plan files: what the structs say, a schema by its own rules, and true to the reader.

Write it anew with `python tests/contract/test_plan_schema.py`.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, get_named_type
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.documents import plan_schema, read_document

FILE = files("sidemeter_control.pricing") / "plan.schema.json"
FEE = {"key": "base", "model": "FLAT", "amount": "49"}
TIERS = [{"upTo": "1000", "unitPrice": "0.01"}, {"unitPrice": "0.004", "flatFee": "1e1"}]
PRO: dict[str, Any] = {"key": "pro", "currency": "EUR", "charges": [FEE]}


def printed() -> str:
    return json.dumps(plan_schema(), indent=2) + "\n"


def is_valid(document: object) -> bool:
    return Draft202012Validator(json.loads(FILE.read_text())).is_valid(document)


def is_read(document: object) -> bool:
    try:
        read_document(document)
    except InvalidInput:
        return False
    return True


def test_the_schema_is_the_one_that_the_structs_make() -> None:
    assert printed() == FILE.read_text(), "run this file as a program if the change is meant"


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(json.loads(FILE.read_text()))


@pytest.mark.parametrize(
    ("document", "good"),
    [
        (PRO, True),
        (PRO | {"name": None, "interval": "YEAR", "intervalCount": 2, "trialDays": 14}, True),
        (PRO | {"charges": [{"key": "t", "meter": "t", "model": "GRADUATED", "tiers": TIERS}]}, True),
        (PRO | {"entitlements": [{"feature": "f", "kind": "STATIC", "value": {"max": [5, None]}}]}, True),
        (PRO | {"charges": [FEE | {"amount": 49}]}, False),
        (PRO | {"charges": [FEE | {"amount": 0.1}]}, False),
        (PRO | {"charges": [FEE | {"amount": "much"}]}, False),
        (PRO | {"charges": [FEE | {"amount": "NaN"}]}, False),
        (PRO | {"charges": [FEE | {"price": "1"}]}, False),
        (PRO | {"charges": [FEE | {"model": "FREE"}]}, False),
        (PRO | {"charges": {"base": FEE}}, False),
        (PRO | {"intervalCount": "1"}, False),
        (PRO | {"name": True}, False),
        ({"key": "pro", "currency": "EUR"}, False),
        ([PRO], False),
        (None, False),
    ],
)
def test_it_finds_good_what_is_read_and_nothing_else(document: object, good: bool) -> None:
    assert (is_valid(document), is_read(document)) == (good, good)


@pytest.mark.no_cover
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_whatever_stands_in_a_field_schema_and_reader_agree(value: object) -> None:
    for field in (*PRO, "name", "interval", "intervalCount", "entitlements", "trialDays"):
        assert is_valid(PRO | {field: value}) is is_read(PRO | {field: value}), field


def names(kind: Any) -> dict[str, Any]:
    """The fields of an input, and theirs in turn."""
    fields = kind.fields if isinstance(kind, GraphQLInputObjectType) else {}
    return {name: names(get_named_type(field.type)) for name, field in fields.items()}


def documented(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The same of the JSON schema."""
    for inner in (schema, schema.get("items", {}), *schema.get("anyOf", ())):
        if "$ref" in inner:
            return documented(definitions[inner["$ref"].rpartition("/")[2]], definitions)
        if inner is not schema and "items" in inner:
            return documented(inner, definitions)
    return {name: documented(each, definitions) for name, each in schema.get("properties", {}).items()}


def test_a_file_has_the_names_of_the_api() -> None:
    schema = plan_schema()
    assert documented(schema, schema["$defs"]) == names(SCHEMA._schema.type_map["PlanInput"])


if __name__ == "__main__":
    Path(str(FILE)).write_text(printed())
