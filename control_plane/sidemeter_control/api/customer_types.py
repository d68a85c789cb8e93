"""Customers, as GraphQL shows them: their subscriptions, what they owe now, what they may still use, and why."""

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Self

import msgspec
import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control import money
from sidemeter_control.api.alert_types import DEFAULT_ALERTS, Alert, alerts_of
from sidemeter_control.api.bounds import DEFAULT_PAGE
from sidemeter_control.api.budget_types import Budget, budgets_of
from sidemeter_control.api.context import Info
from sidemeter_control.api.credit_types import CreditBalance, TopUp, balance_of
from sidemeter_control.api.entitlement_types import AddOn, EntitlementOverride, QuotaPart
from sidemeter_control.api.event_types import Event, explained
from sidemeter_control.api.forecast_types import Forecast, forecast_for
from sidemeter_control.api.meter_types import UsageRow, usage_rows
from sidemeter_control.api.pages import Connection
from sidemeter_control.api.pricing_types import Feature, Money, PriceLine, feature_of
from sidemeter_control.api.scalars import Instant, Json, instant
from sidemeter_control.api.subscription_types import CustomerSubscription
from sidemeter_control.errors import NotFound
from sidemeter_control.limits import quotas
from sidemeter_control.limits.entitlements import Given, QuotaAnswer
from sidemeter_control.limits.given import given
from sidemeter_control.limits.handed_out import HandedOut
from sidemeter_control.limits.shared import period_of
from sidemeter_control.limits.units import CREDITS, limit_id
from sidemeter_control.metering.windows import Window
from sidemeter_control.pricing import bills, cost, customers
from sidemeter_control.pricing.credits.balances import Credited, credited
from sidemeter_control.pricing.credits.grants import MONEY, CreditUnit, Denomination
from sidemeter_control.pricing.credits.owed import owed_between
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind
from sidemeter_control.pricing.words import Language
from sidemeter_control.store import agents, top_ups

__all__ = [
    "Cost",
    "CostLine",
    "Customer",
    "From",
    "MaybeFrom",
    "Quota",
    "cost_now",
    "customer_of",
]

From = Annotated[Instant, strawberry.argument(name="from")]
MaybeFrom = Annotated[Instant | None, strawberry.argument(name="from")]


@strawberry.type
class CostLine:
    """What one charge owes for one billing period, and the steps that add up to it.

    charge is _minimumSpend or _commitment where the plan as a whole owes it.
    """

    charge: strawberry.ID
    text: str
    quantity: Decimal | None
    amount: Money
    parts: list[PriceLine]
    events: strawberry.Private[bills.EventsBehind | None]

    @classmethod
    def of(cls, line: bills.CostLine) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            charge=strawberry.ID(line.charge),
            text=line.text,
            quantity=line.quantity,
            amount=Money.of(line.amount),
            parts=[PriceLine.of(part, line.amount.currency) for part in line.parts],
            events=line.events,
        )

    @strawberry.field
    async def explain(
        self, info: Info, first: int | None = DEFAULT_PAGE, after: str | None = None
    ) -> Connection[Event]:
        """The events behind the quantity, newest first; none behind a recurring fee."""
        return await explained(info, self.events, first, after)


@strawberry.type
class Cost:
    """What a customer owes for an interval, of everything counted by asOf."""

    from_: Instant = strawberry.field(name="from")
    to: Instant
    total: Money = strawberry.field(description="beforeCredits less credits")
    before_credits: Money
    credits: Money
    lines: list[CostLine]
    as_of: Instant

    @classmethod
    def of(cls, owed: cost.Cost, paid: Credited) -> Self:
        """The noun in its GraphQL form, less what credits pay of it."""
        return cls(
            from_=Instant(owed.from_us),
            to=Instant(owed.to_us),
            total=Money.of(paid.rest(owed.total)),
            before_credits=Money.of(owed.total),
            credits=Money.of(money.Money.of(paid.amount, owed.total.currency)),
            lines=[CostLine.of(line) for line in owed.lines],
            as_of=Instant(owed.as_of_us),
        )

    def says(self) -> tuple[object, ...]:
        """What it tells a customer, whenever it was asked: another `as_of` alone is no other cost."""
        lines = [(line.charge, line.text, line.quantity, line.amount, line.parts) for line in self.lines]
        return self.from_, self.to, self.total, self.before_credits, self.credits, lines

    @strawberry.field
    async def pending_agents(self, info: Info) -> int:
        """Agents heard of in the last ten minutes that said they hold events which have not arrived yet."""
        return sum(each.is_pending(info.context.now_us) for each in await info.context.ask(agents.list_all))


@strawberry.type
class Quota:
    """What a customer may use of a feature, and what is left of it."""

    kind: EntitlementKind
    enforcement: Enforcement
    allowed: bool
    value: Json | None
    limit: Decimal | None
    used: Decimal | None
    remaining: Decimal | None
    overage: Decimal | None
    period_start: Instant | None
    resets_at: Instant | None
    as_of: Instant
    ceiling: Decimal | None = strawberry.field(
        description="The quantity at which usage is stopped: of a HARD limit, with the overage that is allowed; null: never, or not while the grace runs."
    )
    parts: list[QuotaPart] = strawberry.field(
        description="Where the limit comes from; their quantities add up to it. CREDITS in the feature's units come last: what they paid in the period, and have left."
    )
    customer: strawberry.Private[customers.Customer]
    answer: strawberry.Private[QuotaAnswer]

    @classmethod
    def of(cls, answer: QuotaAnswer, customer: customers.Customer) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            kind=answer.kind,
            enforcement=answer.enforcement,
            allowed=answer.allowed,
            value=None if answer.value is None else Json(msgspec.Raw(answer.value.encode())),
            limit=answer.limit,
            used=answer.used,
            remaining=answer.remaining,
            overage=answer.overage,
            period_start=instant(answer.period_start_us),
            resets_at=instant(answer.resets_at_us),
            as_of=Instant(answer.as_of_us),
            ceiling=answer.ceiling,
            parts=[QuotaPart.of(part) for part in answer.parts],
            customer=customer,
            answer=answer,
        )

    def says(self) -> tuple[object, ...]:
        """What it tells a customer, whenever it was asked."""
        return replace(self.answer, as_of_us=0), self.parts

    @strawberry.field
    async def feature(self, info: Info) -> Feature:
        """What it is about."""
        return await feature_of(info, self.answer.feature)

    @strawberry.field
    async def leased(self, info: Info) -> Decimal | None:
        """What agents hold of a HARD limit and have not said they used; null where nothing is leased."""
        handed_out = await self._handed_out(info)
        return None if handed_out is None else handed_out.leased

    @strawberry.field
    async def in_doubt(self, info: Info) -> Decimal | None:
        """What agents held of it that are gone, and may have used; null where nothing is leased."""
        handed_out = await self._handed_out(info)
        return None if handed_out is None else handed_out.in_doubt

    async def _handed_out(self, info: Info) -> HandedOut | None:
        pool = self.customer.key, self.answer.feature, period_of(self.answer)
        return await info.context.loaders.handed_out.load(pool)

    @strawberry.field
    async def grace_ends_at(self, info: Info) -> Instant | None:
        """When usage that has reached a HARD limit is stopped, or was; null without a grace, or before it begins."""
        return instant(await info.context.ask(lambda conn: quotas.grace_ends_at(conn, self.customer, self.answer)))


@strawberry.type
class Customer:
    """Who pays, and whose usage is theirs."""

    key: strawberry.ID
    name: str | None
    currency: str | None
    time_zone: str
    subjects: list[str]
    language: Language
    prepaid: bool = strawberry.field(description="Its credits in money are all that may be spent.")
    noun: strawberry.Private[customers.Customer]

    @classmethod
    def of(cls, customer: customers.Customer) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            key=strawberry.ID(customer.key),
            name=customer.name,
            currency=customer.currency,
            time_zone=customer.time_zone,
            subjects=list(customer.subjects),
            language=customer.language,
            prepaid=customer.prepaid,
            noun=customer,
        )

    @strawberry.field
    async def subscriptions(self, info: Info) -> list[CustomerSubscription]:
        """Every subscription, the oldest first."""
        own = await info.context.loaders.subscribed.load(self.noun)
        return [CustomerSubscription.of(each, info.context.now_us) for each in own or ()]

    @strawberry.field
    async def cost(self, info: Info, from_: MaybeFrom = None, to: Instant | None = None) -> Cost:
        """What is owed for [from, to). Default: the current billing period."""
        now_us = info.context.now_us
        return await info.context.ask(lambda conn: cost_now(conn, self.noun, now_us, from_, to))

    @strawberry.field
    async def forecast(self, info: Info, subscription: strawberry.ID | None = None) -> Forecast | None:
        """What will be used and owed at the end of the current billing period, or of one subscription's; null: of none."""
        return await forecast_for(info, self.noun, subscription)

    @strawberry.field
    async def quota(self, info: Info, feature: strawberry.ID) -> Quota | None:
        """What may be used of a feature; null when no active subscription, override or add-on grants it."""
        now_us = info.context.now_us
        answer = await info.context.ask(lambda conn: quotas.quota(conn, self.noun, feature, now_us))
        return None if answer is None else Quota.of(answer, self.noun)

    @strawberry.field
    async def quotas(self, info: Info) -> list[Quota]:
        """The same of every feature that is granted."""
        now_us = info.context.now_us
        found = await info.context.ask(lambda conn: quotas.quotas(conn, self.noun, now_us))
        return [Quota.of(each, self.noun) for each in found]

    @strawberry.field
    async def add_ons(self, info: Info) -> list[AddOn]:
        """What was granted on top of plans and has not ended, in the order in which it comes into force."""
        return [AddOn.of(each) for each in (await self._given(info)).add_ons]

    @strawberry.field
    async def entitlement_overrides(self, info: Info) -> list[EntitlementOverride]:
        """What was set for this customer in place of what plans say, by feature; also what has ended or is yet to come."""
        return [EntitlementOverride.of(each) for each in (await self._given(info)).overrides]

    async def _given(self, info: Info) -> Given:
        now_us = info.context.now_us
        return (await info.context.ask(lambda conn: given(conn, [self.noun.key], now_us)))[self.noun.key]

    @strawberry.field
    async def credits(
        self,
        info: Info,
        at: Instant | None = None,
        unit: CreditUnit = CreditUnit.MONEY,
        feature: strawberry.ID | None = None,
    ) -> CreditBalance:
        """What the credits in money, or in a feature's units, stand at. Default: now."""
        of = Denomination.read(unit, feature)
        is_limit = self.noun.prepaid and of == MONEY
        found = await balance_of(info, self.noun, of, at)
        return CreditBalance.of(found, limit_id(self.noun.key, CREDITS) if is_limit else None)

    @strawberry.field
    async def top_ups(self, info: Info) -> list[TopUp]:
        """The rules that buy credits when they run low."""
        return [TopUp.of(each) for each in await info.context.ask(lambda conn: top_ups.of_customer(conn, self.key))]

    @strawberry.field
    async def budgets(self, info: Info) -> list[Budget]:
        """The caps on what is spent, by key, and what is spent of each now."""
        return await budgets_of(info, self.noun)

    @strawberry.field
    async def alerts(self, info: Info, first: int | None = DEFAULT_ALERTS) -> list[Alert]:
        """What was said of its budgets and quotas, newest first."""
        return await alerts_of(info, self.noun, first)

    @strawberry.field
    async def usage(  # noqa: PLR0917 -- the contract's arguments
        self,
        info: Info,
        meter: strawberry.ID,
        from_: From,
        to: Instant,
        window: Window | None = None,
        group_by: list[str] | None = None,
    ) -> list[UsageRow]:
        """A meter's quantity of this customer over [from, to), with windows in the customer's time zone."""
        return await usage_rows(
            info,
            meter,
            (from_, to),
            customer=self.noun,
            window=window,
            time_zone=self.time_zone,
            group_by=group_by or (),
        )


async def cost_now(
    conn: AsyncConnection,
    customer: customers.Customer,
    now_us: int,
    from_us: int | None = None,
    to_us: int | None = None,
) -> Cost:
    """What the customer owes, as `pricing.cost.cost` says, less what credits pay of it."""
    found = await cost.cost(conn, customer, now_us, from_us, to_us)
    between = owed_between(conn, customer, now_us, found)
    return Cost.of(found, await credited(conn, customer, found.from_us, found.to_us, now_us, between))


async def customer_of(info: Info, key: str) -> customers.Customer:
    """The customer of that key; NotFound when there is none."""
    found = await info.context.loaders.one_customer(key)
    if found is None:
        raise NotFound("customer", key)
    return found
