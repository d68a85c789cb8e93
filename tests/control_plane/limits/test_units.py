"""Lease units: limits are rounded down and usage up, so that units never let more through than the limit."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.limits.units import (
    MAX_UNITS,
    from_units,
    limit_id,
    limit_units,
    pool_id,
    scale_of,
    units_of,
    units_of_nano,
)
from sidemeter_control.metering.meters import Aggregation, from_nano

limits = st.decimals(min_value=0, max_value=10**18, places=9)
scales = st.sampled_from([0, 3, 6, 9])


@pytest.mark.parametrize(
    ("limit", "scale"),
    [
        ("0", 9),
        ("36028797.018963968", 9),
        ("36028797.018963969", 6),
        ("36028797018.963968", 6),
        ("36028797018.963969", 3),
        ("36028797018963.968", 3),
        ("36028797018963.969", 0),
        ("1E+30", 0),
    ],
)
def test_a_sum_is_shared_as_finely_as_leaves_room_to_raise_its_limit(limit: str, scale: int) -> None:
    assert scale_of(Aggregation.SUM, Decimal(limit)) == scale
    assert scale_of(Aggregation.COUNT, Decimal(limit)) == 0


@given(limits, scales)
def test_the_units_of_a_limit_are_never_more_than_it(limit: Decimal, scale: int) -> None:
    units = limit_units(limit, scale)
    assert from_units(units, scale) <= limit
    assert units == MAX_UNITS or limit - from_units(units, scale) < Decimal(1).scaleb(-scale)


@given(st.integers(-(10**27), 10**27), scales)
def test_the_units_of_usage_are_never_less_than_it(nano: int, scale: int) -> None:
    amount = from_nano(nano)
    assert units_of_nano(nano, scale) == units_of(amount, scale)
    assert units_of(amount, scale) == MAX_UNITS or from_units(units_of(amount, scale), scale) >= amount


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_limit_of_more_units_is_shared_as_one_of_so_many(more: int) -> None:
    assert limit_units(Decimal(MAX_UNITS + more), 0) == min(MAX_UNITS + more, MAX_UNITS)
    assert units_of(Decimal(MAX_UNITS + more), 0) == min(MAX_UNITS + more, MAX_UNITS)


@given(st.text(min_size=1), st.integers())
def test_a_lease_names_its_customer_whatever_the_key(customer: str, period: int) -> None:
    assert pool_id((limit_id(customer, "calls.v2"), period)) == (customer, "calls.v2", period)
