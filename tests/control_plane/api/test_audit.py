"""The audit log over GraphQL: every mutation that changes something leaves one entry, and no other does."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from planes import INPUTS, Plane, call, plane

from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.pricing.credits.topping_up import top_up_once
from sidemeter_control.store.keys import Scope

LOG = """{ auditLog(first: 200) { edges { node { at actor actorName action target detail } } } }"""
NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands
METER = {"key": "calls", "eventType": "call", "aggregation": "COUNT"}
PLAN = {"key": "pro", "currency": "EUR", "charges": [{"key": "base", "model": "FLAT", "amount": "9"}]}
MOVE = """mutation($preview: Boolean!) {
  moveSubscribers(plan: "pro", fromVersion: 1, toVersion: 2, preview: $preview) { moves { moved } }
}"""


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        yield opened


async def log(control: Plane) -> list[dict[str, Any]]:
    """Every entry, newest first."""
    return [edge["node"] for edge in (await control.ask(LOG))["auditLog"]["edges"]]


@dataclass(frozen=True)
class Step:
    """A mutation with its arguments; `target` in the log, `{id}` being what it answers or the id that it names."""

    name: str
    target: str
    arguments: dict[str, Any]
    select: str = ""

    def text(self) -> str:
        if self.name in INPUTS:
            return call(self.name, self.select)
        declared = SCHEMA._schema.mutation_type.fields[self.name].args
        variables = ", ".join(f"$its_{name}: {declared[name].type}" for name in self.arguments)
        given = ", ".join(f"{name}: $its_{name}" for name in self.arguments)
        return f"mutation({variables}) {{ {self.name}({given}) {self.select and f'{{ {self.select} }}'} }}"

    async def send(self, control: Plane) -> Any:
        named = self.arguments if self.name in INPUTS else {f"its_{key}": it for key, it in self.arguments.items()}
        return (await control.ask(self.text(), **named))[self.name]


def made(name: str, target: str, select: str = "id", /, **fields: Any) -> Step:
    return Step(name, target, {"input": fields}, select)


def done(name: str, target: str, select: str = "id", /, **arguments: Any) -> Step:
    return Step(name, target, arguments, select)


def steps(ids: dict[str, str]) -> Iterator[Step]:
    """Every mutation once, in an order in which each has something to change; `ids`: what each answered."""
    own = {"customer": "acme", "feature": "calls"}
    yield made("createMeter", "meter calls", "key", **METER)
    yield made("updateMeter", "meter calls", "key", **METER | {"eventType": "other"})
    yield made("createFeature", "feature calls", "key", key="calls", meter="calls")
    yield made("publishPlan", "plan pro", "key", **PLAN)
    yield made("upsertCustomer", "customer acme", "key", key="acme")
    yield made("subscribe", "subscription {id}", customer="acme", plan="pro", version=1)
    first = ids["subscribe"]
    yield done("pauseSubscription", f"subscription {first}", subscription=first)
    yield done("resumeSubscription", f"subscription {first}", subscription=first)
    yield made("publishPlan", "plan pro", "key", **PLAN | {"minimumSpend": "20"})
    yield done(
        "moveSubscribers", "plan pro", "remaining", plan="pro", fromVersion=1, toVersion=2, at="NOW", preview=False
    )
    yield made("upsertCustomer", "customer globex", "key", key="globex")
    yield made("subscribe", "subscription {id}", customer="globex", plan="pro", version=1)
    second = ids["subscribe"]
    yield done("changePlan", f"subscription {second}", subscription=second, plan="pro", version=2)
    yield done("cancelSubscription", f"subscription {ids['changePlan']}", subscription=ids["changePlan"], at="NOW")
    yield made("grantAddOn", "add-on {id}", **own, quantity="5")
    yield done("revokeAddOn", "add-on {id}", id=ids["grantAddOn"], reason="refunded")
    yield made("setEntitlement", "entitlement acme/calls", "setAt", **own, kind="METERED", limit="5")
    yield done("removeEntitlement", "entitlement acme/calls", "", **own)
    yield made("grantCredits", "grant {id}", customer="acme", amount="5")
    yield done("voidCredits", "grant {id}", grant=ids["grantCredits"], reason="given twice")
    yield made("resetCredits", "customer acme", "balance", customer="acme")
    yield made("setTopUp", "customer acme", "below", customer="acme", below="1", amount="2")
    yield done("removeTopUp", "customer acme", "", customer="acme", unit="MONEY")
    yield made("setBudget", "budget all", "key", key="all", customer="acme", amount="5")
    yield done("removeBudget", "budget all", "", key="all")
    yield made("setWebhook", "webhook {id}", "id: webhook { id }", url="https://example.com/")
    yield done("rotateWebhookSecret", "webhook {id}", "secret", id=ids["setWebhook"])
    yield done("removeWebhook", "webhook {id}", "", id=ids["setWebhook"])
    event = {"id": "1", "source": "s", "type": "other", "subject": "acme", "data": {}}
    yield done("ingest", "", "accepted", events=[event])
    yield done("correctEvent", "event s/1", source="s", id="1", data={"n": 1}, reason="wrong")
    yield done("voidEvent", "event s/1", source="s", id="1", reason="a test")
    yield done("archiveMeter", "meter calls", "key", key="calls")
    yield made("createApiKey", "key {id}", name="second", scopes=["READ"])
    yield done("rotateApiKey", "key {id}", "id", id=ids["createApiKey"], overlapSeconds=60)
    yield done("revokeApiKey", "key {id}", "", id=ids["createApiKey"])
    yield done("createPortalLink", "customer acme", "", customer="acme")
    yield done("endPortalLinks", "portal links", "", overlapSeconds=0)


# They need a dead letter, a lease of an agent that is gone, a recovery, a delivery, a receiver that is gone: test_replay.py, test_leases.py and
# test_webhooks.py have them.
ELSEWHERE = {"replayDeadLetters", "writeOffLease", "endRecovery", "redeliver", "enableWebhook"}


async def test_every_mutation_leaves_one_entry_with_who_what_and_of_what(control: Plane) -> None:
    ids: dict[str, str] = {}
    actor = (await log(control))[-1]["target"].removeprefix("key ")
    seen, names = 1, set()
    for step in steps(ids):
        answer = await step.send(control)
        named = answer.get("id") if isinstance(answer, dict) else None
        named = named["id"] if isinstance(named, dict) else named
        ids[step.name] = named or ""
        entries = await log(control)
        names.add(step.name)
        if step.name == "ingest":
            assert len(entries) == seen
            continue
        assert len(entries) == seen + 1, step.name
        seen += 1
        found = {key: entries[0][key] for key in ("at", "actor", "action", "target")}
        target = step.target.format(id=named or step.arguments.get("id"))
        assert found == {"at": NOW, "actor": actor, "action": step.name, "target": target}
    assert names == SCHEMA._schema.mutation_type.fields.keys() - ELSEWHERE


async def test_what_changes_nothing_leaves_no_entry(control: Plane) -> None:
    await control.make("createMeter", **METER)
    await control.make("createFeature", key="calls", meter="calls")
    await control.make("publishPlan", **PLAN)
    await control.make("publishPlan", **PLAN)
    await control.make("upsertCustomer", key="acme", currency="EUR")
    await control.make("subscribe", customer="acme", plan="pro", version=1)
    once = {"customer": "acme", "idempotencyKey": "1"}
    add_on = await control.make("grantAddOn", "id", **once, feature="calls", quantity="5")
    grant = await control.make("grantCredits", "id", **once, amount="5")
    revoke = 'mutation($id: ID!) { revokeAddOn(id: $id, reason: "r") { id } }'
    void = 'mutation($id: ID!) { voidCredits(grant: $id, reason: "r") { id } }'
    await control.ask(revoke, **add_on)
    await control.ask(void, **grant)
    before = await log(control)
    assert await control.make("grantAddOn", "id", **once, feature="calls", quantity="5") == add_on
    assert await control.make("grantCredits", "id", **once, amount="5") == grant
    await control.ask(revoke, **add_on)
    await control.ask(void, **grant)
    await control.ask('mutation { removeTopUp(customer: "acme") }')
    await control.ask('mutation { removeEntitlement(customer: "acme", feature: "calls") }')
    await control.ask('mutation { removeBudget(key: "none") }')
    await control.ask('mutation { removeWebhook(id: "none") }')
    assert (await control.ask(MOVE, preview=True))["moveSubscribers"] == {"moves": [{"moved": False}]}
    assert await log(control) == before


async def test_a_move_is_one_entry_that_names_the_subscriptions_that_were_moved(control: Plane) -> None:
    await control.make("publishPlan", **PLAN)
    await control.make("publishPlan", **PLAN)
    moved = []
    for key in ("acme", "globex"):
        await control.make("upsertCustomer", key=key)
        moved.append((await control.make("subscribe", "id", customer=key, plan="pro", version=1))["id"])
    await control.ask(MOVE, preview=False)
    (entry,) = [each for each in await log(control) if each["action"] == "moveSubscribers"]
    assert entry["target"] == "plan pro"
    assert entry["detail"] == {"from": 1, "to": 2, "at": "PERIOD_END", "subscriptions": moved}


async def test_what_a_rule_buys_is_in_the_log_as_granted_by_the_rule(control: Plane) -> None:
    await control.make("upsertCustomer", key="acme", currency="EUR")
    await control.make("setTopUp", customer="acme", below="1", amount="2")
    (grant,) = await top_up_once(control.database, control.clock)
    entry = (await log(control))[0]
    assert (entry["actor"], entry["actorName"]) == ("top-up", None)
    assert (entry["action"], entry["target"]) == ("grantCredits", f"grant {grant.id}")
    assert entry["detail"] == {"customer": "acme", "amount": "2", "purchased": True, "unit": "MONEY", "feature": None}


async def test_a_refused_change_leaves_no_entry(control: Plane) -> None:
    key = await control.key(Scope.READ)
    before = await log(control)
    await control.post('mutation { cancelSubscription(subscription: "none") { id } }')
    await control.post('mutation { removeTopUp(customer: "acme") }', key=key)
    assert await log(control) == before


async def test_a_change_says_what_was_there_before(control: Plane) -> None:
    own = {"customer": "acme", "feature": "calls"}
    await control.make("createMeter", **METER)
    await control.make("createFeature", key="calls", meter="calls")
    for change, first, second, was in (
        ("updateMeter", METER, METER | {"unit": "calls"}, {"unit": None}),
        ("upsertCustomer", ACME, ACME | {"name": "New"}, {"name": "Acme"}),
        ("setEntitlement", own | METERED, own | METERED | {"limit": "9"}, {"limit": "5"}),
        ("setTopUp", {**TOP_UP, "below": "1"}, {**TOP_UP, "below": "2"}, {"below": "1"}),
        ("setBudget", {**BUDGET, "amount": "5"}, {**BUDGET, "amount": "6"}, {"amount": "5"}),
        ("setWebhook", HOOK | {"events": ["quota_threshold"]}, HOOK, {"events": ["quota_threshold"]}),
    ):
        await control.make(change, **first)
        await control.make(change, **second)
        before = (await log(control))[0]["detail"]["before"]
        assert was.items() <= before.items(), change
    for text, was in (
        ('mutation { removeEntitlement(customer: "acme", feature: "calls") }', {"limit": "9"}),
        ('mutation { removeTopUp(customer: "acme") }', {"below": "2"}),
        ('mutation { removeBudget(key: "cap") }', {"amount": "6"}),
    ):
        await control.ask(text)
        assert was.items() <= (await log(control))[0]["detail"]["before"].items(), text


ACME = {"key": "acme", "name": "Acme", "currency": "EUR"}
METERED = {"kind": "METERED", "limit": "5"}
TOP_UP = {"customer": "acme", "amount": "2"}
BUDGET = {"key": "cap", "customer": "acme"}
HOOK = {"url": "https://example.com/"}
