"""Events in the forms callers write them in: JSON, MessagePack and CloudEvents 1.0. The same as an agent reads."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn, TypeAlias
from urllib.parse import unquote

import msgspec

from sidemeter_control.metering.events import (
    MAX_DATA_BYTES,
    MAX_DEPTH,
    BadEvent,
    Event,
    check,
    check_fields,
    parse_time,
)

__all__ = ["MAX_EVENTS", "Form", "ReadEvents", "Rejection", "form_of", "read_binary", "read_events"]

MAX_EVENTS = 10_000
"""In one request; a longer array is refused as a whole."""

MAX_PACKED_DATA_BYTES = 5 * MAX_DATA_BYTES
"""Of an event's data in MessagePack: nine bytes, for a number, are the most that it takes for two of JSON, so what is
longer is too long as JSON too. It is looked at first, because a byte may stand for an object of 64 bytes."""

DEFAULT_SOURCE = "http"

_NONE = msgspec.Raw(b"")
_BAD_BYTES = (msgspec.DecodeError, UnicodeError, RecursionError)
_FIELD = re.compile(r" - at `\$\.?(\w*)[^`]*`$")
_QUOTED = re.compile(r"`([^`]*)`")


class Form(Enum):
    """How a body writes events."""

    JSON = "application/json"
    MESSAGE_PACK = "application/msgpack"
    CLOUD_EVENT = "application/cloudevents+json"
    CLOUD_EVENTS = "application/cloudevents-batch+json"


def form_of(content_type: str) -> Form | None:
    """The form a Content-Type names; None for any other.

    >>> form_of("application/json; charset=utf-8")
    <Form.JSON: 'application/json'>
    """
    name = content_type.partition(";")[0].strip().lower()
    return next((form for form in Form if form.value == name.replace("x-msgpack", "msgpack")), None)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An element that is no event: its place, a stable code, and the field with its rule."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """The events that keep every rule, and why each of the others does not."""

    events: list[Event]
    rejected: list[Rejection]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    subject: str
    id: str | None = None
    source: str | None = None
    time: str | None = None
    data: msgspec.Raw = _NONE

    def check(self) -> None:
        pass


class _CloudEvent(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str | None = None
    datacontenttype: str = "application/json"
    data: msgspec.Raw = _NONE
    data_base64: msgspec.Raw = _NONE

    def check(self) -> None:
        if self.specversion != "1.0":
            raise BadEvent("specversion", "must be 1.0")
        if form_of(self.datacontenttype) is not Form.JSON or self.data_base64 is not _NONE:
            raise BadEvent("datacontenttype", "must be application/json")


_Shape: TypeAlias = _Plain | _CloudEvent
_SHAPES: Mapping[Form, type[_Shape]] = {
    Form.JSON: _Plain,
    Form.MESSAGE_PACK: _Plain,
    Form.CLOUD_EVENT: _CloudEvent,
    Form.CLOUD_EVENTS: _CloudEvent,
}


def read_events(form: Form, body: bytes, mint: Callable[[], str], now_us: int) -> ReadEvents:
    """Every event of a body that holds one or an array. `mint` gives an id to one without, `now_us` a time.

    BadEvent for the body as a whole: `malformed`, or `too_many` for more than MAX_EVENTS.

    >>> read_events(Form.JSON, b'[{"type": "call"}]', lambda: "1", 0).rejected[0].message
    'subject: is missing'
    """
    found = ReadEvents([], [])
    for index, element in enumerate(_elements(form, body)):
        if index == MAX_EVENTS:
            raise BadEvent("body", f"must hold at most {MAX_EVENTS} events", "too_many")
        try:
            found.events.append(_event(form, _shape(form, element), mint, now_us))
        except BadEvent as exc:
            found.rejected.append(Rejection(index, exc.code, str(exc)))
    return found


def read_binary(attributes: Mapping[str, str], form: Form, body: bytes, now_us: int) -> ReadEvents:
    """The CloudEvent whose attributes came as `ce-*` headers, without that prefix; its data is the body."""
    given = {name: unquote(text) for name, text in attributes.items() if name not in {"data", "data_base64"}}
    try:
        shape = _shape(Form.CLOUD_EVENT, msgspec.json.encode(given))
        shape.data = msgspec.Raw(body)
        return ReadEvents([_event(form, shape, str, now_us)], [])
    except BadEvent as exc:
        return ReadEvents([], [Rejection(0, exc.code, str(exc))])


def _elements(form: Form, body: bytes) -> Iterator[str | msgspec.Raw]:
    elements = _packed_elements(body) if form is Form.MESSAGE_PACK else _json_elements(body)
    try:
        is_array = next(elements)
        if is_array is not {Form.CLOUD_EVENT: False, Form.CLOUD_EVENTS: True}.get(form, is_array):
            raise BadEvent("body", "must not be an array" if is_array else "must be an array", "malformed")
        yield from elements  # type: ignore[misc]  # only the first is a bool
    except (*_BAD_BYTES, ValueError) as exc:
        if isinstance(exc, BadEvent):
            raise
        why = "is nested too deeply" if isinstance(exc, RecursionError) else f"cannot be read: {exc}"
        raise BadEvent("body", why, "malformed") from exc


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Only where elements end is asked of it; numbers stay text.
_scan = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse).raw_decode
_skip = re.compile(r"[ \t\r\n]*").match


def _json_elements(body: bytes) -> Iterator[bool | str]:
    """Whether it is an array; then each element. One by one: a list of tiny ones takes 40 times the body's memory."""
    text = body.decode()
    at = _after_space(text, 0)
    yield text[at : at + 1] == "["
    if text[at : at + 1] != "[":
        yield str(msgspec.json.decode(body, type=msgspec.Raw), "utf-8")
        return
    at = _after_space(text, at + 1)
    more = text[at : at + 1] != "]"
    while more:
        _, end = _scan(text, at)
        yield text[at:end]
        at = _after_space(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _after_space(text, at + 1)
    if text[at : at + 1] != "]" or _after_space(text, at + 1) != len(text):
        raise ValueError(f"expected the end of the array at character {at}")


def _after_space(text: str, at: int) -> int:
    space = _skip(text, at)
    return space.end() if space else at


def _packed_elements(body: bytes) -> Iterator[bool | msgspec.Raw]:
    is_array = body[:1] in {b"\xdc", b"\xdd"} or (body[:1] >= b"\x90" and body[:1] <= b"\x9f")
    yield is_array
    if not is_array:
        yield msgspec.msgpack.decode(body, type=msgspec.Raw)
        return
    head = {0xDC: 3, 0xDD: 5}.get(body[0], 1)
    length = body[0] & 0x0F if head == 1 else int.from_bytes(body[1:head])
    if length > MAX_EVENTS:
        raise BadEvent("body", f"must hold at most {MAX_EVENTS} events", "too_many")
    yield from msgspec.msgpack.decode(body, type=list[msgspec.Raw])


def _shape(form: Form, element: Any) -> _Shape:
    try:
        if form is Form.MESSAGE_PACK:
            return msgspec.msgpack.decode(element, type=_Plain)
        return msgspec.json.decode(element, type=_SHAPES[form])
    except msgspec.ValidationError as exc:
        raise _explained(str(exc)) from exc
    except _BAD_BYTES as exc:
        raise BadEvent("event", f"cannot be read: {exc}") from exc


def _explained(text: str) -> BadEvent:
    quoted = _QUOTED.search(text)
    if "unknown field" in text and quoted:
        return BadEvent(quoted[1][:64], "is not a field of an event", "unknown_field")
    if "missing required field" in text and quoted:
        return BadEvent(quoted[1], "is missing", "missing")
    field = _FIELD.search(text)
    if field and field[1]:
        return BadEvent(field[1], text[: field.start()].replace("Expected", "must be").replace("`", ""))
    return BadEvent("event", "must be an object of the documented fields")


def _event(form: Form, shape: _Shape, mint: Callable[[], str], now_us: int) -> Event:
    shape.check()
    event = Event(
        mint() if shape.id is None else shape.id,
        DEFAULT_SOURCE if shape.source is None else shape.source,
        shape.type,
        shape.subject,
        now_us if shape.time is None else parse_time(shape.time),
        _data(form, bytes(shape.data)),
    )
    check_fields(event)
    check(event)
    return event


def _data(form: Form, raw: bytes) -> str | None:
    if raw in {b"", b"null", b"\xc0"}:
        return None
    if form is not Form.MESSAGE_PACK:
        return raw.decode()
    if len(raw) > MAX_PACKED_DATA_BYTES:
        raise BadEvent("data", f"must be at most {MAX_DATA_BYTES} bytes as JSON", "too_large")
    try:
        value = msgspec.msgpack.decode(raw)
        _check_plain(value, 1)
        return msgspec.json.encode(value).decode()
    except _BAD_BYTES as exc:
        raise BadEvent("data", f"cannot be read: {exc}") from exc


def _check_plain(value: object, level: int) -> None:
    """See that the value is what JSON can say, and no deeper than it may be."""
    match value:
        case dict() | list():
            if level > MAX_DEPTH:
                raise BadEvent("data", f"must not nest deeper than {MAX_DEPTH} levels", "too_deep")
            if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
                raise BadEvent("data", "must have only strings as keys")
            for inner in value.values() if isinstance(value, dict) else value:
                _check_plain(inner, level + 1)
        case float() if not math.isfinite(value):
            raise BadEvent("data", "must not contain NaN or Infinity")
        case str() | int() | float() | None:
            pass
        case _:
            raise BadEvent("data", "must hold only what JSON has")
