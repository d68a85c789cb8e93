"""What a budget may be: rules of its amount, its slice, its thresholds, and of what agents can stop."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.budgets import (
    MAX_SLICE_CHARS,
    MAX_THRESHOLD_PERCENT,
    MAX_THRESHOLDS,
    Budget,
    BudgetAnswer,
    BudgetSpec,
    BudgetUnit,
    new_budget,
)
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.plans import Enforcement, ResetPeriod

DIMENSIONS = (Dimension("team", "team"), Dimension("model", "llm.model"))
TOKENS = new_meter("tokens", "llm", Aggregation.SUM, value_property="n", dimensions=DIMENSIONS, now_us=0)
PEAK = new_meter("peak", "llm", Aggregation.MAX, value_property="n", dimensions=DIMENSIONS, now_us=0)
OF_A_METER = {"unit": BudgetUnit.METER, "meter": "tokens"}


METERS = {"tokens": TOKENS, "peak": PEAK}


def made(*, archived: bool = False, currency: str | None = "EUR", **fields: Any) -> Budget:
    spec = BudgetSpec(**({"key": "b", "customer": "acme", "amount": Decimal(100)} | fields))
    meter = METERS.get(spec.meter or "")
    if meter is not None and archived:
        meter = replace(meter, archived_at_us=1)
    return new_budget(spec, meter=meter, currency=currency, now_us=7)


def test_a_budget_is_money_a_month_with_four_thresholds_unless_it_says_otherwise() -> None:
    budget = made()
    assert (budget.unit, budget.reset, budget.enforcement) == (BudgetUnit.MONEY, ResetPeriod.MONTH, Enforcement.SOFT)
    assert (budget.thresholds, budget.slice, budget.set_at_us) == ((50, 75, 90, 100), (), 7)


def test_a_slice_is_kept_in_order_and_as_the_text_that_dimensions_have() -> None:
    budget = made(**OF_A_METER, slice={"team": Decimal("1.50"), "model": "opus"})
    assert (budget.slice, budget.dimensions) == ((("model", "opus"), ("team", "1.5")), ("model", "team"))
    assert budget.values == ("opus", "1.5")
    assert made(**OF_A_METER, slice={"team": True}).values == ("true",)


def test_money_has_a_slice_by_the_dimensions_that_one_priced_meter_has_together() -> None:
    one, other = replace(TOKENS, dimensions=DIMENSIONS[:1]), replace(PEAK, dimensions=DIMENSIONS[1:])
    spec = BudgetSpec(key="b", customer="acme", amount=Decimal(100), slice={"team": "a", "model": "opus"})
    priced = new_budget(spec, meter=None, currency="EUR", priced=[one, TOKENS], now_us=7)
    assert (priced.unit, priced.slice) == (BudgetUnit.MONEY, (("model", "opus"), ("team", "a")))
    with pytest.raises(InvalidInput, match=r"slice\.model: must be a dimension"):
        new_budget(spec, meter=None, currency="EUR", priced=[one, other], now_us=7)


def test_thresholds_are_kept_once_each_and_in_order() -> None:
    assert made(thresholds=(100, 80, 100)).thresholds == (80, 100)
    assert made(thresholds=()).thresholds == ()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": "a b"}, "key: must be 1 to 128 letters"),
        ({"amount": Decimal(0)}, "amount: must be more than zero"),
        ({"amount": Decimal(-1)}, "amount: must be more than zero"),
        ({"amount": Decimal("NaN")}, "amount: must be a number"),
        ({"currency": None}, "unit: must not be MONEY: the customer has no currency yet"),
        ({"meter": "tokens"}, "meter: must be absent: the unit is MONEY"),
        ({"slice": {"team": "a"}}, r"slice\.team: must be a dimension of the meter, or in money of one that is priced"),
        ({"period": ResetPeriod.NEVER}, "period: must not be NEVER"),
        ({"unit": BudgetUnit.METER}, "meter: must be given: the unit is METER"),
        (OF_A_METER | {"meter": "peak", "enforcement": Enforcement.HARD}, "enforcement: must be SOFT: .*not MAX"),
        (OF_A_METER | {"slice": {"key": "a"}}, r"slice\.key: must be a dimension of the meter"),
        (OF_A_METER | {"slice": {"team": None}}, r"slice\.team: must be a text"),
        (OF_A_METER | {"slice": {"team": ["a"]}}, r"slice\.team: must be a text"),
        ({"thresholds": (50, 0)}, r"thresholds\[1\]: must be from 1 to 1000 percent"),
    ],
)
def test_a_wrong_budget_is_refused_by_field_and_rule(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        made(**fields)


def test_nothing_can_be_spent_of_a_meter_that_is_archived() -> None:
    with pytest.raises(InvalidInput, match="meter: must not be archived"):
        made(archived=True, **OF_A_METER)


def test_what_a_budget_says_is_bounded() -> None:
    percents = range(1, MAX_THRESHOLDS + 2)
    assert made(thresholds=percents[:-1]).thresholds == tuple(percents[:-1])
    assert made(thresholds=(MAX_THRESHOLD_PERCENT,)).thresholds == (MAX_THRESHOLD_PERCENT,)
    assert made(**OF_A_METER, slice={"team": "x" * MAX_SLICE_CHARS})
    for wrong in ({"thresholds": percents}, {"thresholds": (MAX_THRESHOLD_PERCENT + 1,)}):
        with pytest.raises(InvalidInput, match="thresholds"):
            made(**wrong)
    with pytest.raises(InvalidInput, match="slice"):
        made(**OF_A_METER, slice={"team": "x" * (MAX_SLICE_CHARS + 1)})


def test_a_budget_fits_a_meter_with_its_dimensions_and_a_hard_one_only_what_agents_can_add_up() -> None:
    sliced = made(**OF_A_METER, slice={"team": "a"})
    assert sliced.misfit(PEAK) is None
    assert sliced.misfit(replace(TOKENS, dimensions=DIMENSIONS[1:])) == "needs its dimension 'team'"
    hard = made(**OF_A_METER, enforcement=Enforcement.HARD)
    assert hard.misfit(TOKENS) is None
    assert hard.misfit(PEAK) == "is HARD, which only what COUNT and SUM count can be"


def test_what_is_left_is_never_less_than_nothing_and_what_never_resets_has_no_period() -> None:
    answers = [BudgetAnswer(made(), Period(1, 2), Decimal(spent), 0) for spent in ("0.1", "100", "100.1")]
    assert [each.remaining for each in answers] == [Decimal("99.9"), 0, 0]
    assert (answers[0].period_start_us, answers[0].resets_at_us) == (1, 2)
    ever = BudgetAnswer(made(), EVER, Decimal(0), 0)
    assert (ever.period_start_us, ever.resets_at_us) == (None, None)
