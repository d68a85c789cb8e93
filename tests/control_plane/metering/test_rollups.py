"""Folding in any order and any batching gives what folding once gives."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidemeter_control.metering.meters import NANO, Aggregation
from sidemeter_control.metering.rollups import EMPTY, Held, Rollup, fold, merge, merged, minus, value

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


@pytest.mark.parametrize(
    ("values", "percentile", "expected"),
    [
        ("15 20 35 40 50", "5", "15"),
        ("15 20 35 40 50", "30", "20"),
        ("15 20 35 40 50", "40", "20"),
        ("15 20 35 40 50", "40.000000001", "35"),
        ("15 20 35 40 50", "50", "35"),
        ("15 20 35 40 50", "100", "50"),
        ("3 6 7 8 8 10 13 15 16 20", "25", "7"),
        ("3 6 7 8 8 10 13 15 16 20", "50", "8"),
        ("-2 -10 9", "50", "-2"),
        ("7", "0.000000001", "7"),
    ],
)
def test_a_percentile_is_the_value_at_the_nearest_rank(values: str, percentile: str, expected: str) -> None:
    rollup = fold(Aggregation.PERCENTILE, [int(each) * NANO for each in values.split()])
    assert value(Aggregation.PERCENTILE, rollup, Decimal(percentile)) == Decimal(expected)


@pytest.mark.parametrize(
    ("before", "events", "interval", "expected"),
    [
        ("10", [], (0, 7), "10"),
        ("0", [(3, 0)], (0, 3), "3"),
        ("0", [(3, 2)], (0, 3), "1"),
        ("1", [(-1, 1)], (0, 3), "0.333333333333333333"),
        ("-1", [(-1, 1)], (0, 3), "-1.666666666666666667"),
        ("5", [], (7, 7), "0"),
    ],
)
def test_a_running_total_counts_for_as_long_as_it_holds(
    before: str, events: list[tuple[int, int]], interval: tuple[int, int], expected: str
) -> None:
    readings = [(amount * NANO, amount * NANO * at_us) for amount, at_us in events]
    rollup = fold(Aggregation.TIME_WEIGHTED, readings) if readings else EMPTY
    held = Held(*interval, int(before) * NANO)
    assert str(value(Aggregation.TIME_WEIGHTED, rollup, held=held)) == expected


@given(st.data(), st.sampled_from(Aggregation))
def test_what_was_taken_away_is_as_if_it_had_never_been_there(data: st.DataObject, aggregation: Aggregation) -> None:
    kept, gone = data.draw(readings(aggregation)), data.draw(readings(aggregation))
    left = minus(fold(aggregation, kept + gone), fold(aggregation, gone))
    expected = fold(aggregation, kept)
    if left is None:
        assert expected.min is not None or expected.max is not None or expected.last is not None
        return
    whole = fold(aggregation, kept + gone).values
    values = (
        None
        if whole is None
        else {
            text: times + (left.values or {}).get(text, 0)
            for text, times in whole.items()
            if times + (left.values or {}).get(text, 0)
        }
    )
    assert replace(left, values=values) == expected
