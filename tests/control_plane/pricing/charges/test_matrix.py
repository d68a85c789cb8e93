"""MATRIX: the price by what was used."""

from collections.abc import Mapping
from decimal import Decimal
from itertools import permutations

import pytest
from charges import WORDS, charge, lines

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import Used, UsedLine
from sidemeter_control.pricing.charges.matrix import Matrix

RATES = [
    {"match": {"region": ["eu", "us"]}, "unitPrice": "3"},
    {"match": {"model": "large"}, "unitPrice": "5"},
    {"match": {"region": "eu", "model": ["large", "small"]}, "unitPrice": "7"},
    {"match": {"region": "eu", "model": "large"}, "unitPrice": "11"},
]


def of(*parts: tuple[str, Mapping[str, str | None]]) -> Used:
    return Used.of_lines(UsedLine(Decimal(quantity), dimensions) for quantity, dimensions in parts)


@pytest.mark.parametrize(
    ("dimensions", "unit_price"),
    [
        ({"region": "eu", "model": "large"}, 11),
        ({"region": "eu", "model": "small"}, 7),
        ({"region": "us", "model": "large"}, 5),
        ({"region": "eu", "model": None}, 3),
        ({"region": "asia", "model": "small"}, 2),
        ({}, 2),
    ],
    ids=["fewer listed values", "more keys", "a single text before a list", "one key", "no rate", "no dimension"],
)
def test_the_most_specific_rate_wins(dimensions: Mapping[str, str | None], unit_price: int) -> None:
    own = charge("MATRIX", rates=RATES, defaultUnitPrice="2")
    assert own.price(of(("1", dimensions)), WORDS).total.amount == unit_price


def test_of_two_equal_rates_the_older_wins() -> None:
    rates = [{"match": {"cloud": ["aws"]}, "unitPrice": "5"}, {"match": {"cloud": "aws"}, "unitPrice": "3"}]
    own = charge("MATRIX", rates=rates, defaultUnitPrice="10")
    assert own.price(of(("10", {"cloud": "aws"})), WORDS).total.amount == 50


def test_lines_stand_in_the_order_of_the_price_list_and_name_the_match() -> None:
    own = charge("MATRIX", rates=RATES, defaultUnitPrice="2")
    used = of(
        ("1", {"region": "asia"}),
        ("2", {"region": "eu", "model": "large"}),
        ("3", {"region": "us"}),
        ("4", {"region": "eu"}),
        ("5", {"region": "mars"}),
    )
    assert lines(own, used) == [
        ("7 tokens (region: eu or us) at 3 USD", "21"),
        ("2 tokens (region: eu, model: large) at 11 USD", "22"),
        ("6 tokens of any other kind at 2 USD", "12"),
    ]
    assert [line.match for line in own.price(used, WORDS).lines] == [
        {"region": ("eu", "us")},
        {"region": ("eu",), "model": ("large",)},
        {},
    ]


def test_the_order_and_batching_of_lines_changes_nothing() -> None:
    own = charge("MATRIX", rates=RATES, defaultUnitPrice="2", convert={"divide": "2", "rounding": "UP"})
    parts = [("1", {"region": "eu"}), ("1", {"region": "us"}), ("1", {"model": "large"}), ("1", {})]
    prices = {own.price(of(*order), WORDS).total for order in permutations(parts)}
    assert prices == {own.price(of(("2", {"region": "us"}), *parts[2:]), WORDS).total}


def test_what_cancels_out_has_no_line() -> None:
    own = charge("MATRIX", rates=RATES, defaultUnitPrice="2")
    assert lines(own, of(("3", {"region": "eu"}), ("-3", {"region": "us"}))) == []
    assert lines(own, "0") == []


def test_included_units_are_used_up_in_the_order_of_the_price_list() -> None:
    own = charge("MATRIX", rates=RATES, defaultUnitPrice="2", includedUnits="5")
    assert lines(own, of(("4", {}), ("3", {"model": "large"}), ("4", {"region": "us"}))) == [
        ("5 tokens included", "0"),
        ("2 tokens (model: large) at 5 USD", "10"),
        ("4 tokens of any other kind at 2 USD", "8"),
    ]


def test_it_says_which_dimensions_it_looks_at() -> None:
    model = charge("MATRIX", rates=RATES, defaultUnitPrice="2").model
    assert isinstance(model, Matrix)
    assert model.dimensions == ("model", "region")


def rate(match: object) -> dict[str, object]:
    return {"match": match, "unitPrice": "1"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rates": RATES}, "defaultUnitPrice: must be given: MATRIX needs it"),
        ({"rates": [], "defaultUnitPrice": "1"}, "rates: must have 1 to 1000 rates"),
        ({"rates": [rate({})], "defaultUnitPrice": "1"}, "rates[0].match: must be an object of 1 to 10 dimensions"),
        (
            {"rates": [rate({"a": []})], "defaultUnitPrice": "1"},
            "rates[0].match.a: must be a text or a list of 1 to 100 texts",
        ),
        ({"rates": [rate({"a": ["x", "x"]})], "defaultUnitPrice": "1"}, "rates[0].match.a: must name 'x' once"),
        (
            {"rates": [{"match": {"a": "x"}, "unitPrice": "-1"}], "defaultUnitPrice": "1"},
            "rates[0].unitPrice: must not be negative",
        ),
    ],
)
def test_a_wrong_definition_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge("MATRIX", **parameters)
    assert str(caught.value) == f"charges.input.{message}"
