"""The register of customers."""

from collections.abc import Collection, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import Conflict, InvalidInput
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.price_caps import uncapped
from sidemeter_control.store import audit, credits, customers, plans, state, subscriptions
from sidemeter_control.store.database import Database
from sidemeter_control.store.remembered import Remembered

__all__ = ["registered", "remembered", "upsert_customer"]

MAX_CUSTOMERS_REMEMBERED = 5_000

_known: Remembered[str, Customer] = Remembered(MAX_CUSTOMERS_REMEMBERED)


async def registered(conn: AsyncConnection, keys: Collection[str]) -> Mapping[str, Customer]:
    """The customers of those keys that exist; read anew only when the configuration has changed."""
    known = _known.at(await state.get(conn))
    unknown = [key for key in keys if key not in known]
    if unknown:
        known |= await customers.get(conn, unknown)
    return {key: known[key] for key in keys if key in known}


async def remembered(conn: AsyncConnection, key: str) -> Customer | None:
    """The customer of that key, if somebody asked for it since the configuration changed."""
    return _known.at(await state.get(conn)).get(key)


async def upsert_customer(database: Database, customer: Customer, *, by: str = audit.OPERATOR) -> Customer:
    """Write the customer, new or in place of the one with its key; a subject no longer listed is nobody's then.

    Conflict when another customer has one of the subjects, because whose usage it is must never be open, and when the
    customer pays in another currency already. InvalidInput where a prepaid one is on a plan whose usage has no price cap.
    """
    async with database.write() as conn:
        for subject, owner in (await customers.owners(conn, customer.subjects)).items():
            if owner != customer.key:
                raise Conflict(f"subject {subject!r} belongs to customer {owner!r}")
        await _check_currency(conn, customer)
        if customer.prepaid:
            await _check_prices(conn, customer)
        before = (await customers.get(conn, [customer.key])).get(customer.key)
        await customers.put(conn, customer)
        await state.config_changed(conn, customer.key)
        await _audited(conn, customer, before, by)
        return (await customers.get(conn, [customer.key]))[customer.key]


async def _audited(conn: AsyncConnection, customer: Customer, before: Customer | None, by: str) -> None:
    said = _said(customer) | {"before": None if before is None else _said(before)}
    await audit.add(conn, customer.created_at_us, by, "upsertCustomer", f"customer {customer.key}", **said)


def _said(customer: Customer) -> dict[str, object]:
    return {
        "name": customer.name,
        "currency": customer.currency,
        "timeZone": customer.time_zone,
        "subjects": customer.subjects,
        "language": customer.language,
        "prepaid": customer.prepaid,
    }


async def _check_prices(conn: AsyncConnection, customer: Customer) -> None:
    """What a prepaid customer uses from now on must have a price that is known before it is used."""
    own = (await subscribed(conn, [customer]))[customer.key]
    reason = uncapped(own, Period(customer.created_at_us, EVER.end_us))
    if reason is not None:
        raise InvalidInput("prepaid", f"must be false: {reason}")


async def _check_currency(conn: AsyncConnection, customer: Customer) -> None:
    own = (await subscriptions.of_customers(conn, [customer.key])).get(customer.key, ())
    bought = await plans.get(conn, {(each.plan_key, each.plan_version) for each in own})
    for plan in bought.values():
        if customer.currency not in {None, plan.currency}:
            raise Conflict(f"customer {customer.key!r} is subscribed to plan {plan.key!r}, which is in {plan.currency}")
    given = await credits.currency(conn, customer.key)
    if given is not None and customer.currency not in {None, given}:
        raise Conflict(f"customer {customer.key!r} has credits, which are in {given}")
