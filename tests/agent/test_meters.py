"""Meters: which events add to a limit, and which quantities can be counted at all."""

from decimal import Decimal, localcontext
from typing import Any

import pytest

from sidemeter.errors import InvalidInput
from sidemeter.meters import Filter, Meter, check_quantity


@pytest.mark.parametrize(
    ("rule", "data", "passes"),
    [
        (Filter("model", is_in=("a", "b")), {"model": "a"}, True),
        (Filter("model", is_in=("a", "b")), {"model": "c"}, False),
        (Filter("model", is_in=("a",)), {}, False),
        (Filter("model", not_in=("a",)), {}, True),
        (Filter("model", not_in=("a",)), {"model": "a"}, False),
        (Filter("size", is_in=("1.5",)), {"size": Decimal("1.50")}, True),
        (Filter("size", is_in=("100000",)), {"size": Decimal("1E+5")}, True),
        (Filter("size", is_in=("3",)), {"size": 3}, True),
        (Filter("live", is_in=("true",)), {"live": True}, True),
        (Filter("a.b", is_in=("x",)), {"a": {"b": "x"}}, True),
        (Filter("a.b", is_in=("x",)), {"a": "x"}, False),
    ],
)
def test_a_filter_compares_the_propertys_text(rule: Filter, data: dict[str, Any], passes: bool) -> None:
    assert rule.passes(data) is passes


@pytest.mark.parametrize(
    ("meter", "amount"),
    [
        (Meter("call", "COUNT"), Decimal(1)),
        (Meter("call", "SUM", "tokens"), Decimal("2.5")),
        (Meter("call", "SUM", "missing"), Decimal(0)),
        (Meter("call", "MAX", "tokens"), Decimal(0)),
        (Meter("call", "SUM", "tokens", (Filter("model", is_in=("small",)),)), None),
    ],
)
def test_an_event_adds_what_the_meter_takes_of_it(meter: Meter, amount: Decimal | None) -> None:
    assert meter.amount({"tokens": Decimal("2.5"), "model": "large"}) == amount


@pytest.mark.parametrize(
    "quantity",
    [-1, 0, 10**18, 0.5, True, "1", None]
    + [Decimal(text) for text in ("NaN", "Infinity", "-1", "0", "1e18", "0.0000000001", "1.0000000001", "1e-999999")],
)
def test_a_quantity_that_could_not_be_counted_is_refused(quantity: object) -> None:
    with pytest.raises(InvalidInput, match="above 0"):
        check_quantity(quantity)


@pytest.mark.parametrize("text", ["0.000000001", "999999999999999999.999999999", "1.50000000000", "1e17"])
def test_a_quantity_is_taken_as_it_is_whatever_the_callers_decimal_context(text: str) -> None:
    with localcontext(prec=3):
        assert check_quantity(Decimal(text)) == Decimal(text)
