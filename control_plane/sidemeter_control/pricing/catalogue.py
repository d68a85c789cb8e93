"""The catalogue of plans, and who is subscribed to which."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.pricing.charges import ChargeSpec
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, Plan, PlanSpec, read_plan
from sidemeter_control.pricing.subscriptions import (
    Subscribed,
    SubscribeSpec,
    Subscription,
    charges_of,
    new_subscription,
)
from sidemeter_control.store import audit, customers, features, meters, plans, state, subscriptions
from sidemeter_control.store.database import Database
from sidemeter_control.store.remembered import Remembered

__all__ = ["publish_plan", "subscribe", "subscribed"]

# Some kilobytes each.
MAX_CUSTOMERS_REMEMBERED = 5_000

_known: Remembered[tuple[str, str], Sequence[Subscribed]] = Remembered(MAX_CUSTOMERS_REMEMBERED)


async def publish_plan(database: Database, clock: Clock, spec: PlanSpec, *, by: str = audit.OPERATOR) -> Plan:
    """Write the next version of the plan.

    InvalidInput names the charge or entitlement, its field and the rule; NotFound the meter or feature that is missing.
    """
    async with database.write() as conn:
        version = (await plans.newest_versions(conn, [spec.key])).get(spec.key, 0) + 1
        plan = read_plan(spec, version, clock.now_us())
        await _check_meters(conn, "charges", spec.charges)
        await _check_features(conn, spec.entitlements)
        await plans.add(conn, spec, plan)
        await state.config_changed(conn)
        await audit.add(conn, plan.published_at_us, by, "publishPlan", f"plan {plan.key}", version=version)
    return plan


async def subscribe(database: Database, clock: Clock, spec: SubscribeSpec, *, by: str = audit.OPERATOR) -> Subscription:
    """Put the customer on the plan.

    NotFound names the customer, plan or version that does not exist; Conflict says that the customer already pays in
    another currency; InvalidInput names what is wrong with an override or an instant.
    """
    async with database.write() as conn:
        customer = (await customers.get(conn, [spec.customer])).get(spec.customer)
        if customer is None:
            raise NotFound("customer", spec.customer)
        plan = await _plan(conn, spec.plan, spec.version)
        await _check_currency(conn, customer, plan)
        await _check_meters(conn, "overrides", spec.overrides)
        subscription = new_subscription(spec, plan, clock.new_id("sub"), clock.now_us())
        charges_of(plan, spec.overrides)
        await subscriptions.add(conn, subscription)
        await state.config_changed(conn)
        detail = {"customer": customer.key, "plan": plan.key, "version": plan.version}
        target = f"subscription {subscription.id}"
        await audit.add(conn, subscription.created_at_us, by, "subscribe", target, **detail)
    return subscription


async def subscribed(conn: AsyncConnection, of: Collection[Customer]) -> Mapping[str, Sequence[Subscribed]]:
    """Every subscription of those customers, by customer key, the oldest first.

    Read anew only when the configuration has changed: a live cost asks for it every time.
    """
    known = _known.at(await state.get(conn))
    unknown = [each for each in of if (each.key, each.time_zone) not in known]
    if unknown:
        found = await _read_subscribed(conn, unknown)
        known |= {(each.key, each.time_zone): found.get(each.key, ()) for each in unknown}
    return {each.key: known[each.key, each.time_zone] for each in of}


async def _read_subscribed(conn: AsyncConnection, of: Collection[Customer]) -> Mapping[str, Sequence[Subscribed]]:
    zones = {customer.key: customer.time_zone for customer in of}
    found = await subscriptions.of_customers(conn, zones)
    bought = await plans.get(conn, {(each.plan_key, each.plan_version) for own in found.values() for each in own})
    charged = {charge.spec.meter for plan in bought.values() for charge in plan.charges}
    charged |= {spec.meter for own in found.values() for each in own for spec in each.overrides}
    priced = await meters.get(conn, sorted(key for key in charged if key is not None))
    return {
        key: [Subscribed.to(bought[each.plan_key, each.plan_version], each, zones[key], priced) for each in own]
        for key, own in found.items()
    }


async def _plan(conn: AsyncConnection, key: str, version: int | None) -> Plan:
    if version is None:
        version = (await plans.newest_versions(conn, [key])).get(key)
        if version is None:
            raise NotFound("plan", key)
    plan = (await plans.get(conn, [(key, version)])).get((key, version))
    if plan is None:
        raise NotFound("plan", f"{key} version {version}")
    return plan


async def _check_currency(conn: AsyncConnection, customer: Customer, plan: Plan) -> None:
    bought = (await _read_subscribed(conn, [customer])).get(customer.key, ())
    for currency in [*filter(None, [customer.currency]), *(each.plan.currency for each in bought)]:
        if currency != plan.currency:
            raise Conflict(f"customer {customer.key!r} pays in {currency}, plan {plan.key!r} is in {plan.currency}")


async def _check_meters(conn: AsyncConnection, path: str, charges: Iterable[ChargeSpec]) -> None:
    known = await meters.get(conn, sorted({charge.meter for charge in charges if charge.meter is not None}))
    for charge in charges:
        if charge.meter is not None and charge.meter not in known:
            raise NotFound("meter", charge.meter)
        if charge.meter is not None and known[charge.meter].archived_at_us is not None:
            raise InvalidInput(f"{path}.{charge.key}.meter", "must not be archived: it counts nothing any more")


async def _check_features(conn: AsyncConnection, entitlements: Iterable[EntitlementSpec]) -> None:
    known = await features.get(conn, sorted({each.feature for each in entitlements}))
    for each in entitlements:
        feature = known.get(each.feature)
        if feature is None:
            raise NotFound("feature", each.feature)
        if each.kind is EntitlementKind.METERED and feature.meter_key is None:
            raise InvalidInput(f"entitlements.{each.feature}.kind", "must not be METERED: the feature has no meter")
