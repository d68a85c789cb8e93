"""What an operation costs is reckoned before it runs, from the pages it asks for and the work behind its fields."""

import time
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, get_introspection_query, parse
from planes import plane

from sidemeter_control.api.bounds import DEFAULT_PAGE, MAX_PAGE
from sidemeter_control.api.costs import LIST, MAX_COST, WORK, cost_of, operation_of, too_dear
from sidemeter_control.api.schema import SCHEMA


def cost(text: str, name: str | None = None, **variables: Any) -> int:
    document = parse(text)
    operation = operation_of(document, name)
    assert operation is not None
    return cost_of(SCHEMA._schema, document, operation, variables)


COST = WORK["Customer.cost"]
DESCRIBED = 25  # an object of introspection


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{ __typename }", 0),
        ('{ __type(name: "Meter") { name } }', DESCRIBED),
        ('{ __type(name: "Meter") { fields { name } } }', DESCRIBED * (1 + 4)),
        ("{ __schema { types { name } } }", DESCRIBED * (1 + len(SCHEMA._schema.type_map))),
        (
            "{ __schema { directives { args { type { ofType { ofType { name } } } } } } }",
            DESCRIBED * (1 + 5 * (1 + 1 + 1)),
        ),
        ('{ meter(key: "k") { key name } }', 1),
        ('{ a: meter(key: "k") { key } b: meter(key: "k") { key } }', 2),
        ("{ meters { key } }", LIST),
        ("{ meters { groupBy { key } } }", LIST * (1 + LIST)),
        ("{ customers { edges { node { key } } } }", DEFAULT_PAGE * (1 + 1 + 1)),
        ("{ customers(first: 7) { edges { node { key } } } }", 7 * 3),
        ("{ customers(first: null) { edges { node { key } } } }", DEFAULT_PAGE * 3),
        ("{ customers(first: 0) { edges { node { key } } } }", 3),
        ("{ customers(first: 100000) { edges { node { key } } } }", MAX_PAGE * 3),
        ("{ customers(first: 2) { edges { node { cost { total { amount } } } } } }", 2 * (3 + COST + 2)),
        (
            "{ customers(first: 2) { ...f } } fragment f on CustomerConnection { edges { ... on CustomerEdge { cursor } } }",
            4,
        ),
        ("{ customers(first: 2) { edges { ... { cursor } } } }", 4),
        ('mutation { removeBudget(key: "k") }', 0),
        ('mutation { createFeature(input: {key: "k"}) { key } }', 1),
        ('subscription { costChanged(customer: "c") { lines { charge } } }', 1 + LIST),
    ],
)
def test_an_operation_costs_what_it_may_answer_and_the_work_behind_it(text: str, expected: int) -> None:
    assert cost(text) == expected


PAGE = "query($n: Int) { customers(first: $n) { edges { node { key } } } }"


@pytest.mark.parametrize(("variables", "expected"), [({"n": 3}, 9), ({"n": None}, 150), ({}, 150), ({"n": "x"}, 150)])
def test_the_size_of_a_page_may_be_a_variable(variables: dict[str, Any], expected: int) -> None:
    assert cost(PAGE, **variables) == expected


def test_only_the_operation_that_is_asked_for_counts() -> None:
    text = "query A { meters { key } } query B { __typename }"
    assert (cost(text, "A"), cost(text, "B")) == (LIST, 0)
    assert operation_of(parse(text), None) is None


def test_fragments_that_double_each_other_are_reckoned_at_once() -> None:
    doubling = " ".join(f"fragment f{n} on Meter {{ ...f{n + 1} ...f{n + 1} }}" for n in range(100))
    began_s = time.monotonic()
    assert cost(f"{{ meters {{ ...f0 }} }} {doubling} fragment f100 on Meter {{ groupBy {{ key }} }}") > 2**100
    assert time.monotonic() - began_s < 10


def test_every_field_that_has_work_behind_it_is_one_of_the_schema() -> None:
    for name in WORK:
        owner, _, field = name.partition(".")
        assert field in SCHEMA._schema.type_map[owner].fields, name


BILLS = "customers(first: {first}) {{ edges {{ node {{ cost {{ lines {{ explain {{ edges {{ node {{ id }} }} }} }} }} }} }} }}"
# Each would answer, or do, far more than anybody can take.
BOMBS = {
    "pages of pages": "{ customers(first: 200) { edges { node { cost { lines { explain(first: 200) { edges { node { id } } } } } } } } }",
    "the same again under other names": "{" + " ".join(f"b{n}: {BILLS.format(first=50)}" for n in range(5)) + "}",
    "by fragments": "{ customers(first: 200) { edges { node { ...a ...b } } } } fragment a on Customer { c: cost { ...l } }"
    " fragment b on Customer { d: cost { ...l } } fragment l on Cost { lines { explain(first: 200) { edges { node { id } } } } }",
    "by a variable": "query($n: Int = 200) { customers(first: $n) { edges { node { cost { lines { explain(first: $n)"
    " { edges { node { id } } } } } } } } }",
    "simulations": "{"
    + " ".join(
        f's{n}: simulate(plan: {{key: "k", currency: "EUR", charges: []}}, from: "2026-01-01T00:00:00Z",'
        ' to: "2026-02-01T00:00:00Z") { total { amount } }'
        for n in range(25)
    )
    + "}",
}


@pytest.mark.parametrize("what", BOMBS)
async def test_a_query_that_costs_too_much_is_refused_before_it_runs(tmp_path: Path, what: str) -> None:
    async with plane(tmp_path) as control:
        error = await control.refusal(BOMBS[what])
        assert error["extensions"] == {"code": "INVALID_QUERY"}
        assert f"and {MAX_COST} are allowed" in error["message"]


def test_the_introspection_that_tools_ask_for_is_allowed_and_twice_as_much_is_not() -> None:
    text = get_introspection_query(schema_description=True, specified_by_url=True, input_value_deprecation=True)
    assert MAX_COST / 2 < cost(text) <= MAX_COST


async def test_the_deepest_useful_query_may_be_asked(tmp_path: Path) -> None:
    text = f"{{ {BILLS.format(first=50)} }}"
    assert MAX_COST / 2 < cost(text) <= MAX_COST
    async with plane(tmp_path) as control:
        assert await control.ask(text) == {"customers": {"edges": []}}


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_as_much_as_may_be_is_let_in_and_one_more_is_not(more: int) -> None:
    schema = build_schema("type Query { many(first: Int): Many, one: One } type Many { one: One } type One { id: ID }")
    wanted = MAX_COST + more
    pages, ones = divmod(wanted, MAX_PAGE * 2)
    text = "{" + f" many(first: {MAX_PAGE}) {{ one {{ id }} }}" * pages + " one { id }" * ones + "}"
    document = parse(text)
    operation = operation_of(document, None)
    assert operation is not None
    cost = cost_of(schema, document, operation, {})
    assert cost == wanted
    assert (too_dear(cost) is None) is (more <= 0)
