"""Money: exact in, exact out, rounded only where it is said."""

from decimal import Decimal, Inexact, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import Money, check_currency, check_minor_unit, decimal_text, exact, parse_decimal, rounded

exact_decimals = st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**18), max_value=10**18)


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("0.005", "USD", "0.01"),
        ("-0.005", "USD", "-0.01"),
        ("2.675", "EUR", "2.68"),
        ("0.4", "JPY", "0"),
        ("0.5", "JPY", "1"),
        ("-100.5", "JPY", "-101"),
        ("0.0005", "KWD", "0.001"),
        ("1.00005", "CLF", "1.0001"),
        ("1000.5", "VND", "1001"),
        ("1.005", "RSD", "1.01"),
        ("1.0005", "IQD", "1.001"),
        ("999999999999999999.995", "USD", "1000000000000000000.00"),
    ],
)
def test_money_rounds_half_away_from_zero_to_the_minor_unit(amount: str, currency: str, expected: str) -> None:
    assert str(rounded(Decimal(amount), currency)) == expected


def test_money_of_an_amount_keeps_the_exact_one_beside_the_rounded_one() -> None:
    assert Money.of(Decimal("0.333"), "USD") == Money(Decimal("0.333"), "USD", Decimal("0.33"))


@pytest.mark.parametrize("code", ["", "usd", "US", "USDX", "ZZZ", "XXX"])
def test_an_unknown_currency_is_refused(code: str) -> None:
    with pytest.raises(InvalidInput, match="currency: must be the ISO 4217 code"):
        check_currency("currency", code)


@pytest.mark.parametrize("code", ["USD", "EUR", "JPY", "KWD", "XAF"])
def test_a_known_currency_passes(code: str) -> None:
    check_currency("currency", code)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "NaN",
            "Infinity",
            "-Infinity",
            "sNaN",
            "",
            " 1",
            "1 ",
            "1\n",
            "+1",
            "--1",
            "1.",
            ".5",
            "1_000",
            "1,5",
            "0x10",
        ),
        *("\u0661", "1e41", "1e999999999", "1e-41", "1" * 41, "0." + "1" * 40),
    ],
)
def test_text_that_is_no_exact_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a decimal"):
        parse_decimal(text)


@given(exact_decimals)
def test_an_exact_decimal_survives_its_text(value: Decimal) -> None:
    assert parse_decimal(decimal_text(value)) == value


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_has_no_text(value: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        decimal_text(Decimal(value))


@given(exact_decimals, exact_decimals)
def test_exact_computation_keeps_every_digit(left: Decimal, right: Decimal) -> None:
    product = exact(lambda: left * right)()
    numerator = left.as_integer_ratio()[0] * right.as_integer_ratio()[0]
    denominator = left.as_integer_ratio()[1] * right.as_integer_ratio()[1]
    assert product.as_integer_ratio()[0] * denominator == numerator * product.as_integer_ratio()[1]


def test_a_result_that_would_lose_a_digit_raises() -> None:
    with pytest.raises(Inexact):
        exact(lambda: Decimal(1) / 3)()


@pytest.mark.parametrize(
    ("amount", "currency", "rule"),
    [
        ("0.225", "USD", "must have at most 2 digits after the point: USD has nothing smaller"),
        ("0.5", "JPY", "must be a whole number: JPY has nothing smaller"),
        ("0.0005", "KWD", "must have at most 3 digits after the point: KWD has nothing smaller"),
    ],
)
def test_an_amount_that_nobody_can_pay_is_refused(amount: str, currency: str, rule: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_minor_unit("amount", Decimal(amount), currency)
    assert (caught.value.field, caught.value.rule) == ("amount", rule)


@pytest.mark.parametrize(("amount", "currency"), [("0.2200", "USD"), ("-5", "JPY"), ("1.005", "KWD"), ("1E+3", "JPY")])
def test_zeros_behind_the_minor_unit_are_no_digits(amount: str, currency: str) -> None:
    check_minor_unit("amount", Decimal(amount), currency)


def test_whoever_computes_exactly_leaves_the_context_of_others_as_it_was() -> None:
    before = getcontext()
    inner = exact(lambda: Decimal(10**40) + Decimal("0.1"))
    assert exact(lambda: inner() - Decimal(10**40))() == Decimal("0.1")
    with pytest.raises(Inexact):
        exact(exact(lambda: Decimal(1) / 3))()
    assert getcontext() is before
