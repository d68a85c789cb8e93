"""Differences between versions of a plan, under the names that they were written with."""

from decimal import Decimal
from typing import Any

import msgspec
from shop import BASE, CALLS, TOKENS

from sidemeter_control.pricing.charges import ChargeSpec
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.differences import Difference, FieldDifference, Kind, PlanDifferences, differences
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, Plan, PlanSpec, read_plan

SSO = EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN)


def plan(*charges: ChargeSpec, **terms: Any) -> Plan:
    return read_plan(PlanSpec(key="pro", currency="USD", charges=charges, **terms), 1, 0)


def test_versions_that_say_the_same_have_none() -> None:
    assert differences(plan(BASE, CALLS), plan(BASE, CALLS)) == PlanDifferences((), (), ())


def test_what_is_changed_added_and_removed_is_told_field_by_field() -> None:
    dearer = msgspec.structs.replace(BASE, amount=Decimal(59), in_advance=True)
    found = differences(plan(BASE, CALLS), plan(dearer, TOKENS, entitlements=(SSO,)))
    changed, added, removed = found.charges
    assert changed == Difference(
        "base",
        Kind.CHANGED,
        (FieldDifference("amount", "49", "59"), FieldDifference("inAdvance", None, True)),
    )
    assert (added.key, added.kind, removed.key, removed.kind) == ("tokens", Kind.ADDED, "calls", Kind.REMOVED)
    assert FieldDifference("unitPrice", "0.0333", None) in removed.fields
    assert [(each.key, each.kind) for each in found.entitlements] == [("sso", Kind.ADDED)]


def test_terms_of_the_whole_plan_are_fields_of_it() -> None:
    committed = CommitmentSpec(amount=Decimal(100), smoothing_months=3)
    found = differences(plan(BASE, minimum_spend=Decimal(10)), plan(BASE, commitment=committed, trial_days=7))
    assert found.fields == (
        FieldDifference("trialDays", 0, 7),
        FieldDifference("minimumSpend", "10", None),
        FieldDifference("commitment", None, {"amount": "100", "smoothingMonths": 3}),
    )
