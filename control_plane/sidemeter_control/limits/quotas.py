"""Quotas: what a customer may still use, from the usage as it is counted now."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.entitlements import Entitlement, QuotaAnswer, answer, granted
from sidemeter_control.metering import usage
from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.plans import EntitlementKind
from sidemeter_control.store import features, meters, state
from sidemeter_control.store.remembered import Remembered

__all__ = ["feature_meters", "quota", "quotas", "quotas_of"]

# Sets of features that are asked for together: about one for each plan.
MAX_SETS_REMEMBERED = 1_000

_known: Remembered[frozenset[str], Mapping[str, Meter]] = Remembered(MAX_SETS_REMEMBERED)


async def quota(conn: AsyncConnection, customer: Customer, feature: str, now_us: int) -> QuotaAnswer | None:
    """What the customer may use of a feature; None when no active subscription grants it."""
    own = (await subscribed(conn, [customer]))[customer.key]
    entitlement = granted(own, customer.time_zone, now_us).get(feature)
    if entitlement is None:
        return None
    taken = await feature_meters(conn, [feature])
    return (await _answers(conn, customer, [entitlement], taken, now_us))[0]


async def quotas(conn: AsyncConnection, customer: Customer, now_us: int) -> Sequence[QuotaAnswer]:
    """The same of every feature that the active subscriptions grant, by feature key."""
    return (await quotas_of(conn, [customer], now_us))[customer.key]


async def quotas_of(
    conn: AsyncConnection, customers: Collection[Customer], now_us: int
) -> Mapping[str, Sequence[QuotaAnswer]]:
    """The same of several customers, by customer key."""
    own = await subscribed(conn, customers)
    rights = {each.key: granted(own[each.key], each.time_zone, now_us) for each in customers}
    taken = await feature_meters(conn, {feature for right in rights.values() for feature in right})
    return {each.key: await _answers(conn, each, rights[each.key].values(), taken, now_us) for each in customers}


async def feature_meters(conn: AsyncConnection, keys: Collection[str]) -> Mapping[str, Meter]:
    """The meter of each of those features that has one; read anew only when the configuration has changed."""
    known, asked = _known.at(await state.get(conn)), frozenset(keys)
    if asked not in known:
        found = await features.get(conn, sorted(asked))
        counted = await meters.get(conn, sorted({each.meter_key for each in found.values() if each.meter_key}))
        known[asked] = {key: counted[each.meter_key] for key, each in found.items() if each.meter_key in counted}
    return known[asked]


async def _answers(
    conn: AsyncConnection,
    customer: Customer,
    rights: Collection[Entitlement],
    taken: Mapping[str, Meter],
    now_us: int,
) -> Sequence[QuotaAnswer]:
    used: dict[str, Decimal | None] = {}
    for period, by_feature in _resetting_together(rights, taken).items():
        used |= await _used(conn, customer, by_feature, period)
    return [answer(right, used.get(right.spec.feature), now_us) for right in rights]


def _resetting_together(
    rights: Collection[Entitlement], taken: Mapping[str, Meter]
) -> Mapping[Period, Mapping[str, Meter]]:
    """The features to be counted and their meters, by period: each period is one usage question."""
    found: dict[Period, dict[str, Meter]] = {}
    for right in rights:
        if right.spec.kind is EntitlementKind.METERED:
            found.setdefault(right.period, {})[right.spec.feature] = taken[right.spec.feature]
    return found


async def _used(
    conn: AsyncConnection, customer: Customer, by_feature: Mapping[str, Meter], period: Period
) -> Mapping[str, Decimal | None]:
    asked = list(by_feature.values())
    counted = await usage.quantities(conn, asked, customer.subjects, period.start_us, period.end_us)
    return {feature: quantity.value for feature, quantity in zip(by_feature, counted, strict=True)}
