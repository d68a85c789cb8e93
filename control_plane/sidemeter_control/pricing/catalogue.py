"""The catalogue of plans, and who is subscribed to which."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.metering.catalogue import split_meter
from sidemeter_control.metering.meters import Meter, Progress
from sidemeter_control.pricing.charges import Charge
from sidemeter_control.pricing.charges.outcome import OutcomeCharge
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, Plan, PlanSpec, read_charges, read_plan
from sidemeter_control.pricing.subscriptions import (
    Subscribed,
    SubscribeSpec,
    Subscription,
    charges_of,
    new_subscription,
)
from sidemeter_control.store import (
    audit,
    credits,
    customers,
    events,
    features,
    meters,
    outcomes,
    plans,
    state,
    subscriptions,
)
from sidemeter_control.store.database import Database
from sidemeter_control.store.remembered import Remembered

__all__ = ["draft_beside", "find_plan", "meters_of", "publish_plan", "read_draft", "subscribe", "subscribed"]

# Some kilobytes each.
MAX_CUSTOMERS_REMEMBERED = 5_000

_known: Remembered[str, Sequence[Subscribed]] = Remembered(MAX_CUSTOMERS_REMEMBERED)


async def publish_plan(database: Database, clock: Clock, spec: PlanSpec, *, by: str = audit.OPERATOR) -> Plan:
    """Write the next version of the plan.

    InvalidInput names the charge or entitlement, its field and the rule; NotFound the meter or feature that is missing.
    """
    async with database.write() as conn:
        version = (await plans.newest_versions(conn, [spec.key])).get(spec.key, 0) + 1
        plan = await read_draft(conn, spec, version, clock.now_us())
        await plans.add(conn, spec, plan)
        await _keep_outcomes(conn, plan.charges)
        await _split_values(conn, plan.charges, clock, by)
        await state.config_changed(conn)
        await audit.add(conn, plan.published_at_us, by, "publishPlan", f"plan {plan.key}", version=version)
    return plan


async def read_draft(conn: AsyncConnection, spec: PlanSpec, version: int, now_us: int) -> Plan:
    """The plan as it would be published as this version now, with the errors of `publish_plan`; stores nothing."""
    plan = read_plan(spec, version, now_us)
    await _check_charges(conn, "charges", plan.charges, spec.currency)
    await _check_features(conn, spec.entitlements)
    return plan


async def draft_beside(conn: AsyncConnection, spec: PlanSpec, now_us: int) -> tuple[Plan, Plan]:
    """The newest version of the draft's plan, and the draft as its next one; NotFound when none was published."""
    newest = await find_plan(conn, spec.key, None)
    return newest, await read_draft(conn, spec, newest.version + 1, now_us)


async def subscribe(database: Database, clock: Clock, spec: SubscribeSpec, *, by: str = audit.OPERATOR) -> Subscription:
    """Put the customer on the plan.

    NotFound names the customer, plan or version that does not exist; Conflict says that the customer already pays in
    another currency; InvalidInput names what is wrong with an override or an instant.
    """
    async with database.write() as conn:
        customer = (await customers.get(conn, [spec.customer])).get(spec.customer)
        if customer is None:
            raise NotFound("customer", spec.customer)
        plan = await find_plan(conn, spec.plan, spec.version)
        await _check_currency(conn, customer, plan)
        overrides = read_charges("overrides", spec.overrides)
        await _check_charges(conn, "overrides", overrides, plan.currency)
        subscription = new_subscription(spec, plan, clock.new_id("sub"), clock.now_us(), customer.time_zone)
        charges_of(plan, spec.overrides)
        await subscriptions.add(conn, subscription)
        await _keep_outcomes(conn, overrides)
        await _split_values(conn, overrides, clock, by)
        await state.config_changed(conn, customer.key)
        detail = {"customer": customer.key, "plan": plan.key, "version": plan.version}
        target = f"subscription {subscription.id}"
        await audit.add(conn, subscription.created_at_us, by, "subscribe", target, **detail)
    return subscription


async def subscribed(conn: AsyncConnection, of: Collection[Customer]) -> Mapping[str, Sequence[Subscribed]]:
    """Every subscription of those customers, by customer key, the oldest first.

    Read anew only when the configuration has changed: a live cost asks for it every time.
    """
    known = _known.at(await state.get(conn))
    unknown = [each for each in of if each.key not in known]
    if unknown:
        found = await _read_subscribed(conn, unknown)
        known |= {each.key: found.get(each.key, ()) for each in unknown}
    return {each.key: known[each.key] for each in of}


async def _read_subscribed(conn: AsyncConnection, of: Collection[Customer]) -> Mapping[str, Sequence[Subscribed]]:
    found = await subscriptions.of_customers(conn, [customer.key for customer in of])
    bought = await plans.get(conn, {(each.plan_key, each.plan_version) for own in found.values() for each in own})
    priced = await meters_of(conn, bought.values(), itertools.chain(*found.values()))
    return {
        key: [Subscribed.to(bought[each.plan_key, each.plan_version], each, priced) for each in own]
        for key, own in found.items()
    }


async def meters_of(conn: AsyncConnection, of: Iterable[Plan], own: Iterable[Subscription] = ()) -> Mapping[str, Meter]:
    """The meters that those plans and the overrides of those subscriptions price, by key."""
    charged = {charge.spec.meter for plan in of for charge in plan.charges}
    charged |= {spec.meter for each in own for spec in each.overrides}
    return await meters.get(conn, sorted(key for key in charged if key is not None))


async def find_plan(conn: AsyncConnection, key: str, version: int | None) -> Plan:
    """That version of the plan, or the newest; NotFound names the one that does not exist."""
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
    given = await credits.currency(conn, customer.key)
    for currency in [*filter(None, [customer.currency, given]), *(each.plan.currency for each in bought)]:
        if currency != plan.currency:
            raise Conflict(f"customer {customer.key!r} pays in {currency}, plan {plan.key!r} is in {plan.currency}")


async def _check_charges(conn: AsyncConnection, path: str, charges: Sequence[Charge], currency: str) -> None:
    """What is asked of a charge when it is written: what was published before is not judged again."""
    known = await meters.get(conn, sorted({each.spec.meter for each in charges if each.spec.meter is not None}))
    for charge in charges:
        own = f"{path}.{charge.spec.key}"
        charge.check_currency(own, currency)
        if charge.spec.meter is None:
            continue
        meter = known.get(charge.spec.meter)
        if meter is None:
            raise InvalidInput(f"{own}.meter", f"must be a meter: there is no {charge.spec.meter!r}")
        if meter.archived_at_us is not None:
            raise InvalidInput(f"{own}.meter", "must not be archived: it counts nothing any more")
        charge.check_counted(own, meter.aggregation, [each.key for each in meter.dimensions])


async def _keep_outcomes(conn: AsyncConnection, charges: Iterable[Charge]) -> None:
    """Settle uses as they are confirmed and reversed from here on; what was stored before is read in the background."""
    by_outcome = [(each.spec.meter, each.model) for each in charges if isinstance(each.model, OutcomeCharge)]
    if not by_outcome:
        return
    known = await meters.get(conn, [key for key, _ in by_outcome if key is not None])
    stored = Progress(0, await events.last_seq(conn))
    for key, model in by_outcome:
        if key is not None:
            await outcomes.add_rule(conn, replace(model.rule(known[key]), progress=stored))


async def _split_values(conn: AsyncConnection, charges: Iterable[Charge], clock: Clock, by: str) -> None:
    """Let meters tell values apart where a fee per event has a bound, so that no event need be looked at for its price."""
    breaks: defaultdict[str, set[int]] = defaultdict(set)
    for charge in charges:
        if isinstance(charge.model, Percentage) and charge.spec.meter is not None:
            breaks[charge.spec.meter].update(charge.model.breaks())
    for key, meter in (await meters.get(conn, list(breaks)) if breaks else {}).items():
        await split_meter(conn, meter, breaks[key], clock.now_us(), by=by, new_id=clock.new_id)


async def _check_features(conn: AsyncConnection, entitlements: Iterable[EntitlementSpec]) -> None:
    known = await features.get(conn, sorted({each.feature for each in entitlements}))
    for each in entitlements:
        feature = known.get(each.feature)
        if feature is None:
            raise NotFound("feature", each.feature)
        if each.kind is EntitlementKind.METERED and feature.meter_key is None:
            raise InvalidInput(f"entitlements.{each.feature}.kind", "must not be METERED: the feature has no meter")
