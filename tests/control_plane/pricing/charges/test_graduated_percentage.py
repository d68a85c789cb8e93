"""GRADUATED_PERCENTAGE: each slice of an amount at its own rate."""

import pytest
from charges import charge, lines

from sidemeter_control.errors import InvalidInput

RATES = [{"upTo": "100", "percentage": "5"}, {"percentage": "2.5", "flatFee": "10"}]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("150", [("first 100 USD at 5%", "5"), ("next 50 USD at 2.5% plus 10 USD flat", "11.25")]),
        ("100", [("first 100 USD at 5%", "5")]),
        ("0", []),
        ("-20", [("first -20 USD at 5%", "-1")]),
    ],
)
def test_each_slice_is_owed_at_the_rate_of_its_tier(amount: str, expected: list[tuple[str, str]]) -> None:
    assert lines(charge("GRADUATED_PERCENTAGE", tiers=RATES), amount) == expected


def test_a_tier_without_a_rate_is_free_or_flat() -> None:
    own = charge("GRADUATED_PERCENTAGE", tiers=[{"upTo": "1", "percentage": "0"}, {"flatFee": "3"}])
    assert lines(own, "5") == [("first 1 USD free", "0"), ("next 4 USD for 3 USD flat", "3")]


def test_a_rate_with_as_many_digits_as_there_can_be_is_exact() -> None:
    own = charge("GRADUATED_PERCENTAGE", tiers=[{"percentage": "123456789012345678.123456789012345678"}])
    assert [amount for _, amount in lines(own, "1")] == ["1234567890123456.78123456789012345678"]


def test_a_price_per_unit_is_refused_there_and_a_rate_elsewhere() -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("GRADUATED_PERCENTAGE", tiers=[{"unitPrice": "1"}])
    assert caught.value.field == "charges.input.tiers[0].unitPrice"
    with pytest.raises(InvalidInput) as caught:
        charge("GRADUATED", tiers=[{"percentage": "1"}])
    assert caught.value.field == "charges.input.tiers[0].percentage"
