"""Any plan that can be written down: every field of the structs, whichever there are, with any value of its type."""

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from sidemeter_control.api.scalars import json_text
from sidemeter_control.pricing.plans import EntitlementSpec, PlanSpec

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8) | st.sampled_from(
    [
        "no",
        "010",
        "18:00",
        "1e3",
        "2026-01-01",
        "~",
        "0.10",
        "null",
        "true",
        "=",
        "<<",
        "a: b",
        "# x",
        " a ",
        "0o17",
        "-",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | TEXT | st.decimals(-9, 9, places=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


SIMPLE = {
    inspect.NoneType: st.none(),
    inspect.BoolType: st.booleans(),
    inspect.IntType: st.integers(-(10**6), 10**6),
    inspect.StrType: TEXT,
    inspect.DecimalType: st.decimals(-(10**9), 10**9, places=6),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type as msgspec sees it."""
    match kind:
        case inspect.UnionType():
            return st.one_of(*map(any_of, kind.types))
        case inspect.EnumType():
            return st.sampled_from(kind.cls)
        case inspect.VarTupleType():
            return st.lists(any_of(kind.item_type), max_size=3).map(tuple)
        case inspect.DictType():
            return st.dictionaries(any_of(kind.key_type), any_of(kind.value_type), max_size=3)
        case inspect.StructType():
            fields = {field.name: any_of(field.type) for field in kind.fields}
            if kind.cls is EntitlementSpec:
                fields["value"] = st.none() | JSON.filter(lambda value: value is not None).map(json_text)
            return st.builds(kind.cls, **fields)
    return SIMPLE[type(kind)]


PLANS: st.SearchStrategy[PlanSpec] = any_of(inspect.type_info(PlanSpec))
