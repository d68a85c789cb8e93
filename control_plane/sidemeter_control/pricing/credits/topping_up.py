"""What is done with credits in the background: buying more of what runs low, and keeping what stood long ago."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, InvalidInput
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.credits.balances import balance, settled
from sidemeter_control.pricing.credits.books import books
from sidemeter_control.pricing.credits.granting import grant_within
from sidemeter_control.pricing.credits.grants import CreditGrant, GrantSpec, TopUp
from sidemeter_control.pricing.credits.owed import owed_between
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval, Period, Recurrence
from sidemeter_control.store import audit, credits, customers, top_ups
from sidemeter_control.store.database import Database

__all__ = ["SETTLED_AFTER_US", "settle_once", "top_up_once"]

_log = logging.getLogger(__name__)

AT_ONCE = 100
"""Rules, or customers, that are read together; a transaction of its own looks at each."""

_DAY_US = 86_400_000_000

SETTLED_AFTER_US = 35 * _DAY_US
"""How long the past stays open. Units used before then and counted later are paid when they are counted; money owed for a
billing period that ended before then is settled."""


async def top_up_once(database: Database, clock: Clock) -> Sequence[CreditGrant]:
    """Look at every rule once; the grants that were made.

    A rule makes one grant each time its balance falls below the threshold, or further below by more use. The grant and
    the note that it was made are one transaction.
    """
    made: list[CreditGrant] = []
    after: TopUp | None = None
    while True:
        async with database.read() as conn:
            rules = await top_ups.page(conn, AT_ONCE, after)
            changed = await _changed(conn, rules, clock.now_us())
        for rule in changed:
            with _stopping_no_other(rule.customer_key):
                async with database.write() as conn:
                    made += await _follow(conn, clock, rule)
        if len(rules) < AT_ONCE:
            return made
        after = rules[-1]


async def settle_once(database: Database, clock: Clock) -> int:
    """Keep what every customer's credits stood at, long ago, so that it is not burned down anew; how many were kept."""
    now_us = clock.now_us()
    by_us = now_us - now_us % _DAY_US - SETTLED_AFTER_US
    done, after = 0, ""
    while True:
        async with database.read() as conn:
            keys = await credits.holders(conn, AT_ONCE, after)
        for key in keys:
            with _stopping_no_other(key):
                done += await _settle(database, key, by_us, now_us)
        if len(keys) < AT_ONCE:
            return done
        after = keys[-1]


@contextmanager
def _stopping_no_other(customer_key: str) -> Iterator[None]:
    """What cannot be done for one customer is said, and the others have their turn."""
    try:
        yield
    except (Conflict, InvalidInput) as exc:
        _log.warning("the credits of customer %r were left as they are: %s", customer_key, exc)


async def _changed(conn: AsyncConnection, rules: Sequence[TopUp], now_us: int) -> list[TopUp]:
    """Those for which there is something to do."""
    found = []
    for rule in rules:
        with _stopping_no_other(rule.customer_key):
            if await _looked(conn, rule, now_us) != (rule, False):
                found.append(rule)
    return found


async def _looked(conn: AsyncConnection, rule: TopUp, now_us: int) -> tuple[TopUp, bool]:
    """The rule after a look at the balance, and whether it buys."""
    customer = (await customers.get(conn, [rule.customer_key]))[rule.customer_key]
    found = await balance(conn, customer, rule.denomination, now_us, owed_between(conn, customer, now_us))
    if rule.wants(found.balance, found.overage):
        period = await _period(conn, customer, now_us)
        if await top_ups.bought(conn, rule, period.start_us, now_us + 1) < rule.max_per_period:
            return rule.bought(found.balance, found.overage), True
        return rule, False
    return rule.marked(found.balance, found.overage), False


async def _follow(conn: AsyncConnection, clock: Clock, seen: TopUp) -> list[CreditGrant]:
    """Do what the rule asks for, if it is still there."""
    rule = await top_ups.get(conn, seen.customer_key, seen.denomination)
    if rule is None:
        return []
    after, buys = await _looked(conn, rule, clock.now_us())
    grants = [await grant_within(conn, clock, _purchase(rule), audit.TOP_UP)] if buys else []
    await top_ups.mark(conn, after)
    return grants


def _purchase(rule: TopUp) -> GrantSpec:
    return GrantSpec(
        customer=rule.customer_key,
        amount=rule.amount,
        denomination=rule.denomination,
        purchased=True,
        automatic=True,
    )


async def _period(conn: AsyncConnection, customer: Customer, at_us: int) -> Period:
    """The billing period of an instant; of nobody's subscription, the calendar's month."""
    for each in (await subscribed(conn, [customer]))[customer.key]:
        if each.subscription.is_active_at(at_us):
            return each.period_at(at_us)
    return Recurrence.on_calendar(Interval.MONTH, customer.time_zone).period_at(at_us)


async def _settle(database: Database, customer_key: str, by_us: int, now_us: int) -> int:
    async with database.read() as conn:
        customer = (await customers.get(conn, [customer_key]))[customer_key]
        found = {
            of: await settled(conn, customer, of, by_us, owed_between(conn, customer, now_us))
            for of in (await books(conn, [customer]))[customer_key]
        }
    kept = {of: snapshot for of, snapshot in found.items() if snapshot is not None}
    if kept:
        async with database.write() as conn:
            for of, snapshot in kept.items():
                await credits.keep_snapshot(conn, customer_key, of, snapshot)
    return len(kept)
