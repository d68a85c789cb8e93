"""Giving credits, ending them, resetting them, and the rules that buy more."""

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.metering.meters import Aggregation
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.credits.balances import currency_of
from sidemeter_control.pricing.credits.grants import (
    MAX_GRANTS,
    MAX_RESETS,
    CreditGrant,
    CreditReset,
    Denomination,
    GrantSpec,
    TopUp,
    check_top_up,
    new_grant,
)
from sidemeter_control.pricing.periods import check_instant
from sidemeter_control.pricing.plans import MAX_NAME_CHARS
from sidemeter_control.store import audit, credits, customers, features, meters, state, top_ups
from sidemeter_control.store.database import Database

__all__ = ["grant_credits", "grant_within", "remove_top_up", "reset_credits", "set_top_up", "void_credits"]

# What parts of an interval count adds up to what the whole of it counts.
ADDITIVE = frozenset({Aggregation.COUNT, Aggregation.SUM})


async def grant_credits(database: Database, clock: Clock, spec: GrantSpec, *, by: str = audit.OPERATOR) -> CreditGrant:
    """Give a customer credits; an idempotency key that was used before answers the grant that was made under it.

    InvalidInput names what is wrong, NotFound the customer or feature that is missing; Conflict when the key was used
    for something else, or the customer has 1,000 grants.
    """
    async with database.write() as conn:
        return await grant_within(conn, clock, spec, by)


async def grant_within(conn: AsyncConnection, clock: Clock, spec: GrantSpec, by: str) -> CreditGrant:
    """The same, in a transaction that is open and has written no definition yet."""
    currency = await _check(conn, spec.customer, spec.denomination)
    if spec.idempotency_key is not None:
        made = await credits.by_key(conn, spec.customer, spec.idempotency_key)
        if made is not None and made.is_of(spec, currency):
            return made
        if made is not None:
            raise Conflict(f"idempotency key {spec.idempotency_key!r} was used for another grant")
    grant = new_grant(spec, clock.new_id("grant"), clock.now_us(), currency)
    if await credits.count(conn, spec.customer) >= MAX_GRANTS:
        raise Conflict(f"customer {spec.customer!r} has {MAX_GRANTS} grants, and no more are allowed")
    await credits.add(conn, grant)
    await state.config_changed(conn, grant.customer_key)
    detail = {"customer": spec.customer, "amount": spec.amount, "purchased": spec.purchased, **_kind(spec.denomination)}
    await audit.add(conn, grant.created_at_us, by, "grantCredits", f"grant {grant.id}", **detail)
    return grant


async def void_credits(
    database: Database, clock: Clock, grant_id: str, reason: str, *, by: str = audit.OPERATOR
) -> CreditGrant:
    """End a grant now; what it has paid stays paid. Again: no change. NotFound when there is none of that id."""
    if not 1 <= len(reason) <= MAX_NAME_CHARS:
        raise InvalidInput("reason", f"must be 1 to {MAX_NAME_CHARS} characters")
    async with database.write() as conn:
        now_us = clock.now_us()
        voided = await credits.void(conn, grant_id, now_us, reason)
        found = await credits.get(conn, grant_id)
        if found is None:
            raise NotFound("credit grant", grant_id)
        if voided:
            await state.config_changed(conn, found.customer_key)
            await audit.add(conn, now_us, by, "voidCredits", f"grant {grant_id}", reason=reason)
    return found


async def reset_credits(
    database: Database, clock: Clock, reset: CreditReset, *, by: str = audit.OPERATOR
) -> CreditReset:
    """Reset a customer's credits at an instant, as a billing period's end does; a second one there replaces the first.

    NotFound names the customer or feature that is missing, InvalidInput what is wrong; Conflict at 1,000 resets.
    """
    check_instant("at", reset.at_us)
    async with database.write() as conn:
        await _check(conn, reset.customer_key, reset.denomination)
        if await credits.count_resets(conn, reset.customer_key) >= MAX_RESETS:
            raise Conflict(f"customer {reset.customer_key!r} has {MAX_RESETS} resets, and no more are allowed")
        await credits.add_reset(conn, reset)
        await state.config_changed(conn, reset.customer_key)
        detail = {"atUs": reset.at_us, "preserveOverage": reset.preserve_overage, **_kind(reset.denomination)}
        await audit.add(conn, clock.now_us(), by, "resetCredits", f"customer {reset.customer_key}", **detail)
    return reset


async def set_top_up(database: Database, rule: TopUp, *, by: str = audit.OPERATOR) -> TopUp:
    """Write the rule, in place of the one for these credits. InvalidInput, NotFound as for a grant."""
    async with database.write() as conn:
        check_top_up(rule, await _check(conn, rule.customer_key, rule.denomination))
        before = await top_ups.get(conn, rule.customer_key, rule.denomination)
        await top_ups.put(conn, rule)
        detail = _said(rule) | _kind(rule.denomination) | {"before": None if before is None else _said(before)}
        await audit.add(conn, rule.created_at_us, by, "setTopUp", f"customer {rule.customer_key}", **detail)
    return rule


async def remove_top_up(
    database: Database, clock: Clock, customer_key: str, of: Denomination, *, by: str = audit.OPERATOR
) -> bool:
    """Follow the rule for these credits no more; answers whether there was one."""
    async with database.write() as conn:
        before = await top_ups.get(conn, customer_key, of)
        if before is None:
            return False
        await top_ups.remove(conn, customer_key, of)
        detail = _kind(of) | {"before": _said(before)}
        await audit.add(conn, clock.now_us(), by, "removeTopUp", f"customer {customer_key}", **detail)
    return True


def _said(rule: TopUp) -> dict[str, object]:
    return {"below": rule.below, "amount": rule.amount, "maxPerPeriod": rule.max_per_period}


def _kind(of: Denomination) -> dict[str, object]:
    return {"unit": of.unit, "feature": of.feature}


async def _check(conn: AsyncConnection, customer_key: str, of: Denomination) -> str | None:
    """The currency the customer pays in, if it has one; NotFound or InvalidInput where these credits cannot be."""
    customer = (await customers.get(conn, [customer_key])).get(customer_key)
    if customer is None:
        raise NotFound("customer", customer_key)
    if of.feature is not None:
        await _check_feature(conn, of.feature)
    return currency_of(customer, (await subscribed(conn, [customer]))[customer_key])


async def _check_feature(conn: AsyncConnection, key: str) -> None:
    feature = (await features.get(conn, [key])).get(key)
    if feature is None:
        raise NotFound("feature", key)
    if feature.meter_key is None:
        raise InvalidInput("feature", "must have a meter: nothing says how much of it is used")
    if (await meters.get(conn, [feature.meter_key]))[feature.meter_key].aggregation not in ADDITIVE:
        raise InvalidInput("feature", "must have a meter that adds up: COUNT or SUM")
