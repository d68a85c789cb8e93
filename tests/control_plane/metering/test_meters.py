"""What a meter reads of an event, and which definitions it refuses."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import (
    MAX_BREAKS,
    MAX_PERCENTILE_PLACES,
    NANO,
    Aggregation,
    Dimension,
    PropertyFilter,
    Reader,
    Uncountable,
    band_of,
    from_nano,
    nano_of,
    new_meter,
    property_text,
    to_nano,
)

COUNTABLE = [
    (0, 0),
    (-7, -7 * NANO),
    (10**18 - 1, (10**18 - 1) * NANO),
    (Decimal("0.000000001"), 1),
    (Decimal("-0.0"), 0),
    (Decimal("1.5000000000000"), 1_500_000_000),
    (Decimal("0E-99999999"), 0),
    (Decimal("1e17"), 10**17 * NANO),
    ("12.5", 12_500_000_000),
    ("+.5", 500_000_000),
    ("1e2", 100 * NANO),
]
UNCOUNTABLE = [
    (True, "value_not_a_number"),
    ({"n": 1}, "value_not_a_number"),
    ([1], "value_not_a_number"),
    ("", "value_not_a_number"),
    ("12 ", "value_not_a_number"),
    ("1_000", "value_not_a_number"),
    ("NaN", "value_not_a_number"),
    ("٣", "value_not_a_number"),
    ("1" * 257, "value_not_a_number"),
    (10**18, "value_out_of_range"),
    (-(10**18), "value_out_of_range"),
    (Decimal("1e18"), "value_out_of_range"),
    (Decimal("1e400"), "value_out_of_range"),
    (Decimal("1e-400"), "value_out_of_range"),
    (Decimal("1e999999999"), "value_out_of_range"),
    (Decimal("0.0000000001"), "value_out_of_range"),
    (Decimal("1." + "0" * 100 + "1"), "value_out_of_range"),
    ("1e9999", "value_out_of_range"),
]


@pytest.mark.parametrize(("value", "nano"), COUNTABLE)
def test_a_number_is_read_exactly(value: object, nano: int) -> None:
    assert to_nano(value) == nano


@pytest.mark.parametrize(("value", "code"), UNCOUNTABLE, ids=lambda each: str(each)[:20])
def test_a_value_that_cannot_be_counted_says_why(value: object, code: str) -> None:
    with pytest.raises(Uncountable) as refused:
        to_nano(value)
    assert refused.value.code == code


@given(st.integers(-(10**40), 10**40))
def test_nano_units_and_decimals_are_the_same_amount(nano: int) -> None:
    assert nano_of(from_nano(nano)) == nano
    assert to_nano(from_nano(nano)) == nano if abs(nano) < 10**27 else True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("gpt-4", "gpt-4"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.0"), "0"),
        (Decimal("1e999999999"), "1E+999999999"),
        (None, None),
        ({}, None),
        ([], None),
    ],
)
def test_filters_and_dimensions_compare_a_property_as_text(value: object, text: str | None) -> None:
    assert property_text(value) == text


def test_a_reader_groups_by_dotted_paths_and_null_where_a_property_is_missing() -> None:
    meter = new_meter(
        "m", "call", Aggregation.COUNT, dimensions=[Dimension("r", "at.region"), Dimension("x", "x")], now_us=0
    )
    assert Reader(meter).read({"at": {"region": "eü"}}, 0, "s", "1") == ('["eü",null]', 0)
    assert Reader(meter).read({"at": "nowhere"}, 0, "s", "1") == ("[null,null]", 0)


@pytest.mark.parametrize(
    ("rule", "data", "taken"),
    [
        (PropertyFilter("m", is_in=("a", "1")), {"m": "a"}, True),
        (PropertyFilter("m", is_in=("a", "1")), {"m": 1}, True),
        (PropertyFilter("m", is_in=("a",)), {"m": "b"}, False),
        (PropertyFilter("m", is_in=("a",)), {}, False),
        (PropertyFilter("m", is_in=("null",)), {"m": None}, False),
        (PropertyFilter("m", not_in=("a",)), {}, True),
        (PropertyFilter("m", not_in=("a",)), {"m": "a"}, False),
        (PropertyFilter("m", is_in=("a", "b"), not_in=("b",)), {"m": "b"}, False),
        (PropertyFilter("a.b", is_in=("true",)), {"a": {"b": True}}, True),
    ],
)
def test_a_filter_decides_by_the_property(rule: PropertyFilter, data: dict[str, object], taken: bool) -> None:
    meter = new_meter("m", "call", Aggregation.COUNT, filters=[rule], now_us=0)
    assert (Reader(meter).read(data, 0, "s", "1") is not None) is taken


PLAIN = st.one_of(st.integers(-(10**19), 10**19), st.decimals(-(10**6), 10**6, places=3))
ODD = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.just({}))
DATA = st.fixed_dictionaries(
    {}, optional={"n": PLAIN | ODD, "team": st.sampled_from(["a", "ä", '"']) | ODD, "org.team": st.just("b")}
)


@given(
    st.lists(DATA, min_size=1, max_size=6),
    st.sampled_from([Aggregation.COUNT, Aggregation.SUM, Aggregation.AVG, Aggregation.MAX]),
    st.sampled_from([(), ("team",), ("team", "n"), ("org.team",)]),
)
def test_what_is_added_up_at_once_is_what_each_gives_by_itself(
    data: list[dict[str, object]], aggregation: Aggregation, names: tuple[str, ...]
) -> None:
    dimensions = [Dimension(f"d{place}", name) for place, name in enumerate(names)]
    reader = Reader(new_meter("m", "call", aggregation, value_property="n", dimensions=dimensions, now_us=0))
    together = reader.added_up(data)
    try:
        each = [reader.read(said, 0, "s", "1") for said in data]
    except Uncountable:
        assert together is None
        return
    found: dict[str, list[int]] = {}
    for group, amount in filter(None, each):
        found.setdefault(group, []).append(int(str(amount)))
    sums = {group: (len(amounts), sum(amounts)) for group, amounts in found.items()}
    assert together is None or together == sums


@pytest.mark.parametrize("number", [10**18 - 1, Decimal("0.5"), 1 - 10**18])
def test_plain_numbers_and_texts_are_added_up_at_once(number: int | Decimal) -> None:
    dimensions = [Dimension("team", "team")]
    reader = Reader(new_meter("m", "call", Aggregation.SUM, value_property="n", dimensions=dimensions, now_us=0))
    assert reader.added_up([{"n": number, "team": "a"}]) == {'["a"]': (1, to_nano(number))}
    assert reader.added_up([{"n": number}]) is None


def test_a_missing_value_is_uncountable_only_where_a_value_is_needed() -> None:
    counting = new_meter("m", "call", Aggregation.COUNT, value_property="n", now_us=0)
    assert Reader(counting).read({}, 0, "s", "1") == ("[]", 0)
    with pytest.raises(Uncountable, match=r"data\.n is missing"):
        Reader(new_meter("m", "call", Aggregation.UNIQUE_COUNT, value_property="n", now_us=0)).read({}, 0, "s", "1")


@pytest.mark.parametrize(
    ("aggregation", "percentile", "rule"),
    [
        (Aggregation.PERCENTILE, None, "must be given: PERCENTILE needs to know which, in percent"),
        (Aggregation.PERCENTILE, "0", "must be more than 0 and at most 100"),
        (Aggregation.PERCENTILE, "-1", "must be more than 0 and at most 100"),
        (Aggregation.PERCENTILE, "100.000000001", "must be more than 0 and at most 100"),
        (
            Aggregation.PERCENTILE,
            "0." + "0" * MAX_PERCENTILE_PLACES + "1",
            "must have at most 9 digits after the point",
        ),
        (Aggregation.SUM, "50", "must be absent: SUM has none"),
    ],
)
def test_a_percentile_that_is_none_is_refused(aggregation: Aggregation, percentile: str | None, rule: str) -> None:
    given = None if percentile is None else Decimal(percentile)
    with pytest.raises(InvalidInput) as refused:
        new_meter("m", "call", aggregation, value_property="n", percentile=given, now_us=0)
    assert (refused.value.field, refused.value.rule) == ("percentile", rule)


@pytest.mark.parametrize("percentile", ["0." + "0" * (MAX_PERCENTILE_PLACES - 1) + "1", "99.9", "100"])
def test_a_percentile_is_more_than_0_and_at_most_100(percentile: str) -> None:
    made = new_meter("m", "call", Aggregation.PERCENTILE, value_property="n", percentile=Decimal(percentile), now_us=0)
    assert made.percentile == Decimal(percentile)


SUM = {"event_type": "call", "aggregation": Aggregation.SUM, "value_property": "n"}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": "a b"}, "key"),
        ({"event_type": "x" * 129}, "eventType"),
        ({"value_property": None}, "valueProperty"),
        ({"value_property": "a..b"}, "valueProperty"),
        ({"name": ""}, "name"),
        ({"unit": "\x00"}, "unit"),
        ({"dimensions": [Dimension("", "x")]}, r"groupBy\[0\].key"),
        ({"dimensions": [Dimension("a", ".x")]}, r"groupBy\[0\].property"),
        ({"dimensions": [Dimension("a", "x"), Dimension("a", "y")]}, "groupBy"),
        ({"dimensions": [Dimension(f"d{n}", "x") for n in range(11)]}, "groupBy"),
        ({"filters": [PropertyFilter("x")]}, r"filters\[0\]"),
        ({"filters": [PropertyFilter("x", is_in=())]}, r"filters\[0\].in"),
        ({"filters": [PropertyFilter("x", not_in=("y",))] * 21}, "filters"),
    ],
)
def test_a_definition_that_breaks_a_rule_is_refused_by_its_field(changed: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}:"):
        new_meter(**({"key": "m", "now_us": 0} | SUM | changed))  # type: ignore[arg-type]


def test_a_meter_is_split_at_so_many_values_and_no_more() -> None:
    meter = new_meter("paid", "payment", Aggregation.SUM, value_property="n", now_us=0)
    full = meter.split_at(range(MAX_BREAKS - 1)).split_at([MAX_BREAKS])
    assert full.breaks == (*range(MAX_BREAKS - 1), MAX_BREAKS)
    assert full.split_at([99]).breaks == full.breaks
    assert full.split_at([MAX_BREAKS]) == full


def test_only_a_sum_is_split() -> None:
    assert new_meter("paid", "payment", Aggregation.COUNT, now_us=0).split_at([1]).breaks == ()


@pytest.mark.parametrize(("value", "band"), [(-1, 0), (4, 0), (5, 1), (7, 1), (8, 2), (100, 2)])
def test_the_band_of_a_value_is_the_last_element_of_its_group(value: int, band: int) -> None:
    split = new_meter("paid", "payment", Aggregation.SUM, value_property="n", now_us=0).split_at([5 * NANO, 8 * NANO])
    found = Reader(split).read({"n": value}, 0, "s", "1")
    assert found == (f'["{band}"]', value * NANO)
    assert band_of(found[0]) == band
