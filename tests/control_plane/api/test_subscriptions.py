"""Subscriptions over GraphQL: a change and its way back, a pause, versions compared and their subscribers moved."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, plane

FEE = {"key": "base", "name": "Base fee", "model": "FLAT", "amount": "30", "inAdvance": True}
START = "2023-11-01T00:00:00Z"
NOW_US = 1_700_092_800_000_000  # 2023-11-16

OWN = "id status startAt endAt replaces replacedBy pauses { from to } plan { key version }"
CHANGE = f'mutation($id: ID!, $at: ChangeAt) {{ changePlan(subscription: $id, plan: "large", at: $at) {{ {OWN} }} }}'
CANCEL = f"mutation($id: ID!, $at: ChangeAt) {{ cancelSubscription(subscription: $id, at: $at) {{ {OWN} }} }}"
PAUSE = f"mutation($id: ID!, $until: DateTime) {{ pauseSubscription(subscription: $id, until: $until) {{ {OWN} }} }}"
RESUME = f"mutation($id: ID!) {{ resumeSubscription(subscription: $id) {{ {OWN} }} }}"
MOVE = """
mutation($preview: Boolean) {
  moveSubscribers(plan: "small", fromVersion: 1, toVersion: 2, at: NOW, preview: $preview) {
    remaining moves { customer current { rounded } new { rounded } moved problem }
  }
}
"""
DIFF = """
{ planDiff(plan: "small", from: 1, to: 2) {
    fields { field before after } charges { key kind fields { field before after } } entitlements { key }
} }
"""
BILL = '{ customer(key: "acme") { subscriptions { id status replacedBy } cost { total { rounded } lines { text } } } }'


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        opened.clock.set_wall(NOW_US)
        await opened.make("publishPlan", key="small", currency="USD", charges=[FEE])
        await opened.make("publishPlan", key="large", currency="USD", charges=[FEE | {"amount": "60"}])
        await opened.make("upsertCustomer", key="acme")
        yield opened


async def own(control: Plane) -> str:
    return (await control.make("subscribe", "id", customer="acme", plan="small", startAt=START, version=1))["id"]


async def run(control: Plane, mutation: str, **variables: object) -> dict[str, Any]:
    (found,) = (await control.ask(mutation, **variables)).values()
    return found


async def test_a_change_at_the_periods_end_is_scheduled_shown_from_both_sides_and_taken_back(control: Plane) -> None:
    id_ = await own(control)
    following = await run(control, CHANGE, id=id_)
    assert (following["status"], following["replaces"], following["startAt"]) == (
        *("SCHEDULED", id_),
        "2023-12-01T00:00:00Z",
    )
    (old, _) = (await run(control, BILL))["subscriptions"]
    assert old == {"id": id_, "status": "ACTIVE", "replacedBy": following["id"]}
    assert (await run(control, CANCEL, id=following["id"]))["status"] == "ENDED"
    (old, _) = (await run(control, BILL))["subscriptions"]
    assert old == {"id": id_, "status": "ACTIVE", "replacedBy": None}


async def test_a_change_now_gives_back_what_was_paid_and_not_used(control: Plane) -> None:
    id_ = await own(control)
    await run(control, CHANGE, id=id_, at="NOW")
    cost = (await run(control, BILL))["cost"]
    assert cost["total"]["rounded"] == "45"
    assert [line["text"] for line in cost["lines"]] == [
        "Base fee, 2023-11-01 to 2023-11-15",
        "Base fee, 2023-11-16 to 2023-11-30",
    ]


async def test_a_pause_is_shown_and_resumed(control: Plane) -> None:
    id_ = await own(control)
    paused = await run(control, PAUSE, id=id_, until="2023-11-26T00:00:00Z")
    assert (paused["status"], paused["pauses"]) == (
        "PAUSED",
        [{"from": "2023-11-16T00:00:00Z", "to": "2023-11-26T00:00:00Z"}],
    )
    control.clock.advance(86_400)
    resumed = await run(control, RESUME, id=id_)
    assert (resumed["status"], resumed["pauses"][0]["to"]) == ("ACTIVE", "2023-11-17T00:00:00Z")


async def test_a_cancellation_is_taken_back_until_it_takes_effect(control: Plane) -> None:
    id_ = await own(control)
    assert (await run(control, CANCEL, id=id_))["endAt"] == "2023-12-01T00:00:00Z"
    assert (await run(control, RESUME, id=id_))["endAt"] is None
    assert (await run(control, CANCEL, id=id_, at="NOW"))["status"] == "ENDED"
    assert (await control.refusal(RESUME, id=id_))["extensions"]["code"] == "CONFLICT"


async def test_versions_are_compared_and_their_subscribers_moved_after_a_look(control: Plane) -> None:
    await control.make("publishPlan", key="small", currency="USD", charges=[FEE | {"amount": "40"}], trialDays=3)
    await own(control)
    assert await run(control, DIFF) == {
        "fields": [{"field": "trialDays", "before": 0, "after": 3}],
        "charges": [{"key": "base", "kind": "CHANGED", "fields": [{"field": "amount", "before": "30", "after": "40"}]}],
        "entitlements": [],
    }
    looked, moved = [await run(control, MOVE, preview=preview) for preview in (None, False)]
    assert looked == {
        "remaining": False,
        "moves": [
            {
                "customer": "acme",
                "current": {"rounded": "30"},
                "new": {"rounded": "40"},
                "moved": False,
                "problem": None,
            }
        ],
    }
    assert [each["moved"] for each in moved["moves"]] == [True]
    assert await run(control, MOVE, preview=True) == {"remaining": False, "moves": []}


async def test_a_draft_is_compared_with_what_is_published_and_refused_as_if_it_were(control: Plane) -> None:
    ask = "query($plan: PlanInput!) { draftDiff(plan: $plan) { fields { field before after } charges { key kind } } }"
    draft = {"key": "small", "currency": "USD", "charges": [FEE | {"amount": "40"}], "trialDays": 3}
    assert (await control.ask(ask, plan=draft))["draftDiff"] == {
        "fields": [{"field": "trialDays", "before": 0, "after": 3}],
        "charges": [{"key": "base", "kind": "CHANGED"}],
    }
    assert (await control.ask('{ plan(key: "small") { version } }'))["plan"]["version"] == 1
    wrong = await control.refusal(ask, plan=draft | {"charges": [FEE | {"unitPrice": "1"}]})
    assert wrong["extensions"]["code"] == "INVALID_INPUT"
    unknown = await control.refusal(ask, plan=draft | {"key": "none"})
    assert unknown["extensions"]["code"] == "NOT_FOUND"


async def test_the_terms_of_a_plan_are_read_as_they_were_written(control: Plane) -> None:
    terms = {"amount": "100", "overageFactor": "1.5", "trueUp": False, "discountPercentage": "5", "smoothingMonths": 6}
    select = (
        "trialDays proration minimumSpend commitment { amount overageFactor trueUp discountPercentage smoothingMonths }"
    )
    written = {"trialDays": 7, "proration": "THIRTY_DAY_MONTHS", "minimumSpend": "12.5", "commitment": terms}
    assert await control.make("publishPlan", select, key="x", currency="USD", charges=[FEE], **written) == written
    (error,) = (
        await control.post(
            'mutation { publishPlan(input: {key: "y", currency: "USD", interval: DAY, charges: [],'
            " proration: THIRTY_DAY_MONTHS}) { key } }"
        )
    )["errors"]
    assert error["message"] == "proration: must not be THIRTY_DAY_MONTHS: DAY is shorter than a month"
