"""OUTCOME: owed at once, until a later event takes it back."""

from decimal import Decimal
from typing import Any

import pytest
from charges import WORDS, charge, lines

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import Outcome, Used, UsedLine

RULE = {"confirmType": "ticket.solved", "reverseType": "ticket.reopened", "windowHours": 72}


def of(**counts: int) -> Used:
    return Used.of_lines(UsedLine(Decimal(count), outcome=Outcome[state]) for state, count in counts.items())


def test_every_state_has_a_line_that_says_it() -> None:
    own = charge("OUTCOME", unitPrice="0.99", outcome=RULE)
    assert lines(own, of(REVERSED=2, PROVISIONAL=5, CONFIRMED=3, EXPIRED=1)) == [
        ("3 tokens confirmed at 0.99 USD", "2.97"),
        ("1 tokens at 0.99 USD, not reversed in time", "0.99"),
        ("5 tokens at 0.99 USD, provisional until confirmed or reversed", "4.95"),
        ("2 tokens reversed, not charged", "0"),
    ]


def test_free_units_are_spent_on_what_is_settled_first_and_never_on_what_was_reversed() -> None:
    own = charge("OUTCOME", unitPrice="2", outcome=RULE, includedUnits="4")
    assert lines(own, of(REVERSED=2, PROVISIONAL=1, CONFIRMED=3)) == [
        ("4 tokens included", "0"),
        ("2 tokens reversed, not charged", "0"),
    ]
    assert lines(own, of(REVERSED=1)) == [("1 tokens reversed, not charged", "0")]


def test_what_is_in_no_state_yet_is_provisional() -> None:
    own = charge("OUTCOME", unitPrice="2", outcome=RULE)
    assert lines(own, "3") == lines(own, of(PROVISIONAL=3))
    assert lines(own, "0") == []


@pytest.mark.parametrize(("state", "owed"), [("CONFIRMED", 20), ("EXPIRED", 20), ("PROVISIONAL", 20), ("REVERSED", 0)])
def test_only_a_reversal_takes_it_back(state: str, owed: int) -> None:
    own = charge("OUTCOME", unitPrice="2", outcome=RULE)
    price = own.price_since(of(PROVISIONAL=10), of(**{state: 10}), WORDS)
    assert price.total.amount == owed - 20
    assert own.price(of(**{state: 10}), WORDS).total.amount == owed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windowHours": 0}, "windowHours: must be from 1 to 8784"),
        ({"windowHours": 8785}, "windowHours: must be from 1 to 8784"),
        ({"confirmType": ""}, "confirmType: must be 1 to 128 characters"),
        ({"reverseType": "ticket.solved"}, "reverseType: must differ from confirmType"),
        ({"property": "a..b"}, "property: must be names joined by dots"),
    ],
)
def test_a_wrong_rule_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("OUTCOME", unitPrice="1", outcome=RULE | change)
    assert str(caught.value) == f"charges.input.outcome.{message}"


def test_both_the_price_and_the_rule_are_needed() -> None:
    for parameters, field in (({"unitPrice": "1"}, "outcome"), ({"outcome": RULE}, "unitPrice")):
        with pytest.raises(InvalidInput) as caught:
            charge("OUTCOME", **parameters)
        assert caught.value.field == f"charges.input.{field}"
