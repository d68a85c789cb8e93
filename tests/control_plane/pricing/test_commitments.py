"""Commitments: what is owed for use below, at and beyond what was committed."""

from decimal import Decimal

import msgspec
import pytest

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.commitments import (
    MAX_FACTOR,
    MAX_SMOOTHING_MONTHS,
    CommitmentSpec,
    check_commitment,
    committed,
)

HUNDRED = CommitmentSpec(amount=Decimal(100))


@pytest.mark.parametrize(
    ("price", "options", "owed"),
    [
        ("60", {}, "100"),
        ("100", {}, "100"),
        ("130", {}, "130"),
        ("130", {"overage_factor": Decimal("1.5")}, "145.0"),
        ("130", {"overage_factor": Decimal(0)}, "100"),
        ("60", {"true_up": False}, "60"),
        ("60", {"final": False}, "60"),
        ("130", {"overage_factor": Decimal(2), "final": False}, "130"),
    ],
)
def test_what_is_owed_of_a_commitment_of_a_hundred(price: str, options: dict[str, object], owed: str) -> None:
    assert committed(Decimal(price), Decimal(100), **options) == Decimal(owed)


@pytest.mark.parametrize(
    ("change", "months", "message"),
    [
        ({"amount": Decimal(0)}, 1, "commitment.amount: must be more than zero"),
        ({"overage_factor": Decimal(101)}, 1, "commitment.overageFactor: must be at most 100"),
        ({"overage_factor": Decimal(-1)}, 1, "commitment.overageFactor: must not be negative"),
        ({"discount_percentage": Decimal(101)}, 1, "commitment.discountPercentage: must be at most 100"),
        ({"smoothing_months": 4}, 3, "commitment.smoothingMonths: must be a multiple of 3, and at most 60"),
        ({"smoothing_months": 61}, 1, "commitment.smoothingMonths: must be a multiple of 1, and at most 60"),
        (
            {"smoothing_months": 1},
            None,
            "commitment.smoothingMonths: must be absent: the billing period is shorter than a month",
        ),
    ],
)
def test_a_wrong_commitment_is_refused_by_field_and_rule(
    change: dict[str, object], months: int | None, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_commitment("commitment", msgspec.structs.replace(HUNDRED, **change), months)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "terms",
    [
        {"smoothing_months": 12},
        {"smoothing_months": MAX_SMOOTHING_MONTHS},
        {"overage_factor": Decimal(MAX_FACTOR)},
        {"discount_percentage": Decimal(100)},
    ],
)
def test_a_right_commitment_passes(terms: dict[str, object]) -> None:
    check_commitment("commitment", msgspec.structs.replace(HUNDRED, **terms), 3)
