"""Commitments: what is missing to them, and what is beyond."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.money import Money
from sidemeter_control.pricing.commitments import committed
from sidemeter_control.pricing.words import Language, Words

WORDS = Words("USD")


def owed(price: str, commitment: str, factor: str = "1", *, true_up: bool = True, final: bool = True) -> Decimal:
    lines = committed(
        Money.of(Decimal(price), "USD"),
        Decimal(commitment),
        WORDS,
        overage_factor=Decimal(factor),
        true_up=true_up,
        final=final,
    )
    return Decimal(price) + sum(line.amount for line in lines)


@pytest.mark.parametrize(
    ("price", "factor", "options", "expected"),
    [
        ("70", "1", {}, 100),
        ("70", "2", {}, 100),
        ("100", "2", {}, 100),
        ("130", "1", {}, 130),
        ("130", "2", {}, 160),
        ("130", "0.5", {}, 115),
        ("70", "2", {"true_up": False}, 70),
        ("130", "2", {"true_up": False}, 160),
        ("70", "2", {"final": False}, 70),
        ("130", "2", {"final": False}, 160),
        ("0", "1", {}, 100),
    ],
)
def test_below_it_is_owed_whole_and_beyond_it_the_factor(
    price: str, factor: str, options: dict[str, bool], expected: int
) -> None:
    assert owed(price, "100", factor, **options) == expected


def test_the_lines_say_why() -> None:
    below = committed(Money.of(Decimal(70), "USD"), Decimal(100), Words("USD", language=Language.DE))
    assert [(line.text, line.amount) for line in below] == [("angehoben auf die Mindestabnahme von 100 USD", 30)]
    above = committed(Money.of(Decimal(1120), "USD"), Decimal(1000), WORDS, overage_factor=Decimal("1.5"))
    assert [(line.text, line.amount) for line in above] == [
        ("120 USD above the commitment of 1,000 USD, charged 1.5 times", 60)
    ]
    assert committed(Money.of(Decimal(120), "USD"), Decimal(100), WORDS) == ()


amounts = st.decimals("0", "1000", places=2)


@given(st.lists(amounts, min_size=1, max_size=5).map(sorted), amounts, st.decimals("1", "3", places=1))
def test_slices_add_up_to_what_the_period_owes(prices: list[Decimal], commitment: Decimal, factor: Decimal) -> None:
    cumulative = [owed(str(p), str(commitment), str(factor), final=p is prices[-1]) for p in prices]
    slices = [cumulative[0], *(b - a for a, b in pairwise(cumulative))]
    price = prices[-1]
    whole = commitment + factor * (price - commitment) if price > commitment else commitment
    assert sum(slices) == whole
