"""The scalars: exact both ways, and nothing else gets in."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import strawberry
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig

from sidemeter_control.api.scalars import (
    SCALARS,
    Instant,
    Json,
    Unfit,
    instant_text,
    parse_decimal,
    parse_instant,
)
from sidemeter_control.money import MAX_DECIMAL_DIGITS, decimal_text


@strawberry.type
class Query:
    @strawberry.field
    def decimal(self, value: Decimal) -> str:
        return repr(value)

    @strawberry.field
    def instant(self, value: Instant) -> Instant:
        return value

    @strawberry.field
    def json(self, value: Json) -> str:
        return repr(value)


SCHEMA = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=SCALARS))

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=9)


@given(decimals)
def test_a_decimal_comes_back_with_the_same_value_in_plain_notation(value: Decimal) -> None:
    text = decimal_text(value)
    assert "e" not in text.lower()
    assert not ("." in text and text.endswith("0"))
    assert parse_decimal(text) == value
    assert decimal_text(parse_decimal(text)) == text


@given(st.text())
def test_no_text_at_all_becomes_anything_but_a_finite_bounded_decimal(text: str) -> None:
    try:
        value = parse_decimal(text)
    except Unfit:
        return
    assert value.is_finite()
    assert len(decimal_text(value)) <= MAX_DECIMAL_DIGITS + 2


@pytest.mark.parametrize(
    "value",
    [
        *(
            "NaN",
            "sNaN",
            "Infinity",
            "-Infinity",
            "inf",
            "",
            " 1",
            "1 ",
            "1_000",
            "1,5",
            ".5",
            "5.",
            "+1",
            "0x10",
            "--1",
        ),
        *("1E+41", "1E-41", "1E+999999999", "1e400", "9" * 41, "0." + "0" * 40 + "1", "١٢٣", "\uff11"),
        *(1, 1.5, Decimal("1.5"), True, None, ["1"], {"a": "1"}),
    ],
)
def test_anything_but_a_plain_finite_decimal_string_is_refused(value: object) -> None:
    with pytest.raises(Unfit, match="a Decimal"):
        parse_decimal(value)


@pytest.mark.parametrize("literal", ["0.1", "1", "true", "null", "[1]", "{a: 1}", "ONE", '"NaN"'])
def test_a_decimal_literal_that_is_not_a_string_is_refused(literal: str) -> None:
    answer = SCHEMA.execute_sync(f"{{ decimal(value: {literal}) }}")
    assert answer.errors


def test_a_decimal_literal_never_passes_through_a_float() -> None:
    answer = SCHEMA.execute_sync('{ decimal(value: "123456789012345678.123456789") }')
    assert answer.data == {"decimal": "Decimal('123456789012345678.123456789')"}


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_value_that_is_no_number_never_goes_out(value: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        decimal_text(Decimal(value))


offsets = st.integers(min_value=-23 * 60, max_value=23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=offsets))  # noqa: DTZ001 -- bounds are naive
def test_an_instant_comes_back_in_utc_to_the_microsecond(value: datetime) -> None:
    text = instant_text(parse_instant(value.isoformat()))
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == value.astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T00:00:00.1234569Z", 123_456),
        ("2024-02-29T12:00:00-05:30", 1_709_227_800_000_000),
    ],
)
def test_an_instant_is_rfc_3339(text: str, value: int) -> None:
    assert parse_instant(text) == value


@pytest.mark.parametrize(
    "value",
    [
        *("2026-01-31T09:30:00", "2026-01-31", "2026-01-31T09:30Z", "20260131T093000Z", "2026-W05-6T00:00:00Z"),
        *("2026-02-30T00:00:00Z", "2026-01-01T24:01:00Z", "2026-01-01T00:00:00+25:00", "0000-01-01T00:00:00Z"),
        *("2026-01-01T00:00:00.Z", "2026-01-01T00:00:00,5Z", "now", "", 0, 1.5, None, True),
    ],
)
def test_an_instant_without_offset_or_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(Unfit):
        parse_instant(value)


def test_a_number_is_no_instant_in_a_literal_either() -> None:
    assert SCHEMA.execute_sync("{ instant(value: 0) }").errors


def test_json_literals_keep_every_digit() -> None:
    answer = SCHEMA.execute_sync(
        '{ json(value: {tokens: 1.10, n: 123456789012345678901, s: "x", l: [true, null], e: []}) }'
    )
    expected = {"tokens": Decimal("1.10"), "n": 123456789012345678901, "s": "x", "l": [True, None], "e": []}
    assert answer.data == {"json": repr(expected)}


def test_json_literals_take_variables_inside() -> None:
    answer = SCHEMA.execute_sync("query ($n: String) { json(value: {n: $n}) }", variable_values={"n": "three"})
    assert answer.data == {"json": repr({"n": "three"})}


@pytest.mark.parametrize("literal", ["{a: WORD}", "[1e99999999999999999999]"])
def test_what_is_not_json_is_refused_in_a_literal(literal: str) -> None:
    assert SCHEMA.execute_sync(f"{{ json(value: {literal}) }}").errors
