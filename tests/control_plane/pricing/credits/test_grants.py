"""What makes a grant or a top-up rule right, and what a grant is without what was left out."""

from dataclasses import replace
from decimal import Decimal

import pytest

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.credits.grants import (
    MONEY,
    CreditUnit,
    Denomination,
    GrantSpec,
    TopUp,
    check_top_up,
    new_grant,
)
from sidemeter_control.pricing.periods import Interval, Recurrence

UNITS = Denomination(CreditUnit.FEATURE, "tokens")
NOW = 1_000_000


def spec(**fields: object) -> GrantSpec:
    return GrantSpec(**({"customer": "acme", "amount": Decimal(10)} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"amount": Decimal(0)}, "amount: must be more than zero"),
        ({"amount": Decimal("1.005")}, "amount: must be a whole number of EUR's minor units"),
        ({"amount": Decimal("1E18")}, "amount: must be a number of at most 18 digits before and 18 after the point"),
        ({"expires_at_us": NOW}, "expiresAt: must be after effectiveAt"),
        (
            {"effective_at_us": 1, "expires_at_us": NOW},
            "expiresAt: must be in the future: what has expired pays for nothing",
        ),
        ({"effective_at_us": -1}, "effectiveAt: must lie between the years 1970 and 9000"),
        ({"expires_at_us": 10**18}, "expiresAt: must lie between the years 1970 and 9000"),
        ({"anchor_us": 5}, "recurrenceAnchor: must be absent: there is no recurrence"),
        ({"anchor_us": -5, "recurrence": Interval.DAY}, "recurrenceAnchor: must lie between the years 1970 and 9000"),
        ({"rollover_max": Decimal(-1)}, "rolloverMax: must not be negative"),
        (
            {"rollover_max": Decimal(2), "rollover_min": Decimal(3)},
            "rolloverMin: must be at most rolloverMax, which is 2",
        ),
        ({"charges": ()}, "charges: must be 1 to 200 keys of charges"),
        (
            {"charges": ("api", "a b")},
            "charges[1]: must be 1 to 128 letters, digits and . _ : -, beginning with a letter or digit",
        ),
        (
            {"charges": ("api",), "denomination": UNITS},
            "charges: must be absent: units of a feature pay for its use, whatever it is charged",
        ),
        ({"idempotency_key": ""}, "idempotencyKey: must be 1 to 256 characters"),
    ],
)
def test_a_wrong_grant_is_refused_by_field_and_rule(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        new_grant(spec(**wrong), "g", NOW, "EUR")
    assert str(caught.value) == message


def test_money_needs_a_currency_and_has_its_digits() -> None:
    with pytest.raises(InvalidInput, match="unit: must not be MONEY: the customer has no currency yet"):
        new_grant(spec(), "g", NOW, None)
    assert new_grant(spec(amount=Decimal("0.005")), "g", NOW, "KWD").currency == "KWD"
    with pytest.raises(InvalidInput, match="JPY"):
        new_grant(spec(amount=Decimal("0.5")), "g", NOW, "JPY")
    units = new_grant(spec(amount=Decimal("0.005"), denomination=UNITS), "g", NOW, None)
    assert (units.amount, units.currency) == (Decimal("0.005"), None)


@pytest.mark.parametrize(
    ("unit", "feature", "message"),
    [
        (CreditUnit.FEATURE, None, "feature: must be given: the unit is FEATURE"),
        (CreditUnit.MONEY, "tokens", "feature: must be absent: the unit is MONEY"),
    ],
)
def test_a_feature_is_named_where_the_unit_is_one(unit: CreditUnit, feature: str | None, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Denomination.read(unit, feature)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, 10),
        ({"denomination": UNITS}, 0),
        ({"denomination": UNITS, "purchased": True}, 10),
        ({"rollover_max": Decimal(3)}, 3),
        ({"rollover_max": Decimal(0), "purchased": True}, 0),
    ],
    ids=["money", "granted units", "purchased units", "as told", "told to keep nothing"],
)
def test_what_was_paid_for_outlives_a_period_unless_it_is_told_otherwise(fields: dict[str, object], kept: int) -> None:
    assert new_grant(spec(**fields), "g", NOW, "EUR").rollover_max == kept


def test_a_grant_recurs_on_the_customers_clock_from_its_anchor() -> None:
    made = new_grant(spec(recurrence=Interval.MONTH, effective_at_us=0, anchor_us=7), "g", NOW, "EUR")
    recurrence = made.burns("Europe/Berlin").recurrence
    assert isinstance(recurrence, Recurrence)
    assert (recurrence.start_us(0), str(recurrence.anchor.tzinfo)) == (7, "Europe/Berlin")
    assert replace(made, anchor_us=None).burns("UTC").recurrence == Recurrence.every(Interval.MONTH, 1, 0, "UTC")


def test_a_grant_knows_what_it_was_made_of_whenever_it_is_asked_again() -> None:
    asked = spec(expires_at_us=NOW + 5)
    made = replace(new_grant(asked, "g", NOW, "EUR"), voided_at_us=NOW + 2, void_reason="error")
    assert made.is_of(asked, "EUR")
    assert not made.is_of(replace(asked, amount=Decimal(11)), "EUR")
    assert not made.is_of(replace(asked, effective_at_us=NOW + 1), "EUR")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"below": Decimal(-1)}, "below: must not be negative"),
        ({"amount": Decimal(0)}, "amount: must be more than zero"),
        ({"amount": Decimal("0.001")}, "amount: must be a whole number of EUR's minor units"),
        ({"max_per_period": 0}, "maxPerPeriod: must be from 1 to 100"),
    ],
)
def test_a_wrong_top_up_rule_is_refused_by_field_and_rule(wrong: dict[str, object], message: str) -> None:
    rule = replace(TopUp("acme", MONEY, Decimal(1), Decimal(10), 3, NOW), **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as caught:
        check_top_up(rule, "EUR")
    assert str(caught.value) == message
