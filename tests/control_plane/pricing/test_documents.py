"""Plans as documents: what is written in one, and what is refused by its place."""

from decimal import Decimal
from typing import Any

import pytest
from documents import PLANS
from hypothesis import given

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, TierSpec
from sidemeter_control.pricing.documents import document, read_document, spec_of
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, PlanSpec, read_plan

TIERS = (TierSpec(up_to=Decimal("1E+3"), unit_price=Decimal("0.0100")), TierSpec(unit_price=Decimal("0.004")))
SPEC = PlanSpec(
    key="pro",
    currency="USD",
    charges=(ChargeSpec(key="tokens", meter="tokens", model=PricingModel.GRADUATED, tiers=TIERS),),
    entitlements=(EntitlementSpec(feature="regions", kind=EntitlementKind.STATIC, value='{"max": 1.10}'),),
)
WRITTEN: dict[str, Any] = {
    "key": "pro",
    "currency": "USD",
    "charges": [
        {
            "key": "tokens",
            "meter": "tokens",
            "model": "GRADUATED",
            "tiers": [{"upTo": "1000", "unitPrice": "0.01"}, {"unitPrice": "0.004"}],
        }
    ],
    "entitlements": [{"feature": "regions", "kind": "STATIC", "value": {"max": Decimal("1.10")}}],
}


def test_a_plan_is_written_with_the_apis_names_and_without_what_has_its_default() -> None:
    assert document(SPEC) == WRITTEN


def test_a_published_plan_is_written_as_it_was_published() -> None:
    assert spec_of(read_plan(SPEC, 7, 0)) == SPEC


def test_what_equals_its_default_is_not_written() -> None:
    metered = EntitlementSpec(feature="f", kind=EntitlementKind.METERED, rollover_min=Decimal("0.00"))
    spec = PlanSpec(key="p", currency="USD", charges=(), entitlements=(metered,), trial_days=0)
    entitlement = {"feature": "f", "kind": "METERED"}
    assert document(spec) == {"key": "p", "currency": "USD", "charges": [], "entitlements": [entitlement]}


def charge(**fields: object) -> dict[str, Any]:
    return WRITTEN | {"charges": [{"key": "base", "model": "FLAT", "amount": "1"} | fields]}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (charge(amount=49), 'charges[0].amount: must be written as a string, "49": a bare number is a binary float'),
        (charge(amount=Decimal("0.1")), 'charges[0].amount: must be written as a string, "0.1"'),
        (charge(amount="1e99"), "charges[0].amount: must be a decimal like"),
        (charge(amount="Infinity"), "charges[0].amount: must be a decimal like"),
        (charge(amount="much"), "charges[0].amount: Invalid decimal string"),
        (charge(price="1"), "charges[0]: Object contains unknown field `price`"),
        (charge(model="FREE"), "charges[0].model: Invalid enum value 'FREE'"),
        (charge(tiers=[{"upTo": "1"}, {"unitPrice": 2}]), "charges[0].tiers[1].unitPrice: must be written as a string"),
        (WRITTEN | {"trialDays": "14"}, "trialDays: Expected `int`, got `str`"),
        (WRITTEN | {"trialDays": Decimal("1.5")}, "trialDays: Expected `int`, got `decimal`"),
        (WRITTEN | {"entitlements": [5]}, "entitlements[0]: Expected `object`, got `int`"),
        ({}, "plan: Object missing required field `key`"),
        ([], "plan: Expected `object`, got `array`"),
        (None, "plan: Expected `object`, got `null`"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(written: object, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_document(written)
    assert str(caught.value).startswith(message)


@given(PLANS)
def test_every_plan_is_read_as_it_was_written(spec: PlanSpec) -> None:
    assert document(read_document(document(spec))) == document(spec)
