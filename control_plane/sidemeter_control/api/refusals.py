"""What a caller sees of an error in GraphQL: expected ones by their code, unexpected ones by an id that is in the log."""

import logging
from typing import Any, Final

from graphql import GraphQLError

from sidemeter_control.api.scalars import Unfit
from sidemeter_control.clock import Clock
from sidemeter_control.errors import ControlError, InvalidInput, RateLimited

__all__ = ["INTERNAL", "INVALID_QUERY", "MAX_MESSAGE_CHARS", "Failed", "formatted", "of"]

INVALID_QUERY = "INVALID_QUERY"
"""The document or its variables do not fit the schema, or exceed a bound."""

INTERNAL = "INTERNAL"
"""Our fault. `extensions.id` is in the log, beside what happened."""

MAX_MESSAGE_CHARS: Final = 1_000
"""Libraries quote what was asked, which may be a whole text."""

_log = logging.getLogger(__name__)


class Failed(Exception):
    """A fault of ours that is in the log, under `incident`."""

    def __init__(self, incident: str) -> None:
        super().__init__(f"something failed on our side; its id is {incident}")
        self.incident = incident


def of(cause: Exception, clock: Clock) -> dict[str, Any]:
    """The error as the response shows it, of something that is not about one place of the document."""
    return formatted(GraphQLError(str(cause), original_error=cause), clock)


def formatted(error: GraphQLError, clock: Clock) -> dict[str, Any]:
    """The error as the response shows it: `message`, `locations`, `path`, `extensions.code`, and `field` where known."""
    shown: dict[str, Any] = {"message": _short(error.message)}
    if error.locations:
        shown["locations"] = [{"line": each.line, "column": each.column} for each in error.locations]
    if error.path:
        shown["path"] = error.path
    match _cause(error):
        case None | Unfit():
            shown["extensions"] = {"code": INVALID_QUERY}
        case InvalidInput() as cause:
            shown["extensions"] = {"code": cause.code, "field": cause.field}
        case RateLimited() as cause:
            shown["extensions"] = {"code": cause.code, "retryAfterSeconds": cause.retry_after_s}
        case ControlError() as cause:
            shown["extensions"] = {"code": cause.code}
        case Failed() as cause:
            shown["extensions"] = {"code": INTERNAL, "id": cause.incident}
        case RecursionError():
            shown |= {"message": "nested too deeply", "extensions": {"code": INVALID_QUERY}}
        case cause:
            incident = clock.new_id("err")
            _log.error(
                "%s: a GraphQL field failed at %s",
                incident,
                error.path,
                exc_info=cause,
                extra={"incident_id": incident},
            )
            shown |= {
                "message": f"something failed on our side; its id is {incident}",
                "extensions": {"code": INTERNAL, "id": incident},
            }
    return shown


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


def _cause(error: GraphQLError) -> Exception | None:
    """What a resolver raised, under as many GraphQL errors as the libraries wrapped it in; None for their own."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause
