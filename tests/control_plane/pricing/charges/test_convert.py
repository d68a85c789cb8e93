"""Conversion of a quantity, and how it rounds."""

from decimal import Decimal

import pytest
from charges import charge, lines
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import ConvertSpec, Rounding
from sidemeter_control.pricing.charges.convert import divided, read_convert


@pytest.mark.parametrize(
    ("quantity", "rounding", "precision", "expected"),
    [
        ("1247", "UP", 0, "2"),
        ("1000", "UP", 0, "1"),
        ("0", "UP", 0, "0"),
        ("1900", "DOWN", 0, "1"),
        ("1500", "HALF_UP", 0, "2"),
        ("1499.999", "HALF_UP", 0, "1"),
        ("244", "HALF_UP", 1, "0.2"),
        ("250", "HALF_UP", 1, "0.3"),
        ("-1500", "UP", 0, "-1"),
        ("-1500", "DOWN", 0, "-2"),
        ("-1500", "HALF_UP", 0, "-2"),
    ],
)
def test_a_quotient_is_rounded_as_it_says(quantity: str, rounding: str, precision: int, expected: str) -> None:
    assert divided(Decimal(quantity), Decimal(1000), Rounding(rounding), precision) == Decimal(expected)


@given(st.decimals("-1e9", "1e9", places=9), st.decimals("0.001", "1e6", places=3), st.integers(0, 9))
def test_up_and_down_enclose_the_quotient_and_half_up_is_the_nearer(
    quantity: Decimal, divisor: Decimal, precision: int
) -> None:
    down, up, near = (
        divided(quantity, divisor, each, precision) for each in (Rounding.DOWN, Rounding.UP, Rounding.HALF_UP)
    )
    assert down * divisor <= quantity <= up * divisor
    assert up - down in (0, Decimal(1).scaleb(-precision))
    assert abs(near * divisor - quantity) <= min(abs(each * divisor - quantity) for each in (down, up))


@pytest.mark.parametrize(
    ("rule", "quantity", "expected"),
    [
        ({"multiply": "1.2"}, "10", "12"),
        ({"divide": "1000"}, "1900", "1.9"),
        ({"divide": "3600"}, "3600", "1"),
        ({"divide": "3"}, "1", "0.333333333333333333"),
        ({"multiply": "3", "divide": "2"}, "5", "7.5"),
        ({"multiply": "1.25", "rounding": "UP"}, "3", "4"),
    ],
)
def test_without_a_rounding_nothing_is_lost_that_18_digits_can_hold(
    rule: dict[str, str], quantity: str, expected: str
) -> None:
    decimals = {name: Rounding(text) if name == "rounding" else Decimal(text) for name, text in rule.items()}
    assert read_convert("convert", ConvertSpec(**decimals)).of(Decimal(quantity)) == Decimal(expected)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "convert: must have a multiply, a divide or both"),
        ({"divide": "0"}, "convert.divide: must be more than zero"),
        ({"multiply": "-1"}, "convert.multiply: must be more than zero"),
        ({"divide": "2", "rounding": "UP", "precision": 19}, "convert.precision: must be from 0 to 18"),
        ({"divide": "2", "rounding": "UP", "precision": -1}, "convert.precision: must be from 0 to 18"),
        ({"divide": "2", "precision": 1}, "convert.rounding: must be given with a precision"),
    ],
)
def test_a_wrong_conversion_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("PER_UNIT", unitPrice="1", convert=rule)
    assert str(caught.value) == f"charges.input.{message}"


def test_lines_say_what_became_of_the_quantity() -> None:
    thousands = charge("PER_UNIT", unitPrice="3", convert={"divide": "1000", "rounding": "UP"})
    assert lines(thousands, "1247") == [
        ("1,247 tokens ÷ 1,000, rounded up = 2", "0"),
        ("2 × 1,000 tokens at 3 USD", "6"),
    ]
    assert lines(thousands, "0") == []
    other = charge("PER_UNIT", unitPrice="3", convert={"multiply": "1.2"})
    assert lines(other, "10") == [("10 tokens × 1.2 = 12", "0"), ("12 units at 3 USD", "36")]


def test_a_list_of_prices_is_converted_entry_by_entry() -> None:
    own = charge(
        "MATRIX",
        rates=[{"match": {"model": "large"}, "unitPrice": "5"}],
        defaultUnitPrice="1",
        convert={"divide": "1000", "rounding": "UP"},
    )
    assert lines(own, "1500") == [
        ("1,500 tokens ÷ 1,000, rounded up = 2", "0"),
        ("2 × 1,000 tokens of any other kind at 1 USD", "2"),
    ]
