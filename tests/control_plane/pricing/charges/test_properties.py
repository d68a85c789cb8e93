"""What holds for every model and every modifier, whatever was used."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from charges import WORDS, charge
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.money import exact
from sidemeter_control.pricing.charges import Charge, Needs, Outcome, PricingModel, Used, UsedLine

OUTCOME = {"confirmType": "yes", "reverseType": "no", "windowHours": 1}
HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, with everything that any model may look at."""

    quantity: Decimal
    region: str | None
    at_us: int
    outcome: Outcome


def used_of(own: Charge, events: Sequence[Happened]) -> Used:
    if own.model.needs is Needs.AMOUNTS:
        return Used.of_amounts(event.quantity for event in events)
    lines = (UsedLine(each.quantity, {"region": each.region}, each.at_us, each.outcome) for each in events)
    return Used.of_lines(lines, "Europe/Berlin")


quantities = st.decimals("0", "10000", places=3)
prices = st.decimals("0", "100", places=4).map(str)
tops = st.sets(st.decimals("0.001", "50000", places=3), max_size=3).map(sorted)


def events_of(quantity: st.SearchStrategy[Decimal]) -> st.SearchStrategy[list[Happened]]:
    happened = st.builds(
        Happened,
        quantity,
        st.sampled_from(["eu", "us", "asia", None]),
        st.integers(0, 24 * 400).map(lambda hour: 1_767_225_600_000_000 + hour * HOUR_US),
        st.sampled_from(Outcome),
    )
    return st.lists(happened, max_size=6)


@st.composite
def ladders(draw: st.DrawFn, price: str, *, rising: bool = False) -> list[dict[str, str]]:
    bounds = [{"upTo": str(top)} for top in draw(tops)]
    fees = draw(st.lists(st.decimals("0", "100", places=2), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    fees = sorted(fees) if rising else fees
    each = [{} if rising else {price: draw(prices)} for _ in fees]
    return [{**bound, **own, "flatFee": str(fee)} for bound, own, fee in zip([*bounds, {}], each, fees, strict=True)]


MODELS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "FLAT": st.fixed_dictionaries({"amount": prices}),
    "PER_UNIT": st.fixed_dictionaries({"unitPrice": prices}),
    "PACKAGE": st.fixed_dictionaries(
        {"packagePrice": prices, "packageSize": st.sampled_from(["0.5", "7", "100"])},
        optional={"packageRounding": st.sampled_from(["UP", "DOWN", "HALF_UP"])},
    ),
    "GRADUATED": st.fixed_dictionaries({"tiers": ladders("unitPrice")}),
    "VOLUME": st.fixed_dictionaries({"tiers": ladders("unitPrice")}),
    "STAIRSTEP": st.fixed_dictionaries(
        {"tiers": ladders("flatFee", rising=True)}, optional={"stairstepCumulative": st.booleans()}
    ),
    "GRADUATED_PERCENTAGE": st.fixed_dictionaries({"tiers": ladders("percentage")}),
    "PERCENTAGE": st.fixed_dictionaries(
        {"percentage": prices},
        optional={
            "fixedPerEvent": prices,
            "minPerEvent": st.just("3"),
            "maxPerEvent": st.just("20"),
            "freeEvents": st.integers(0, 3),
            "freeAmount": st.just("500"),
        },
    ),
    "MATRIX": st.builds(
        lambda eu, other, rest: {
            "rates": [
                {"match": {"region": "eu"}, "unitPrice": eu},
                {"match": {"region": ["eu", "us"]}, "unitPrice": other},
            ],
            "defaultUnitPrice": rest,
        },
        prices,
        prices,
        prices,
    ),
    "TIME_OF_DAY": st.builds(
        lambda day, night, rest: {
            "bands": [
                {"from": "08:00", "to": "20:00", "unitPrice": day},
                {"days": [6, 7], "from": "22:00", "to": "02:30", "unitPrice": night},
            ],
            "defaultUnitPrice": rest,
        },
        prices,
        prices,
        prices,
    ),
    "DYNAMIC": st.fixed_dictionaries({}, optional={"multiplier": prices}),
    "OUTCOME": st.fixed_dictionaries({"unitPrice": prices, "outcome": st.just(OUTCOME)}),
}

PRICE_MODIFIERS = {
    "discountPercentages": st.lists(st.decimals("0", "100", places=2).map(str), min_size=1, max_size=3),
    "maximum": st.just("200"),
}
UNIT_MODIFIERS = {
    "convert": st.sampled_from(
        [
            {"multiply": "1.5"},
            {"divide": "7"},
            {"divide": "10", "rounding": "UP"},
            {"divide": "3", "rounding": "HALF_UP"},
        ]
    ),
    "includedUnits": st.decimals("0.001", "5000", places=3).map(str),
    "discountUnits": st.decimals("0.001", "5000", places=3).map(str),
}


def test_every_model_is_tried() -> None:
    assert MODELS.keys() == {model.value for model in PricingModel}


@st.composite
def charges(draw: st.DrawFn, *, minimum: bool = False) -> Charge:
    model = draw(st.sampled_from(sorted(MODELS)))
    modifiers = PRICE_MODIFIERS | ({} if model in {"FLAT", "PERCENTAGE"} else UNIT_MODIFIERS)
    modifiers = modifiers | ({"minimum": st.just("50")} if minimum else {})
    return charge(model, **draw(MODELS[model]), **draw(st.fixed_dictionaries({}, optional=modifiers)))


@given(charges(minimum=True), events_of(st.decimals("-1000", "10000", places=3)), st.data())
@exact
def test_slices_of_a_period_add_up_to_the_period(own: Charge, events: list[Happened], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(events)), max_size=3)) | {len(events)})
    parts = [used_of(own, events[:cut]) for cut in cuts]
    whole = own.price(parts[-1], WORDS).total
    slices = [own.price(parts[0], WORDS, final=len(parts) == 1)]
    slices += [own.price_since(a, b, WORDS, final=b is parts[-1]) for a, b in pairwise(parts)]
    assert sum(part.total.amount for part in slices) == whole.amount
    assert sum(part.total.rounded for part in slices) == whole.rounded
    for part in slices:
        assert sum(line.amount for line in part.lines) == part.total.amount


@given(charges(), events_of(quantities), events_of(quantities))
def test_more_usage_never_costs_less_unless_the_volume_price_falls(
    own: Charge, events: list[Happened], more: list[Happened]
) -> None:
    if own.spec.model is not PricingModel.VOLUME:
        less = own.price(used_of(own, events), WORDS).total.amount
        assert less <= own.price(used_of(own, events + more), WORDS).total.amount


@given(charges(), events_of(st.decimals("-1000", "10000", places=3)), st.data())
def test_the_order_and_batching_of_events_changes_nothing(
    own: Charge, events: list[Happened], data: st.DataObject
) -> None:
    if own.model.needs is Needs.AMOUNTS:
        return
    halves = [
        Happened(part, event.region, event.at_us, event.outcome)
        for event in events
        for part in (event.quantity - 1, Decimal(1))
    ]
    other = data.draw(st.permutations(halves))
    assert own.price(used_of(own, events), WORDS) == own.price(used_of(own, other), WORDS)


@given(charges(), events_of(quantities))
def test_voiding_everything_leaves_nothing_and_gives_back_what_was_billed(own: Charge, events: list[Happened]) -> None:
    if own.spec.model is PricingModel.FLAT:
        return
    nothing, used = used_of(own, []), used_of(own, events)
    assert own.price(nothing, WORDS).total.amount == 0
    given_back = own.price_since(used, nothing, WORDS).total
    assert (given_back.amount, given_back.rounded) == tuple(
        each.copy_negate()  # a minus would round
        for each in (own.price(used, WORDS).total.amount, own.price(used, WORDS).total.rounded)
    )
    if own.model.needs is not Needs.AMOUNTS:
        undone = [Happened(-each.quantity, each.region, each.at_us, each.outcome) for each in events]
        assert own.price(used_of(own, events + undone), WORDS).total.amount == 0
