"""Plans: which are refused and why, and that what is kept comes back digit for digit."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, TierSpec
from sidemeter_control.pricing.definitions import Definition, charges_text, plain, read_charges_text
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.plans import (
    Enforcement,
    EntitlementKind,
    EntitlementSpec,
    PlanSpec,
    ResetPeriod,
    read_plan,
)

FEE = ChargeSpec(key="base", name="Base fee", model=PricingModel.FLAT, amount=Decimal(49))
INPUT = ChargeSpec(
    key="input",
    meter="input_tokens",
    model=PricingModel.GRADUATED,
    tiers=(TierSpec(up_to=Decimal(10), unit_price=Decimal("1E-7")), TierSpec(unit_price=Decimal("0.10"))),
)
TOKENS = EntitlementSpec(
    feature="tokens",
    kind=EntitlementKind.METERED,
    limit=Decimal(1000),
    enforcement=Enforcement.HARD,
    reset=ResetPeriod.DAY,
)
ROLLING = EntitlementSpec(
    feature="seconds",
    kind=EntitlementKind.METERED,
    limit=Decimal(1000),
    enforcement=Enforcement.HARD,
    overage_up_to=Decimal("0.10"),
    grace_days=3,
    rollover_max=Decimal("500.5"),
    rollover_min=Decimal(10),
)
REGION = EntitlementSpec(feature="region", kind=EntitlementKind.STATIC, value='{"name":"eu","share":0.1}')
PRO = PlanSpec(key="pro", name="Pro", currency="USD", charges=(FEE, INPUT), entitlements=(TOKENS, REGION, ROLLING))


def test_a_plan_holds_its_charges_and_entitlements() -> None:
    plan = read_plan(PRO, 3, 17)
    assert (plan.key, plan.version, plan.published_at_us) == ("pro", 3, 17)
    assert [charge.spec for charge in plan.charges] == [FEE, INPUT]
    assert plan.entitlements == (TOKENS, REGION, ROLLING)


def test_a_definition_comes_back_as_it_was_digit_for_digit() -> None:
    text = Definition(charges=PRO.charges, entitlements=PRO.entitlements, trial_days=14).text()
    back = Definition.read(text)
    assert (back.charges, back.entitlements, back.trial_days) == (PRO.charges, PRO.entitlements, 14)
    assert back.text() == text
    assert read_charges_text(charges_text(PRO.charges)) == PRO.charges


def test_a_definition_is_written_with_the_apis_names_and_plain_decimals() -> None:
    assert plain(INPUT) == {
        "key": "input",
        "meter": "input_tokens",
        "model": "GRADUATED",
        "tiers": [{"upTo": "10", "unitPrice": "0.0000001"}, {"unitPrice": "0.1"}],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ""}, "key: must be 1 to 128 letters"),
        ({"key": "a b"}, "key: must be 1 to 128 letters"),
        ({"name": "x" * 257}, "name: must be 1 to 256 characters"),
        ({"charges": (msgspec.structs.replace(FEE, name=""),)}, "charges.base.name: must be 1 to 256 characters"),
        (
            {"entitlements": (EntitlementSpec(feature="f", kind=EntitlementKind.STATIC, value="1" * 4097),)},
            "entitlements.f.value: must be at most 4096 bytes of JSON",
        ),
        ({"currency": "ABC"}, "currency: must be the ISO 4217 code"),
        ({"interval_count": 0}, "intervalCount: must be from 1 to 36 for MONTH"),
        ({"interval": Interval.YEAR, "interval_count": 6}, "intervalCount: must be from 1 to 5 for YEAR"),
        ({"trial_days": -1}, "trialDays: must be from 0 to 730"),
        ({"charges": (FEE, FEE)}, "charges.base: must be named once"),
        ({"charges": (ChargeSpec(key="", model=PricingModel.FLAT),)}, "charges[0].key: must be 1 to 128 letters"),
        (
            {"charges": (ChargeSpec(key="x", model=PricingModel.FLAT),)},
            "charges.x.amount: must be given: FLAT needs it",
        ),
        (
            {"charges": (msgspec.structs.replace(INPUT, meter=None),)},
            "charges.input.meter: must be given: GRADUATED prices a meter",
        ),
        (
            {"charges": (msgspec.structs.replace(FEE, meter="x"),)},
            "charges.base.meter: must be absent: FLAT is a recurring fee",
        ),
        ({"charges": (FEE,) * 201}, "charges: must be at most 200"),
        ({"entitlements": (TOKENS, TOKENS)}, "entitlements.tokens: must be named once"),
        ({"entitlements": (TOKENS,) * 501}, "entitlements: must be at most 500"),
        (
            {"entitlements": (EntitlementSpec(feature="f", kind=EntitlementKind.METERED, limit=Decimal(-1)),)},
            "entitlements.f.limit: must not be negative",
        ),
        (
            {"entitlements": (EntitlementSpec(feature="f", kind=EntitlementKind.BOOLEAN, limit=Decimal(1)),)},
            "entitlements.f.limit: must be absent: BOOLEAN is not counted",
        ),
        (
            {"entitlements": (EntitlementSpec(feature="f", kind=EntitlementKind.STATIC),)},
            "entitlements.f.value: must be given: STATIC is a value",
        ),
        (
            {"entitlements": (EntitlementSpec(feature="f", kind=EntitlementKind.METERED, value="1"),)},
            "entitlements.f.value: must be absent for METERED",
        ),
        *(
            ({"entitlements": (msgspec.structs.replace(ROLLING, **wrong),)}, f"entitlements.seconds.{message}")
            for wrong, message in [
                ({"overage_up_to": Decimal(-1)}, "overageUpTo: must not be negative"),
                ({"grace_days": -1}, "graceDays: must be from 0 to 366"),
                ({"grace_days": 367}, "graceDays: must be from 0 to 366"),
                (
                    {"enforcement": Enforcement.SOFT},
                    "overageUpTo: must be absent: only a HARD limit stops anything",
                ),
                (
                    {"enforcement": Enforcement.SOFT, "overage_up_to": None},
                    "graceDays: must be absent: only a HARD limit stops anything",
                ),
                ({"limit": None}, "overageUpTo: must be absent: only a HARD limit stops anything"),
                (
                    {"limit": None, "overage_up_to": None, "grace_days": 0},
                    "rolloverMax: must be absent: without a limit nothing is left over",
                ),
                ({"reset": ResetPeriod.NEVER}, "rolloverMax: must be absent: NEVER has no next period"),
                ({"rollover_max": Decimal(-1)}, "rolloverMax: must not be negative"),
                ({"rollover_max": Decimal(9)}, "rolloverMin: must be at most rolloverMax"),
                ({"rollover_min": Decimal(-1)}, "rolloverMin: must not be negative"),
                ({"rollover_max": None}, "rolloverMin: must be absent without rolloverMax"),
            ]
        ),
    ],
)
def test_a_wrong_plan_is_refused_by_field_and_rule(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_plan(msgspec.structs.replace(PRO, **change), 1, 0)
    assert str(caught.value).startswith(message)
