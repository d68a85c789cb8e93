"""Looking for what is worth an alert: at customers that used something, soon after; at all of them, now and then.

Both find the same, from what is counted when they look, and an alert is raised once. So it does no harm that two look at
once, or that one who was ended begins again.
"""

import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import ArchiveUnavailable, Conflict, InvalidInput, StoreUnavailable
from sidemeter_control.limits.alerts import Alert, Finding, of_budget, of_credits, of_quota
from sidemeter_control.limits.prepaid import prepaid
from sidemeter_control.limits.quotas import feature_meters, quotas
from sidemeter_control.limits.raising import raise_all
from sidemeter_control.limits.spending import spending
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.register import registered
from sidemeter_control.pricing.sentences import SENTENCES
from sidemeter_control.store import alerts, budgets, customers, events, features, state
from sidemeter_control.store.database import Database

__all__ = ["MAX_LOOKED_AT_ONCE", "MAX_SCANNED", "Alerting", "look", "raise_found", "sweep_once"]

MAX_SCANNED = 100_000
"""Events that one turn looks at only for whose they are; some 50 ms on a reading connection."""

MAX_LOOKED_AT_ONCE = 100
"""Customers of one turn; some milliseconds each, beside which agents' batches are counted."""

LATE_US = 7 * DAY_US
_PAGE = 100

_log = logging.getLogger(__name__)

T = TypeVar("T")

Findings = Coroutine[Any, Any, Sequence[Finding]]


class Alerting:
    """Looks at the customers that new events and new budgets are of.

    Who is due is kept in memory; that all events up to one are done with, in the database. One who was ended before that
    looks at those events again.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        events_at_once: int = MAX_SCANNED,
        customers_at_once: int = MAX_LOOKED_AT_ONCE,
    ) -> None:
        self._database, self._clock = database, clock
        self._events_at_once, self._customers_at_once = events_at_once, customers_at_once
        self._due: dict[str, int] = {}
        """By customer, the earliest time of an event that is new."""
        self._scanned: int | None = None
        self._done = 0
        self._version: int | None = None

    async def once(self) -> int:
        """Look at some of the customers that are due; answers how many."""
        news = await _ask(self._database, lambda conn: _news(conn, self._scanned, self._version, self._events_at_once))
        if self._scanned is None:
            self._done = news.after
        self._scanned, self._version = news.scanned, news.version
        for key, time_us in news.used.items():
            self._due[key] = min(time_us, self._due.get(key, time_us))
        for key in news.capped:
            self._due.setdefault(key, self._clock.now_us())
        some = list(islice(self._due, self._customers_at_once))
        for key in some:
            await look(self._database, self._clock, key, self._due[key])
            del self._due[key]
        if not self._due and self._scanned != self._done:
            async with self._database.write() as conn:
                await alerts.set_looked_at(conn, self._scanned)
            self._done = self._scanned
        return len(some)


@dataclass(frozen=True, slots=True)
class _News:
    """What arrived after an event, up to another: by customer, the earliest time; and whose budgets were set."""

    after: int
    scanned: int
    version: int
    used: Mapping[str, int]
    capped: Sequence[str]


async def _news(conn: AsyncConnection, after: int | None, version: int | None, limit: int) -> _News:
    """`after` None: what is stored says how far events were looked at. `version` None: all budgets are old."""
    after = await alerts.looked_at(conn) if after is None else after
    scanned, subjects = await events.arrived(conn, after, limit)
    used: dict[str, int] = {}
    for subject, key in (await customers.owners(conn, subjects)).items():
        used[key] = min(subjects[subject], used.get(key, subjects[subject]))
    known = (await state.get(conn)).config_version
    capped = await budgets.set_since(conn, version) if version is not None and version != known else ()
    return _News(after, scanned, known, used, capped)


async def sweep_once(database: Database, clock: Clock) -> int:
    """Look at every customer; how many there are. It finds what no event says: fees, corrections, other plans."""
    looked, after = 0, ""
    while True:
        async with database.read() as conn:
            some = await customers.page(conn, _PAGE, after=after)
        for customer in some:
            await look(database, clock, customer.key)
        looked += len(some)
        if len(some) < _PAGE:
            return looked
        after = some[-1].key


async def look(database: Database, clock: Clock, customer_key: str, since_us: int | None = None) -> list[Alert]:
    """Raise what is worth an alert of a customer's budgets and quotas; answers the alerts that are new.

    Of the periods of now, and of `since_us` where that is earlier, but at most a week: what arrives late may reach a threshold
    of a period that is over, and what is older is no news.
    """
    now_us = clock.now_us()
    instants = {now_us} if since_us is None else {now_us, max(min(now_us, since_us), now_us - LATE_US)}
    return await raise_found(
        database, clock, customer_key, lambda conn, customer: _found(conn, customer, instants, now_us)
    )


async def raise_found(
    database: Database, clock: Clock, customer_key: str, find: Callable[[AsyncConnection, Customer], Findings]
) -> list[Alert]:
    """Raise what `find` finds of a customer; answers the alerts that are new.

    A customer who cannot be looked at for a fault of ours stops no other: the log names the incident.
    """
    try:
        found = await _ask(database, lambda conn: _unraised(conn, customer_key, find))
    except StoreUnavailable:
        raise
    except (ArchiveUnavailable, Conflict, InvalidInput) as exc:
        _log.warning("customer %r was not looked at for alerts: %s", customer_key, exc)
        return []
    except Exception:  # noqa: BLE001 -- one customer's bill, wrong by our mistake, stops no other
        incident = clock.new_id("err")
        _log.exception(
            "%s: customer %r could not be looked at for alerts", incident, customer_key, extra={"incident_id": incident}
        )
        return []
    return await raise_all(database, clock, () if found is None else (found,))


async def _unraised(
    conn: AsyncConnection, customer_key: str, find: Callable[[AsyncConnection, Customer], Findings]
) -> tuple[Customer, list[Finding]] | None:
    """The customer with what is to be raised; None when nothing is."""
    customer = (await registered(conn, [customer_key])).get(customer_key)
    if customer is None:
        return None
    new = await alerts.unraised(conn, customer_key, await find(conn, customer))
    return (customer, new) if new else None


async def _found(
    conn: AsyncConnection, customer: Customer, instants: Collection[int], now_us: int
) -> Sequence[Finding]:
    findings: list[Finding] = []
    for at_us in sorted(instants):
        for answer in await spending(conn, customer, now_us, at_us):
            findings += of_budget(answer)
        findings += await _of_quotas(conn, customer, at_us)
    for covered in (await prepaid(conn, [customer], now_us)).values():
        burned, ids = (covered.spent, covered.granted), [each.grant.id for each in covered.counted]
        name = SENTENCES[customer.language].credits
        findings += of_credits(burned, ids, covered.filled_us, name, covered.currency)
    return findings


async def _of_quotas(conn: AsyncConnection, customer: Customer, at_us: int) -> Iterable[Finding]:
    counted = [each for each in await quotas(conn, customer, at_us) if each.limit is not None]
    if not counted:
        return ()
    keys = [each.feature for each in counted]
    taken = await feature_meters(conn, keys)
    named = await features.get(conn, keys)
    return [
        finding
        for each in counted
        for finding in of_quota(each, named[each.feature].name or each.feature, taken[each.feature].unit)
    ]


async def _ask(database: Database, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
    async with database.snapshot() as snapshot:
        return await snapshot.ask(question)
