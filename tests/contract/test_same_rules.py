"""The programs share no code and must agree: what the agent adds to a limit is what the control plane will count."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidemeter.batches import encode_events
from sidemeter.errors import InvalidInput
from sidemeter.events import Event, encode
from sidemeter.limits import Limit, Limits
from sidemeter.meters import Filter
from sidemeter.meters import Meter as AgentMeter
from sidemeter_control.metering.events import parse_data, read_array
from sidemeter_control.metering.meters import Aggregation, Meter, PropertyFilter, Reader, Uncountable, from_nano

NUMBERS = [
    *("0", "1", "-1", "0.1", "1e3", "1E-9", "1e-10", "999999999999999999", "1000000000000000000", "1e18", "1e17"),
    *("0.0000000001", "0e99", "-0", "1.50", "1e999999", "1e-999999", "123456789012345678.123456789", "0.10000000000"),
]
TEXTS = [
    "5",
    "+5",
    ".5",
    "5.",
    " 5",
    "5 ",
    "",
    "NaN",
    "Infinity",
    "1_000",
    "1e5",
    "1e99999",
    "٣",
    "0x10",
    "-.5e-1",
    "e5",
]
VALUES = st.one_of(
    st.sampled_from([*NUMBERS, *map(json.dumps, TEXTS), "null", "true", "false", "[1]", "{}", '{"b": 2}']),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.integers().map(str),
    st.text(max_size=12).map(json.dumps),
)


def counted_by_the_control_plane(data: str, rules: list[PropertyFilter]) -> Decimal:
    meter = Meter(0, "m", None, "call", Aggregation.SUM, "n", None, (), tuple(rules), None, 0)
    try:
        read = Reader(meter).read(parse_data(data), 0, "s", "1")
    except Uncountable:
        return Decimal(0)
    assert read is None or isinstance(read[1], int)
    return from_nano(read[1]) if read else Decimal(0)


def added_by_the_agent(data: str, rules: list[PropertyFilter]) -> Decimal | None:
    filters = tuple(Filter(each.property, each.is_in, each.not_in) for each in rules)
    meter = AgentMeter("call", "SUM", "n", filters)
    known = Limits(allow_unknown=False)
    subjects = {"acme": ["acme/f"]}
    limit = Limit("acme/f", "acme", "f", "METERED", "SOFT", 1, limit=Decimal(1), used=Decimal(0), meter=meter)
    known.learn(subjects, [(limit, 1, 0)])
    known.publish(subjects)
    known.recorded(1, Event("1", "s", "call", "acme", 0, data))
    return known.check("acme", "f").used


@given(VALUES)
@example("1e999999999")
@example("1e-999999999")
@example('"1e999999999"')
def test_a_value_adds_to_a_limit_what_will_be_counted(value: str) -> None:
    data = f'{{"n": {value}}}'
    assert added_by_the_agent(data, []) == counted_by_the_control_plane(data, [])


@given(VALUES, st.lists(st.text(max_size=6), min_size=1, max_size=3), st.booleans())
@example("1e999999999", ["1"], True)
@example("1.50", ["1.5"], True)
@example("-0.0", ["0"], True)
@example("-0", ["0"], True)
@example("1e3", ["1000"], True)
def test_a_filter_passes_what_will_be_counted(value: str, texts: list[str], wanted: bool) -> None:
    rule = PropertyFilter("p", tuple(texts) if wanted else None, None if wanted else tuple(texts))
    data = f'{{"n": 1, "p": {value}}}'
    assert added_by_the_agent(data, [rule]) == counted_by_the_control_plane(data, [rule])


@pytest.mark.parametrize("path", ["a", "a.b", "a.b.c"])
@pytest.mark.parametrize("data", ['{"a": 3}', '{"a": {"b": 4}}', '{"a": {"b": {"c": 5}}}', '{"a.b": 6}', "{}"])
def test_a_path_leads_both_to_the_same_value(path: str, data: str) -> None:
    meter = Meter(0, "m", None, "call", Aggregation.SUM, path, None, (), (), None, 0)
    limit = Limit("acme/f", "acme", "f", "METERED", "SOFT", 1, used=Decimal(0), meter=AgentMeter("call", "SUM", path))
    known = Limits(allow_unknown=False)
    known.learn({"acme": ["acme/f"]}, [(limit, 1, 0)])
    known.publish({"acme": ["acme/f"]})
    known.recorded(1, Event("1", "s", "call", "acme", 0, data))
    try:
        read = Reader(meter).read(parse_data(data), 0, "s", "1")
    except Uncountable:
        read = None
    assert known.check("acme", "f").used == (from_nano(read[1]) if read and isinstance(read[1], int) else 0)


NAMES = st.one_of(
    st.text(max_size=300), st.text(min_size=1, max_size=20), st.sampled_from(["a\0b", "\ud800", "é" * 256])
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@given(st.tuples(NAMES, NAMES, NAMES, NAMES), st.dictionaries(st.text(max_size=5), DATA, max_size=3), st.datetimes())
def test_what_the_agent_accepts_the_control_plane_reads(
    names: tuple[str, str, str, str], data: dict[str, object], time: datetime
) -> None:
    id_, source, type_, subject = names
    try:
        event = Event.of(type_, subject, data, id=id_, time=time.replace(tzinfo=UTC), source=source)
    except InvalidInput:
        return
    arrived = read_array(encode_events([encode(event)]))
    assert arrived.unreadable == []
    assert encode(event) == msgspec.msgpack.encode(arrived.events[0])
