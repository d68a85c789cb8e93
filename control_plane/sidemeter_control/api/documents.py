"""Texts of GraphQL, each read and judged once: first whether it is within its bounds, then whether it fits the schema."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from graphql import DocumentNode, Executor, GraphQLError, parse, specified_rules, validate
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import validate_document

from sidemeter_control.api.bounds import MAX_TOKENS, WithinBounds
from sidemeter_control.api.costs import cost_of, operation_of, too_dear
from sidemeter_control.api.requests import Asked
from sidemeter_control.api.schema import SCHEMA

__all__ = ["CACHED_QUERIES", "Operation", "parsed", "ready"]

CACHED_QUERIES: Final = 500
"""Distinct texts, not requests: a product asks the same few queries, with variables. A parsed one takes some 50 kB."""

Operation: TypeAlias = Executor[Any]
"""What one request asks for, with its variables, before it has a context."""

_schema = SCHEMA._schema  # noqa: SLF001 -- strawberry has no other name for it


@lru_cache(maxsize=CACHED_QUERIES)
def parsed(text: str) -> DocumentNode:
    """The document of a text; GraphQLError."""
    return parse(text, max_tokens=MAX_TOKENS)


@lru_cache(maxsize=CACHED_QUERIES)
def _judged(text: str) -> DocumentNode | tuple[GraphQLError, ...]:
    """The document of a text, or why it may not run.

    The standard rules compare each field with every other of its name, and fragments in pairs: they are for documents in
    which that is little, so bounds come first.
    """
    document = parsed(text)
    faults = validate(_schema, document, [WithinBounds]) or validate_document(_schema, document, tuple(specified_rules))
    return tuple(faults) or document


@lru_cache(maxsize=CACHED_QUERIES)
def _cost(text: str, name: str | None, sizes: frozenset[tuple[str, int]]) -> int:
    document = parsed(text)
    operation = operation_of(document, name)
    assert operation is not None  # noqa: S101 -- it is valid
    return cost_of(_schema, document, operation, dict(sizes))


def ready(asked: Asked) -> Operation | tuple[GraphQLError, ...]:
    """What is asked for, valid and not too dear, or why it does not run.

    Strawberry makes the schema and graphql-core runs it: between the two stand hooks for extensions, which are more work than
    the answer to a small question.
    """
    if not asked.query:
        return (GraphQLError("there is no query in the request"),)
    try:
        return _ready(asked.query, asked.operation_name or None, asked.variables or {})
    except GraphQLError as exc:
        return (exc,)
    except Exception as exc:  # noqa: BLE001 -- too deep for a library, or a mistake: answered as a resolver's is
        return (GraphQLError(str(exc), original_error=exc),)


def _ready(text: str, name: str | None, variables: Mapping[str, Any]) -> Operation | tuple[GraphQLError, ...]:
    document = _judged(text)
    if not isinstance(document, DocumentNode):
        return document
    operation = Executor.build(
        _schema,
        document,
        raw_variable_values=dict(variables),
        operation_name=name,
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]  # declared to return a bool
    )
    if not isinstance(operation, Executor):
        return tuple(operation)
    sizes = frozenset((of, size) for of, size in variables.items() if isinstance(size, int))
    refusal = too_dear(_cost(text, name, sizes))
    return operation if refusal is None else (refusal,)
