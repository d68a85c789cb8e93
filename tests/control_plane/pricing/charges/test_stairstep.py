"""STAIRSTEP: the step that is reached, or all up to it."""

import pytest
from charges import charge, lines

from sidemeter_control.errors import InvalidInput

STEPS = [{"upTo": "10", "flatFee": "50"}, {"upTo": "20", "flatFee": "100"}, {"flatFee": "150"}]


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("0.5", [("all 0.5 tokens for 50 USD flat", "50")]),
        ("10", [("all 10 tokens for 50 USD flat", "50")]),
        ("10.01", [("all 10.01 tokens for 100 USD flat", "100")]),
        ("1000", [("all 1,000 tokens for 150 USD flat", "150")]),
        ("0", []),
        ("-3", []),
    ],
)
def test_the_step_that_is_reached_is_the_price(quantity: str, expected: list[tuple[str, str]]) -> None:
    assert lines(charge("STAIRSTEP", tiers=STEPS), quantity) == expected


def test_all_steps_up_to_it_are_added_when_it_is_cumulative() -> None:
    assert lines(charge("STAIRSTEP", tiers=STEPS, stairstepCumulative=True), "25") == [
        ("first 10 tokens for 50 USD flat", "50"),
        ("next 10 tokens for 100 USD flat", "100"),
        ("next 5 tokens for 150 USD flat", "150"),
    ]


@pytest.mark.parametrize("quantity", ["0", "-3"])
def test_the_first_step_is_owed_at_zero_only_if_the_charge_says_so(quantity: str) -> None:
    own = charge("STAIRSTEP", tiers=STEPS, chargeFlatFeeAtZero=True)
    assert [amount for _, amount in lines(own, quantity)] == ["50"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"unitPrice": "1"}], "charges.input.tiers[0].unitPrice: is not a parameter of this model's tiers"),
        ([{}], "charges.input.tiers[0]: must have a flatFee"),
        ([{"upTo": "1", "flatFee": "1"}], "charges.input.tiers[0].upTo: must be absent: the last tier is open"),
    ],
)
def test_a_step_has_a_flat_fee_and_nothing_else(steps: list[dict[str, str]], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("STAIRSTEP", tiers=steps)
    assert str(caught.value) == message
