"""How large a GraphQL request may be (P13). Each bound is named in the refusal."""

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
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
    "MAX_DEPTH",
    "MAX_PAGE",
    "MAX_TOKENS",
    "WithinBounds",
    "page_size",
]

# The deepest useful query, customers → cost → lines → explain → event, is 9 levels deep.
MAX_DEPTH = 12
# Aliases repeat a field, and its work, within one request.
MAX_ALIASES = 30
# The largest query of the standard introspection is about 300 tokens; parsing costs about 1 µs a token.
MAX_TOKENS = 2_000
# A thousand events of a kilobyte in one `ingest`; more belongs in POST /v1/events.
MAX_BODY_BYTES = 1024 * 1024
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


class WithinBounds(ValidationRule):
    """No operation is deeper than MAX_DEPTH or has more than MAX_ALIASES aliases, fragments spread out.

    Each fragment is measured once, however often it is spread: measuring every spread anew would let a page of text
    with fragments that double each other cost 2^100 steps.
    """

    def enter_document(self, document: DocumentNode, *_: Any) -> None:
        """Measure every operation; fields and aliases of a fragment count wherever it is spread."""
        sizes = _Sizes(self.context)
        for operation in document.definitions:
            if isinstance(operation, OperationDefinitionNode):
                depth, aliases = sizes.of(operation.selection_set)
                if depth > MAX_DEPTH:
                    self.report_error(GraphQLError(f"nested {depth} levels deep; {MAX_DEPTH} are allowed", operation))
                if aliases > MAX_ALIASES:
                    self.report_error(GraphQLError(f"{aliases} aliases; {MAX_ALIASES} are allowed", operation))


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
                # Introspection nests ofType deeply by design and has a bound of its own in the standard rules.
                inner_depth, inner_aliases = self.of(None if node.name.value.startswith("__") else node.selection_set)
                inner_depth, inner_aliases = inner_depth + 1, inner_aliases + (node.alias is not None)
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
