"""Looking ahead: which budgets and quotas will be exceeded at the pace of now, said once in a period.

A forecast costs some ten times as much as a look at what is used, and says something else only when an hour is over: so
every customer is looked at once an hour, a few at a time, whatever happens between.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.limits.alerting import raise_found
from sidemeter_control.limits.alerts import (
    Alert,
    ExpectedBy,
    Finding,
    foreseen,
    to_foresee_of_budget,
    to_foresee_of_quota,
)
from sidemeter_control.limits.entitlements import QuotaAnswer
from sidemeter_control.limits.features import Feature
from sidemeter_control.limits.quotas import feature_meters, quotas
from sidemeter_control.limits.spending import budgets_of, spending
from sidemeter_control.metering.forecasting import outlook_of_slice, outlooks
from sidemeter_control.metering.forecasts import Edge, Outlook, Refusal
from sidemeter_control.metering.meters import Meter, from_nano
from sidemeter_control.money import exact
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.forecasting import forecast_of
from sidemeter_control.pricing.periods import Period
from sidemeter_control.store import alerts, customers, features
from sidemeter_control.store.database import Database

__all__ = ["EVERY_S", "MAX_FORESEEN_AT_ONCE", "Foreseeing", "foresee"]

EVERY_S = 3600
"""Usage is forecast by the hour: sooner nothing is new."""

MAX_FORESEEN_AT_ONCE = 20
"""Customers of one turn; each takes some 50 ms where it has budgets or quotas, and then as long a rest follows."""


class Foreseeing:
    """Looks at every customer once an hour; how far it is, is kept in memory: one that begins again says nothing twice."""

    def __init__(self, database: Database, clock: Clock, *, customers_at_once: int = MAX_FORESEEN_AT_ONCE) -> None:
        self._database, self._clock, self._at_once = database, clock, customers_at_once
        self._after: str = ""
        self._due_s = clock.monotonic_s()

    async def once(self) -> int:
        """Look at the next customers, if an hour is over since the first ones were; answers how many."""
        if not self._after:
            if self._clock.monotonic_s() < self._due_s:
                return 0
            self._due_s = self._clock.monotonic_s() + EVERY_S
        async with self._database.read() as conn:
            some = await customers.page(conn, self._at_once, after=self._after)
        for customer in some:
            await foresee(self._database, self._clock, customer.key)
        self._after = some[-1].key if len(some) == self._at_once else ""
        return len(some)


async def foresee(database: Database, clock: Clock, customer_key: str) -> list[Alert]:
    """Raise that a customer's budgets and quotas will be exceeded, of those that will; answers the alerts that are new."""
    now_us = clock.now_us()
    return await raise_found(database, clock, customer_key, lambda conn, customer: _foreseen(conn, customer, now_us))


@dataclass(frozen=True, slots=True)
class _Watched:
    """What would be said, of which period; and what it counts: a meter, all of it or a budget's slice, or money."""

    finding: Finding
    period: Period
    meter: Meter | None
    slice: Sequence[tuple[str, str]] = ()


async def _foreseen(conn: AsyncConnection, customer: Customer, now_us: int) -> Sequence[Finding]:
    """Nothing is forecast of what was said already."""
    watched = [*await _budgets(conn, customer, now_us), *await _quotas(conn, customer, now_us)]
    new = await alerts.unraised(conn, customer.key, [each.finding for each in watched])
    watched = [each for each in watched if each.finding in new]
    whole = await _of_meters(conn, customer, [each for each in watched if not each.slice], now_us)
    found = []
    for each in watched:
        expected = await _expected(conn, customer, each, whole, now_us)
        if expected is not None:
            found.append(foreseen(each.finding, expected, each.period, now_us, customer.time_zone))
    return [each for each in found if each is not None]


async def _budgets(conn: AsyncConnection, customer: Customer, now_us: int) -> list[_Watched]:
    metered = (await budgets_of(conn, [customer.key]))[customer.key]
    answers = await spending(conn, customer, now_us)
    return [
        _Watched(finding, answer.period, meter, answer.budget.slice)
        for answer, (_, meter) in zip(answers, metered, strict=True)
        if (finding := to_foresee_of_budget(answer)) is not None
    ]


async def _quotas(conn: AsyncConnection, customer: Customer, now_us: int) -> list[_Watched]:
    limited = [each for each in await quotas(conn, customer, now_us) if each.limit]
    if not limited:
        return []
    keys = [each.feature for each in limited]
    taken, named = await feature_meters(conn, keys), await features.get(conn, keys)
    return [
        _Watched(finding, each.period, taken[each.feature])
        for each in limited
        if (finding := _of_quota(each, named[each.feature], taken[each.feature])) is not None
    ]


def _of_quota(quota: QuotaAnswer, feature: Feature, meter: Meter) -> Finding | None:
    return to_foresee_of_quota(quota, feature.name or feature.key, meter.unit)


_Whole = Mapping[tuple[int, str], Outlook | Refusal]
"""The forecasts of whole meters, by the period's end and the meter's key."""


async def _of_meters(conn: AsyncConnection, customer: Customer, watched: Sequence[_Watched], now_us: int) -> _Whole:
    """One question for all that end together."""
    together: defaultdict[int, dict[str, Meter]] = defaultdict(dict)
    for each in watched:
        if each.meter is not None:
            together[each.period.end_us][each.meter.key] = each.meter
    found: dict[tuple[int, str], Outlook | Refusal] = {}
    for until_us, some in together.items():
        of = await outlooks(
            conn, list(some.values()), customer.subjects, customer.time_zone, now_us=now_us, until_us=until_us
        )
        found |= {(until_us, key): outlook for key, outlook in of.items()}
    return found


async def _expected(
    conn: AsyncConnection, customer: Customer, watched: _Watched, whole: _Whole, now_us: int
) -> ExpectedBy | None:
    """What will be used or spent by an instant; None: it cannot be said."""
    meter, until_us = watched.meter, watched.period.end_us
    if meter is None and watched.slice:
        return None  # its shape is not that of the customer as a whole
    if meter is None:
        forecast = await forecast_of(conn, customer, now_us, watched.period)
        return None if forecast.refusal is not None else forecast.owed_by
    if watched.slice:
        outlook = await outlook_of_slice(
            conn, meter, customer.subjects, customer.time_zone, watched.slice, now_us=now_us, until_us=until_us
        )
    else:
        outlook = whole[until_us, meter.key]
    return None if isinstance(outlook, Refusal) else _used_by(watched.finding.used, outlook)


def _used_by(used: Decimal, outlook: Outlook) -> ExpectedBy:
    @exact
    def by(by_us: int, edge: Edge) -> Decimal:
        return used + from_nano(outlook.between(outlook.now_us, by_us, edge))

    return by
