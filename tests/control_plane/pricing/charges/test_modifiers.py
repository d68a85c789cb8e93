"""Modifiers of any charge, and the order in which they work."""

from decimal import Decimal
from typing import Any

import pytest
from charges import WORDS, charge, lines

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import Money
from sidemeter_control.pricing.charges import Used
from sidemeter_control.pricing.words import Words


def per_unit(price: str = "1", **parameters: Any) -> Any:
    return charge("PER_UNIT", unitPrice=price, **parameters)


def test_all_of_them_work_in_one_order() -> None:
    own = charge(
        "VOLUME",
        tiers=[{"upTo": "3", "unitPrice": "100"}, {"unitPrice": "90"}],
        convert={"divide": "10", "rounding": "UP"},
        includedUnits="2",
        discountUnits="1",
        discountPercentages=["50", "20"],
        maximum="100",
        minimum="70",
    )
    assert lines(own, "61") == [
        ("61 tokens ÷ 10, rounded up = 7", "0"),
        ("2 × 10 tokens included", "0"),
        ("1 × 10 tokens free by discount", "0"),
        ("all 4 × 10 tokens at 90 USD", "360"),
        ("discount of 50% + 20%", "-216"),
        ("lowered to the maximum of 100 USD", "-44"),
    ]
    assert lines(own, "31") == [
        ("31 tokens ÷ 10, rounded up = 4", "0"),
        ("2 × 10 tokens included", "0"),
        ("1 × 10 tokens free by discount", "0"),
        ("all 1 × 10 tokens at 100 USD", "100"),
        ("discount of 50% + 20%", "-60"),
        ("raised to the minimum of 70 USD", "30"),
    ]


@pytest.mark.parametrize(
    ("price", "percentages", "currency", "rest"),
    [
        ("10.00", ["33.333"], "USD", "6.67"),
        ("1.00", ["0.5"], "USD", "0.99"),
        ("1.00", ["0.1"], "USD", "1.00"),
        ("1000", ["15.5"], "JPY", "845"),
        ("100", ["100"], "USD", "0.00"),
        ("100", ["50", "50"], "USD", "25.00"),
        ("-100", ["10"], "USD", "-90.00"),
        ("10.005", ["10"], "USD", "9.01"),
    ],
)
def test_the_discount_is_rounded_and_the_rest_is_the_difference(
    price: str, percentages: list[str], currency: str, rest: str
) -> None:
    own = charge("FLAT", amount=price, discountPercentages=percentages)
    assert own.price(Used.of(Decimal(0)), Words(currency)).total.rounded == Decimal(rest)


def test_a_minimum_waits_for_the_final_slice() -> None:
    own = per_unit("10", minimum="100")
    assert lines(own, "2", final=False) == [("2 tokens at 10 USD", "20")]
    assert lines(own, "0") == [("raised to the minimum of 100 USD", "100")]
    first = own.price(Used.of(Decimal(2)), WORDS, final=False).total.amount
    middle = own.price_since(Used.of(Decimal(2)), Used.of(Decimal(3)), WORDS, final=False).total.amount
    last = own.price_since(Used.of(Decimal(3)), Used.of(Decimal(4)), WORDS).total.amount
    assert (first, middle, last) == (20, 10, 70)


def test_a_maximum_holds_for_all_slices_together() -> None:
    own = per_unit("10", maximum="100")
    slices = [
        own.price_since(Used.of(Decimal(a)), Used.of(Decimal(b)), WORDS).total.amount for a, b in ((0, 5), (5, 15))
    ]
    assert slices == [50, 50]


def test_bounds_that_change_nothing_have_no_line() -> None:
    assert lines(per_unit("10", minimum="10", maximum="100"), "5") == [("5 tokens at 10 USD", "50")]


def test_exact_and_rounded_amounts_are_bounded_each() -> None:
    total = per_unit("0.001", minimum="1", maximum="2").price(Used.of(Decimal("1999.9")), WORDS).total
    assert total == Money(Decimal("1.9999"), "USD", Decimal("2.00"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"discountPercentages": []}, "discountPercentages: must be 1 to 5 percentages"),
        ({"discountPercentages": ["1"] * 6}, "discountPercentages: must be 1 to 5 percentages"),
        ({"discountPercentages": ["5", "100.1"]}, "discountPercentages[1]: must be at most 100"),
        ({"discountPercentages": ["-5"]}, "discountPercentages[0]: must not be negative"),
        ({"minimum": "-1"}, "minimum: must not be negative"),
        ({"minimum": "2", "maximum": "1"}, "minimum: must not be more than maximum"),
        ({"discountUnits": "-1"}, "discountUnits: must not be negative"),
    ],
)
def test_a_wrong_modifier_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        per_unit(**parameters)
    assert str(caught.value) == f"charges.input.{message}"


@pytest.mark.parametrize("name", ["includedUnits", "discountUnits"])
def test_a_recurring_fee_has_no_units(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("FLAT", amount="1", **{name: "1"})
    assert str(caught.value) == f"charges.input.{name}: is not a parameter of FLAT"


def test_the_longest_numbers_there_can_be_stay_exact() -> None:
    most = "999999999999999999.999999999999999999"
    own = per_unit(most, convert={"multiply": most}, discountPercentages=["99.999999999999999999"] * 5)
    total = own.price(Used.of(Decimal("9" * 30 + ".999999999")), WORDS).total
    assert total.amount > 0
