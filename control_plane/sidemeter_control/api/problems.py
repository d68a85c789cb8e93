"""Refusals of a whole HTTP request, as RFC 9457 problems: what every door answers instead of what was asked."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sidemeter_control.errors import (
    ArchiveUnavailable,
    Busy,
    Conflict,
    ControlError,
    Forbidden,
    InvalidInput,
    NotFound,
    RateLimited,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
)

__all__ = ["PROBLEM_HANDLERS", "Problem", "Refused", "answer_problem", "problem"]

MEDIA_TYPE = "application/problem+json"

_STATUS: Mapping[type[ControlError], tuple[int, Mapping[str, str]]] = {
    InvalidInput: (400, {}),
    Unauthenticated: (401, {"WWW-Authenticate": "Bearer"}),
    Forbidden: (403, {}),
    NotFound: (404, {}),
    Conflict: (409, {}),
    RateLimited: (429, {}),
    ArchiveUnavailable: (503, {}),
    Busy: (503, {"Retry-After": "1"}),
    StoreUnavailable: (503, {"Retry-After": "1"}),
}


class Problem(msgspec.Struct, frozen=True):
    """The body of a refusal; `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class Refused(Exception):
    """A request that never reaches a verb: too large, not the form it says, the wrong method."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response = problem(status, code, detail, headers)


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response that says so."""
    body = Problem(f"urn:sidemeter:problem:{code}", HTTPStatus(status).phrase, status, detail, code)
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


async def answer_problem(_: Request, exc: Exception) -> Response:
    """The answer to an error that ends a request; any other error is raised again."""
    match exc:
        case Refused():
            return exc.response
        case HTTPException():
            return problem(exc.status_code, HTTPStatus(exc.status_code).name.lower(), exc.detail, exc.headers)
        case TooManyAttempts():
            return problem(429, exc.code.lower(), str(exc), {"Retry-After": str(exc.wait_s)})
        case ControlError():
            status, headers = next((_STATUS[kind] for kind in type(exc).__mro__ if kind in _STATUS), (500, {}))
            if isinstance(exc, RateLimited):
                headers = {"Retry-After": str(exc.retry_after_s)}
            return problem(status, exc.code.lower(), str(exc), headers)
    raise exc


PROBLEM_HANDLERS = dict.fromkeys((Refused, HTTPException, ControlError), answer_problem)
"""What `Starlette(exception_handlers=...)` takes."""
