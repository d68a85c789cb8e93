"""Price caps: no usage ever costs more on top of other usage than its cap, whatever the price list."""

from decimal import Decimal
from typing import Any

import pytest
from charges import WORDS, tiers
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.money import exact
from sidemeter_control.pricing.charges import (
    BandSpec,
    Charge,
    ChargeSpec,
    ConvertSpec,
    MatrixRateSpec,
    OutcomeSpec,
    PricingModel,
    Rounding,
    TierSpec,
    Used,
    UsedLine,
)
from sidemeter_control.pricing.charges.cap import Cap, cap_of, most_within

quantities = st.decimals(0, 3_000, places=3)
prices = st.decimals(0, 20, places=3)
OUTCOME = OutcomeSpec(confirm_type="paid", reverse_type="refused", window_hours=24)


def charge(model: str, **parameters: Any) -> Charge:
    spec = ChargeSpec(key="input", meter="tokens", model=PricingModel(model), **parameters)
    return Charge.read("charges.input", spec)


@st.composite
def tiered(draw: st.DrawFn, *, rated: bool = False, steps: bool = False) -> tuple[TierSpec, ...]:
    tops = sorted(draw(st.sets(st.integers(1, 2_000), max_size=4)))
    made = []
    for top in [*map(Decimal, tops), None]:
        fee = draw(prices if steps else st.none() | prices)
        price = {} if steps else {"percentage" if rated else "unit_price": draw(prices)}
        made.append(TierSpec(up_to=top, flat_fee=fee, **price))
    return tuple(made)


@st.composite
def modifiers(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["included_units"] = draw(quantities)
    if draw(st.booleans()):
        found["discount_units"] = draw(quantities)
    if draw(st.booleans()):
        found["discount_percentages"] = tuple(draw(st.lists(st.decimals(0, 100, places=1), min_size=1, max_size=2)))
    if draw(st.booleans()):
        found["minimum"], found["maximum"] = sorted(draw(st.tuples(prices, st.decimals(0, 9_000, places=2))))
    if draw(st.booleans()):
        found["convert"] = ConvertSpec(
            multiply=draw(st.none() | st.decimals("0.1", 10, places=1)),
            divide=draw(st.decimals("0.1", 100, places=1)),
            rounding=draw(st.none() | st.sampled_from(Rounding)),
        )
    return found


@st.composite
def of_quantity(draw: st.DrawFn) -> Charge:
    """A charge whose price depends on a quantity."""
    model = draw(
        st.sampled_from(["PER_UNIT", "PACKAGE", "GRADUATED", "VOLUME", "STAIRSTEP", "GRADUATED_PERCENTAGE", "DYNAMIC"])
    )
    own: dict[str, Any]
    if model == "PER_UNIT":
        own = {"unit_price": draw(prices)}
    elif model == "DYNAMIC":
        own = {"multiplier": draw(prices)}
    elif model == "PACKAGE":
        own = {
            "package_price": draw(prices),
            "package_size": draw(st.decimals(1, 500, places=1)),
            "package_rounding": draw(st.sampled_from(Rounding)),
        }
    elif model == "STAIRSTEP":
        own = {"tiers": draw(tiered(steps=True)), "stairstep_cumulative": draw(st.booleans())}
    else:
        own = {"tiers": draw(tiered(rated=model == "GRADUATED_PERCENTAGE"))}
    return charge(model, **own, **draw(modifiers()))


def capped(own: Charge) -> Cap:
    cap = cap_of(own)
    assert isinstance(cap, Cap)
    return cap


def owed(own: Charge, used: Used) -> Decimal:
    return own.price(used, WORDS).total.amount


@exact
def within(own: Charge, before: Used, after: Used, events: list[Decimal]) -> bool:
    cap = capped(own)
    return owed(own, after) - owed(own, before) <= sum(map(cap.of, events), cap.once)


@given(of_quantity(), quantities, st.lists(quantities, max_size=4))
def test_usage_never_adds_more_than_its_cap(own: Charge, before: Decimal, events: list[Decimal]) -> None:
    assert within(own, Used.of(before), Used.of(sum(events, before)), events)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), quantities), max_size=5),
    st.lists(st.tuples(st.sampled_from("abc"), quantities), max_size=5),
    st.tuples(prices, prices, prices),
    modifiers(),
)
def test_a_matrix_is_capped_by_its_dearest_rate(
    before: list[tuple[str, Decimal]],
    events: list[tuple[str, Decimal]],
    each: tuple[Decimal, Decimal, Decimal],
    more: dict[str, Any],
) -> None:
    rates = tuple(
        MatrixRateSpec(match={"model": name}, unit_price=price) for name, price in zip("ab", each, strict=False)
    )
    own = charge("MATRIX", rates=rates, default_unit_price=each[2], **more)

    def used(lines: list[tuple[str, Decimal]]) -> Used:
        return Used.of_lines(UsedLine(quantity, {"model": name}) for name, quantity in lines)

    assert within(own, used(before), used(before + events), [quantity for _, quantity in events])


@given(st.lists(quantities, max_size=5), st.lists(quantities, max_size=5), prices, prices, st.none() | prices)
def test_each_event_of_a_percentage_is_capped(
    before: list[Decimal], events: list[Decimal], rate: Decimal, fixed: Decimal, least: Decimal | None
) -> None:
    own = charge("PERCENTAGE", percentage=rate, fixed_per_event=fixed, min_per_event=least)
    assert within(own, Used.of_amounts(before), Used.of_amounts(events + before), events)


@given(quantities, st.lists(quantities, max_size=3), prices, prices)
def test_a_band_of_the_day_is_capped_by_the_dearest(
    before: Decimal, events: list[Decimal], day: Decimal, other: Decimal
) -> None:
    bands = (BandSpec(from_="08:00", to="20:00", unit_price=day),)
    own = charge("TIME_OF_DAY", bands=bands, default_unit_price=other)
    noon = 12 * 3_600_000_000
    lines = [UsedLine(before, at_us=0)]
    more = [UsedLine(each, at_us=noon * (index % 2)) for index, each in enumerate(events)]
    assert within(own, Used.of_lines(lines), Used.of_lines(lines + more), events)


def test_an_outcome_is_capped_by_its_price() -> None:
    assert capped(charge("OUTCOME", unit_price=Decimal("0.5"), outcome=OUTCOME)) == Cap(Decimal("0.5"))


@pytest.mark.parametrize("allowance", [{"free_events": 3}, {"free_amount": Decimal(10)}], ids=["events", "amount"])
def test_a_percentage_with_an_allowance_has_no_cap_since_a_late_event_may_take_what_a_larger_one_had(
    allowance: dict[str, Any],
) -> None:
    own = charge("PERCENTAGE", percentage=Decimal(2), **allowance)
    reason = cap_of(own)
    assert isinstance(reason, str)
    assert "free events" in reason
    if "free_events" in allowance:
        large, small = Decimal(1000), Decimal(1)
        before, after = [large], [small, small, small, large]
        assert owed(own, Used.of_amounts(after)) - owed(own, Used.of_amounts(before)) == 20


@given(of_quantity(), quantities, st.integers(0, 9_000), st.decimals(0, 1, places=3))
def test_what_an_amount_is_enough_for_is_the_most_that_is(
    own: Charge, used: Decimal, amount: int, part: Decimal
) -> None:
    grain = Decimal("0.001")
    most = most_within(own, WORDS, Decimal(amount), used, grain)
    if most is None:
        assert own.price(Used.of(Decimal(10) ** 18), WORDS).total.rounded <= amount
        return
    assert own.price(Used.of(used), WORDS).total.rounded <= amount or most == 0
    if most:
        for share in (part, Decimal(1)):
            quantity = used + (most * share).quantize(grain)
            assert own.price(Used.of(min(quantity, used + most)), WORDS).total.rounded <= amount
        if own.price_modifiers.discount_percentages == ():
            assert own.price(Used.of(used + most + grain), WORDS).total.rounded > amount


@pytest.mark.parametrize(
    ("own", "amount", "most"),
    [
        (charge("PACKAGE", package_price=Decimal(10), package_size=Decimal(1000)), "100", "10000"),
        (charge("PACKAGE", package_price=Decimal(10), package_size=Decimal(1000)), "9.99", "0"),
        (charge("VOLUME", tiers=tiers(("100", "1", None), (None, "0.5", None))), "60", "60"),
        (charge("VOLUME", tiers=tiers(("100", "1", None), (None, "0.5", None))), "100", "200"),
        (charge("STAIRSTEP", tiers=tiers(("10", None, "5"), ("100", None, "20"), (None, None, "90"))), "50", "100"),
        (charge("STAIRSTEP", tiers=tiers(("10", None, "5"), (None, None, "20"))), "20", None),
        (charge("PER_UNIT", unit_price=Decimal("0.3"), minimum=Decimal(5)), "6", "20"),
        (charge("PER_UNIT", unit_price=Decimal("0.3"), minimum=Decimal(7)), "6", "0"),
    ],
)
def test_all_of_an_amount_can_be_used(own: Charge, amount: str, most: str | None) -> None:
    found = most_within(own, WORDS, Decimal(amount), Decimal(0), Decimal(1))
    assert found == (None if most is None else Decimal(most))
