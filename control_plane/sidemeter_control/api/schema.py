"""The GraphQL schema: types from their Python classes, words from their docstrings, bounds and caches on."""

import inspect
from collections.abc import Iterable

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    Undefined,
)
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from sidemeter_control.api.bounds import MAX_TOKENS, WithinBounds
from sidemeter_control.api.costs import Affordable
from sidemeter_control.api.mutations import Mutation
from sidemeter_control.api.queries import Query
from sidemeter_control.api.reach import guard
from sidemeter_control.api.scalars import SCALARS
from sidemeter_control.api.subscriptions import Subscription

__all__ = ["CACHED_QUERIES", "SCHEMA"]

# Distinct texts, not requests: a product asks the same few queries, with variables. A parsed one takes some 50 kB.
CACHED_QUERIES = 500

_DEFINITION = "strawberry-definition"


class Schema(strawberry.Schema):
    """The schema of the contract. Errors are logged where they are answered, and only the unexpected ones."""

    def __init__(self) -> None:
        # The validation cache tells rules apart by identity: the class is one, the extension is new per request.
        super().__init__(
            Query,
            Mutation,
            Subscription,
            config=StrawberryConfig(scalar_map=SCALARS),
            extensions=[
                lambda: MaxTokensLimiter(MAX_TOKENS),
                lambda: AddValidationRules([WithinBounds]),
                lambda: ParserCache(maxsize=CACHED_QUERIES),
                lambda: ValidationCache(maxsize=CACHED_QUERIES),
                Affordable,
            ],
        )
        for kind in self._schema.type_map.values():
            _finish(kind)
        guard(self._schema)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Leave the errors to `refusals.formatted`."""


def _finish(kind: GraphQLNamedType) -> None:
    """Describe a type and its fields by their docstrings, and show an optional input without a `= null`."""
    definition = kind.extensions.get(_DEFINITION)
    if isinstance(kind, GraphQLEnumType) and definition:
        kind.description = kind.description or inspect.getdoc(definition.wrapped_cls)
    elif isinstance(kind, GraphQLInputObjectType) and definition:
        kind.description = kind.description or inspect.getdoc(definition.origin)
        _omit_null_defaults(kind.fields.values())
    elif isinstance(kind, GraphQLObjectType) and definition:
        kind.description = kind.description or inspect.getdoc(definition.origin)
        for field in kind.fields.values():
            _describe(field)
            _omit_null_defaults(field.args.values())


def _describe(field: GraphQLField) -> None:
    resolver = field.extensions[_DEFINITION].base_resolver
    if resolver and not field.description:
        field.description = inspect.getdoc(resolver.wrapped_func)


def _omit_null_defaults(inputs: Iterable[GraphQLArgument | GraphQLInputField]) -> None:
    for each in inputs:
        if each.default_value is None:
            each.default_value = Undefined


SCHEMA = Schema()
