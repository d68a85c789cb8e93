"""The GraphQL schema: types from their Python classes, words from their docstrings, bounds and caches on."""

import inspect
from collections.abc import Iterable

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    Undefined,
)
from strawberry.schema.config import StrawberryConfig

from sidemeter_control.api.mutations import Mutation
from sidemeter_control.api.queries import Query
from sidemeter_control.api.reach import guard
from sidemeter_control.api.scalars import SCALARS
from sidemeter_control.api.subscriptions import Subscription

__all__ = ["SCHEMA"]

_DEFINITION = "strawberry-definition"


class Schema(strawberry.Schema):
    """The schema of the contract. What is asked of it is judged and run by `documents` and `operations`."""

    def __init__(self) -> None:
        super().__init__(
            Query,
            Mutation,
            Subscription,
            config=StrawberryConfig(scalar_map=SCALARS),
        )
        for kind in self._schema.type_map.values():
            _finish(kind)
        guard(self._schema)


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
