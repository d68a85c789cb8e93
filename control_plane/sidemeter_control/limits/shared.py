"""Limits that are shared by leases, as they stand: of quotas, of budgets and of credits, by one rule.

One in money is shared in money: agents debit it at price caps. Of what they debited and is counted since, they return all,
for the bill has it. So what is shared of it is the amount without what is owed by now.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.budgets import BudgetAnswer
from sidemeter_control.limits.entitlements import QuotaAnswer
from sidemeter_control.limits.prepaid import Prepaid, prepaid
from sidemeter_control.limits.quotas import feature_meters, quotas_of
from sidemeter_control.limits.spending import Enforced, counted, enforced
from sidemeter_control.limits.units import (
    CREDITS,
    LEASED,
    PoolId,
    Slice,
    is_budget,
    limit_id,
    money_scale,
    pool_id,
    scale_of,
)
from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind
from sidemeter_control.pricing.register import registered

__all__ = ["Shared", "of_budget", "of_credits", "of_quota", "period_of", "shared_limits"]


@dataclass(frozen=True, slots=True)
class Shared:
    """A limit that is shared by leases, as it stands: `ceiling` is where usage stops, `used` all that was counted in the
    period of the pool `id`, both in the unit of the meter and of the slice; an empty one is everything.

    `meter` None: it is in money, and `used` is what cannot be spent of it any more by the prices of what is counted. One that
    never ends may be `billed` by periods."""

    id: PoolId
    ceiling: Decimal
    used: Decimal
    end_us: int | None
    window: Period
    meter: Meter | None
    slice: Slice
    subjects: tuple[str, ...]
    billed: Period | None = None

    @property
    def aside(self) -> PoolId:
        """The pool of which something is set aside after a rollback, until that one's period ends."""
        return self.id if self.billed is None else (*self.id[:2], self.billed.start_us)

    @property
    def limit(self) -> str:
        """What agents call it."""
        return limit_id(*self.id[:2])

    @property
    def scale(self) -> int:
        """What a pool that is made now has."""
        return money_scale(self.ceiling) if self.meter is None else scale_of(self.meter.aggregation, self.ceiling)

    async def outside(self, conn: AsyncConnection) -> Decimal:
        """What no holder speaks for, of what was counted before anything is leased, in this transaction.

        Of money the bill speaks for all.
        """
        if self.meter is None:
            return Decimal(0)
        return await counted(conn, self.meter, self.subjects, self.window, self.slice)


def period_of(answer: QuotaAnswer | BudgetAnswer) -> int:
    """The name of the period that counts now."""
    return answer.period_start_us or 0


def of_quota(customer: Customer, quota: QuotaAnswer, meter: Meter | None) -> Shared | None:
    """The limit of a quota; None where there is none, or it is not one to be shared."""
    if quota.kind is not EntitlementKind.METERED or quota.enforcement is not Enforcement.HARD:
        return None
    if meter is None or quota.ceiling is None or not _adds_up(meter):
        return None
    id_, used = (customer.key, quota.feature, period_of(quota)), quota.used or Decimal(0)
    return Shared(id_, quota.ceiling, used, quota.resets_at_us, quota.period, meter, (), customer.subjects)


def of_budget(customer: Customer, enforced_: Enforced) -> Shared | None:
    """The same of a budget that agents enforce. What cannot be capped now has nothing left to share."""
    answer, meter = enforced_.answer, enforced_.meter
    budget = answer.budget
    if meter is not None and not _adds_up(meter):
        return None
    id_ = customer.key, budget.limit_name, period_of(answer)
    return Shared(
        id_, budget.amount, enforced_.taken, answer.resets_at_us, answer.period, meter, budget.slice, customer.subjects
    )


def of_credits(customer: Customer, covered: Prepaid) -> Shared:
    """The same of a prepaid customer's credits."""
    id_ = customer.key, CREDITS, 0
    return Shared(id_, covered.covers, covered.taken, None, EVER, None, (), customer.subjects, covered.period)


def _adds_up(meter: Meter) -> bool:
    """Whether what an event adds is known when it happens, and what was counted is known now."""
    return meter.aggregation in LEASED and meter.progress.done


async def shared_limits(conn: AsyncConnection, limits: Collection[str], now_us: int) -> Mapping[str, Shared]:
    """Those of these limits, by id, that are shared by leases now."""
    asked = {pool_id((limit, 0))[:2] for limit in limits}
    found = await registered(conn, sorted({customer for customer, _ in asked})) if asked else {}
    by_credits = {key for key, name in asked if name == CREDITS}
    by_quota = [found[key] for key in {key for key, name in asked if _is_feature(name)} if key in found]
    by_budget = [found[key] for key in {key for key, name in asked if is_budget(name)} if key in found]
    shared = [*await _of_quotas(conn, by_quota, now_us), *await _of_budgets(conn, by_budget, now_us)]
    covered = await prepaid(conn, [found[key] for key in by_credits if key in found], now_us)
    shared += [of_credits(found[key], each) for key, each in covered.items()]
    return {each.limit: each for each in shared if each is not None and each.limit in limits}


def _is_feature(name: str) -> bool:
    return not is_budget(name) and name != CREDITS


async def _of_quotas(conn: AsyncConnection, customers: Collection[Customer], now_us: int) -> list[Shared | None]:
    answers = await quotas_of(conn, customers, now_us)
    taken = await feature_meters(conn, {quota.feature for own in answers.values() for quota in own})
    return [of_quota(each, quota, taken.get(quota.feature)) for each in customers for quota in answers[each.key]]


async def _of_budgets(conn: AsyncConnection, customers: Collection[Customer], now_us: int) -> list[Shared | None]:
    answers = await enforced(conn, customers, now_us)
    return [of_budget(each, own) for each in customers for own in answers[each.key]]
