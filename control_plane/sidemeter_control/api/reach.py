"""What a key that is for one customer or one service reaches in GraphQL, and a portal link: what is not named here it does not.

The schema's roots ask whose an answer would be before anything is looked up, so that nothing is told of others, not even that they
exist. Fields that are in nobody's table, new ones too, are refused to such keys.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from graphql import GraphQLField, GraphQLObjectType, GraphQLResolveInfo, GraphQLSchema
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.api.context import Context
from sidemeter_control.errors import Forbidden
from sidemeter_control.store import add_ons, budgets, credits, customers, subscriptions
from sidemeter_control.store.keys import Key

__all__ = ["HIDDEN_FROM_CUSTOMERS", "ROOTS", "SEEN_BY_CUSTOMERS", "SEEN_BY_SERVICES", "check_events", "guard"]

Given = Mapping[str, Any]
Owner = Callable[[Context, Given], Awaitable[str | None]]
"""Whose what the arguments name is: the customer's key; None: nobody's."""


def _named(*path: str) -> Owner:
    """The customer that an argument names."""

    async def owner(_: Context, given: Given) -> str | None:
        value: Any = given
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        return None if value is None else str(value)

    return owner


def _looked_up(argument: str, find: Callable[[AsyncConnection, str], Awaitable[str | None]]) -> Owner:
    """The customer whose the thing is that an argument names by its id."""

    async def owner(context: Context, given: Given) -> str | None:
        async def found(conn: AsyncConnection) -> str | None:
            return await find(conn, str(given[argument]))

        return await context.ask(found)

    return owner


async def _of_subscription(conn: AsyncConnection, subscription: str) -> str | None:
    return (await subscriptions.customers_of(conn, [subscription])).get(subscription)


async def _of_grant(conn: AsyncConnection, grant: str) -> str | None:
    found = await credits.get(conn, grant)
    return None if found is None else found.customer_key


async def _of_add_on(conn: AsyncConnection, add_on: str) -> str | None:
    found = await add_ons.get(conn, add_on)
    return None if found is None else found.customer_key


async def _of_budget(conn: AsyncConnection, key: str) -> str | None:
    found = await budgets.get(conn, key)
    return None if found is None else found.customer_key


_BY_INPUT, _BY_CUSTOMER = _named("input", "customer"), _named("customer")
_BY_SUBSCRIPTION = _looked_up("subscription", _of_subscription)

ROOTS: Final[Mapping[str, Mapping[str, Owner]]] = {
    "Query": {"customer": _named("key"), "usage": _BY_CUSTOMER, "events": _BY_CUSTOMER},
    "Mutation": {
        "setBudget": _BY_INPUT,
        "removeBudget": _looked_up("key", _of_budget),
        "subscribe": _BY_INPUT,
        "changePlan": _BY_SUBSCRIPTION,
        "cancelSubscription": _BY_SUBSCRIPTION,
        "pauseSubscription": _BY_SUBSCRIPTION,
        "resumeSubscription": _BY_SUBSCRIPTION,
        "grantAddOn": _BY_INPUT,
        "revokeAddOn": _looked_up("id", _of_add_on),
        "setEntitlement": _BY_INPUT,
        "removeEntitlement": _BY_CUSTOMER,
        "grantCredits": _BY_INPUT,
        "voidCredits": _looked_up("grant", _of_grant),
        "resetCredits": _BY_INPUT,
        "setTopUp": _BY_INPUT,
        "removeTopUp": _BY_CUSTOMER,
        "createPortalLink": _BY_CUSTOMER,
    },
    "Subscription": {"costChanged": _BY_CUSTOMER, "quotaChanged": _BY_CUSTOMER, "alertRaised": _BY_CUSTOMER},
}
"""What a key for one customer may ask for and change, each with whose it then is."""

_LINKS_CHANGE: Final = frozenset({"setBudget", "removeBudget"})
_EVENTS: Final = "ingest"
_SERVICES_ASK: Final = frozenset({"agents"})

SEEN_BY_CUSTOMERS: Final = frozenset(
    {
        "AddOn",
        "Alert",
        "Backfill",
        "Budget",
        "Charge",
        "Commitment",
        "Cost",
        "CostLine",
        "CostRange",
        "CreditAllocation",
        "CreditBalance",
        "CreditGrant",
        "Customer",
        "CustomerSubscription",
        "Dimension",
        "Entitlement",
        "EntitlementOverride",
        "Event",
        "EventConnection",
        "EventEdge",
        "Feature",
        "Forecast",
        "IngestResult",
        "Meter",
        "MeterForecast",
        "Money",
        "PageInfo",
        "Pause",
        "PriceLine",
        "PropertyFilter",
        "Quota",
        "QuotaPart",
        "Rejection",
        "TopUp",
        "UsageRow",
        "Correction",
        "Plan",
    }
)
"""The types that a customer may see."""

HIDDEN_FROM_CUSTOMERS: Final = frozenset({"Plan.subscribers", "Correction.actor"})
"""Their fields that tell of others."""

SEEN_BY_SERVICES: Final = frozenset({"AgentStatus", "LossDeclaration", "IngestResult", "Rejection"})


async def check_events(
    owners: Callable[[Iterable[str]], Awaitable[Mapping[str, str]]], key: Key, events: Iterable[tuple[str, str]]
) -> None:
    """Forbidden, unless the key may send events of those sources and subjects: (source, subject) each.

    A narrow key sends under its own name alone: events are told apart by source and id, and with another's source one could
    take the place of another's event. `owners`: whose those subjects are, by the subject.
    """
    if key.is_link:
        raise Forbidden("a portal link sends no events")
    name, sent = key.customer or key.service, set(events)
    if name is not None and any(source != name for source, _ in sent):
        raise Forbidden(f"the key is for events of the source {name!r} alone")
    if key.customer is None:
        return
    subjects = {subject for _, subject in sent}
    own = await owners(subjects)
    if any(own.get(subject) != key.customer for subject in subjects):
        raise Forbidden(f"the key is for subjects of customer {key.customer!r} alone")


def guard(schema: GraphQLSchema) -> None:
    """Have every field of the schema refuse what a narrow key does not reach. Other keys notice nothing."""
    roots = {each for each in (schema.query_type, schema.mutation_type, schema.subscription_type) if each is not None}
    for kind in schema.type_map.values():
        if not isinstance(kind, GraphQLObjectType) or kind.name.startswith("__"):
            continue
        for name, field in kind.fields.items():
            if kind in roots:
                _guard_root(kind.name, name, field)
            else:
                _guard_field(kind.name, name, field)


def _guard_root(root: str, name: str, field: GraphQLField) -> None:
    asks = "subscribe" if field.subscribe is not None else "resolve"
    inner: Any = getattr(field, asks)

    def guarded(source: Any, info: GraphQLResolveInfo[Context], /, **given: Any) -> Any:
        context: Context = info.context
        key = context.key
        if key.customer is None and key.service is None:
            return inner(source, info, **given)

        async def checked() -> Any:
            await _check(context, root, name, given)
            answer = inner(source, info, **given)
            return await answer if isinstance(answer, Awaitable) else answer

        return checked()

    setattr(field, asks, guarded)


async def _check(context: Context, root: str, name: str, given: Given) -> None:
    """Forbidden, unless the request's key reaches what it asks for."""
    key = context.key
    if name == _EVENTS and not key.is_link:
        sent = [(str(each.get("source")), str(each.get("subject"))) for each in given["events"]]
        await check_events(lambda subjects: context.ask(lambda conn: customers.owners(conn, subjects)), key, sent)
        return
    if key.service is not None:
        if root == "Query" and name in _SERVICES_ASK:
            return
        raise Forbidden(f"the key is for service {key.service!r} alone, and not for {name}")
    owner = ROOTS[root].get(name)
    if owner is None or (key.is_link and root == "Mutation" and name not in _LINKS_CHANGE):
        raise Forbidden(f"the key is for customer {key.customer!r} alone, and not for {name}")
    if await owner(context, given) != key.customer:
        raise Forbidden(f"the key is for customer {key.customer!r} alone")


def _guard_field(kind: str, name: str, field: GraphQLField) -> None:
    for_customers = kind in SEEN_BY_CUSTOMERS and f"{kind}.{name}" not in HIDDEN_FROM_CUSTOMERS
    for_services = kind in SEEN_BY_SERVICES
    if for_customers and for_services:
        return
    inner: Any = field.resolve

    def guarded(source: Any, info: GraphQLResolveInfo[Context], /, **given: Any) -> Any:
        key: Key = info.context.key
        if (key.customer is not None and not for_customers) or (key.service is not None and not for_services):
            raise Forbidden(f"the key is not for {kind}.{name}")
        return inner(source, info, **given)

    field.resolve = guarded
