"""Quotas: what a customer may still use, from the usage as it is counted now."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.entitlements import (
    Entitlement,
    QuotaAnswer,
    QuotaPart,
    QuotaSource,
    Right,
    answer,
    granted,
    most_permissive,
)
from sidemeter_control.limits.given import given
from sidemeter_control.limits.grace import Threshold, reached_at, was_reached_by
from sidemeter_control.limits.rollover import carried, in_parts, settled
from sidemeter_control.metering import usage
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.metering.windows import Interval
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.credits.balances import feature_credits
from sidemeter_control.pricing.credits.books import Book, books
from sidemeter_control.pricing.credits.grants import CreditUnit, Denomination
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.plans import EntitlementKind
from sidemeter_control.pricing.sentences import SENTENCES
from sidemeter_control.store import features, meters, state
from sidemeter_control.store.remembered import Remembered

__all__ = ["feature_meters", "grace_ends_at", "quota", "quotas", "quotas_of"]

# Sets of features that are asked for together: about one for each plan.
MAX_SETS_REMEMBERED = 1_000

_known: Remembered[frozenset[str], Mapping[str, Meter]] = Remembered(MAX_SETS_REMEMBERED)


async def quota(conn: AsyncConnection, customer: Customer, feature: str, now_us: int) -> QuotaAnswer | None:
    """What the customer may use of a feature; None when nothing in force grants it."""
    right = (await _rights(conn, [customer], now_us))[customer.key].get(feature)
    if right is None:
        return None
    taken = await feature_meters(conn, [feature])
    return (await _answers(conn, customer, [right], taken, now_us))[0]


async def quotas(conn: AsyncConnection, customer: Customer, now_us: int) -> Sequence[QuotaAnswer]:
    """The same of every feature that is granted, by feature key."""
    return (await quotas_of(conn, [customer], now_us))[customer.key]


async def quotas_of(
    conn: AsyncConnection, customers: Collection[Customer], now_us: int
) -> Mapping[str, Sequence[QuotaAnswer]]:
    """The same of several customers, by customer key."""
    rights = await _rights(conn, customers, now_us)
    taken = await feature_meters(conn, {feature for right in rights.values() for feature in right})
    return {each.key: await _answers(conn, each, rights[each.key].values(), taken, now_us) for each in customers}


async def _rights(
    conn: AsyncConnection, customers: Collection[Customer], now_us: int
) -> Mapping[str, Mapping[str, Right]]:
    own = await subscribed(conn, customers)
    theirs = await given(conn, [each.key for each in customers], now_us)
    credits = await books(conn, customers)
    return {
        each.key: granted(
            own[each.key],
            theirs[each.key],
            each.time_zone,
            now_us,
            each.language,
            _prepaid(each, credits[each.key], now_us),
        )
        for each in customers
    }


def _prepaid(customer: Customer, credits: Mapping[Denomination, Book], now_us: int) -> Collection[str]:
    """The features of which the customer has credits in units that are in force."""
    return {
        of.feature
        for of, book in credits.items()
        if of.feature is not None and any(each.burns(customer.time_zone).is_active_at(now_us) for each in book.grants)
    }


async def grace_ends_at(conn: AsyncConnection, customer: Customer, quota: QuotaAnswer) -> int | None:
    """When usage that has reached the limit is or was stopped; None when there is no grace, or it did not begin."""
    if not quota.grace_days or quota.reached is None:
        return None
    meter = (await feature_meters(conn, [quota.feature]))[quota.feature]
    threshold = Threshold(meter, customer.subjects, quota.period, quota.reached)
    return await reached_at(conn, threshold) + quota.grace_days * DAY_US


async def feature_meters(conn: AsyncConnection, keys: Collection[str]) -> Mapping[str, Meter]:
    """The meter of each of those features that has one; read anew only when the configuration has changed."""
    known, asked = _known.at(await state.get(conn)), frozenset(keys)
    if asked not in known:
        found = await features.get(conn, sorted(asked))
        counted = await meters.get(conn, sorted({each.meter_key for each in found.values() if each.meter_key}))
        known[asked] = {key: counted[each.meter_key] for key, each in found.items() if each.meter_key in counted}
    return known[asked]


async def _answers(
    conn: AsyncConnection, customer: Customer, rights: Collection[Right], taken: Mapping[str, Meter], now_us: int
) -> Sequence[QuotaAnswer]:
    """One usage question for each period; more only where something rolls over, or a limit with a grace was reached."""
    chosen = [await _chosen(conn, customer, right, taken) for right in rights]
    used: dict[str, Decimal | None] = {}
    for period, by_feature in _resetting_together(chosen, taken).items():
        used |= await _used(conn, customer, by_feature, period)
    found = []
    for entitlement, right in zip(chosen, rights, strict=True):
        spec, extra = entitlement.spec, (*right.extra, *await _credits(conn, customer, entitlement, right, now_us))
        quota = answer(entitlement, used.get(spec.feature), now_us, extra, language=customer.language)
        if spec.grace_days and quota.reached is not None:
            threshold = Threshold(taken[spec.feature], customer.subjects, entitlement.period, quota.reached)
            is_over = await was_reached_by(conn, threshold, now_us - spec.grace_days * DAY_US)
            quota = answer(entitlement, quota.used, now_us, extra, grace_is_over=is_over, language=customer.language)
        found.append(quota)
    return found


async def _credits(
    conn: AsyncConnection, customer: Customer, entitlement: Entitlement, right: Right, now_us: int
) -> Sequence[QuotaPart]:
    """What credits in its units give of the period besides its own limit; nothing where there is none."""
    feature, start_us = entitlement.spec.feature, entitlement.period.start_us
    book = (await books(conn, [customer]))[customer.key].get(Denomination(CreditUnit.FEATURE, feature))
    limit = right.limit(entitlement)
    if book is None or book.meter is None or limit is None:
        return ()
    used = await usage.quantity(conn, book.meter, customer.subjects, start_us, now_us)
    credits = await feature_credits(conn, customer, feature, start_us, now_us)
    part = credits.given(used.value or Decimal(0), limit)
    if not part and not right.prepaid:
        return ()
    return [QuotaPart(QuotaSource.CREDITS, SENTENCES[customer.language].credits, part)]


async def _chosen(conn: AsyncConnection, customer: Customer, right: Right, taken: Mapping[str, Meter]) -> Entitlement:
    """The offer that counts, with what earlier periods left to it."""
    return most_permissive(
        [
            offer
            if offer.spec.rollover_max is None
            else replace(offer, carried=await _carried(conn, customer, offer, taken[offer.spec.feature]))
            for offer in right.offers
        ]
    )


async def _carried(conn: AsyncConnection, customer: Customer, offer: Entitlement, meter: Meter) -> Decimal:
    """What earlier periods left, looking back no further than it matters."""
    used: list[Decimal] = []
    for some in in_parts(offer.earlier()):
        cut = [Interval(period.start_us, period.end_us) for period in some]
        counted = await usage.series(conn, meter, customer.subjects, cut)
        used = [*(each.value or Decimal(0) for each in counted), *used]
        handed_on = settled(offer.spec, used)
        if handed_on is not None:
            return handed_on
    return carried(offer.spec, used)


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
