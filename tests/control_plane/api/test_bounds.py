"""How large a request may be, fragments spread out; and that measuring it is cheap whatever the text."""

import pytest
from graphql import build_schema, parse, validate

from sidemeter_control.api.bounds import MAX_ALIASES, MAX_DEPTH, MAX_PAGE, WithinBounds, page_size
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


@pytest.mark.parametrize("first", [0, -1, MAX_PAGE + 1])
def test_a_page_has_bounds(first: int) -> None:
    with pytest.raises(InvalidInput, match="first: must be from 1 to"):
        page_size(first)
