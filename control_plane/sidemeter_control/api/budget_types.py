"""Budgets, as GraphQL takes and shows them."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.meter_types import Meter
from sidemeter_control.api.pricing_types import meter_of
from sidemeter_control.api.scalars import Instant, Json, instant
from sidemeter_control.errors import InvalidInput, NotFound
from sidemeter_control.limits import budgets
from sidemeter_control.limits.budgets import DEFAULT_THRESHOLDS, BudgetUnit
from sidemeter_control.limits.handed_out import NOTHING_HANDED_OUT, HandedOut
from sidemeter_control.limits.shared import period_of
from sidemeter_control.limits.spending import spending
from sidemeter_control.limits.units import PoolId
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import Enforcement, ResetPeriod

__all__ = ["Budget", "BudgetInput", "budget_of", "budgets_of"]

strawberry.enum(BudgetUnit)


@strawberry.input
class BudgetInput:
    """A cap on what a customer spends in each period, in place of the one of its key.

    unit METER: of what the meter counts, with a slice only where its dimensions have those values: {"team": "a"}. MONEY of
    a slice: of what its usage costs by itself, by the charges whose meters have these dimensions, without fees. Agents stop usage at a HARD one. In MONEY that takes prices that are known before anything is used: PERCENTAGE with free
    events or a free amount is refused, and meters other than COUNT, SUM and UNIQUE_COUNT are. thresholds: at which percentages of
    the amount an alert is raised.
    """

    key: strawberry.ID
    customer: strawberry.ID
    unit: BudgetUnit = BudgetUnit.MONEY
    meter: strawberry.ID | None = None
    amount: Decimal
    period: ResetPeriod = ResetPeriod.MONTH
    slice: Json | None = None
    enforcement: Enforcement = Enforcement.SOFT
    thresholds: list[int] | None = strawberry.field(default_factory=lambda: list(DEFAULT_THRESHOLDS))

    def spec(self) -> budgets.BudgetSpec:
        """What is written, for the domain to check."""
        if self.slice is not None and not isinstance(self.slice, dict):
            raise InvalidInput("slice", "must be an object of dimensions")
        return budgets.BudgetSpec(
            key=self.key,
            customer=self.customer,
            unit=self.unit,
            meter=self.meter,
            amount=self.amount,
            period=self.period,
            slice=self.slice,
            enforcement=self.enforcement,
            thresholds=DEFAULT_THRESHOLDS if self.thresholds is None else self.thresholds,
        )


@strawberry.type
class Budget:
    """A cap on what is spent in a period, and what is spent of it, of everything counted by asOf.

    MONEY is the customer's cost of the period before credits, as on the bill; with a slice, what its usage costs by itself.
    """

    key: strawberry.ID
    unit: BudgetUnit
    amount: Decimal
    spent: Decimal
    remaining: Decimal
    currency: str | None = strawberry.field(description="Of MONEY.")
    slice: Json
    enforcement: Enforcement
    thresholds: list[int]
    period: ResetPeriod
    period_start: Instant | None
    resets_at: Instant | None
    limit_id: strawberry.ID | None = strawberry.field(
        description="What agents call the limit that a HARD one is, and `limit` shows. Another meter or slice is another limit."
    )
    by_customer: bool = strawberry.field(description="Set over a portal link, and the customer's to change there.")
    as_of: Instant
    meter_key: strawberry.Private[str | None]
    pool: strawberry.Private[PoolId | None]

    @classmethod
    def of(cls, answer: budgets.BudgetAnswer) -> Self:
        """The noun in its GraphQL form."""
        budget = answer.budget
        return cls(
            key=strawberry.ID(budget.key),
            unit=budget.unit,
            amount=budget.amount,
            spent=answer.spent,
            remaining=answer.remaining,
            currency=answer.measured_in if budget.unit is BudgetUnit.MONEY else None,
            slice=Json(dict(budget.slice)),
            enforcement=budget.enforcement,
            thresholds=list(budget.thresholds),
            period=budget.reset,
            period_start=instant(answer.period_start_us),
            resets_at=instant(answer.resets_at_us),
            limit_id=strawberry.ID(budget.limit_id) if budget.is_enforced else None,
            by_customer=budget.by_customer,
            as_of=Instant(answer.as_of_us),
            meter_key=budget.meter_key,
            pool=(budget.customer_key, budget.limit_name, period_of(answer)) if budget.is_enforced else None,
        )

    @strawberry.field
    async def meter(self, info: Info) -> Meter | None:
        """What counts; null for MONEY."""
        return await meter_of(info, self.meter_key)

    @strawberry.field
    async def leased(self, info: Info) -> Decimal:
        """Of a HARD one: what agents hold and have not said they used; of MONEY at the highest prices that usage can have."""
        return (await self._handed_out(info)).leased

    @strawberry.field
    async def in_doubt(self, info: Info) -> Decimal:
        """What agents held of it that are gone, and may have used."""
        return (await self._handed_out(info)).in_doubt

    async def _handed_out(self, info: Info) -> HandedOut:
        found = None if self.pool is None else await info.context.loaders.handed_out.load(self.pool)
        return found or NOTHING_HANDED_OUT


async def budgets_of(info: Info, customer: Customer) -> list[Budget]:
    """Every budget of a customer, by key."""
    now_us = info.context.now_us
    return [Budget.of(each) for each in await info.context.ask(lambda conn: spending(conn, customer, now_us))]


async def budget_of(info: Info, customer: Customer, key: str) -> Budget:
    """One of them; NotFound when somebody took it away meanwhile."""
    for each in await budgets_of(info, customer):
        if each.key == key:
            return each
    raise NotFound("budget", key)
