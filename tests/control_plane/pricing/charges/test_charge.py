"""Charges: what each model owes, why, and which definitions are refused."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import Charge, ChargeSpec, PricingModel, Rounding, TierSpec, Used
from sidemeter_control.pricing.words import Words

WORDS = Words("USD", "tokens")


def tiers(*rows: tuple[str | None, str | None, str | None]) -> tuple[TierSpec, ...]:
    decimals = [[None if text is None else Decimal(text) for text in row] for row in rows]
    return tuple(TierSpec(up_to=top, unit_price=each, flat_fee=flat) for top, each, flat in decimals)


def spec(model: str, **parameters: Any) -> ChargeSpec:
    given = {
        name: Decimal(value) if isinstance(value, str) and name not in {"key", "name", "meter"} else value
        for name, value in parameters.items()
    }
    meter = None if model == "FLAT" else "tokens"
    return ChargeSpec(**{"key": "input", "meter": meter, "model": PricingModel(model), **given})


def lines(model: str, quantity: str, **parameters: Any) -> list[tuple[str, str]]:
    price = Charge.read("charges.input", spec(model, **parameters)).price(Used.of(Decimal(quantity)), WORDS)
    assert price.total.amount == sum(line.amount for line in price.lines)
    return [(line.text, format(line.amount.normalize(), "f")) for line in price.lines]


LADDER = tiers(("1000000", "0.0025", None), ("5000000", "0.002", "10"), (None, "0.001", None))


@pytest.mark.parametrize(
    ("model", "quantity", "parameters", "expected"),
    [
        ("FLAT", "7", {"amount": "49"}, [("recurring fee", "49")]),
        ("FLAT", "0", {"amount": "-5"}, [("recurring credit", "-5")]),
        ("PER_UNIT", "1234.5", {"unit_price": "0.002"}, [("1,234.5 tokens at 0.002 USD", "2.469")]),
        ("PER_UNIT", "-50", {"unit_price": "1"}, [("-50 tokens at 1 USD", "-50")]),
        ("PER_UNIT", "0", {"unit_price": "1"}, []),
        ("PACKAGE", "201", {"package_price": "5", "package_size": "100"}, [("3 packages of 100 tokens at 5 USD", "15")]),
        ("PACKAGE", "1", {"package_price": "5", "package_size": "100"}, [("1 package of 100 tokens at 5 USD", "5")]),
        ("PACKAGE", "0", {"package_price": "5", "package_size": "100"}, []),
        ("PACKAGE", "-5", {"package_price": "5", "package_size": "100"}, []),
        ("GRADUATED", "6000000", {"tiers": LADDER}, [
            ("first 1,000,000 tokens at 0.0025 USD", "2500"),
            ("next 4,000,000 tokens at 0.002 USD plus 10 USD flat", "8010"),
            ("next 1,000,000 tokens at 0.001 USD", "1000"),
        ]),
        ("GRADUATED", "1000000", {"tiers": LADDER}, [("first 1,000,000 tokens at 0.0025 USD", "2500")]),
        ("GRADUATED", "1000000.5", {"tiers": LADDER}, [
            ("first 1,000,000 tokens at 0.0025 USD", "2500"),
            ("next 0.5 tokens at 0.002 USD plus 10 USD flat", "10.001"),
        ]),
        ("GRADUATED", "-3", {"tiers": LADDER}, [("first -3 tokens at 0.0025 USD", "-0.0075")]),
        ("GRADUATED", "0", {"tiers": LADDER}, []),
        ("GRADUATED", "0", {"tiers": tiers((None, "1", "5"))}, []),
        ("GRADUATED", "0", {"tiers": tiers((None, "1", "5")), "charge_flat_fee_at_zero": True},
         [("first 0 tokens at 1 USD plus 5 USD flat", "5")]),
        ("GRADUATED", "3", {"tiers": tiers((None, "0", None))}, [("first 3 tokens free", "0")]),
        ("VOLUME", "100", {"tiers": tiers(("100", "2", None), (None, "1", "7"))}, [("all 100 tokens at 2 USD", "200")]),
        ("VOLUME", "100.5", {"tiers": tiers(("100", "2", None), (None, "1", "7"))},
         [("all 100.5 tokens at 1 USD plus 7 USD flat", "107.5")]),
        ("VOLUME", "3", {"tiers": tiers((None, None, "7"))}, [("all 3 tokens for 7 USD flat", "7")]),
        ("VOLUME", "0", {"tiers": tiers((None, "1", "7")), "charge_flat_fee_at_zero": True},
         [("first 0 tokens at 1 USD plus 7 USD flat", "7")]),
        ("PER_UNIT", "130", {"unit_price": "2", "included_units": "100"},
         [("100 tokens included", "0"), ("30 tokens at 2 USD", "60")]),
        ("PER_UNIT", "30", {"unit_price": "2", "included_units": "100"}, [("30 tokens included", "0")]),
        ("PACKAGE", "201", {"package_price": "5", "package_size": "100", "included_units": "100"},
         [("100 tokens included", "0"), ("2 packages of 100 tokens at 5 USD", "10")]),
    ],
)  # fmt: skip
def test_price_of(model: str, quantity: str, parameters: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert lines(model, quantity, **parameters) == expected


@pytest.mark.parametrize(
    ("rounding", "quantity", "packages"),
    [
        (Rounding.UP, "101", 2),
        (Rounding.DOWN, "199.9", 1),
        (Rounding.HALF_UP, "150", 2),
        (Rounding.HALF_UP, "149.9", 1),
    ],
)
def test_started_packages_are_rounded_as_the_charge_says(rounding: Rounding, quantity: str, packages: int) -> None:
    charge = spec("PACKAGE", package_price="1", package_size="100", package_rounding=rounding)
    assert Charge.read("charge", charge).price(Used.of(Decimal(quantity)), WORDS).total.amount == packages


def test_what_was_billed_before_is_shown_and_taken_off() -> None:
    charge = Charge.read("charge", spec("VOLUME", tiers=tiers(("15", "10", None), (None, "5", None))))
    price = charge.price_since(Used.of(Decimal(15)), Used.of(Decimal(16)), WORDS)
    assert [(line.text, line.amount) for line in price.lines] == [
        ("all 16 tokens at 5 USD", 80),
        ("less 15 tokens billed before", -150),
    ]
    assert price.total.amount == -70


def test_a_slice_is_rounded_now_minus_rounded_before() -> None:
    charge = Charge.read("charge", spec("PER_UNIT", unit_price="0.001"))
    slices = [
        charge.price_since(Used.of(Decimal(q)), Used.of(Decimal(q + 4)), WORDS).total.rounded for q in range(0, 20, 4)
    ]
    assert slices == [Decimal(text) for text in ("0.00", "0.01", "0.00", "0.01", "0.00")]


@pytest.mark.parametrize(
    ("charge", "message"),
    [
        (spec("PER_UNIT"), "charges.input.unitPrice: must be given: PER_UNIT needs it"),
        (spec("PER_UNIT", unit_price="1", tiers=LADDER), "charges.input.tiers: is not a parameter of PER_UNIT"),
        (spec("PER_UNIT", unit_price="1", in_advance=True), "charges.input.inAdvance: is not a parameter of PER_UNIT"),
        (spec("PER_UNIT", unit_price="-1"), "charges.input.unitPrice: must not be negative"),
        (spec("PER_UNIT", unit_price="-1e18"), "charges.input.unitPrice: must be a number of at most 18 digits before and 18 after the point"),
        (spec("PER_UNIT", unit_price="NaN"), "charges.input.unitPrice: must be a number of at most 18 digits before and 18 after the point"),
        (
            spec("PER_UNIT", unit_price="1e-19"),
            "charges.input.unitPrice: must be a number of at most 18 digits before and 18 after the point",
        ),
        (spec("FLAT", amount="1", included_units="1"), "charges.input.includedUnits: is not a parameter of FLAT"),
        (spec("PACKAGE", package_size="1"), "charges.input.packagePrice: must be given: PACKAGE needs it"),
        (spec("PACKAGE", package_price="1", package_size="0"), "charges.input.packageSize: must be more than zero"),
        (spec("GRADUATED"), "charges.input.tiers: must be given: GRADUATED needs it"),
        (spec("GRADUATED", tiers=()), "charges.input.tiers: must have 1 to 100 tiers"),
        (
            spec("GRADUATED", tiers=tiers(("1", "1", None))),
            "charges.input.tiers[0].upTo: must be absent: the last tier is open",
        ),
        (
            spec("VOLUME", tiers=tiers((None, "1", None), (None, "1", None))),
            "charges.input.tiers[0].upTo: must be given on every tier but the last",
        ),
        (
            spec("VOLUME", tiers=tiers(("5", "1", None), ("5", "1", None), (None, "1", None))),
            "charges.input.tiers[1].upTo: must rise from tier to tier",
        ),
        (
            spec("VOLUME", tiers=tiers(("0", "1", None), (None, "1", None))),
            "charges.input.tiers[0].upTo: must be more than zero",
        ),
        (
            spec("VOLUME", tiers=tiers((None, "1", "-2"))),
            "charges.input.tiers[0].flatFee: must not be negative",
        ),
        (
            spec("VOLUME", tiers=tiers((None, None, None))),
            "charges.input.tiers[0]: must have a unitPrice, a flatFee or both",
        ),
    ],
)  # fmt: skip
def test_a_wrong_definition_is_refused_by_field_and_rule(charge: ChargeSpec, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Charge.read("charges.input", charge)
    assert str(caught.value) == message


prices = st.decimals("0", "1000", places=4)
quantities = st.decimals("0", "1000000000", places=3)


@st.composite
def ladders(draw: st.DrawFn) -> tuple[TierSpec, ...]:
    tops = sorted(draw(st.sets(st.decimals("0.001", "100000000", places=3), max_size=4)))
    return tuple(TierSpec(up_to=top, unit_price=draw(prices), flat_fee=draw(prices)) for top in [*tops, None])


@st.composite
def metered_charges(draw: st.DrawFn) -> Charge:
    included = draw(st.none() | st.decimals("0.001", "1000000", places=3))
    charge = draw(
        st.one_of(
            st.builds(lambda p: spec("PER_UNIT", unit_price=p, included_units=included), prices),
            st.builds(
                lambda p, size, how: spec(
                    "PACKAGE", package_price=p, package_size=size, package_rounding=how, included_units=included
                ),
                prices,
                st.decimals("0.001", "100000", places=3),
                st.sampled_from(Rounding),
            ),
            st.builds(
                lambda model, t, zero: spec(model, tiers=t, charge_flat_fee_at_zero=zero, included_units=included),
                st.sampled_from(["GRADUATED", "VOLUME"]),
                ladders(),
                st.booleans(),
            ),
        )
    )
    return Charge.read("charge", charge)


@given(metered_charges(), st.lists(quantities, min_size=1, max_size=6))
def test_slices_of_a_period_add_up_to_the_period(charge: Charge, cumulative: Sequence[Decimal]) -> None:
    whole = charge.price(Used.of(cumulative[-1]), WORDS).total
    slices = [charge.price(Used.of(cumulative[0]), WORDS).total]
    slices += [charge.price_since(Used.of(a), Used.of(b), WORDS).total for a, b in pairwise(cumulative)]
    assert sum(part.amount for part in slices) == whole.amount
    assert sum(part.rounded for part in slices) == whole.rounded


@given(metered_charges(), quantities, quantities)
def test_the_lines_of_a_slice_add_up_to_its_exact_amount(charge: Charge, before: Decimal, now: Decimal) -> None:
    price = charge.price_since(Used.of(before), Used.of(now), WORDS)
    assert sum(line.amount for line in price.lines) == price.total.amount


@given(metered_charges(), quantities, quantities)
def test_more_usage_never_costs_less_unless_the_volume_price_falls(charge: Charge, a: Decimal, b: Decimal) -> None:
    if charge.spec.model is not PricingModel.VOLUME:
        low, high = (charge.price(Used.of(q), WORDS).total.amount for q in sorted((a, b)))
        assert low <= high


@given(ladders(), st.decimals("0.001", "300000000", places=3))
def test_graduated_equals_its_tiers_counted_one_by_one(ladder: tuple[TierSpec, ...], quantity: Decimal) -> None:
    floor, owed = Decimal(0), Decimal(0)
    for tier in ladder:
        top = quantity if tier.up_to is None else tier.up_to
        inside = max(Decimal(0), min(quantity, top) - floor)
        assert tier.unit_price is not None
        assert tier.flat_fee is not None
        owed += inside * tier.unit_price + (tier.flat_fee if inside else 0)
        floor = top
    assert Charge.read("charge", spec("GRADUATED", tiers=ladder)).price(Used.of(quantity), WORDS).total.amount == owed


@given(ladders(), st.decimals("0.001", "300000000", places=3))
def test_volume_equals_the_only_tier_that_holds_the_quantity(ladder: tuple[TierSpec, ...], quantity: Decimal) -> None:
    holds = [tier for tier in ladder if tier.up_to is None or quantity <= tier.up_to]
    tier = min(holds, key=lambda each: (each.up_to is None, each.up_to or 0))
    assert tier.unit_price is not None
    assert tier.flat_fee is not None
    owed = quantity * tier.unit_price + tier.flat_fee
    assert Charge.read("charge", spec("VOLUME", tiers=ladder)).price(Used.of(quantity), WORDS).total.amount == owed


def test_prices_at_their_bounds_stay_exact() -> None:
    charge = Charge.read("charge", spec("PER_UNIT", unit_price="999999999999999999.999999999999999999"))
    quantity = Decimal("9" * 30 + ".999999999")
    amount = charge.price(Used.of(quantity), WORDS).total.amount
    ratio = (Decimal("999999999999999999.999999999999999999").as_integer_ratio(), quantity.as_integer_ratio())
    assert amount.as_integer_ratio()[0] * ratio[0][1] * ratio[1][1] == (
        ratio[0][0] * ratio[1][0] * amount.as_integer_ratio()[1]
    )
