"""A price that somebody tries, and what is asked of the usage for it."""

from decimal import Decimal
from typing import Any

import pytest
from charges import spec
from shop import us

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import Money
from sidemeter_control.pricing.preview import UsageLineSpec, UsageSpec, preview
from sidemeter_control.pricing.words import Language

MATRIX = spec("MATRIX", rates=[{"match": {"region": "eu"}, "unitPrice": "1"}], defaultUnitPrice="2")
BANDS = spec("TIME_OF_DAY", bands=[{"from": "00:00", "to": "01:00", "unitPrice": "1"}], defaultUnitPrice="2")
EVENTS = spec("PERCENTAGE", percentage="1", fixedPerEvent="1")
UNITS = spec("PER_UNIT", unitPrice="0.001")
OUTCOME = spec("OUTCOME", unitPrice="1", outcome={"confirmType": "a", "reverseType": "b", "windowHours": 1})


def line(quantity: int, at: str | None = None, **dimensions: Any) -> UsageLineSpec:
    at_us = None if at is None else us(at)
    return UsageLineSpec(dimensions=dimensions, quantity=Decimal(quantity), at_us=at_us)


def owed(charge: Any, **usage: Any) -> Decimal:
    return preview("USD", charge, UsageSpec(**usage)).total.amount


def test_a_quantity_and_what_comes_on_top_of_one() -> None:
    assert preview("USD", UNITS, UsageSpec(quantity=Decimal(333))).total == Money(
        Decimal("0.333"), "USD", Decimal("0.33")
    )
    more = UsageSpec(quantity=Decimal(0), previous_quantity=Decimal(6))
    assert preview("USD", UNITS, more).total == Money(Decimal("-0.006"), "USD", Decimal("-0.01"))


def test_events_and_lines_are_a_quantity_where_one_is_enough() -> None:
    assert owed(UNITS, events=[Decimal(300), Decimal(33)]) == Decimal("0.333")
    assert owed(UNITS, lines=[line(300, region="eu"), line(33)]) == Decimal("0.333")


def test_each_model_takes_what_it_needs() -> None:
    assert owed(EVENTS, events=[Decimal(100), Decimal(200)]) == 5
    assert owed(MATRIX, lines=[line(3, region="eu"), line(5, region=None), line(7)]) == 27
    assert owed(OUTCOME, lines=[line(3, outcome="REVERSED"), line(5, outcome="CONFIRMED"), line(7)]) == 12
    assert owed(OUTCOME, quantity=Decimal(4)) == 4
    assert owed(spec("PERCENTAGE", percentage="1"), quantity=Decimal(100), previous_quantity=Decimal(50)) == Decimal(
        "0.5"
    )
    assert owed(spec("FLAT", amount="5")) == 5


def test_bands_are_on_the_clock_of_the_zone_that_is_asked_for() -> None:
    usage = UsageSpec(lines=[line(1, "2026-07-01T22:30Z"), line(1, "2026-07-01T00:30Z")])
    assert preview("USD", BANDS, usage).total.amount == 3
    assert [each.amount for each in preview("USD", BANDS, usage, time_zone="Europe/Berlin").lines] == [1, 2]


def test_a_slice_that_is_not_final_owes_no_minimum() -> None:
    charge = spec("PER_UNIT", unitPrice="1", minimum="10")
    assert (owed(charge, quantity=Decimal(3)), owed(charge, quantity=Decimal(3), final=False)) == (10, 3)


def test_it_speaks_the_language_that_is_asked_for() -> None:
    price = preview("EUR", UNITS, UsageSpec(quantity=Decimal("1.5")), language=Language.DE)
    assert [each.text for each in price.lines] == ["1,5 Einheiten zu je 0,001 EUR"]


@pytest.mark.parametrize(
    ("charge", "usage", "message"),
    [
        (UNITS, {}, "usage.quantity: must be given: the charge prices a meter"),
        (MATRIX, {}, "usage.lines: must be given: the charge prices a meter"),
        (EVENTS, {}, "usage.events: must be given: the charge prices a meter"),
        (
            UNITS,
            {"quantity": Decimal(1), "events": [Decimal(1)]},
            "usage.events: must be absent beside quantity: a usage is written in one way",
        ),
        (
            UNITS,
            {"events": [Decimal(1)], "lines": []},
            "usage.lines: must be absent beside events: a usage is written in one way",
        ),
        (MATRIX, {"events": [Decimal(1)]}, "usage.events: must be absent: MATRIX prices lines"),
        (EVENTS, {"lines": [line(1)]}, "usage.lines: must be absent: PERCENTAGE prices events"),
        (MATRIX, {"quantity": Decimal(1)}, "usage.lines: must be given: MATRIX needs more than a quantity"),
        (EVENTS, {"quantity": Decimal(1)}, "usage.events: must be given: PERCENTAGE needs more than a quantity"),
        (
            MATRIX,
            {"lines": [], "previous_quantity": Decimal(1)},
            "usage.previousQuantity: must be absent: MATRIX prices more than a quantity",
        ),
        (BANDS, {"lines": [line(1)]}, "usage.lines[0].at: must be given: TIME_OF_DAY prices by the time of day"),
        (
            BANDS,
            {"lines": [UsageLineSpec(dimensions={}, quantity=Decimal(1), at_us=-1)]},
            "usage.lines[0].at: must lie between the years 1970 and 9000",
        ),
        (
            OUTCOME,
            {"lines": [line(1, outcome="MAYBE")]},
            "usage.lines[0].dimensions.outcome: must be one of PROVISIONAL, CONFIRMED, REVERSED, EXPIRED",
        ),
        (MATRIX, {"lines": [line(1, region=7)]}, "usage.lines[0].dimensions.region: must be a text or null"),
        (
            MATRIX,
            {"lines": [UsageLineSpec(dimensions=["eu"], quantity=Decimal(1))]},
            "usage.lines[0].dimensions: must be an object",
        ),
    ],
)
def test_a_usage_that_the_charge_cannot_price_is_refused(charge: Any, usage: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        preview("USD", charge, UsageSpec(**usage))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("currency", "time_zone", "charge", "field"),
    [
        ("???", "UTC", UNITS, "currency"),
        ("USD", "Mars", UNITS, "timeZone"),
        ("USD", "UTC", spec("PER_UNIT"), "charge.unitPrice"),
    ],
)
def test_what_is_wrong_with_the_question_is_named(currency: str, time_zone: str, charge: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        preview(currency, charge, UsageSpec(quantity=Decimal(1)), time_zone=time_zone)
    assert caught.value.field == field
