"""Customers are isolated: every field of the schema is walked with another customer's link and key, and gives nothing."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    Undefined,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from planes import Plane, plane

from sidemeter_control.api.bounds import MAX_DEPTH
from sidemeter_control.api.reach import HIDDEN_FROM_CUSTOMERS, ROOTS, SEEN_BY_CUSTOMERS, SEEN_BY_SERVICES
from sidemeter_control.api.schema import SCHEMA
from sidemeter_control.limits.alerting import Alerting
from sidemeter_control.store.keys import Scope

OWN, OTHER = "acme", "zzsecret"
FROM, TO = "2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z"
TYPES, QUERY, MUTATION = SCHEMA._schema.type_map, SCHEMA._schema.query_type, SCHEMA._schema.mutation_type
LEAVES = {"Int": 1, "Float": 1, "Boolean": True, "Decimal": "1", "DateTime": FROM, "JSON": {}}


@dataclass(frozen=True)
class World:
    """A control plane with two customers, and what of each has which id."""

    control: Plane
    ids: dict[str, dict[str, str]]

    def of(self, customer: str) -> list[str]:
        """What an answer about the customer would hold, one or another of them."""
        return [customer, *self.ids[customer].values()]


async def sell(control: Plane, name: str) -> dict[str, str]:
    """A customer that has one of everything; answers the ids that were given."""
    own = {"customer": name, "feature": "calls"}
    charges = [{"key": f"{name}-charge", "meter": "calls", "model": "PER_UNIT", "unitPrice": "0.5"}]
    limits = [{"feature": "calls", "kind": "METERED", "limit": "1", "enforcement": "HARD"}]
    plan = {"key": f"{name}-plan", "currency": "EUR", "charges": charges, "entitlements": limits}
    await control.make("publishPlan", **plan)
    await control.make("upsertCustomer", key=name, name=f"{name} & Sons", subjects=[f"{name}-app"])
    made = {
        "subscription": await control.make("subscribe", "id", customer=name, plan=f"{name}-plan", version=1),
        "grant": await control.make("grantCredits", "id", customer=name, amount="5"),
        "add-on": await control.make("grantAddOn", "id", **own, quantity="5"),
    }
    await control.make("setEntitlement", "setAt", **own, kind="METERED", limit="5")
    await control.make("setTopUp", "below", customer=name, below="1", amount="2")
    await control.make("setBudget", "key", key=f"{name}-cap", customer=name, unit="METER", meter="calls", amount="1")
    event = {"id": f"{name}-event", "source": f"{name}-source", "type": "call", "subject": f"{name}-app"}
    await control.ask("mutation($e: [EventInput!]!) { ingest(events: $e) { accepted } }", e=[event])
    correct = (
        'mutation($s: String!, $i: String!) { correctEvent(source: $s, id: $i, data: {n: 1}, reason: "r") { id } }'
    )
    await control.ask(correct, s=f"{name}-source", i=f"{name}-event")
    return {kind: each["id"] for kind, each in made.items()}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with plane(tmp_path) as control:
        await control.make("createMeter", key="calls", eventType="call", aggregation="COUNT")
        await control.make("createFeature", key="calls", meter="calls")
        ids = {name: await sell(control, name) for name in (OWN, OTHER)}
        await Alerting(control.database, control.clock).once()
        yield World(control, ids)


async def link_of(control: Plane, customer: str) -> str:
    link = (await control.ask("mutation($c: ID!) { createPortalLink(customer: $c) }", c=customer))["createPortalLink"]
    return link.partition("#link=")[2]


async def keys_of(control: Plane) -> dict[str, str]:
    """Everything that is for the one customer alone."""
    _, read = await control.gate.make("reader", frozenset({Scope.READ}), None, customer=OWN)
    _, write = await control.gate.make("writer", frozenset({Scope.WRITE}), None, customer=OWN)
    return {"link": await link_of(control, OWN), "read": read, "write": write}


class Walk:
    """Texts of queries for every field below a root, with what is asked for being one customer's."""

    def __init__(self, customer: str, ids: dict[str, str]) -> None:
        self._customer = customer
        self._named: dict[str, Any] = {
            "customer": customer,
            "customers": [customer],
            "key": customer,
            "plan": f"{customer}-plan",
            "feature": "calls",
            "meter": "calls",
            "subscription": ids["subscription"],
            "grant": ids["grant"],
            "id": ids["add-on"],
            "limit": f"{customer}/calls",
            "source": f"{customer}-source",
            "subject": f"{customer}-app",
            "from": FROM,
            "to": TO,
            "ids": ["1"],
        }
        self._roots: dict[str, dict[str, Any]] = {
            "removeBudget": {"key": f"{customer}-cap"},
            "meter": {"key": "calls"},
            "plan": {"key": f"{customer}-plan"},
            "voidEvent": {"id": f"{customer}-event"},
            "correctEvent": {"id": f"{customer}-event"},
            "limit": {"id": f"{customer}/calls"},
        }

    def queries(self, operation: str, root: GraphQLObjectType) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
        """(root field, text, variables, the fields that are asked for) for each way down to each type."""
        for name, field in root.fields.items():
            given, declared, variables = self._arguments(name, field)
            for path, fields in self._ways(field, ()):
                inner = f" {{ {' '.join(each.rpartition('.')[2] for each in fields)} }}" if fields else ""
                for step, (step_name, step_field) in reversed(list(enumerate(path))):
                    arguments, more, values = self._arguments(step_name, step_field, f"s{step}")
                    declared, variables = declared + more, variables | values
                    inner = f" {{ {step_name}{arguments}{inner} }}"
                head = f"({', '.join(declared)})" if declared else ""
                seen = [*fields, *(f"{kind.name}.{each}" for each, kind in _owners(field, path))]
                yield name, f"{operation}{head} {{ {name}{given}{inner} }}", variables, seen
                given, declared, variables = self._arguments(name, field)

    def _ways(self, field: GraphQLField, above: tuple[str, ...]) -> Iterator[tuple[list[Any], list[str]]]:
        kind = get_named_type(field.type)
        if not isinstance(kind, GraphQLObjectType):
            yield [], []
            return
        if kind.name in above or len(above) > MAX_DEPTH - 3:
            return
        leaves = [
            f"{kind.name}.{name}" for name, each in kind.fields.items() if is_leaf_type(get_named_type(each.type))
        ]
        if leaves:
            yield [], [leaf for leaf in leaves if leaf not in HIDDEN_FROM_CUSTOMERS]
        for leaf in HIDDEN_FROM_CUSTOMERS.intersection(leaves):
            yield [], [leaf]
        for name, each in kind.fields.items():
            if not is_leaf_type(get_named_type(each.type)):
                for path, fields in self._ways(each, (*above, kind.name)):
                    yield [(name, each), *path], fields

    def _arguments(self, name: str, field: GraphQLField, prefix: str = "a") -> tuple[str, list[str], dict[str, Any]]:
        wanted = {
            key: argument
            for key, argument in field.args.items()
            if (is_non_null_type(argument.type) and argument.default_value is Undefined)
            or key in {"customer", "customers", "first"}
        }
        declared = [f"${prefix}_{key}: {argument.type}" for key, argument in wanted.items()]
        given = ", ".join(f"{key}: ${prefix}_{key}" for key in wanted)
        own = self._roots.get(name, {})
        values = {f"{prefix}_{key}": own.get(key, self._value(key, argument)) for key, argument in wanted.items()}
        return (f"({given})" if given else ""), declared, values

    def _value(self, name: str, of: GraphQLArgument | GraphQLInputField) -> Any:
        kind = get_named_type(of.type)
        bare = of.type.of_type if is_non_null_type(of.type) else of.type
        if isinstance(kind, GraphQLInputObjectType):
            value: Any = {
                key: self._value(key, field)
                for key, field in kind.fields.items()
                if is_non_null_type(field.type) and field.default_value is Undefined
            }
        elif name == "first":
            value = 2  # pages within pages are to cost no more than is allowed
        elif name in self._named and kind.name in {"ID", "String", "DateTime"}:
            return self._named[name]
        elif isinstance(kind, GraphQLEnumType):
            value = next(iter(kind.values))
        else:
            value = LEAVES.get(kind.name, self._customer)
        return [value] if is_list_type(bare) else value


def _owners(field: GraphQLField, path: list[tuple[str, GraphQLField]]) -> Iterator[tuple[str, GraphQLObjectType]]:
    """The fields on a way down, each with the type that it is of."""
    for name, step in path:
        yield name, get_named_type(field.type)
        field = step


async def answered(control: Plane, key: str, text: str, variables: dict[str, Any]) -> dict[str, Any]:
    return await control.post(text, key=key, **variables)


@pytest.mark.parametrize("holder", ["link", "read", "write"])
async def test_every_field_asked_for_another_customer_gives_nothing(world: World, holder: str) -> None:
    key = (await keys_of(world.control))[holder]
    names = set()
    for name, text, variables, _ in Walk(OTHER, world.ids[OTHER]).queries("query", QUERY):
        body = await answered(world.control, key, text, variables)
        names.add(name)
        assert not any((body["data"] or {}).values()), text
        assert {error["extensions"]["code"] for error in body["errors"]} == {"FORBIDDEN"}, (text, body)
        assert not any(marker in json.dumps(body) for marker in world.of(OTHER)), (text, body)
    assert names == QUERY.fields.keys()


@pytest.mark.parametrize("holder", ["link", "write"])
async def test_no_mutation_reaches_another_customer(world: World, holder: str) -> None:
    key = (await keys_of(world.control))[holder]
    before = await world.control.ask("{ auditLog(first: 1) { edges { cursor } } }")
    names = set()
    for name, text, variables, _ in Walk(OTHER, world.ids[OTHER]).queries("mutation", MUTATION):
        if name in names:
            continue
        body = await answered(world.control, key, text, variables)
        names.add(name)
        assert {error["extensions"]["code"] for error in body["errors"]} == {"FORBIDDEN"}, (text, body)
        assert not any(marker in json.dumps(body) for marker in world.of(OTHER)), (text, body)
    assert names == MUTATION.fields.keys()
    assert await world.control.ask("{ auditLog(first: 1) { edges { cursor } } }") == before


@pytest.mark.parametrize("holder", ["link", "read"])
async def test_what_a_customer_may_see_is_its_own_and_tells_of_no_other(world: World, holder: str) -> None:
    key = (await keys_of(world.control))[holder]
    seen = set()
    for name, text, variables, fields in Walk(OWN, world.ids[OWN]).queries("query", QUERY):
        body = await answered(world.control, key, text, variables)
        assert not any(marker in json.dumps(body) for marker in world.of(OTHER)), (text, body)
        refused = "FORBIDDEN" in {error["extensions"]["code"] for error in body.get("errors", ())}
        assert refused is (name not in ROOTS["Query"] or not HIDDEN_FROM_CUSTOMERS.isdisjoint(fields)), (text, body)
        if not refused:
            assert "errors" not in body, (text, body)
            seen |= {field.partition(".")[0] for field in fields}
    assert seen == SEEN_BY_CUSTOMERS - {"IngestResult", "Rejection"}


def test_the_tables_name_what_there_is() -> None:
    for root, fields in (("Query", ROOTS["Query"]), ("Mutation", ROOTS["Mutation"])):
        assert fields.keys() <= TYPES[root].fields.keys()
    assert TYPES.keys() >= SEEN_BY_CUSTOMERS | SEEN_BY_SERVICES
    for field in HIDDEN_FROM_CUSTOMERS:
        kind, _, name = field.partition(".")
        assert name in TYPES[kind].fields


BUDGET = """mutation($customer: ID!, $amount: Decimal!) {
  setBudget(input: {key: "mine", customer: $customer, amount: $amount}) { key amount byCustomer }
}"""


async def test_a_link_sets_and_removes_its_customers_own_budgets(world: World) -> None:
    link = await link_of(world.control, OWN)
    for amount in ("10", "20"):
        made = await world.control.post(BUDGET, key=link, customer=OWN, amount=amount)
        assert made == {"data": {"setBudget": {"key": "mine", "amount": amount, "byCustomer": True}}}
    entry = (await world.control.ask("{ auditLog(first: 1) { edges { node { actor detail } } } }"))["auditLog"]["edges"]
    assert entry[0]["node"]["actor"].startswith("link_")
    assert entry[0]["node"]["detail"]["amount"] == "20"
    assert entry[0]["node"]["detail"]["before"]["amount"] == "10"
    body = await world.control.post('mutation { removeBudget(key: "mine") }', key=link)
    assert body == {"data": {"removeBudget": True}}


@pytest.mark.parametrize("key", [f"{OWN}-cap", f"{OTHER}-cap"])
async def test_a_link_changes_no_cap_of_the_operators_and_none_of_others(world: World, key: str) -> None:
    link = await link_of(world.control, OWN)
    for text in (
        f'mutation {{ setBudget(input: {{key: "{key}", customer: "{OWN}", amount: "999"}}) {{ key }} }}',
        f'mutation {{ removeBudget(key: "{key}") }}',
    ):
        body = await world.control.post(text, key=link)
        assert [error["extensions"]["code"] for error in body["errors"]] == ["FORBIDDEN"]
    asked = "query($c: ID!) { customer(key: $c) { budgets { key amount } } }"
    found = await world.control.ask(asked, c=key.removesuffix("-cap"))
    assert found["customer"]["budgets"] == [{"key": key, "amount": "1"}]


@pytest.mark.parametrize("holder", ["link", "write"])
async def test_a_key_of_one_customer_sends_events_under_its_own_name_alone(world: World, holder: str) -> None:
    key = (await keys_of(world.control))[holder]
    send = "mutation($e: [EventInput!]!) { ingest(events: $e) { accepted } }"
    for source, subject, taken in ((OWN, f"{OWN}-app", True), ("x", f"{OWN}-app", False), (OWN, f"{OTHER}-app", False)):
        event = {"id": f"{source}{subject}", "source": source, "type": "call", "subject": subject}
        body = await world.control.post(send, key=key, e=[event])
        answer = await world.control.http.post("/v1/events", json=event, headers={"Authorization": f"Bearer {key}"})
        if taken and holder == "write":
            assert body == {"data": {"ingest": {"accepted": 1}}}
            assert answer.status_code == 202
        else:
            assert [error["extensions"]["code"] for error in body["errors"]] == ["FORBIDDEN"]
            assert answer.status_code == 403


async def test_a_writer_for_one_customer_changes_that_one(world: World) -> None:
    key = (await keys_of(world.control))["write"]
    cancel = "mutation($id: ID!) { cancelSubscription(subscription: $id) { id } }"
    for text, variables in (
        (f'mutation {{ grantCredits(input: {{customer: "{OWN}", amount: "1"}}) {{ id }} }}', {}),
        (cancel, {"id": world.ids[OWN]["subscription"]}),
        (f'mutation {{ createPortalLink(customer: "{OWN}") }}', {}),
    ):
        assert "errors" not in await world.control.post(text, key=key, **variables), text


async def test_a_key_for_one_service_sees_and_sends_what_is_that_services(world: World) -> None:
    _, key = await world.control.gate.make("chat", frozenset({Scope.READ, Scope.WRITE}), None, service="chat")
    texts = {name: (text, values) for name, text, values, _ in Walk(OTHER, world.ids[OTHER]).queries("query", QUERY)}
    for name in texts.keys() - {"agents"}:
        body = await answered(world.control, key, *texts[name])
        assert {error["extensions"]["code"] for error in body["errors"]} == {"FORBIDDEN"}, name
    assert await world.control.post("{ agents { id service } }", key=key) == {"data": {"agents": []}}
    send = 'mutation($s: String!) { ingest(events: [{id: "1", source: $s, type: "call", subject: "x"}]) { accepted } }'
    assert (await world.control.post(send, key=key, s="chat"))["data"] == {"ingest": {"accepted": 1}}
    assert (await world.control.post(send, key=key, s="other"))["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize(("method", "path"), [("GET", "/metrics"), ("GET", "/v1/backup"), ("POST", "/agent/v1/sync")])
@pytest.mark.parametrize("holder", ["link", "read", "write"])
async def test_no_other_door_opens_for_a_key_of_one_customer(world: World, holder: str, method: str, path: str) -> None:
    key = (await keys_of(world.control))[holder]
    answer = await world.control.http.request(method, path, headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
