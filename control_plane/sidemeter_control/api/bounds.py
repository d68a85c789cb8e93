"""How large a GraphQL request may be (P13). Each bound is named in the refusal."""

from collections.abc import Iterator
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

from sidemeter_control.errors import InvalidInput

__all__ = [
    "DEFAULT_PAGE",
    "MAX_ALIASES",
    "MAX_BODY_BYTES",
    "MAX_DEFINITIONS",
    "MAX_DEPTH",
    "MAX_FIELDS",
    "MAX_NUMBER_CHARS",
    "MAX_PAGE",
    "MAX_QUERY_CHARS",
    "MAX_REPEATS",
    "MAX_SPREADS",
    "MAX_TOKENS",
    "MAX_VALUES",
    "WithinBounds",
    "check_values",
    "page_size",
]

# The deepest useful query, customers → cost → lines → explain → event, is 9 levels deep.
MAX_DEPTH = 12
# Aliases repeat a field, and its work, within one request.
MAX_ALIASES = 30
# The largest query of the standard introspection is about 300 tokens; parsing costs about 1 µs a token.
MAX_TOKENS = 2_000
# Long tokens are read character by character. What is long belongs in variables.
MAX_QUERY_CHARS = 64 * 1024
# Operations and fragments of one text: each rule looks at each of them.
MAX_DEFINITIONS = 50
# Fragments that are spread in one place are compared in pairs.
MAX_SPREADS = 50
# A field of the same name in the same place is compared with each before it, and so is what both select.
MAX_REPEATS = 20
# Beyond what any scalar takes, and what Python makes a number of in no time.
MAX_NUMBER_CHARS = 1_000
# A thousand events of a kilobyte in one `ingest`; more belongs in POST /v1/events.
MAX_BODY_BYTES = 1024 * 1024
# A thousand events of a dozen values each; each value is looked at by the rules of its type, some 5 µs.
MAX_VALUES = 12_500
# An object that does not fit is shown whole in as many errors as it has unknown fields, up to 50.
MAX_FIELDS = 1_000
MAX_PAGE = 200
DEFAULT_PAGE = 50


def page_size(first: int | None) -> int:
    """How many elements a page has, else InvalidInput; null is the default.

    >>> page_size(None)
    50
    """
    if first is None:
        return DEFAULT_PAGE
    if not 1 <= first <= MAX_PAGE:
        raise InvalidInput("first", f"must be from 1 to {MAX_PAGE}")
    return first


def check_values(variables: object) -> None:
    """InvalidInput when the variables of a request are more than MAX_VALUES values, or an object of MAX_FIELDS fields."""
    left, waiting = MAX_VALUES, [variables]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            if len(inner) > MAX_FIELDS:
                raise InvalidInput("variables", f"must have no object of more than {MAX_FIELDS} fields")
            inner = inner.values()
        elif not isinstance(inner, list):
            continue
        left -= len(inner)
        if left < 0:
            raise InvalidInput("variables", f"must have at most {MAX_VALUES} values")
        waiting.extend(inner)


class WithinBounds(ValidationRule):
    """A document is no more work to judge than its bounds say; no operation is deeper than MAX_DEPTH, and so on.

    Each fragment is measured once, however often it is spread: measuring every spread anew would let a page of text
    with fragments that double each other cost 2^100 steps.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._repeats = self._spreads = 0

    def enter_document(self, document: DocumentNode, *_: Any) -> None:
        """Measure every operation; fields and aliases of a fragment count wherever it is spread."""
        if len(document.definitions) > MAX_DEFINITIONS:
            self._refuse(f"{len(document.definitions)} operations and fragments", MAX_DEFINITIONS)
        sizes = _Sizes(self.context)
        for operation in document.definitions:
            if isinstance(operation, OperationDefinitionNode):
                depth, aliases = sizes.of(operation.selection_set)
                if depth > MAX_DEPTH:
                    self.report_error(GraphQLError(f"nested {depth} levels deep; {MAX_DEPTH} are allowed", operation))
                if aliases > MAX_ALIASES:
                    self.report_error(GraphQLError(f"{aliases} aliases; {MAX_ALIASES} are allowed", operation))

    def enter_selection_set(self, selections: SelectionSetNode, _key: object, parent: object, *_: Any) -> None:
        """Count the fields that are in the same place again, those of inline fragments with it."""
        if not isinstance(parent, InlineFragmentNode):
            names = list(_names(selections))
            self._repeats += len(names) - len(set(names))

    def enter_fragment_spread(self, *_: Any) -> None:
        """Count it."""
        self._spreads += 1

    def leave_document(self, *_: Any) -> None:
        """Say what was too much."""
        if self._repeats > MAX_REPEATS:
            self._refuse(f"{self._repeats} fields again", MAX_REPEATS)
        if self._spreads > MAX_SPREADS:
            self._refuse(f"{self._spreads} fragments spread", MAX_SPREADS)

    def enter_int_value(self, node: IntValueNode, *_: Any) -> None:
        """Refuse a number that nothing takes."""
        self._number(node.value)

    def enter_float_value(self, node: FloatValueNode, *_: Any) -> None:
        """Refuse a number that nothing takes."""
        self._number(node.value)

    def _number(self, text: str) -> None:
        if len(text) > MAX_NUMBER_CHARS:
            self._refuse(f"a number of {len(text)} characters", MAX_NUMBER_CHARS)

    def _refuse(self, what: str, allowed: int) -> None:
        self.report_error(GraphQLError(f"{what}; {allowed} are allowed"))


def _names(selections: SelectionSetNode) -> Iterator[str]:
    """The names under which fields are answered in one place, but for what fragments of a name add."""
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield (node.alias or node.name).value
        elif isinstance(node, InlineFragmentNode):
            yield from _names(node.selection_set)


class _Sizes:
    """Depth and aliases of selections, with a memory of the fragments already measured."""

    def __init__(self, context: ValidationContext) -> None:
        self._context = context
        self._fragments: dict[str, tuple[int, int]] = {}

    def of(self, selections: SelectionSetNode | None) -> tuple[int, int]:
        depth = aliases = 0
        for node in selections.selections if selections else ():
            if isinstance(node, FragmentSpreadNode):
                inner_depth, inner_aliases = self._fragment(node.name.value)
            elif isinstance(node, FieldNode):
                inner_depth, inner_aliases = self.of(node.selection_set)
                # Introspection nests ofType deeply by design and has a bound of its own in the standard rules.
                inner_depth = 1 if node.name.value.startswith("__") else inner_depth + 1
                inner_aliases += node.alias is not None
            else:
                inner_depth, inner_aliases = self.of(getattr(node, "selection_set", None))
            depth, aliases = max(depth, inner_depth), aliases + inner_aliases
        return depth, aliases

    def _fragment(self, name: str) -> tuple[int, int]:
        if name not in self._fragments:
            self._fragments[name] = (0, 0)  # a cycle ends here; another rule refuses it
            fragment: FragmentDefinitionNode | None = self._context.get_fragment(name)
            self._fragments[name] = self.of(fragment.selection_set if fragment else None)
        return self._fragments[name]
