"""Denying: where agents say that they refused something at a hard limit, its customer is told, once in a period."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.limits.alerts import Alert, Finding, denied
from sidemeter_control.limits.prepaid import prepaid
from sidemeter_control.limits.quotas import feature_meters, quotas
from sidemeter_control.limits.raising import raise_all
from sidemeter_control.limits.shared import period_of
from sidemeter_control.limits.spending import Enforced, enforced
from sidemeter_control.limits.sync_messages import Denied
from sidemeter_control.limits.units import CREDITS, limit_id, pool_id
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import Enforcement
from sidemeter_control.pricing.register import registered
from sidemeter_control.pricing.sentences import SENTENCES
from sidemeter_control.store import alerts, features
from sidemeter_control.store.database import Database

__all__ = ["raise_denied"]


async def raise_denied(database: Database, clock: Clock, told: Collection[Denied]) -> list[Alert]:
    """Raise what is worth an alert of it; answers the alerts that are new, which are stored.

    Told again it raises nothing. What is of a period that is over is no news, and what is of no HARD limit is nothing.
    """
    if not told:
        return []
    async with database.snapshot() as snapshot:
        found = await snapshot.ask(lambda conn: _found(conn, told, clock.now_us()))
    return await raise_all(database, clock, found)


async def _found(conn: AsyncConnection, told: Collection[Denied], now_us: int) -> list[tuple[Customer, list[Finding]]]:
    """What was not raised yet, by customer."""
    amounts: defaultdict[str, dict[tuple[str, int], Decimal]] = defaultdict(dict)
    for each in told:
        amounts[pool_id((each.limit, each.period))[0]][each.limit, each.period] = Decimal(each.amount)
    found = []
    for key, customer in (await registered(conn, sorted(amounts))).items():
        findings = [*await _of_quotas(conn, customer, amounts[key], now_us)]
        findings += await _of_budgets(conn, customer, amounts[key], now_us)
        findings += await _of_credits(conn, customer, amounts[key], now_us)
        new = await alerts.unraised(conn, key, findings)
        if new:
            found.append((customer, new))
    return found


async def _of_quotas(
    conn: AsyncConnection, customer: Customer, amounts: Mapping[tuple[str, int], Decimal], now_us: int
) -> list[Finding]:
    hard = {
        each.feature: (each, amount)
        for each in await quotas(conn, customer, now_us)
        if each.enforcement is Enforcement.HARD and each.used is not None
        if (amount := amounts.get((limit_id(customer.key, each.feature), period_of(each)))) is not None
    }
    if not hard:
        return []
    named, taken = await features.get(conn, sorted(hard)), await feature_meters(conn, hard)
    return [
        denied(
            f"quota:{key}",
            named[key].name or key,
            quota.period.start_us,
            (quota.used or Decimal(0), amount),
            (None, taken[key].unit if key in taken else None),
        )
        for key, (quota, amount) in hard.items()
    ]


async def _of_budgets(
    conn: AsyncConnection, customer: Customer, amounts: Mapping[tuple[str, int], Decimal], now_us: int
) -> Iterator[Finding]:
    of_budgets = (await enforced(conn, [customer], now_us))[customer.key]
    return (
        denied(f"budget:{key}", key, each.answer.period.start_us, (each.answer.spent, amount), _measured_in(each))
        for each in of_budgets
        if (key := each.answer.budget.key)
        if (amount := amounts.get((each.answer.budget.limit_id or "", period_of(each.answer)))) is not None
    )


async def _of_credits(
    conn: AsyncConnection, customer: Customer, amounts: Mapping[tuple[str, int], Decimal], now_us: int
) -> list[Finding]:
    amount = amounts.get((limit_id(customer.key, CREDITS), 0))
    if amount is None:
        return []
    name, covered = SENTENCES[customer.language].credits, await prepaid(conn, [customer], now_us)
    return [
        denied("credits:money", name, each.period.start_us, (each.owed, amount), (each.currency, None))
        for each in covered.values()
    ]


def _measured_in(each: Enforced) -> tuple[str | None, str | None]:
    return (each.answer.measured_in, None) if each.meter is None else (None, each.meter.unit)
