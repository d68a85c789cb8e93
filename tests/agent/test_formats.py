"""Formats: the same event from every form, exact numbers, and a named refusal for every rule."""

import json
import tracemalloc
from decimal import Decimal
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.errors import InvalidInput
from sidemeter.events import MAX_DATA_BYTES, Event
from sidemeter.formats import (
    MAX_PACKED_DATA_BYTES,
    Form,
    form_of,
    read_binary_event,
    read_check,
    read_event,
    read_events,
)

CALL = {"type": "call", "subject": "acme"}
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/chat", "type": "call", "subject": "acme"}


def packed(form: Form, value: object) -> bytes:
    return msgpack.packb(value) if form is Form.MSGPACK else json.dumps(value).encode()


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK], ids=["json", "msgpack"])
def test_every_field_is_read(form: Form) -> None:
    body = packed(form, CALL | {"id": "1", "source": "s", "time": "2026-01-01T00:00:00Z", "data": {"n": 1}})
    event = read_event(form, body)
    assert (event.id, event.source, event.type, event.subject) == ("1", "s", "call", "acme")
    assert (event.time_us, json.loads(event.data or "")) == (1_767_225_600_000_000, {"n": 1})


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK], ids=["json", "msgpack"])
@pytest.mark.parametrize("absent", [{}, {"data": None, "id": None, "time": None}])
def test_what_is_null_is_absent(form: Form, absent: dict[str, None]) -> None:
    assert read_event(form, packed(form, CALL | absent)) == Event.of("call", "acme")


@pytest.mark.parametrize("number", ["0.1", "1e400", "123456789012345678.123456789", "-0.0", "1E-30"])
def test_a_number_in_json_stays_the_text_it_came_as(number: str) -> None:
    body = f'{{"type":"call","subject":"acme","data":{{"n": {number}}}}}'.encode()
    assert read_event(Form.JSON, body).data == f'{{"n": {number}}}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_in_messagepack_is_its_shortest_decimal(number: float) -> None:
    data = read_event(Form.MSGPACK, msgpack.packb(CALL | {"data": {"n": number}})).data
    assert json.loads(data or "", parse_float=Decimal, parse_int=Decimal)["n"] == Decimal(repr(number))


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK], ids=["json", "msgpack"])
def test_good_events_of_an_array_are_kept_beside_named_bad_ones(form: Form) -> None:
    items = [CALL, CALL | {"subject": ""}, CALL | {"colour": 1}, 7, CALL | {"id": "x"}, {"type": "call"}]
    reading = read_events(form, packed(form, items), 10)
    assert [event.id for event in reading.events] == [None, "x"]
    assert [(bad.index, bad.field, bad.code) for bad in reading.rejected] == [
        (1, "subject", "invalid_input"),
        (2, "colour", "unknown_field"),
        (3, "body", "invalid_input"),
        (5, "subject", "missing"),
    ]


@given(
    st.lists(st.sampled_from([b'{"type":"call","subject":"a]c,m{e\\""}', b"7", b'[{"a":[1,2]}]', b'" , "']), min_size=1)
)
def test_an_array_is_taken_apart_where_its_items_end(items: list[bytes]) -> None:
    reading = read_events(Form.JSON, b" [ " + b" , ".join(items) + b" ] ", 1000)
    good = [index for index, item in enumerate(items) if item.startswith(b'{"type')]
    assert [event.subject for event in reading.events] == ['a]c,m{e"'] * len(good)
    assert sorted(good + [bad.index for bad in reading.rejected]) == list(range(len(items)))


def deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK], ids=["json", "msgpack"])
@pytest.mark.parametrize(
    ("change", "field", "code", "rule"),
    [
        ({"type": ""}, "type", "invalid_input", "1 to 128"),
        ({"type": "x" * 129}, "type", "invalid_input", "1 to 128"),
        ({"type": 1}, "type", "invalid_input", "must be a string"),
        ({"type": None}, "type", "invalid_input", "must be a string"),
        ({"subject": "x" * 257}, "subject", "invalid_input", "1 to 256"),
        ({"subject": "a\0b"}, "subject", "invalid_input", "NUL"),
        ({"id": ""}, "id", "invalid_input", "1 to 256"),
        ({"id": "x" * 257}, "id", "invalid_input", "1 to 256"),
        ({"source": "x" * 257}, "source", "invalid_input", "1 to 256"),
        ({"time": "yesterday"}, "time", "invalid_input", "RFC 3339"),
        ({"time": "2026-01-01T00:00:00"}, "time", "invalid_input", "RFC 3339"),
        ({"time": 1767225600}, "time", "invalid_input", "must be a string"),
        ({"data": [1]}, "data", "invalid_input", "must be an object"),
        ({"data": "x"}, "data", "invalid_input", "must be an object"),
        ({"data": {"a": "x" * 65_536}}, "data", "too_large", "at most 65536 bytes"),
        ({"data": deep(17)}, "data", "too_deep", "deeper than 16"),
        ({"data": {"a": [[]] * 20, "b": deep(16)}}, "data", "too_deep", "deeper than 16"),
        ({"subjekt": "acme"}, "subjekt", "unknown_field", "is not a field"),
    ],
)
def test_a_broken_rule_is_named(form: Form, change: dict[str, object], field: str, code: str, rule: str) -> None:
    reading = read_events(form, packed(form, [CALL, CALL | change]), 10)
    assert len(reading.events) == 1
    (bad,) = reading.rejected
    assert (bad.index, bad.field, bad.code) == (1, field, code)
    assert rule in bad.message


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK], ids=["json", "msgpack"])
def test_sixteen_levels_are_taken(form: Form) -> None:
    data = deep(16) | {"braces": "{" * 20}
    assert json.loads(read_event(form, packed(form, CALL | {"data": data})).data or "") == data


MSGPACK_CALL = b"\x83\xa4type\xa4call\xa7subject\xa4acme\xa4data"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\x81\xa1n\xcb\x7f\xf8\0\0\0\0\0\0", "NaN"),
        (b"\x81\xa1n\xcb\x7f\xf0\0\0\0\0\0\0", "Infinity"),
        (b"\x81\x01\x02", "only strings as keys"),
        (b"\x81\xa1n\xc4\x01x", "no binary"),
        (b"\x81\xa1n\xd4\x05x", "no extension types"),
        (b"\x81\xa1n\xd6\xff\0\0\0\0", "no extension types"),
        (b"\x81\xa1n\xa1\xff", "must be MessagePack"),
        (b"\x81\xa1a" + b"\x91" * 500 + b"\x90", "deeper than 16"),
    ],
    ids=["nan", "infinity", "number-key", "binary", "extension", "timestamp", "utf-8", "depth"],
)
def test_what_json_does_not_have_is_refused_in_messagepack(data: bytes, rule: str) -> None:
    (bad,) = read_events(Form.MSGPACK, MSGPACK_CALL + data, 1).rejected
    assert bad.field == "data"
    assert rule in bad.message


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form.JSON, b""),
        (Form.JSON, b"{"),
        (Form.JSON, b"[1,]"),
        (Form.JSON, b'[{"type":"call","subject":"acme","data":{"n":NaN}}]'),
        (Form.JSON, b'{"type":"call","subject":"acme","data":{"n":"\xff"}}'),
        (Form.JSON, b'{"type":"call","subject":"\\ud800"}'),
        (Form.JSON, b'[{"type":1},'),
        (Form.JSON, b"[" * 100_000),
        (Form.JSON, b'{"type":"call","subject":"acme","data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001),
        (Form.MSGPACK, b"\xc1"),
        (Form.MSGPACK, b"\x83\xa4type"),
        (Form.MSGPACK, b"\x91" * 100_000),
        (Form.MSGPACK, b"\x92\x81\xa4type\xa1\xff"),
        (Form.MSGPACK, MSGPACK_CALL + b"\xdd\xff\xff\xff\xff"),
    ],
)
def test_a_body_that_cannot_be_read_is_malformed(form: Form, body: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_events(form, body, 10)
    assert (refused.value.field, refused.value.code) == ("body", "malformed")


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form.JSON, packed(Form.JSON, [CALL] * 11)),
        (Form.JSON, packed(Form.JSON, [7] * 11)),
        (Form.MSGPACK, packed(Form.MSGPACK, [CALL] * 11)),
        (Form.MSGPACK, b"\xdc\xff\xff"),
        (Form.MSGPACK, b"\xdd\xff\xff\xff\xff"),
    ],
)
def test_more_events_than_allowed_are_refused_as_a_whole(form: Form, body: bytes) -> None:
    with pytest.raises(InvalidInput, match="at most 10 events") as refused:
        read_events(form, body, 10)
    assert refused.value.code == "too_many"


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Form.JSON, b"[" + b"1," * 500_000 + b"1]"),
        (Form.MSGPACK, b"\xdd\x00\x0f\x42\x40" + b"\x01" * 1_000_000),
        (Form.MSGPACK, b"\x91" + MSGPACK_CALL + b"\xdd\x00\x0f\x42\x40" * 900),
    ],
    ids=["json", "msgpack", "lying-lengths"],
)
def test_a_hostile_body_takes_little_memory(form: Form, body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            read_events(form, body, 10)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_structured_cloud_event_is_the_same_event() -> None:
    body = packed(
        Form.JSON, CLOUD_EVENT | {"time": "2026-01-01T00:00:00Z", "data": {"n": 1}, "traceparent": "x", "partition": 1}
    )
    event = Event.of("call", "acme", {"n": 1}, id="1", source="/chat", time="2026-01-01T00:00:00Z")
    assert json.loads(read_event(Form.CLOUDEVENT, body).data or "") == {"n": 1}
    assert read_event(Form.CLOUDEVENT, body.replace(b'{"n": 1}', b'{"n":1}')) == event


def test_a_batch_of_cloud_events_names_the_bad_one() -> None:
    reading = read_events(Form.CLOUDEVENTS, packed(Form.JSON, [CLOUD_EVENT, CLOUD_EVENT | {"specversion": "0.3"}]), 10)
    assert len(reading.events) == 1
    assert [(bad.index, bad.field) for bad in reading.rejected] == [(1, "specversion")]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"specversion": "2.0"}, "specversion"),
        ({"id": None}, "id"),
        ({"source": ""}, "source"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data_base64": "AAAA"}, "data_base64"),
        ({"data": "text"}, "data"),
    ],
)
def test_a_cloud_event_that_breaks_a_rule_is_named(change: dict[str, object], field: str) -> None:
    (bad,) = read_events(Form.CLOUDEVENT, packed(Form.JSON, CLOUD_EVENT | change), 1).rejected
    assert bad.field == field


@pytest.mark.parametrize(("form", "body"), [(Form.CLOUDEVENT, [CLOUD_EVENT]), (Form.CLOUDEVENTS, CLOUD_EVENT)])
def test_a_cloud_event_and_a_batch_are_not_each_other(form: Form, body: object) -> None:
    with pytest.raises(InvalidInput, match="array"):
        read_events(form, packed(Form.JSON, body), 10)


def test_a_binary_cloud_event_has_its_attributes_in_headers() -> None:
    attributes = {
        "specversion": "1.0",
        "id": "1",
        "source": "/chat",
        "type": "call",
        "subject": "M%C3%BCller",
        "x": "y",
    }
    assert read_binary_event(Form.JSON, attributes, b'{"n":1.10}').data == '{"n":1.10}'
    assert read_binary_event(Form.MSGPACK, attributes, msgpack.packb({"n": 1})).data == '{"n":1}'
    assert read_binary_event(Form.JSON, attributes, b"").subject == "Müller"


@pytest.mark.parametrize(
    ("change", "body", "field"),
    [
        ({"subject": "%FF"}, b"{}", "ce-*"),
        ({"type": ""}, b"{}", "type"),
        ({}, b"[]", "data"),
        ({}, b"{", "body"),
        ({"specversion": "0.3"}, b"{}", "specversion"),
    ],
)
def test_a_binary_cloud_event_that_breaks_a_rule_is_named(change: dict[str, str], body: bytes, field: str) -> None:
    attributes = {name: str(value) for name, value in CLOUD_EVENT.items()} | change
    with pytest.raises(InvalidInput) as refused:
        read_binary_event(Form.JSON, attributes, body)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (b"application/json", Form.JSON),
        (b'Application/JSON; charset="UTF-8"', Form.JSON),
        (b"application/json; charset=latin-1", None),
        (b"application/msgpack", Form.MSGPACK),
        (b"application/x-msgpack", Form.MSGPACK),
        (b"application/cloudevents+json; charset=utf-8", Form.CLOUDEVENT),
        (b"application/cloudevents-batch+json", Form.CLOUDEVENTS),
        (b"text/plain", None),
        (b"", None),
    ],
)
def test_the_form_follows_from_the_content_type(content_type: bytes, form: Form | None) -> None:
    assert form_of(content_type) is form


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK], ids=["json", "msgpack"])
def test_a_check_takes_an_exact_quantity_as_number_or_text(form: Form) -> None:
    question = {"subject": "acme", "feature": "tokens"}
    for quantity, exact in ((0.1, "0.1"), ("0.10", "0.10"), (3, "3")):
        assert str(read_check(form, packed(form, question | {"quantity": quantity})).quantity) == exact
    assert read_check(form, packed(form, question)).quantity == 1


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"quantity": "many"}, "quantity", "must be a decimal number"),
        ({"quantity": True}, "quantity", "must be a decimal number"),
        ({"feature": 1}, "feature", "must be a string"),
        ({"size": 1}, "size", "is not a field"),
    ],
)
def test_a_check_that_breaks_a_rule_is_named(change: dict[str, object], field: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as refused:
        read_check(Form.JSON, packed(Form.JSON, {"subject": "acme", "feature": "tokens"} | change))
    assert refused.value.field == field


def in_messagepack(numbers: int, number: bytes) -> bytes:
    """One event whose data holds so many numbers, each as those bytes."""
    data = b"\x81\xa1n\xdd" + numbers.to_bytes(4) + number * numbers
    return b"\x83\xa4type\xa4call\xa7subject\xa4acme\xa4data" + data


def test_the_longest_data_that_fits_as_json_is_taken_however_wide_its_messagepack_is() -> None:
    most = (MAX_DATA_BYTES - len('{"n":[]}') + 1) // 2
    zero = b"\xcf" + bytes(8)
    (event,) = read_events(Form.MSGPACK, in_messagepack(most, zero), 10).events
    assert event.data is not None
    assert MAX_DATA_BYTES - 1 <= len(event.data) <= MAX_DATA_BYTES
    (rejected,) = read_events(Form.MSGPACK, in_messagepack(most + 1, zero), 10).rejected
    assert (rejected.field, rejected.code) == ("data", "too_large")


@pytest.mark.parametrize(("more", "code"), [(-1, "invalid_input"), (0, "invalid_input"), (1, "too_large")])
def test_data_in_messagepack_beyond_its_bound_is_refused_unread(more: int, code: str) -> None:
    """It begins with an extension, which is what is wrong with it as soon as it is read."""
    count = MAX_PACKED_DATA_BYTES - len(b"\x81\xa1n\xdd....") - len(b"\xd4\x05x") + 1 + more
    data = b"\x81\xa1n\xdd" + count.to_bytes(4) + b"\xd4\x05x" + b"\xc0" * (count - 1)
    assert len(data) == MAX_PACKED_DATA_BYTES + more
    body = b"\x83\xa4type\xa4call\xa7subject\xa4acme\xa4data" + data
    (rejected,) = read_events(Form.MSGPACK, body, 10).rejected
    assert (rejected.field, rejected.code) == ("data", code)
