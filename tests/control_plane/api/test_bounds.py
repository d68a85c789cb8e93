"""How large a request may be, fragments spread out; and that measuring it is cheap whatever the text."""

from typing import Any

import pytest
from fakes import ManualClock
from graphql import GraphQLError, build_schema, parse, validate

from sidemeter_control.api.bounds import (
    MAX_ALIASES,
    MAX_DEFINITIONS,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_NUMBER_CHARS,
    MAX_PAGE,
    MAX_QUERY_CHARS,
    MAX_REPEATS,
    MAX_SPREADS,
    MAX_VALUES,
    WithinBounds,
    check_values,
    page_size,
)
from sidemeter_control.api.persisted import Persisted
from sidemeter_control.api.refusals import MAX_MESSAGE_CHARS, formatted
from sidemeter_control.api.requests import Asked, whole
from sidemeter_control.errors import InvalidInput

SCHEMA = build_schema("type Query { a: Query, b: Int }")


def refusals(text: str) -> list[str]:
    return [error.message for error in validate(SCHEMA, parse(text), [WithinBounds])]


def nested(levels: int) -> str:
    return "{ a " * (levels - 1) + "{ b }" + "}" * (levels - 1)


def test_the_deepest_allowed_query_passes() -> None:
    assert refusals(nested(MAX_DEPTH)) == []


def test_one_level_more_is_refused_with_both_numbers() -> None:
    assert refusals(nested(MAX_DEPTH + 1)) == [f"nested {MAX_DEPTH + 1} levels deep; {MAX_DEPTH} are allowed"]


def test_fragments_and_inline_fragments_do_not_hide_depth() -> None:
    text = f"query {{ a {{ ... on Query {{ ...deep }} }} }} fragment deep on Query {nested(MAX_DEPTH)}"
    assert refusals(text) == [f"nested {MAX_DEPTH + 1} levels deep; {MAX_DEPTH} are allowed"]


def test_as_many_aliases_as_allowed_pass_and_one_more_does_not() -> None:
    aliases = [f"x{n}: b" for n in range(MAX_ALIASES + 1)]
    assert refusals(f"{{ {' '.join(aliases[:-1])} }}") == []
    assert refusals(f"{{ {' '.join(aliases)} }}") == [f"{MAX_ALIASES + 1} aliases; {MAX_ALIASES} are allowed"]


def test_an_alias_in_a_fragment_counts_wherever_it_is_spread() -> None:
    spreads = " ".join(["a { ...f }"] * (MAX_ALIASES + 1))
    assert refusals(f"query {{ {spreads} }} fragment f on Query {{ x: b }}")


def test_fragments_that_double_each_other_are_measured_at_once() -> None:
    doubling = " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(100))
    assert refusals(f"{{ ...f0 }} {doubling} fragment f100 on Query {{ x: b }}")


def test_a_cycle_of_fragments_ends() -> None:
    assert refusals("{ ...f } fragment f on Query { a { ...g } } fragment g on Query { a { ...f } }") == []


def test_an_unknown_fragment_is_left_to_its_own_rule() -> None:
    assert refusals("{ ...nothing }") == []


def test_aliases_of_introspection_count_and_its_levels_do_not() -> None:
    deep = "{ __schema { types " + "{ ofType " * 20 + "{ name }" + " }" * 20 + " } }"
    assert refusals(deep) == []
    aliases = " ".join(f"x{n}: name" for n in range(MAX_ALIASES + 1))
    assert refusals(f"{{ __schema {{ types {{ {aliases} }} }} }}") == [f"31 aliases; {MAX_ALIASES} are allowed"]


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize(
    ("most", "text"),
    [
        (MAX_DEFINITIONS, lambda n: "{ b } " + "".join(f"fragment f{i} on Query {{ b }} " for i in range(n - 1))),
        (MAX_SPREADS, lambda n: "{ a { " + "...f " * n + "} } fragment f on Query { b }"),
        (MAX_REPEATS, lambda n: "{ b " + "b " * n + "}"),
        (MAX_REPEATS, lambda n: "{ b " + "... { b } " * n + "}"),
        (MAX_REPEATS, lambda n: "{ a { b b } a { b } " + "... on Query { ... { c: b c: b } } " + "b " * (n - 2) + "}"),
        (MAX_NUMBER_CHARS, lambda n: f"{{ b(c: {'9' * n}) }}"),
        (MAX_NUMBER_CHARS, lambda n: f"{{ b(c: [{{d: 0.{'9' * (n - 2)}}}]) }}"),
    ],
    ids=["definitions", "spreads", "repeats", "repeats inline", "repeats in all", "integer", "fraction"],
)
def test_as_much_as_may_be_is_judged_and_one_more_is_not(most: int, text: Any, more: int) -> None:
    found = refusals(text(most + more))
    assert [each for each in found if f"{most} are allowed" in each] == found
    assert bool(found) is (more > 0), found


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("query", lambda n: Asked("{" * (MAX_QUERY_CHARS + n))),
        ("variables", lambda n: Asked("{ b }", {"a": [{"b": [None] * (MAX_VALUES - 3 + n)}]})),
        ("variables", lambda n: Asked("{ b }", {"a": {str(each): 0 for each in range(MAX_FIELDS + n)}})),
    ],
    ids=["text", "values", "fields"],
)
def test_a_request_of_more_than_may_be_is_refused_by_its_field(field: str, asked: Any, more: int) -> None:
    if more <= 0:
        whole(asked(more), Persisted())
        return
    with pytest.raises(InvalidInput) as refused:
        whole(asked(more), Persisted())
    assert refused.value.field == field


def test_values_are_counted_without_a_stack() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    check_values(deep)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_long_message_is_cut(more: int) -> None:
    message = formatted(GraphQLError("x" * (MAX_MESSAGE_CHARS + more)), ManualClock())["message"]
    assert message == ("x" * (MAX_MESSAGE_CHARS + more) if more <= 0 else "x" * (MAX_MESSAGE_CHARS - 1) + "…")


@pytest.mark.parametrize("first", [0, -1, MAX_PAGE + 1])
def test_a_page_has_bounds(first: int) -> None:
    with pytest.raises(InvalidInput, match="first: must be from 1 to"):
        page_size(first)
