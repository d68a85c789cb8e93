"""What differs between two plans, place by place."""

from typing import Any

import pytest
from documents import PLANS
from hypothesis import given

from sidemeter_control.pricing.documents import document
from sidemeter_control.pricing.plan_diff import Change, changes
from sidemeter_control.pricing.plans import PlanSpec

API = {"key": "api", "model": "PER_UNIT", "unitPrice": "0.1"}
BASE = {"key": "base", "model": "FLAT", "amount": "9"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"name": "Pro"}, {"name": "Pro"}, []),
        ({"name": "Pro"}, {}, [("name", "Pro", None)]),
        ({}, {"trialDays": 14}, [("trialDays", None, 14)]),
        ({"charges": [API, BASE]}, {"charges": [API]}, [("charges.base", BASE, None)]),
        ({"charges": []}, {"charges": [API]}, [("charges.api", None, API)]),
        ({"charges": [API]}, {"charges": [API | {"unitPrice": "0.2"}]}, [("charges.api.unitPrice", "0.1", "0.2")]),
        ({"charges": [API, BASE]}, {"charges": [BASE, API]}, [("charges (order)", ["api", "base"], ["base", "api"])]),
        (
            {"charges": [API]},
            {"charges": [API | {"key": "calls"}]},
            [("charges.api", API, None), ("charges.calls", None, API | {"key": "calls"})],
        ),
        (
            {"entitlements": [{"feature": "f", "value": True}]},
            {"entitlements": [{"feature": "f", "value": 1}]},
            [("entitlements.f.value", True, 1)],
        ),
        (
            {"tiers": [{"upTo": "1"}, {}]},
            {"tiers": [{"upTo": "2"}]},
            [("tiers[0].upTo", "1", "2"), ("tiers[1]", {}, None)],
        ),
        ({"days": [1, 2]}, {"days": [1, 2, 3]}, [("days[2]", None, 3)]),
        ({"value": {"a": 1}}, {"value": [1]}, [("value", {"a": 1}, [1])]),
        ({"value": [{"key": "a"}, {"key": "a"}]}, {"value": [{"key": "a"}]}, [("value[1]", {"key": "a"}, None)]),
    ],
)
def test_each_place_that_says_something_else_is_one_change(
    old: dict[str, Any], new: dict[str, Any], expected: list[tuple[str, object, object]]
) -> None:
    assert changes(old, new) == [Change(*each) for each in expected]


@pytest.mark.no_cover
@given(PLANS, PLANS)
def test_there_is_no_change_exactly_where_two_plans_are_written_alike(one: PlanSpec, other: PlanSpec) -> None:
    assert changes(document(one), document(one)) == []
    assert bool(changes(document(one), document(other))) is (document(one) != document(other))
