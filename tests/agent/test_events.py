"""The rules of an event, its form on the wire, and minted ids."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.errors import InvalidInput
from sidemeter.events import MAX_DATA_BYTES, Event, decode, encode, mint

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=128)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
objects = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])), scalars | st.lists(scalars, max_size=3), max_size=5
)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("type", {"type": ""}),
        ("type", {"type": "t" * 129}),
        ("type", {"type": 7}),
        ("subject", {"subject": ""}),
        ("subject", {"subject": "s" * 257}),
        ("subject", {"subject": "a\0b"}),
        ("subject", {"subject": "a\ud800"}),
        ("id", {"id": ""}),
        ("id", {"id": "i" * 257}),
        ("source", {"source": ""}),
        ("source", {"source": "s" * 257}),
        ("time", {"time": "2026-01-01T00:00:00"}),
        ("time", {"time": "2026-01-01"}),
        ("time", {"time": "20260101T000000Z"}),
        ("time", {"time": "2026-13-01T00:00:00Z"}),
        ("time", {"time": "2026-01-01T00:00:60Z"}),
        ("time", {"time": "now"}),
        ("time", {"time": 1767225600}),
        ("time", {"time": datetime(2026, 1, 1)}),  # noqa: DTZ001 -- the refusal of a naive time is the point
        ("data", {"data": [1]}),
        ("data", {"data": "{}"}),
        ("data", {"data": {"a": float("nan")}}),
        ("data", {"data": {"a": [{"b": -math.inf}]}}),
        ("data", {"data": {"a": Decimal("NaN")}}),
        ("data", {"data": {"a": Decimal("sNaN")}}),
        ("data", {"data": {"a": Decimal("-Infinity")}}),
        ("data", {"data": {"a": "\ud800"}}),
        ("data", {"data": {"a": object()}}),
        ("data", {"data": {"a": "x" * MAX_DATA_BYTES}}),
        ("data", {"data": nested(17)}),
        ("data", {"data": nested(100_000)}),
    ],
)
def test_what_breaks_a_rule_is_refused_by_the_name_of_its_field(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Event.of(**{"type": "call", "subject": "acme", **changes})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("too_deep", nested(17)),
        ("too_deep", {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}),
        ("too_large", {"a": "x" * MAX_DATA_BYTES}),
        ("invalid_input", {"a": math.nan}),
    ],
)
def test_refused_data_says_why_in_its_code(code: str, data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Event.of("call", "acme", data)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "data",
    [
        {},
        nested(16),
        {"a": "{[" * 40},
        {"nothing": None},
        {"NaN": "Infinity"},
        {"a": "x" * (MAX_DATA_BYTES - 8)},
        MappingProxyType({"a": 1}),
    ],
    ids=["empty", "sixteen levels", "brackets in text", "null", "names of numbers", "64 KiB", "any mapping"],
)
def test_data_at_the_edge_of_a_rule_is_taken(data: dict[str, Any]) -> None:
    text = Event.of("call", "acme", data).data
    assert text is not None
    assert json.loads(text) == dict(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e22, "1e22"),
        (Decimal("0.10"), "0.10"),
        (Decimal("1E+5"), "1E+5"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (2**70, "1180591620717411303424"),
    ],
)
def test_numbers_keep_their_exact_decimal_text(value: object, text: str) -> None:
    assert Event.of("call", "acme", {"n": value}).data == f'{{"n":{text}}}'


@pytest.mark.parametrize(
    ("time", "time_us"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
        ("2026-01-01t00:00:00.5z", 1_767_225_600_500_000),
        ("2026-01-01 01:00:00.123456999+01:00", 1_767_225_600_123_456),
        ("1970-01-01T00:00:00-00:00", 0),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000_000),
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000_000),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5))), 1_767_243_600_000_000),
    ],
)
def test_a_time_becomes_whole_microseconds(time: datetime | str, time_us: int) -> None:
    assert Event.of("call", "acme", time=time).time_us == time_us


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))))
def test_every_aware_datetime_is_kept_to_the_microsecond(time: datetime) -> None:
    time_us = Event.of("call", "acme", time=time).time_us
    assert time_us is not None
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us) == time


@given(id=names, source=names, type=names, subject=names, time=st.datetimes(timezones=st.just(UTC)), data=objects)
def test_an_event_comes_back_from_the_wire_as_it_was(data: dict[str, Any], **fields: Any) -> None:
    event = Event.of(data=data, **fields)
    body = encode(event)
    assert decode(body) == event
    assert msgpack.unpackb(body) == [event.id, event.source, event.type, event.subject, event.time_us, event.data]


@given(objects)
def test_data_comes_back_with_every_number_exact(data: dict[str, Any]) -> None:
    text = Event.of("call", "acme", data).data
    assert text is not None
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == _exact(data)


def test_two_starts_never_mint_the_same_id() -> None:
    first, second = mint("0" * 16), mint("1" * 16)
    assert len({mint_id() for mint_id in (first, second) for _ in range(1000)}) == 2000


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _exact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_exact(inner) for inner in value]
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value
