"""Folding in any order and any batching gives what folding once gives."""

import random
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidemeter_control.metering.meters import NANO, Aggregation
from sidemeter_control.metering.rollups import EMPTY, Rollup, fold, merge, merged, value

values = st.integers(-(10**27), 10**27)


def readings(aggregation: Aggregation) -> st.SearchStrategy[list[object]]:
    match aggregation:
        case Aggregation.COUNT:
            each: st.SearchStrategy[object] = st.just(0)
        case Aggregation.UNIQUE_COUNT:
            each = st.text(max_size=2)
        case Aggregation.LATEST:
            each = st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.text(max_size=1), values)
        case Aggregation.TIME_WEIGHTED:
            each = st.tuples(values, values)
        case _:
            each = values
    return st.lists(each, min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text of a process takes a second to draw
@given(st.data(), st.sampled_from(Aggregation), st.integers(0, 2**32))
def test_any_order_and_any_batching_fold_to_the_same(data: st.DataObject, aggregation: Aggregation, seed: int) -> None:
    whole = data.draw(readings(aggregation))
    expected = fold(aggregation, whole)
    chance = random.Random(seed)
    chance.shuffle(whole)
    parts = []
    while whole:
        size = chance.randint(1, len(whole))
        parts.append(fold(aggregation, whole[:size]))
        del whole[:size]
    chance.shuffle(parts)
    assert merged(parts) == expected
    assert merge(EMPTY, expected) == merge(expected, EMPTY) == expected


@pytest.mark.parametrize("aggregation", Aggregation)
def test_nothing_is_zero_where_zero_is_an_amount_and_null_elsewhere(aggregation: Aggregation) -> None:
    zero = {Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT, Aggregation.TIME_WEIGHTED}
    assert value(aggregation, EMPTY) == (Decimal(0) if aggregation in zero else None)


@pytest.mark.parametrize(
    ("total", "count", "average"),
    [
        (1, 3, "0.333333333333333333"),
        (2, 3, "0.666666666666666667"),
        (-2, 3, "-0.666666666666666667"),
        (5, 2, "2.5"),
        (0, 7, "0"),
        (10**17, 3, "33333333333333333.333333333333333333"),
    ],
)
def test_an_average_is_rounded_half_away_from_zero_at_its_18th_digit(total: int, count: int, average: str) -> None:
    assert str(value(Aggregation.AVG, Rollup(count, sum=total * NANO))) == average
