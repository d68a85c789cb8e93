"""The event: its rules, its identifiers and its form on the wire. Pure; the control plane validates the same.

An `Event` is checked when it is made (`Event.of`) and never again. What its maker left out (id, source, time) is
filled in once, when the agent accepts it; the result is encoded once, and those bytes travel unchanged from the
buffer to the control plane.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

import msgspec

from sidemeter.errors import InvalidInput

__all__ = [
    "Event",
    "Receipt",
    "check_name",
    "decode",
    "encode",
    "mint",
]

MAX_ID: Final = 256
MAX_SOURCE: Final = 256
MAX_TYPE: Final = 128
MAX_SUBJECT: Final = 256
MAX_DATA_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 16

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

_json: Final = msgspec.json.Encoder(decimal_format="number").encode


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One fact about one subject. Make it with `Event.of`, which checks every rule.

    The fields stand in the order of the wire. None for `id`, `source` or `time_us` (microseconds since 1970 UTC)
    means that the agent fills it in; `data` is the text of a JSON object, its numbers exact.
    """

    id: str | None
    source: str | None
    type: str
    subject: str
    time_us: int | None = None
    data: str | None = None

    @classmethod
    def of(
        cls,
        type: str,  # noqa: A002 -- the name the field has everywhere else
        subject: str,
        data: Mapping[str, object] | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- the name the field has everywhere else
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> "Event":
        """A checked event, or `InvalidInput` that names the field and its rule.

        `time` is an aware datetime or RFC 3339 text with an offset; digits beyond microseconds are cut off.

        >>> Event.of("llm.completion", "acme", {"tokens": 812}, time="2026-01-01T00:00:00Z")
        Event(id=None, source=None, type='llm.completion', subject='acme', time_us=1767225600000000, data='{"tokens":812}')
        >>> Event.of("", "acme")
        Traceback (most recent call last):
        sidemeter.errors.InvalidInput: type: must be 1 to 128 characters
        """
        check_name("type", type, MAX_TYPE)
        check_name("subject", subject, MAX_SUBJECT)
        if id is not None:
            check_name("id", id, MAX_ID)
        if source is not None:
            check_name("source", source, MAX_SOURCE)
        return cls(
            id,
            source,
            type,
            subject,
            None if time is None else _time_us(time),
            None if data is None else _data_text(data),
        )


class Receipt(msgspec.Struct, frozen=True):
    """What recording an event came to: it is on disk, here and now. With `duplicate`, its first copy is."""

    id: str
    source: str
    duplicate: bool = False
    durability: Literal["disk"] = "disk"


encode: Final[Callable[[Event], bytes]] = msgspec.msgpack.Encoder().encode
"""The wire form of an event that is filled in: the MessagePack array `[id, source, type, subject, time_us, data]`."""

decode: Final[Callable[[bytes], Event]] = msgspec.msgpack.Decoder(Event).decode
"""The event of a wire form that `encode` made."""


def mint(start: str) -> Callable[[], str]:
    """A source of fresh ids, `<start>-<n>`. `start` is made anew at every process start, so that a cloned directory
    never mints the same id twice.

    >>> next_id = mint("00112233445566ff")
    >>> next_id(), next_id()
    ('00112233445566ff-0000000001', '00112233445566ff-0000000002')
    """
    pattern = f"{start}-%010d"
    numbers = itertools.count(1)
    return lambda: pattern % next(numbers)


def check_name(field: str, value: object, longest: int) -> None:
    """Refuse a name that is not text of 1 to `longest` characters, free of NUL and of lone surrogates."""
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a string")
    if not 0 < len(value) <= longest:
        raise InvalidInput(field, f"must be 1 to {longest} characters")
    if "\0" in value:
        raise InvalidInput(field, "must not contain NUL")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidInput(field, "must not contain a lone surrogate")


def _time_us(time: object) -> int:
    if isinstance(time, str):
        time = _parse_time(time)
    if not isinstance(time, datetime):
        raise InvalidInput("time", "must be RFC 3339 text or a datetime")
    if time.utcoffset() is None:
        raise InvalidInput("time", "must have an offset from UTC")
    return (time - _EPOCH) // _MICROSECOND


def _parse_time(text: str) -> datetime:
    rule = "must be RFC 3339 with an offset, such as 2026-01-31T12:00:00Z"
    if not _RFC_3339.fullmatch(text):
        raise InvalidInput("time", rule)
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as exc:  # right in form, but a month 13 or a second 60
        raise InvalidInput("time", rule) from exc


def _data_text(data: object) -> str:
    """The object's JSON text. It is encoded first, and looked into only where the text gives a reason to."""
    if not isinstance(data, dict):
        if not isinstance(data, Mapping):
            raise InvalidInput("data", "must be an object")
        data = dict(data)
    try:
        encoded = _json(data)
    except RecursionError as exc:
        raise _too_deep() from exc
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidInput("data", f"must be JSON: {exc}") from exc
    if len(encoded) > MAX_DATA_BYTES:
        raise InvalidInput("data", f"must be at most {MAX_DATA_BYTES} bytes as JSON", code="too_large")
    text = encoded.decode()
    # The encoder writes float("nan") as null. A bracket or a null may also be harmless: either only makes us look.
    if text.count("{") + text.count("[") > MAX_DEPTH or "null" in text or "NaN" in text or "Infinity" in text:
        _look_into(msgspec.to_builtins(data, builtin_types=(Decimal,)), 1)
    return text


def _look_into(value: object, level: int) -> None:
    if isinstance(value, float | Decimal):
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            raise InvalidInput("data", "must not contain NaN or Infinity")
    elif isinstance(value, dict | list | tuple):
        if level > MAX_DEPTH:
            raise _too_deep()
        for inner in value.values() if isinstance(value, dict) else value:
            _look_into(inner, level + 1)


def _too_deep() -> InvalidInput:
    return InvalidInput("data", f"must not nest deeper than {MAX_DEPTH} levels", code="too_deep")
