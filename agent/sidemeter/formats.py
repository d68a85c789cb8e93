"""The event in its clothes: JSON, MessagePack and CloudEvents 1.0 (structured, batch, binary), each read to an `Event`.

A body is decoded in one typed pass. Only when that fails is it taken apart item by item, to name the index, field and
rule of each bad one. Numbers in `data` stay the text they came as.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from sidemeter.answers import Rejection
from sidemeter.errors import InvalidInput
from sidemeter.events import MAX_DATA_BYTES, MAX_DEPTH, Event

__all__ = [
    "CheckRequest",
    "EndRequest",
    "Form",
    "Reading",
    "form_of",
    "read_binary_event",
    "read_check",
    "read_end",
    "read_event",
    "read_events",
    "read_reserved",
]

Shape = TypeVar("Shape", bound=msgspec.Struct)

MAX_PACKED_DATA_BYTES: Final = 5 * MAX_DATA_BYTES
"""Of an event's data in MessagePack: nine bytes, for a number, are the most that it takes for two of JSON, so what is
longer is too long as JSON too. It is looked at first, because a byte may stand for an object of 64 bytes."""

SHOWN_NAME: Final = 64  # characters of a caller's own field name that an error repeats

_NUMBERS: Final = frozenset({"quantity", "ttl_s"})
_ONE: Final = Decimal(1)
_ABSENT: Final = msgspec.Raw(b"")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BODY_FIELDS: Final = frozenset({"data", "data_base64", "datacontenttype"})
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]')


class Reading(NamedTuple):
    """A request's events that keep every rule, and why each of the others does not."""

    events: list[Event]
    rejected: list[Rejection]


class CheckRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The question of `POST /v1/check`; `quantity` may come as a number or its text. Whether it can be is decided later."""

    subject: str
    feature: str
    quantity: Decimal = _ONE


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    subject: str
    id: str | None = None
    source: str | None = None
    time: str | None = None
    data: msgspec.Raw = _ABSENT

    def check(self) -> None:
        """No rule beyond those of every event."""


class _Reserved(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    subject: str
    id: str | None = None
    source: str | None = None
    time: str | None = None
    data: msgspec.Raw = _ABSENT
    ttl_s: Decimal = Decimal(60)

    def check(self) -> None:
        """No rule beyond those of every event."""


class EndRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body of a final call of a reservation: what was used, or how long it goes on."""

    data: msgspec.Raw = _ABSENT
    ttl_s: Decimal = Decimal(60)


class _CloudEvent(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = _ABSENT
    data_base64: msgspec.Raw = _ABSENT

    def check(self) -> None:
        if self.specversion != "1.0":
            raise InvalidInput("specversion", 'must be "1.0"')
        if self.datacontenttype is not None and form_of(self.datacontenttype.encode()) is not Form.JSON:
            raise InvalidInput("datacontenttype", "must be application/json")
        if self.data_base64 is not _ABSENT:
            raise InvalidInput("data_base64", "holds no JSON object; send one as data")


class _Json:
    name = "JSON"
    decoder = staticmethod(functools.cache(msgspec.json.Decoder))

    @staticmethod
    def check_body(body: bytes) -> None:
        if not body.isascii():
            body.decode()  # the decoder skips over `data` without a look at its UTF-8

    @staticmethod
    def array_length(body: bytes) -> int | None:
        """-1: an array, but only reading it tells how long."""
        return -1 if body.lstrip(b" \t\r\n")[:1] == b"[" else None

    @staticmethod
    def split(body: bytes) -> Iterator[str]:
        """The items of an array. A list of them would take thirty times the memory of a hostile body."""
        msgspec.json.decode(body, type=msgspec.Raw)  # well-formed from here on
        text, level, start = body.decode(), 0, 0
        for mark in _STRUCTURE.finditer(text):
            match mark[0]:
                case "[" | "{":
                    level += 1
                    start = mark.end() if level == 1 else start
                case "," | "]" | "}" as end:
                    level -= end != ","
                    if level == (end == ","):
                        yield text[start : mark.start()]
                        start = mark.end()

    @staticmethod
    def data(raw: msgspec.Raw) -> str | None:
        """The text of an object, as it came."""
        text = str(raw, "utf-8")
        if text == "null":
            return None
        if text[0] != "{":
            raise InvalidInput("data", "must be an object")
        if len(text) > MAX_DATA_BYTES or len(memoryview(raw)) > MAX_DATA_BYTES:
            raise _too_large()
        if text.count("{") + text.count("[") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            raise InvalidInput("data", f"must not nest deeper than {MAX_DEPTH} levels", code="too_deep")
        return text


class _MessagePack:
    name = "MessagePack"
    decoder = staticmethod(functools.cache(msgspec.msgpack.Decoder))

    @staticmethod
    def check_body(body: bytes) -> None:
        """The decoder checks all of it."""

    @staticmethod
    def array_length(body: bytes) -> int | None:
        match body[0]:
            case first if 0x90 <= first <= 0x9F:
                return first & 0x0F
            case 0xDC:
                return int.from_bytes(body[1:3])
            case 0xDD:
                return int.from_bytes(body[1:5])
        return None

    @staticmethod
    def split(body: bytes) -> Iterable[msgspec.Raw]:
        items: list[msgspec.Raw] = msgspec.msgpack.decode(body, type=list[msgspec.Raw])
        return items

    @staticmethod
    def data(raw: msgspec.Raw) -> dict[str, object] | None:
        """The object, of what JSON has too; the event's own rules see to the rest."""
        if len(memoryview(raw)) > MAX_PACKED_DATA_BYTES:
            raise _too_large()
        try:
            value = msgspec.msgpack.decode(raw)
        except _UNREADABLE as exc:
            raise InvalidInput("data", f"must be MessagePack: {exc}") from None
        if value is not None and not isinstance(value, dict):
            raise InvalidInput("data", "must be an object")
        _check_plain(value, 1)
        return value


def _too_large() -> InvalidInput:
    return InvalidInput("data", f"must be at most {MAX_DATA_BYTES} bytes as JSON", code="too_large")


_Coding = type[_Json] | type[_MessagePack]


def _check_plain(value: object, level: int) -> None:
    if level > MAX_DEPTH + 1:
        raise InvalidInput("data", f"must not nest deeper than {MAX_DEPTH} levels", code="too_deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise InvalidInput("data", "must have only strings as keys")
        for inner in value.values():
            _check_plain(inner, level + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, level + 1)
    elif not isinstance(value, str | int | float | None):
        raise InvalidInput("data", "must hold only what JSON has: no binary, no extension types")


def _depth(text: str) -> int:
    level = deepest = 0
    for mark in _STRUCTURE.finditer(text):
        if mark[0] in {"[", "{"}:
            level += 1
            deepest = max(deepest, level)
        elif mark[0] in {"]", "}"}:
            level -= 1
    return deepest


class Form:
    """How a request body writes events down. `array`: whether it must be one, must not, or (None) may be."""

    JSON: "Form"
    MSGPACK: "Form"
    CLOUDEVENT: "Form"
    CLOUDEVENTS: "Form"

    def __init__(self, coding: _Coding, shape: type[_Plain] | type[_CloudEvent], *, array: bool | None) -> None:
        self.coding = coding
        self.shape = shape
        self.array = array
        self.decode_one: Callable[[Any], Any] = coding.decoder(shape).decode
        self.decode_check: Callable[[bytes], CheckRequest] = coding.decoder(CheckRequest).decode
        self.decode_many: Callable[[bytes], list[Any]] = coding.decoder(list[shape]).decode  # type: ignore[valid-type]

    def event(self, item: Any) -> Event:
        """The event of a decoded `shape`; InvalidInput names the rule that it breaks."""
        item.check()
        data = None if item.data is _ABSENT else self.coding.data(item.data)
        text = data if isinstance(data, str) else None
        event = Event.of(
            item.type,
            item.subject,
            None if text is not None else data,  # type: ignore[arg-type]  # not text here
            id=item.id,
            time=item.time,
            source=item.source,
        )
        return event if text is None else msgspec.structs.replace(event, data=text)


Form.JSON = Form(_Json, _Plain, array=None)
Form.MSGPACK = Form(_MessagePack, _Plain, array=None)
Form.CLOUDEVENT = Form(_Json, _CloudEvent, array=False)
Form.CLOUDEVENTS = Form(_Json, _CloudEvent, array=True)

_FORMS: Final = {
    "application/json": Form.JSON,
    "application/msgpack": Form.MSGPACK,
    "application/x-msgpack": Form.MSGPACK,
    "application/vnd.msgpack": Form.MSGPACK,
    "application/cloudevents+json": Form.CLOUDEVENT,
    "application/cloudevents-batch+json": Form.CLOUDEVENTS,
}


@functools.lru_cache(maxsize=256)
def form_of(content_type: bytes) -> Form | None:
    """The form that a `Content-Type` names; None for one that carries no events.

    >>> form_of(b"application/json; charset=utf-8") is Form.JSON
    True
    """
    name, *parameters = content_type.decode("latin-1").lower().replace(" ", "").replace('"', "").split(";")
    charsets = {each for each in parameters if each.startswith("charset=")}
    return _FORMS.get(name) if charsets <= {"charset=utf-8"} else None


def read_events(form: Form, body: bytes, max_events: int) -> Reading:
    """Every event of a body that holds one or an array; an event that breaks a rule spoils no other.

    Raises InvalidInput for the body as a whole: `malformed`, or `too_many` for more than `max_events`.

    >>> reading = read_events(Form.JSON, b'[{"type": "call", "subject": "acme"}, {"type": "call"}]', 10)
    >>> len(reading.events), reading.rejected[0].message
    (1, 'subject: is missing')
    """
    _check_body(form, body)
    length = form.coding.array_length(body)
    if form.array is not None and form.array is (length is None):
        raise InvalidInput("body", "must be an array" if form.array else "must be one event, not an array")
    if length is None:
        return _read_each(form, [body], max_events)
    if length > max_events:
        raise _too_many(max_events)
    try:
        items = form.decode_many(body)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return _read_each(form, _split(form, body), max_events)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _malformed(form, exc) from None
    return _events(items, form.event, max_events)


def _read_each(form: Form, items: Iterable[Any], max_events: int) -> Reading:
    def event(raw: Any) -> Event:
        return form.event(_read(form, form.decode_one, form.shape, raw))

    return _events(items, event, max_events)


def _events(items: Iterable[Any], event: Callable[[Any], Event], max_events: int) -> Reading:
    reading = Reading([], [])
    for index, item in enumerate(items):
        if index == max_events:
            raise _too_many(max_events)
        try:
            reading.events.append(event(item))
        except InvalidInput as exc:
            if exc.code == "malformed":
                raise
            reading.rejected.append(Rejection.of(index, exc))
    return reading


def _split(form: Form, body: bytes) -> Iterator[Any]:
    try:
        yield from form.coding.split(body)
    except _UNREADABLE as exc:
        raise _malformed(form, exc) from None


def _check_body(form: Form, body: bytes) -> None:
    if not body:
        raise InvalidInput("body", "is empty", code="malformed")
    try:
        form.coding.check_body(body)
    except UnicodeDecodeError as exc:
        raise _malformed(form, exc) from None


def _too_many(max_events: int) -> InvalidInput:
    return InvalidInput("body", f"must hold at most {max_events} events", code="too_many")


def _malformed(form: Form, error: Exception) -> InvalidInput:
    why = (
        "is nested too deeply to be read"
        if isinstance(error, RecursionError)
        else f"is not {form.coding.name}: {error}"
    )
    return InvalidInput("body", why, code="malformed")


def read_event(form: Form, body: bytes) -> Event:
    """The one event of a body. Raises InvalidInput: `malformed`, or the field and rule."""
    _check_body(form, body)
    return form.event(_read(form, form.decode_one, form.shape, body))


def read_binary_event(form: Form, attributes: Mapping[str, str], body: bytes) -> Event:
    """The CloudEvent whose attributes came as `ce-*` headers, without that prefix and still percent-encoded, and whose
    `data` is the body, absent when that is empty. Raises InvalidInput: `malformed`, or the field and rule.
    """
    try:
        given = {name: unquote_to_bytes(text).decode() for name, text in attributes.items() if name not in _BODY_FIELDS}
    except UnicodeDecodeError as exc:
        raise InvalidInput("ce-*", f"must be percent-encoded UTF-8: {exc}") from None
    item = _read(Form.CLOUDEVENT, Form.CLOUDEVENT.decode_one, _CloudEvent, msgspec.json.encode(given))
    if body:
        _check_body(form, body)
        try:
            item.data = form.coding.decoder(msgspec.Raw).decode(body)
        except _UNREADABLE as exc:
            raise _malformed(form, exc) from None
    return form.event(item)


def read_check(form: Form, body: bytes) -> CheckRequest:
    """The question of a check. Raises InvalidInput: `malformed`, or the field and rule.

    >>> read_check(Form.JSON, b'{"subject": "acme", "feature": "tokens", "quantity": 0.1}').quantity
    Decimal('0.1')
    """
    _check_body(form, body)
    return _read(form, form.decode_check, CheckRequest, body)


def read_reserved(form: Form, body: bytes) -> tuple[Event, float]:
    """The event that is reserved for, and for how long. Raises InvalidInput: `malformed`, or the field and rule."""
    _check_body(form, body)
    item = _read(form, form.coding.decoder(_Reserved).decode, _Reserved, body)
    return form.event(item), float(item.ttl_s)


def read_end(form: Form, body: bytes) -> tuple[Mapping[str, object] | str | None, float]:
    """What a final call says: the data, as checked JSON text or as it is, and a time. Raises InvalidInput as the others."""
    if not body:
        return None, 60.0
    _check_body(form, body)
    item = _read(form, form.coding.decoder(EndRequest).decode, EndRequest, body)
    return None if item.data is _ABSENT else form.coding.data(item.data), float(item.ttl_s)


def _read(form: Form, decode: Callable[[Any], Shape], shape: type[Shape], raw: Any) -> Shape:
    try:
        return decode(raw)
    except _UNREADABLE:
        raise _explained(form, shape, raw) from None


def _explained(form: Form, shape: type[msgspec.Struct], raw: Any) -> InvalidInput:
    """Which field breaks which rule of `shape`, in our words: the decoder's own are no contract."""
    decoder = form.coding.decoder
    try:
        given = decoder(dict[str, msgspec.Raw]).decode(raw)
    except msgspec.ValidationError:
        return InvalidInput("body", "must be an object")
    except _UNREADABLE as exc:
        return _malformed(form, exc)
    fields = shape.__struct_fields__
    required = fields[: len(fields) - len(shape.__struct_defaults__)]
    for name in given:
        if name not in fields and shape.__struct_config__.forbid_unknown_fields:
            return InvalidInput(name[:SHOWN_NAME], "is not a field here", code="unknown_field")
    for name in fields:
        if name not in given:
            if name in required:
                return InvalidInput(name, "is missing", code="missing")
            continue
        try:
            decoder(shape.__annotations__[name]).decode(given[name])
        except _UNREADABLE:
            return InvalidInput(name, "must be a decimal number" if name in _NUMBERS else "must be a string")
    return InvalidInput("body", "must be an object of the documented fields")
