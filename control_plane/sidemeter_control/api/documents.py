"""Texts of GraphQL, each read and judged once: first whether it is within its bounds, then whether it fits the schema."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from graphql import DocumentNode, GraphQLError, GraphQLSchema, parse, specified_rules, validate
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document

from sidemeter_control.api.bounds import MAX_TOKENS, WithinBounds

__all__ = ["CACHED_QUERIES", "Judged", "faults", "parsed"]

CACHED_QUERIES: Final = 500
"""Distinct texts, not requests: a product asks the same few queries, with variables. A parsed one takes some 50 kB."""


@lru_cache(maxsize=CACHED_QUERIES)
def parsed(text: str) -> DocumentNode:
    """The document of a text; GraphQLError."""
    return parse(text, max_tokens=MAX_TOKENS)


@lru_cache(maxsize=CACHED_QUERIES)
def faults(schema: GraphQLSchema, document: DocumentNode) -> tuple[GraphQLError, ...]:
    """Why a document may not run; empty: it may.

    The standard rules compare each field with every other of its name, and fragments in pairs: they are for documents in
    which that is little, so bounds come first.
    """
    return tuple(
        validate(schema, document, [WithinBounds]) or validate_document(schema, document, tuple(specified_rules))
    )


class Judged(SchemaExtension):
    """Reads and judges what is executed, with what is remembered of texts."""

    def on_parse(self) -> Iterator[None]:
        """Read the text."""
        self.execution_context.graphql_document = parsed(self.execution_context.query or "")
        yield

    def on_validate(self) -> Iterator[None]:
        """Judge the document."""
        asked = self.execution_context
        assert asked.graphql_document is not None  # noqa: S101 -- it was read
        asked.pre_execution_errors = list(faults(asked.schema._schema, asked.graphql_document))  # noqa: SLF001
        yield
