"""Rollover: what earlier periods left, between a least and a most, and how far back that has to be looked for."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.limits.rollover import carried, settled
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec


def monthly(limit: str, most: str | None, least: str = "0") -> EntitlementSpec:
    return EntitlementSpec(
        feature="tokens",
        kind=EntitlementKind.METERED,
        limit=Decimal(limit),
        rollover_max=None if most is None else Decimal(most),
        rollover_min=Decimal(least),
    )


@pytest.mark.parametrize(
    ("spec", "used", "left"),
    [
        (monthly("100", "50"), [], "0"),
        (monthly("100", "500"), ["30"], "70"),
        (monthly("100", "50"), ["30"], "50"),
        (monthly("100", "500"), ["100"], "0"),
        (monthly("100", "500"), ["130"], "0"),
        (monthly("100", "500"), ["130", "40"], "60"),
        (monthly("100", "500"), ["30", "20", "170.5"], "79.5"),
        (monthly("100", "500", "20"), ["100"], "20"),
        (monthly("100", "500", "20"), ["1000"], "20"),
        (monthly("100", "500", "20"), ["95", "100"], "20"),
        (monthly("100", "0"), ["0"], "0"),
        (monthly("100", None), ["0"], "0"),
        (monthly("100", "500"), ["-50"], "150"),
    ],
    ids=[
        "nothing before the first period",
        "the unused",
        "no more than the most",
        "nothing is left of what was used up",
        "overuse is no debt",
        "nor one for the period after",
        "what was carried may be carried again",
        "no less than the least",
        "however much was used",
        "the least is not added to what is left",
        "a most of zero is none",
        "no rollover",
        "usage that was taken back is unused",
    ],
)
def test_what_periods_hand_on(spec: EntitlementSpec, used: list[str], left: str) -> None:
    assert carried(spec, [Decimal(each) for each in used]) == Decimal(left)


amounts = st.decimals("0", "1e6", places=3)
usages = st.lists(amounts, max_size=8)


@st.composite
def specs(draw: st.DrawFn) -> EntitlementSpec:
    least, most = sorted([draw(amounts), draw(amounts)])
    return monthly(str(draw(amounts)), str(most), str(least))


@given(specs(), usages.filter(bool))
def test_it_is_never_more_than_the_most_nor_less_than_the_least(spec: EntitlementSpec, used: list[Decimal]) -> None:
    assert spec.rollover_max is not None
    assert spec.rollover_min <= carried(spec, used) <= spec.rollover_max


@given(specs(), usages.filter(bool), st.data())
def test_using_more_in_any_period_never_leaves_more(
    spec: EntitlementSpec, used: list[Decimal], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(used) - 1))
    more = [*used[:place], used[place] + data.draw(amounts), *used[place + 1 :]]
    assert carried(spec, more) <= carried(spec, used)


@given(specs(), usages, usages.filter(bool))
def test_what_is_settled_does_not_depend_on_anything_earlier(
    spec: EntitlementSpec, earlier: list[Decimal], used: list[Decimal]
) -> None:
    known = settled(spec, used)
    if known is not None:
        assert carried(spec, [*earlier, *used]) == known


def test_a_period_that_used_everything_settles_what_it_hands_on() -> None:
    assert settled(monthly("100", "500"), [Decimal(600)]) == 0
    assert settled(monthly("100", "50"), [Decimal(20)]) == 50
    assert settled(monthly("100", "500"), [Decimal(20)]) is None


def test_the_least_is_not_handed_to_the_first_period() -> None:
    assert settled(monthly("2000", "300", "50"), [Decimal(1800), Decimal("1900.25")]) is None
