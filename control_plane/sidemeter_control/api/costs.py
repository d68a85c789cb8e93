"""What a GraphQL operation may cost, reckoned before it runs: objects that it may answer, and the work behind some of them.

Depth, aliases and tokens do not bound it: three levels of pages of 200 are eight million objects.
"""

from collections.abc import Mapping
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SchemaMetaFieldDef,
    SelectionSetNode,
    TypeMetaFieldDef,
    VariableNode,
    get_named_type,
    get_nullable_type,
)

from sidemeter_control.api.bounds import DEFAULT_PAGE, MAX_PAGE

__all__ = ["LIST", "MAX_COST", "WORK", "cost_of", "operation_of", "too_dear"]

MAX_COST: Final = 100_000
"""The deepest useful query, each customer's bill down to the events, costs 64,000 with pages of 50. One is some 20 µs."""

LIST: Final = 10
"""What a list without pages is taken for: most have fewer elements."""

WORK: Final[Mapping[str, int]] = {
    "Customer.cost": 20,
    "Customer.quota": 10,
    "Customer.quotas": 20,
    "Customer.budgets": 20,
    "Customer.credits": 20,
    "Customer.usage": 50,
    "Customer.forecast": 2_500,
    "Query.usage": 50,
    "Query.simulate": 5_000,
    "CostLine.explain": 20,
    "Quota.graceEndsAt": 10,
    "Mutation.moveSubscribers": 5_000,
}
"""Objects' worth of work behind a field, where it is more than reading one."""

_META: Final[Mapping[str, GraphQLField]] = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef}

_DESCRIBED: Final = 25
"""What an object of introspection costs: the question that every tool asks, of 3,300 of them, is the largest to be answered."""

_LENGTHS: Final[Mapping[str, int]] = {
    "__Schema.directives": 5,
    "__Type.enumValues": 1,
    "__Type.fields": 4,
    "__Type.inputFields": 2,
    "__Type.interfaces": 1,
    "__Type.possibleTypes": 1,
    "__Field.args": 1,
    "__Directive.args": 1,
}
"""How long the lists of introspection are on average."""


def cost_of(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> int:
    """What the operation costs at most, with these variables. Each fragment is reckoned once, however often it is spread."""
    root = schema.get_root_type(operation.operation)
    defaults = {
        each.variable.name.value: int(each.default_value.value)
        for each in operation.variable_definitions or ()
        if isinstance(each.default_value, IntValueNode)
    }
    reckoning = _Reckoning(schema, document, defaults | dict(variables))
    return 0 if root is None else reckoning.selected(operation.selection_set, root)


def too_dear(cost: int) -> GraphQLError | None:
    """The refusal of an operation that costs more than MAX_COST."""
    if cost <= MAX_COST:
        return None
    return GraphQLError(f"costs {cost}, and {MAX_COST} are allowed: ask for smaller pages (first), or less at once")


def operation_of(document: DocumentNode, name: str | None) -> OperationDefinitionNode | None:
    """The operation of that name, or the only one; None when that is not one."""
    found = [
        each
        for each in document.definitions
        if isinstance(each, OperationDefinitionNode) and (not name or (each.name and each.name.value == name))
    ]
    return found[0] if len(found) == 1 else None


class _Reckoning:
    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema, self._variables = schema, variables
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._known: dict[str, int] = {}

    def selected(self, selections: SelectionSetNode | None, of: GraphQLObjectType) -> int:
        return sum(self._node(node, of) for node in selections.selections) if selections else 0

    def _node(self, node: Any, of: GraphQLObjectType) -> int:
        match node:
            case FieldNode():
                return self._field(node, of)
            case FragmentSpreadNode():
                return self._fragment(node.name.value)
            case InlineFragmentNode():
                return self.selected(node.selection_set, of)
        return 0

    def _fragment(self, name: str) -> int:
        if name not in self._known:
            fragment = self._fragments[name]
            on = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name] = self.selected(fragment.selection_set, on) if isinstance(on, GraphQLObjectType) else 0
        return self._known[name]

    def _field(self, node: FieldNode, of: GraphQLObjectType) -> int:
        field = of.fields.get(node.name.value) or _META.get(node.name.value)
        if field is None:  # __typename
            return 0
        work = WORK.get(f"{of.name}.{node.name.value}", 0)
        answered = get_named_type(field.type)
        if not isinstance(answered, GraphQLObjectType):
            return work
        if answered.name.startswith("__"):
            return self._described(node, of) + self._lengths(node, of) * self.selected(node.selection_set, answered)
        return work + self._times(node, field, of) * (1 + self.selected(node.selection_set, answered))

    def _lengths(self, node: FieldNode, of: GraphQLObjectType) -> int:
        name = f"{of.name}.{node.name.value}"
        return len(self._schema.type_map) if name == "__Schema.types" else _LENGTHS.get(name, 1)

    def _described(self, node: FieldNode, of: GraphQLObjectType) -> int:
        """Few types are of a type, however deep it is asked for."""
        return 0 if node.name.value == "ofType" else _DESCRIBED * self._lengths(node, of)

    def _times(self, node: FieldNode, field: GraphQLField, of: GraphQLObjectType) -> int:
        if "first" in field.args:
            return self._first(node)
        is_list = isinstance(get_nullable_type(field.type), GraphQLList)
        return LIST if is_list and not of.name.endswith("Connection") else 1

    def _first(self, node: FieldNode) -> int:
        """As it is given, within what a page may have at all; what is no number is refused elsewhere."""
        value = next((each.value for each in node.arguments or () if each.name.value == "first"), None)
        given: Any = DEFAULT_PAGE
        if isinstance(value, IntValueNode):
            given = int(value.value)
        elif isinstance(value, VariableNode):
            given = self._variables.get(value.name.value)
        return min(max(given, 1), MAX_PAGE) if isinstance(given, int) else DEFAULT_PAGE
