"""What a GraphQL request asks: read from a body, a query string or a message, its text found by its hash."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.bounds import MAX_BODY_BYTES, MAX_QUERY_CHARS, check_values
from sidemeter_control.api.persisted import Persisted, hash_in
from sidemeter_control.api.problems import Refused
from sidemeter_control.errors import InvalidInput

__all__ = ["Asked", "decoded", "read", "whole"]


T = TypeVar("T")


class Asked(msgspec.Struct, rename="camel"):
    """A GraphQL request. Its fractions are Decimals from the first byte on."""

    query: str | None = None
    variables: dict[str, Any] | None = None
    operation_name: str | None = None
    extensions: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Asked, float_hook=Decimal).decode
_decode_object = msgspec.json.Decoder(dict[str, Any] | None, float_hook=Decimal).decode


async def read(request: Request) -> Asked:
    """The request as it was sent, else Refused."""
    try:
        return decoded(await _body(request)) if request.method == "POST" else _in_query_string(request)
    except ValueError as exc:
        raise Refused(400, "malformed", f"not a GraphQL request in JSON: {exc}") from exc


def decoded(body: bytes) -> Asked:
    """The request in a body or message; ValueError says what is wrong with it."""
    asked: Asked = _in_json(_decode, body)
    if asked.query is None and not asked.extensions:
        raise ValueError("it has no `query`")
    return asked


def _in_json(decode: Callable[[bytes], T], text: bytes) -> T:
    try:
        return decode(text)
    except (msgspec.DecodeError, UnicodeError, ArithmeticError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def whole(asked: Asked, persisted: Persisted) -> Asked:
    """The request with its text, within its bounds; NotPersisted or InvalidInput.

    The latter when it names a text by a hash that is not known, or wrong, and when there is more of it than may be.
    """
    if len(asked.query or "") > MAX_QUERY_CHARS:
        raise InvalidInput("query", f"must have at most {MAX_QUERY_CHARS} characters")
    check_values(asked.variables)
    hashed = hash_in(asked.extensions)
    if hashed is None:
        return msgspec.structs.replace(asked, query=asked.query or "")
    return msgspec.structs.replace(asked, query=persisted.text(hashed, asked.query or None))


def _in_query_string(request: Request) -> Asked:
    parameters = request.query_params
    variables, extensions = (
        _in_json(_decode_object, (parameters.get(name) or "null").encode()) for name in ("variables", "extensions")
    )
    return Asked(
        parameters.get("query", None if extensions else ""), variables, parameters.get("operationName"), extensions
    )


async def _body(request: Request) -> bytes:
    media_type, _, _ = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "application/json":
        raise Refused(415, "unsupported_media_type", "send application/json")
    return await read_body(request, max_bytes=MAX_BODY_BYTES, max_decoded_bytes=MAX_BODY_BYTES)
