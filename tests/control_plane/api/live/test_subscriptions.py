"""What can be subscribed to: the state now, then every change, whoever makes it; alerts, none missed and none twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from streams import COST, QUOTA, Served, Talk, calls_of, customer, served

from sidemeter_control.api.live.topics import ALERTS_AT_ONCE
from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.clock import SystemClock
from sidemeter_control.limits.alerting import Alerting, look
from sidemeter_control.limits.alerts import AlertKind, Finding
from sidemeter_control.limits.given import set_entitlement
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.raising import raise_alerts
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.pricing.closing import Closing
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import customers as stored_customers
from sidemeter_control.store.keys import Scope

TOTAL = 'subscription { costChanged(customer: "acme") { total { amount } } }'
ALERTS = (
    "subscription($customer: ID, $after: ID) { alertRaised(customer: $customer, after: $after) { id customer what } }"
)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as opened:
        yield opened


def total(data: dict[str, Any]) -> Decimal:
    return Decimal(data["costChanged"]["total"]["amount"])


async def grant(control: Served) -> None:
    await control.make("grantCredits", customer="acme", amount="1", effectiveAt="2026-01-01T00:00:00Z")


async def void(control: Served) -> None:
    await control.ask('mutation { voidEvent(source: "s", id: "first", reason: "r") { id } }')


async def correct(control: Served) -> None:
    await control.ask('mutation { correctEvent(source: "s", id: "first", data: {}, reason: "r") { id } }')
    await void(control)


async def end(control: Served) -> None:
    found = await control.ask('{ customer(key: "acme") { subscriptions { id } } }')
    id_ = found["customer"]["subscriptions"][0]["id"]
    await control.ask(f'mutation {{ cancelSubscription(subscription: "{id_}", at: NOW) {{ id }} }}')


async def other_plan(control: Served) -> None:
    fee = {"key": "fee", "model": "FLAT", "amount": "100", "inAdvance": True}
    await control.make("publishPlan", key="pro", currency="EUR", charges=[fee])
    found = await control.ask('{ customer(key: "acme") { subscriptions { id } } }')
    id_ = found["customer"]["subscriptions"][0]["id"]
    await control.ask(f'mutation {{ changePlan(subscription: "{id_}", plan: "pro", at: NOW) {{ id }} }}')


async def more_subjects(control: Served) -> None:
    await calls_of(control, "acme-eu", 5)
    await control.make("upsertCustomer", key="acme", currency="EUR", subjects=["acme", "acme-eu"])


async def other_meter(control: Served) -> None:
    """Once it has counted, as the loop that fills it does."""
    only = [{"property": "kind", "in": ["paid"]}]
    await control.make("updateMeter", key="calls", eventType="call", aggregation="COUNT", filters=only)
    while await fill_once(control.database, control.clock):
        pass


CHANGES: dict[str, Callable[[Served], Awaitable[None]]] = {
    "usage": lambda control: calls_of(control, "acme"),
    "credits": grant,
    "an event that is void": void,
    "an event that is corrected": correct,
    "another plan": other_plan,
    "more subjects": more_subjects,
    "another meter": other_meter,
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_cost_is_told_again_whatever_changes_it(control: Served, what: str) -> None:
    event = [{"id": "first", "source": "s", "type": "call", "subject": "acme"}]
    await control.ask("mutation($e: [EventInput!]!) { ingest(events: $e) { accepted } }", e=[*event])
    async with control.talk() as talk:
        await talk.subscribe(TOTAL)
        assert total(await talk.next()) == 1
        await CHANGES[what](control)
        now = await control.ask('{ customer(key: "acme") { cost { total { amount } } } }')
        expected = Decimal(now["customer"]["cost"]["total"]["amount"])
        assert expected != 1
        while total(await talk.next()) != expected:
            pass


async def test_a_cost_changes_with_a_period_that_is_closed_only_where_it_does(control: Served) -> None:
    async with control.talk() as talk:
        await talk.subscribe(TOTAL)
        await talk.next()
        await Closing(control.database, control.clock, 0).once()
        await calls_of(control, "acme")
        assert total(await talk.next()) == 1


class Ahead(SystemClock):
    """Of a machine that is half a minute ahead."""

    def now_us(self) -> int:
        return super().now_us() + 30_000_000


CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(7), enforcement=Enforcement.HARD)
QUOTA_CHANGES: dict[str, tuple[Callable[[Served], Awaitable[Any]], dict[str, Any]]] = {
    "usage": (lambda control: calls_of(control, "acme", 2), {"used": "2", "remaining": "8"}),
    "an add-on": (
        lambda control: control.make("grantAddOn", customer="acme", feature="calls", quantity="5"),
        {"used": "0", "remaining": "15"},
    ),
    "an override": (
        lambda control: control.make(
            "setEntitlement", customer="acme", feature="calls", kind="METERED", limit="3", enforcement="HARD"
        ),
        {"used": "0", "remaining": "3"},
    ),
    "an override, by a control plane whose clock is ahead": (
        lambda control: set_entitlement(control.database, Ahead(), OverrideSpec(customer="acme", entitlement=CALLS)),
        {"used": "0", "remaining": "7"},
    ),
}


@pytest.mark.parametrize("what", QUOTA_CHANGES)
async def test_a_quota_is_told_again_whatever_changes_it(control: Served, what: str) -> None:
    change, expected = QUOTA_CHANGES[what]
    async with control.talk() as talk:
        await talk.subscribe(QUOTA)
        assert await talk.next() == {"quotaChanged": {"used": "0", "remaining": "10", "leased": None}}
        await change(control)
        assert await talk.next() == {"quotaChanged": expected | {"leased": None}}


async def test_a_quota_that_nothing_grants_any_more_ends_with_the_reason(control: Served) -> None:
    async with control.talk() as talk:
        id_ = await talk.subscribe(QUOTA)
        await talk.next()
        await end(control)
        said = await talk.hear()
        assert (said["id"], said["type"]) == (id_, "error")
        assert said["payload"][0]["extensions"] == {"code": "NOT_FOUND"}


async def test_usage_of_others_is_no_message(control: Served) -> None:
    await customer(control, "globex")
    async with control.talk() as talk:
        await talk.subscribe(TOTAL)
        await talk.next()
        looks = control.hub.looks
        await calls_of(control, "globex", 3)
        await calls_of(control, "nobody", 3)
        await calls_of(control, "acme")
        assert total(await talk.next()) == 1
        assert control.hub.looks == looks + 1


async def test_who_connects_again_begins_with_what_happened_meanwhile(control: Served) -> None:
    for count in range(1, 6):
        async with control.talk() as talk:
            await talk.subscribe(TOTAL)
            assert total(await talk.next()) == count - 1
        await calls_of(control, "acme")


async def test_many_who_ask_the_same_share_one_look_and_one_answer(control: Served) -> None:
    async with control.talk() as talk:
        for _ in range(50):
            await talk.subscribe(TOTAL)
        for _ in range(50):
            assert total(await talk.next()) == 0
        looks = control.hub.looks
        await calls_of(control, "acme")
        heard: set[str] = set()
        while len(heard) < 50:
            said = await talk.hear()
            if total(said["payload"]["data"]) == 1:
                heard.add(said["id"])
        assert (
            control.hub.looks <= looks + 2
        )  # one for all of them, and one that was due anyway where the machine is busy
        assert control.hub.watched == 1


async def test_different_questions_about_one_thing_share_its_look(control: Served) -> None:
    async with control.talk() as talk:
        first = await talk.subscribe(TOTAL)
        await talk.next()
        second = await talk.subscribe(
            'subscription { costChanged(customer: "acme") { lines { charge quantity } pendingAgents } }'
        )
        assert await talk.next() == {
            "costChanged": {"lines": [{"charge": "calls", "quantity": "0"}], "pendingAgents": 0}
        }
        looks = control.hub.looks
        await calls_of(control, "acme")
        assert {(await talk.hear())["id"] for _ in range(2)} == {first, second}
        assert (control.hub.looks, control.hub.watched) == (looks + 1, 1)


async def budget(control: Served, key: str = "cap", of: str = "acme") -> None:
    await control.make("setBudget", key=key, customer=of, amount="4", thresholds=[50, 100])


async def raise_them(control: Served, of: str = "acme") -> list[str]:
    return [alert.id for alert in await look(control.database, control.clock, of)]


async def alerts(talk: Talk, count: int) -> list[str]:
    return [(await talk.next())["alertRaised"]["id"] for _ in range(count)]


async def test_an_alert_is_told_once_and_old_ones_are_not(control: Served) -> None:
    await budget(control)
    await calls_of(control, "acme", 2)
    assert len(await raise_them(control)) == 1
    async with control.talk() as talk:
        await talk.subscribe(ALERTS, customer="acme")
        await talk.subscribe(TOTAL)
        assert total(await talk.next()) == 2  # by then, the other one has begun, too
        await calls_of(control, "acme", 2)
        assert total(await talk.next()) == 4
        new = await raise_them(control)
        assert len(new) == 1
        assert await alerts(talk, 1) == new
        await raise_them(control)


async def test_alerts_since_the_one_that_was_seen_last_come_first(control: Served) -> None:
    await budget(control)
    raised: list[str] = []
    for _ in range(4):
        await calls_of(control, "acme")
        raised += await raise_them(control)
    await budget(control, "other")
    raised += await raise_them(control)
    assert len(raised) == 4
    async with control.talk() as talk:
        await talk.subscribe(ALERTS, customer="acme", after=raised[0])
        assert await alerts(talk, 3) == raised[1:]
        await budget(control, "third")
        new = await raise_them(control)
        assert await alerts(talk, 2) == new


async def test_more_alerts_than_are_read_at_once_come_all_and_in_their_order(control: Served) -> None:
    """ALERTS_AT_ONCE and some more."""
    wanted = [f"cap{number:03}" for number in range(ALERTS_AT_ONCE + 5)]
    finding = [
        Finding(
            kind=AlertKind.BUDGET_THRESHOLD,
            what=f"budget:{key}",
            threshold=50,
            period_start_us=0,
            name=key,
            used=Decimal(1),
            amount=Decimal(2),
        )
        for key in wanted
    ]
    await budget(control)
    await calls_of(control, "acme", 2)
    (first,) = await raise_them(control)
    async with control.talk() as talk:
        await talk.subscribe(ALERTS, customer="acme", after=first)
        async with control.database.write() as conn:
            (acme,) = (await stored_customers.get(conn, ["acme"])).values()
            await raise_alerts(conn, control.clock, acme, finding)
        told = [(await talk.next())["alertRaised"]["what"] for _ in wanted]
        assert told == [f"budget:{key}" for key in wanted]


async def test_without_a_customer_the_alerts_of_all_are_told(control: Served) -> None:
    await customer(control, "globex")
    async with control.talk() as talk:
        await talk.subscribe(ALERTS)
        await talk.subscribe(ALERTS, customer="globex")
        await talk.subscribe(TOTAL)
        await talk.next()
        for of in ("acme", "globex"):
            await budget(control, of, of)
            await calls_of(control, of, 2)
        alerting = Alerting(control.database, control.clock)
        while await alerting.once():
            pass
        told = []
        while len(told) < 3:
            said = (await talk.hear())["payload"]["data"]
            told += [said["alertRaised"]["customer"]] if "alertRaised" in said else []
        assert sorted(told) == ["acme", "globex", "globex"]


REFUSED = {
    "a customer that is not": (TOTAL.replace("acme", "nobody"), "NOT_FOUND"),
    "a quota that is not": (QUOTA.replace('"calls"', '"sso"'), "NOT_FOUND"),
    "an alert that is not": ('subscription { alertRaised(after: "alert_0") { id } }', "NOT_FOUND"),
    "alerts of a customer that is not": ('subscription { alertRaised(customer: "nobody") { id } }', "NOT_FOUND"),
    "a field that is not": ("subscription { nothing }", "INVALID_QUERY"),
    "no GraphQL": ("subscription {", "INVALID_QUERY"),
    "two at once": (TOTAL[:-1] + " alertRaised { id } }", "INVALID_QUERY"),
    "a variable that is missing": (COST, "INVALID_QUERY"),
    "one that is too deep": ("subscription { a" + "{ a" * 13 + "}" * 14, "INVALID_QUERY"),
    "one that costs too much": (
        TOTAL.replace(
            "total { amount }",
            " ".join(
                f"l{n}: lines {{ explain(first: 200) {{ edges {{ node {{ corrections {{ reason }} }} }} }} }}"
                for n in range(9)
            ),
        ),
        "INVALID_QUERY",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_subscription_that_cannot_be_is_refused_with_the_reason(control: Served, what: str) -> None:
    query, code = REFUSED[what]
    async with control.talk() as talk:
        id_ = await talk.subscribe(query)
        said = await talk.hear()
        assert (said["id"], said["type"]) == (id_, "error")
        assert {each["extensions"]["code"] for each in said["payload"]} == {code}
        await talk.subscribe(TOTAL)
        assert total(await talk.next()) == 0
    async with control.stream(query) as events:
        (name, said), (last, _) = [each async for each in events]
        assert (name, last) == ("next", "complete")
        assert {each["extensions"]["code"] for each in said["errors"]} == {code}


@pytest.mark.parametrize("held", Scope, ids=lambda scope: scope.value)
async def test_a_subscription_needs_the_scope_read(control: Served, held: Scope) -> None:
    async with control.talk(authorization=f"Bearer {await control.key(held)}") as talk:
        for query in (TOTAL, QUOTA, ALERTS):
            await talk.subscribe(query)
        await talk.subscribe("{ __typename }")
        codes = set()
        for _ in range(3):
            said = await talk.hear()
            codes |= (
                {each["extensions"]["code"] for each in said["payload"]} if said["type"] == "error" else {said["type"]}
            )
        assert ("FORBIDDEN" in codes) is (held is Scope.AGENT)


def test_every_subscription_is_tried_here() -> None:
    assert set(SCHEMA._schema.subscription_type.fields) == {"costChanged", "quotaChanged", "alertRaised"}


async def test_what_nobody_hears_any_more_is_not_watched(control: Served) -> None:
    async with control.talk() as talk:
        id_ = await talk.subscribe(TOTAL)
        await talk.subscribe(ALERTS)
        await talk.next()
        assert (control.hub.watched, control.hub.places.subscriptions, control.hub.places.streams) == (1, 2, 1)
        await talk.say(type="complete", id=id_)
        await eventually(lambda: control.hub.watched == 0)
    await eventually(lambda: control.hub.places.subscriptions == 0)
    assert control.hub.places.streams == 0


async def test_both_programs_events_and_callers_events_are_noticed(control: Served) -> None:
    """By POST /v1/events as well, of which GraphQL knows nothing."""
    async with control.talk() as talk, asyncio.timeout(60):
        await talk.subscribe(TOTAL)
        await talk.next()
        answer = await control.http.post("/v1/events", json=[{"id": "e", "type": "call", "subject": "acme"}])
        assert answer.status_code == 202, answer.text
        assert total(await talk.next()) == 1
