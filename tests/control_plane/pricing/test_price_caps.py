"""What is left of an amount of money: whatever is used for it at price caps, the bill is never more than the amount."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.metering.meters import Aggregation, Progress, new_meter
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.bills import CostLine, Slice, total_of
from sidemeter_control.pricing.charges import ChargeSpec, ConvertSpec, PricingModel, Rounding, TierSpec, Used
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.plans import PlanSpec, read_plan
from sidemeter_control.pricing.price_caps import PriceCaps, price_caps, taken, uncapped
from sidemeter_control.pricing.subscriptions import Subscribed, SubscribeSpec, new_subscription
from sidemeter_control.pricing.words import Language

ACME = Customer("acme")
METERS = {
    "calls": new_meter("calls", "llm", Aggregation.COUNT, now_us=0),
    "tokens": new_meter("tokens", "llm", Aggregation.SUM, value_property="tokens", now_us=0),
}


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


NOVEMBER = Period(us("2026-11-01"), us("2026-12-01"))
ACROSS = Period(us("2026-11-16"), us("2026-12-16"))
FEE = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(7))
PER_UNIT = {"model": PricingModel.PER_UNIT, "unit_price": Decimal("0.33333")}
MODELS: Sequence[dict[str, Any]] = (
    PER_UNIT,
    {"model": PricingModel.PACKAGE, "package_price": Decimal(3), "package_size": Decimal(10)},
    {
        "model": PricingModel.GRADUATED,
        "tiers": (
            TierSpec(up_to=Decimal(7), unit_price=Decimal("1.7"), flat_fee=Decimal(1)),
            TierSpec(unit_price=Decimal("0.0049"), flat_fee=Decimal(2)),
        ),
    },
    {
        "model": PricingModel.VOLUME,
        "tiers": (TierSpec(up_to=Decimal(20), unit_price=Decimal("0.7")), TierSpec(unit_price=Decimal("0.9"))),
    },
    PER_UNIT | {"discount_percentages": (Decimal("12.5"),)},
    PER_UNIT | {"minimum": Decimal(5), "maximum": Decimal(30)},
    PER_UNIT | {"included_units": Decimal(9), "convert": ConvertSpec(divide=Decimal(3), rounding=Rounding.UP)},
)
TERMS: Sequence[dict[str, Any]] = (
    {},
    {"minimum_spend": Decimal(25)},
    {"commitment": CommitmentSpec(amount=Decimal(20), overage_factor=Decimal("1.7"), discount_percentage=Decimal(10))},
    {"commitment": CommitmentSpec(amount=Decimal(20), overage_factor=Decimal("0.5"), true_up=False)},
    {"commitment": CommitmentSpec(amount=Decimal(30), overage_factor=Decimal(2), smoothing_months=2)},
)
Event = tuple[str, int, Decimal]
"""A meter, when, and how much."""


def subscribed(
    charges: Sequence[ChargeSpec], currency: str = "USD", start: str = "2026-11-01", **terms: Any
) -> Subscribed:
    plan = read_plan(PlanSpec(key="pro", currency=currency, charges=tuple(charges), **terms), 1, 0)
    spec = SubscribeSpec(customer="acme", plan="pro", start_at_us=us(start), anchor_us=us("2026-11-01"))
    return Subscribed.to(plan, new_subscription(spec, plan, "sub_1", 0), METERS)


def bill(own: Subscribed, asked: Period, events: Sequence[Event]) -> tuple[Money, list[CostLine]]:
    @exact
    def used(period: Period) -> dict[str, Used]:
        return {
            charge.spec.key: Used.of(
                sum(
                    (n for key, at, n in events if key == charge.spec.meter and period.start_us <= at < period.end_us),
                    Decimal(0),
                )
            )
            for charge in own.charges
            if charge.spec.meter is not None
        }

    lines: list[CostLine] = []
    for leg in own.legs(asked.start_us, asked.end_us):
        part = Slice(own, leg, leg.period.clipped(asked.start_us, asked.end_us), dated=False, language=Language.EN)
        before = None if part.earlier is None else used(part.earlier)
        lines += part.lines(ACME, used(part.so_far), before, [used(each.period) for each in part.reckoned_with])
    return total_of(lines, own.plan.currency), lines


@exact
def debit(caps: PriceCaps, event: Event) -> Decimal:
    key, _, quantity = event
    return sum((each.per_event + each.per_unit * quantity for each in caps.meters if each.meter.key == key), Decimal(0))


def left(own: Subscribed, asked: Period, amount: Decimal, events: Sequence[Event]) -> Decimal:
    return amount - taken(price_caps([own], asked), amount, *bill(own, asked, events))


@st.composite
def plans(draw: st.DrawFn) -> Subscribed:
    chosen = draw(st.lists(st.tuples(st.sampled_from(MODELS), st.sampled_from(sorted(METERS))), min_size=1, max_size=3))
    charges = [ChargeSpec(key=f"c{index}", meter=meter, **model) for index, (model, meter) in enumerate(chosen)]
    if draw(st.booleans()):
        charges.append(FEE)
    currency = draw(st.sampled_from(["USD", "JPY", "KWD"]))
    start = draw(st.sampled_from(["2026-11-01", "2026-11-11"]))
    return subscribed(charges, currency, start, **draw(st.sampled_from(TERMS)))


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from(sorted(METERS)))
        at = us(draw(st.sampled_from(["2026-11-12", "2026-11-20", "2026-12-02", "2026-12-10"])))
        found.append((key, at, Decimal(1) if key == "calls" else draw(st.decimals(0, 25, places=3))))
    return found


@given(plans(), st.sampled_from([NOVEMBER, ACROSS]), events(), events(), st.decimals(1, 120, places=3))
def test_the_bill_never_exceeds_an_amount_of_which_no_more_is_debited_than_is_left(
    own: Subscribed, asked: Period, before: list[Event], after: list[Event], amount: Decimal
) -> None:
    caps, rest = price_caps([own], asked), left(own, asked, amount, before)
    counted, at_first = list(before), bill(own, asked, before)[0].rounded
    for event in after:
        owed = debit(caps, event)
        if asked.start_us <= event[1] < asked.end_us and owed <= rest:
            rest -= owed
            counted.append(event)
            assert bill(own, asked, counted)[0].rounded <= max(amount, at_first)  # fees may be beyond it before


@pytest.mark.parametrize("model", MODELS, ids=[each["model"].value + "_" * index for index, each in enumerate(MODELS)])
def test_of_one_price_alone_all_of_an_amount_can_be_used_but_less_than_one_unit_costs(model: dict[str, Any]) -> None:
    own = subscribed([ChargeSpec(key="c", meter="calls", **model)])
    caps, amount, used = price_caps([own], NOVEMBER), Decimal(20), 0
    at = us("2026-11-12")
    for _ in range(400):  # each is counted before the next is asked for
        event = ("calls", at, Decimal(1))
        if debit(caps, event) > left(own, NOVEMBER, amount, [("calls", at, Decimal(used))]):
            break
        used += 1
    total = bill(own, NOVEMBER, [("calls", at, Decimal(used))])[0].rounded
    more = bill(own, NOVEMBER, [("calls", at, Decimal(used + 1))])[0].rounded
    assert total <= amount
    assert used == 400 or more > amount - Decimal("0.35")  # a price with a discount is rounded twice


def test_usage_fills_up_a_minimum_spend_before_it_takes_anything() -> None:
    own = subscribed([ChargeSpec(key="c", meter="calls", **PER_UNIT)], minimum_spend=Decimal(25))
    assert bill(own, NOVEMBER, [])[0].rounded == 25
    assert left(own, NOVEMBER, Decimal(25), []) == 25
    assert left(own, NOVEMBER, Decimal(24), []) == 0


def test_a_price_of_a_meter_that_is_still_filled_leaves_nothing() -> None:
    own = subscribed([ChargeSpec(key="c", meter="calls", **PER_UNIT)])
    filling = METERS | {"calls": replace(METERS["calls"], progress=Progress(1, 3))}
    half = Subscribed.to(own.plan, own.subscription, filling)
    caps = price_caps([half], NOVEMBER)
    assert caps.refusal == "meter 'calls' still counts what was stored before it"
    assert taken(caps, Decimal(9), *bill(half, NOVEMBER, [])) == 9
    assert [each.per_event for each in caps.meters] == [1]


def test_before_and_after_a_subscription_nothing_is_priced() -> None:
    own = subscribed([ChargeSpec(key="c", meter="calls", **PER_UNIT)], start="2026-12-11")
    assert price_caps([own], NOVEMBER).meters == ()
    assert uncapped([own], NOVEMBER) is None
