"""The event: its rules, and its form on the wire between agent and control plane. Pure rules, no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import msgspec

from sidemeter_control.errors import InvalidInput

__all__ = [
    "FIRST_US",
    "LAST_US",
    "MAX_DATA_BYTES",
    "MAX_DEPTH",
    "MAX_ID",
    "MAX_SUBJECT",
    "MAX_TYPE",
    "Arrived",
    "BadEvent",
    "Data",
    "Event",
    "Unreadable",
    "array_length",
    "check",
    "check_fields",
    "json_of",
    "parse_data",
    "parse_time",
    "read_array",
    "read_event",
]

MAX_ID = 256  # and the source
MAX_TYPE = 128
MAX_SUBJECT = 256
MAX_DATA_BYTES = 64 * 1024
MAX_DEPTH = 16

# The years 1 to 9999, which is what a calendar can show.
FIRST_US = -62_135_596_800_000_000
LAST_US = 253_402_300_799_999_999

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_LONGEST = {"id": MAX_ID, "source": MAX_ID, "type": MAX_TYPE, "subject": MAX_SUBJECT}

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
_Type = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TYPE)]
_Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SUBJECT)]
_Time = Annotated[int, msgspec.Meta(ge=FIRST_US, le=LAST_US)]


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One fact about one subject. The fields stand in the order of the wire.

    `time_us` is microseconds since 1970 (UTC); `data` the text of a JSON object, its numbers exact.
    """

    id: _Id
    source: _Id
    type: _Type
    subject: _Subject
    time_us: _Time
    data: str | None = None


class BadEvent(InvalidInput):
    """An event breaks a rule; `code` is `invalid_input`, `too_large` or `too_deep`."""

    def __init__(self, field: str, rule: str, code: str = "invalid_input") -> None:
        super().__init__(field, rule)
        self.code = code


Data: TypeAlias = Mapping[str, object]
"""What an event's `data` says, fractions as Decimals; empty when it has none. Shared, so never changed."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An element of an array that is no event: its place, its bytes, and the rule that it breaks.

    Of a letter, the bytes are those that its agent put into it: an event that was refused whenever it came as one.
    """

    index: int
    raw: bytes
    error: BadEvent


@dataclass(frozen=True, slots=True)
class Arrived:
    """The events of an array that keep every rule, each with its parsed data, in order; and the other elements."""

    events: list[Event]
    data: list[Data]
    unreadable: list[Unreadable]


_NO_DATA: Data = MappingProxyType({})
_parse = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_decode = msgspec.msgpack.Decoder(Event).decode
_decode_all = msgspec.msgpack.Decoder(list[Event]).decode
_decode_letter = msgspec.msgpack.Decoder(tuple[bytes, str]).decode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_BAD_BYTES = (msgspec.DecodeError, UnicodeError, RecursionError)


def read_array(raw: bytes) -> Arrived:
    """The events of a MessagePack array of them. BadEvent when it is no array; one bad element spoils no other.

    >>> read_array(b"\\x91\\x01").unreadable[0].error.rule
    'must be an array of id, source, type, subject, time and data: Expected `array`, got `int`'
    """
    try:
        events = _decode_all(raw)
        return Arrived(events, [check(event) for event in events], [])
    except (*_BAD_BYTES, BadEvent):
        return _read_each(raw)


def _read_each(raw: bytes) -> Arrived:
    try:
        elements = _split(raw)
    except _BAD_BYTES as exc:
        raise BadEvent("events", f"must be an array in MessagePack: {exc}") from exc
    arrived = Arrived([], [], [])
    for index, element in enumerate(elements):
        try:
            event, data = read_event(element)
        except BadEvent as exc:
            arrived.unreadable.append(_letter(index, element) or Unreadable(index, bytes(element), exc))
        else:
            arrived.events.append(event)
            arrived.data.append(data)
    return arrived


def _letter(index: int, element: msgspec.Raw) -> Unreadable | None:
    try:
        raw, reason = _decode_letter(element)
    except _BAD_BYTES:
        return None
    return Unreadable(index, raw, BadEvent("event", f"was refused when it came to be counted: {reason}", "refused"))


def read_event(raw: bytes | msgspec.Raw) -> tuple[Event, Data]:
    """One event in MessagePack, and its data; BadEvent names the rule that it breaks."""
    try:
        event = _decode(raw)
        return event, check(event)
    except _BAD_BYTES as exc:
        if isinstance(exc, BadEvent):
            raise
        raise _explained(exc) from exc


def _explained(exc: Exception) -> BadEvent:
    text = str(exc)
    for index, field in enumerate(Event.__struct_fields__):
        text, found = text.replace(f" - at `$[{index}]`", ""), f"$[{index}]" in text
        if found:
            return BadEvent(field, text)
    return BadEvent("event", f"must be an array of id, source, type, subject, time and data: {text}")


def array_length(raw: bytes) -> int:
    """How many elements a MessagePack array says it has; 1 for whatever else that is.

    >>> array_length(bytes.fromhex("920101")), array_length(bytes.fromhex("dc1388")), array_length(bytes.fromhex("c0"))
    (2, 5000, 1)
    """
    head = raw[:1]
    if b"\x90" <= head <= b"\x9f":
        return head[0] & 0x0F
    width = {b"\xdc": 2, b"\xdd": 4}.get(head)
    return 1 if width is None else int.from_bytes(raw[1 : 1 + width], "big")


def check(event: Event) -> Data:
    """The event's data, once it is seen that the event keeps the rules its types do not tell; else BadEvent."""
    if "\0" in event.id or "\0" in event.source or "\0" in event.type or "\0" in event.subject:
        field = next(field for field in ("id", "source", "type", "subject") if "\0" in getattr(event, field))
        raise BadEvent(field, "must not contain NUL")
    text = event.data
    if text is None:
        return _NO_DATA
    if len(text) > MAX_DATA_BYTES or (not text.isascii() and len(text.encode()) > MAX_DATA_BYTES):
        raise BadEvent("data", f"must be at most {MAX_DATA_BYTES} bytes as JSON", "too_large")
    data = parse_data(text)
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(data, 1)
    return data


def check_fields(event: Event) -> None:
    """See that an event made by hand keeps the rules its types tell, as a decoder would; BadEvent names the field."""
    for field, longest in _LONGEST.items():
        if not 1 <= len(getattr(event, field)) <= longest:
            raise BadEvent(field, f"must be 1 to {longest} characters")
    if not FIRST_US <= event.time_us <= LAST_US:
        raise BadEvent("time", "must be in the years 1 to 9999")


def parse_time(text: str) -> int:
    """Microseconds since 1970 of RFC 3339 text with an offset, further digits cut off; BadEvent for any other.

    >>> parse_time("1970-01-01T01:00:00.0000019+01:00")
    1
    """
    if _RFC_3339.fullmatch(text):
        try:
            return (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError) as exc:
            raise BadEvent("time", f"is no instant: {exc}") from exc
    raise BadEvent("time", "must be RFC 3339 with an offset, like 2026-01-31T09:30:00Z")


def _check_depth(value: object, level: int) -> None:
    if isinstance(value, dict | list):
        if level > MAX_DEPTH:
            raise BadEvent("data", f"must not nest deeper than {MAX_DEPTH} levels", "too_deep")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, level + 1)


def parse_data(text: str | None) -> Data:
    """The object, its fractions as Decimals; BadEvent when it is not one.

    >>> parse_data('{"cost": 0.1}')
    {'cost': Decimal('0.1')}
    """
    if text is None:
        return _NO_DATA
    try:
        return _parse(text)
    except RecursionError as exc:
        raise BadEvent("data", f"must not nest deeper than {MAX_DEPTH} levels", "too_deep") from exc
    except InvalidOperation as exc:
        raise BadEvent("data", "has a number that no decimal can hold") from exc
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise BadEvent("data", f"must be a JSON object: {exc}") from exc


def json_of(event: Event) -> bytes:
    """The event as JSON, in the form that `POST /v1/events` takes, its data digit for digit.

    >>> json_of(Event("1", "chat", "call", "acme", 0, '{"cost":0.10}'))
    b'{"id":"1","source":"chat","type":"call","subject":"acme","time":"1970-01-01T00:00:00+00:00","data":{"cost":0.10}}'
    """
    fields: dict[str, object] = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": (_EPOCH + timedelta(microseconds=event.time_us)).isoformat(),
    }
    if event.data is not None:
        fields["data"] = msgspec.Raw(event.data.encode())
    return msgspec.json.encode(fields)
