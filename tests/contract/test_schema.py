"""The schema as it is printed: a change of the contract is a change of this file, and never of what clients rely on.

Write the snapshot anew with `python tests/contract/test_schema.py`.
"""

import os
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    print_ast,
    print_schema,
)
from graphql.utilities.get_default_value_ast import get_default_value_ast

from sidemeter_control.api.schema import SCHEMA

SNAPSHOT = Path(__file__).parent / "schema.graphql"
SHARED = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[3] / "shared"))
CONTRACT = SHARED / "design" / "schema.graphql"

# What the product has beyond the contract, whose types may grow.
GROWN = {
    "AuditEntry.actorName(): String",
    "Correction.actor(): ID!",
    "Correction.at(): DateTime!",
    "Correction.kind(): CorrectionKind!",
    "Correction.reason(): String!",
    "CorrectionKind.CORRECT",
    "CorrectionKind.VOID",
    "Event.corrections(): [Correction!]!",
    "GraphQLEnumType CorrectionKind",
    "GraphQLObjectType Correction",
    "Mutation.updateMeter(input: MeterInput!): Meter!",
    "DeadLetter.replayedAt(): DateTime",
    "DeadLetter.replayedBy(): ID",
    "Query.replayedDeadLetters(after: String, first: Int = 50): DeadLetterConnection!",
    "AgentStatus.lossDeclarations(): [LossDeclaration!]!",
    "GraphQLObjectType LossDeclaration",
    "GraphQLObjectType LossDeclarationConnection",
    "GraphQLObjectType LossDeclarationEdge",
    "LossDeclaration.agent(): ID!",
    "LossDeclaration.epoch(): Int!",
    "LossDeclaration.events(): Decimal",
    "LossDeclaration.firstRow(): Decimal!",
    "LossDeclaration.id(): ID!",
    "LossDeclaration.lastRow(): Decimal",
    "LossDeclaration.noticedAt(): DateTime!",
    "LossDeclaration.reason(): String!",
    "LossDeclaration.receivedAt(): DateTime!",
    "LossDeclarationConnection.edges(): [LossDeclarationEdge!]!",
    "LossDeclarationConnection.pageInfo(): PageInfo!",
    "LossDeclarationEdge.cursor(): String!",
    "LossDeclarationEdge.node(): LossDeclaration!",
    "Query.lossDeclarations(after: String, first: Int = 50): LossDeclarationConnection!",
}


def printed() -> str:
    return print_schema(SCHEMA._schema) + "\n"


def facts(schema: GraphQLSchema) -> set[str]:
    """Every name that a client can rely on, with its type, arguments and defaults, one line each."""
    return {fact for kind in schema.type_map.values() if not kind.name.startswith("__") for fact in facts_of(kind)}


def facts_of(kind: GraphQLNamedType) -> set[str]:
    match kind:
        case GraphQLObjectType():
            fields = {
                f"{kind}.{name}({', '.join(sorted(given(*arg) for arg in field.args.items()))}): {field.type}"
                for name, field in kind.fields.items()
            }
        case GraphQLInputObjectType():
            fields = {f"{kind}.{given(name, field)}" for name, field in kind.fields.items()}
        case GraphQLEnumType():
            fields = {f"{kind}.{name}" for name in kind.values}
        case _:
            fields = set()
    return {f"{type(kind).__name__} {kind}"} | fields


def given(name: str, value) -> str:
    default = get_default_value_ast(value)
    return f"{name}: {value.type}" + (f" = {print_ast(default)}" if default else "")


def test_the_schema_is_the_one_that_is_written_down() -> None:
    assert printed() == SNAPSHOT.read_text(), "run this file as a program if the change is meant"


def test_everything_in_it_is_in_the_contract_word_for_word_or_said_to_be_more() -> None:
    if not CONTRACT.exists():
        pytest.skip(f"the contract is not beside this clone: {CONTRACT}")
    extra = facts(build_schema(SNAPSHOT.read_text())) - facts(build_schema(CONTRACT.read_text()))
    assert sorted(extra) == sorted(GROWN)


def test_everything_in_it_is_described() -> None:
    undescribed = {
        str(kind)
        for kind in SCHEMA._schema.type_map.values()
        if not kind.name.startswith("__") and not kind.description and kind.name not in {"CustomerEdge", "EventEdge"}
    }
    assert undescribed == set()


if __name__ == "__main__":
    SNAPSHOT.write_text(printed())
