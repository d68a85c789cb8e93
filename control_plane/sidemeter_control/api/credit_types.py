"""Credits, as GraphQL takes and shows them: grants, what they stand at, and who paid what."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.pricing_types import Feature, feature_of
from sidemeter_control.api.scalars import Instant, instant
from sidemeter_control.errors import NotFound
from sidemeter_control.pricing.credits import balances, grants
from sidemeter_control.pricing.credits.grants import CreditUnit, Denomination
from sidemeter_control.pricing.credits.instants import Allocation
from sidemeter_control.pricing.credits.owed import owed_between
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval, check_instant

__all__ = [
    "CreditAllocation",
    "CreditBalance",
    "CreditGrant",
    "TopUp",
    "balance_of",
    "standing",
]


@strawberry.type
class TopUp:
    """A rule that buys credits each time the balance falls below a threshold."""

    unit: CreditUnit
    below: Decimal
    amount: Decimal
    max_per_period: int
    feature_key: strawberry.Private[str | None]

    @classmethod
    def of(cls, rule: grants.TopUp) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            unit=rule.denomination.unit,
            below=rule.below,
            amount=rule.amount,
            max_per_period=rule.max_per_period,
            feature_key=rule.denomination.feature,
        )

    @strawberry.field
    async def feature(self, info: Info) -> Feature | None:
        """Whose units it buys; null for MONEY."""
        return None if self.feature_key is None else await feature_of(info, self.feature_key)


@strawberry.type
class CreditGrant:
    """An amount that pays for use while it is active: from effectiveAt until it expires or is voided."""

    id: strawberry.ID
    unit: CreditUnit
    amount: Decimal
    balance: Decimal = strawberry.field(description="What it has left, at the instant that was asked for.")
    burned: Decimal = strawberry.field(description="What it has paid by then.")
    priority: int | None
    effective_at: Instant
    expires_at: Instant | None
    voided_at: Instant | None
    purchased: bool
    automatic: bool = strawberry.field(description="A top-up rule made it.")
    recurrence: Interval | None
    rollover_max: Decimal
    rollover_min: Decimal
    charges: list[strawberry.ID] | None
    feature_key: strawberry.Private[str | None]

    @classmethod
    def of(cls, held: balances.Holding) -> Self:
        """The noun in its GraphQL form."""
        grant = held.grant
        return cls(
            id=strawberry.ID(grant.id),
            unit=grant.denomination.unit,
            amount=grant.amount,
            balance=held.balance,
            burned=held.burned,
            priority=grant.priority,
            effective_at=Instant(grant.effective_at_us),
            expires_at=instant(grant.expires_at_us),
            voided_at=instant(grant.voided_at_us),
            purchased=grant.purchased,
            automatic=grant.automatic,
            recurrence=grant.recurrence,
            rollover_max=grant.rollover_max,
            rollover_min=grant.rollover_min,
            charges=None if grant.charges is None else [strawberry.ID(key) for key in grant.charges],
            feature_key=grant.denomination.feature,
        )

    @strawberry.field
    async def feature(self, info: Info) -> Feature | None:
        """Whose units it is in; null for MONEY."""
        return None if self.feature_key is None else await feature_of(info, self.feature_key)


@strawberry.type
class CreditAllocation:
    """What one grant paid of what was used in [from, to). Overage that was carried is paid at an instant."""

    grant: strawberry.ID
    from_: Instant = strawberry.field(name="from")
    to: Instant
    charge: strawberry.ID | None
    amount: Decimal

    @classmethod
    def of(cls, paid: Allocation) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            grant=strawberry.ID(paid.grant),
            from_=Instant(paid.from_us),
            to=Instant(paid.to_us),
            charge=strawberry.ID(min(paid.scope)) if paid.scope else None,
            amount=paid.amount,
        )


@strawberry.type
class CreditBalance:
    """What a customer's credits stand at. Use of the instant itself is not counted yet."""

    at: Instant
    balance: Decimal
    overage: Decimal = strawberry.field(description="Theirs to pay, and paid by no grant: the next one pays it.")
    used: Decimal = strawberry.field(
        description="Theirs to pay since the billing period began: of a feature's units, what nothing else allowed."
    )
    grants: list[CreditGrant] = strawberry.field(description="Every grant, the one that pays first in front.")
    allocations: list[CreditAllocation] = strawberry.field(
        description="Who paid what, in order, since the billing period began."
    )
    limit_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="Of a prepaid customer's MONEY: what agents call the limit that it is, and `limit` shows.",
    )

    @classmethod
    def of(cls, found: balances.CreditBalance, limit_id: str | None = None) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            at=Instant(found.at_us),
            balance=found.balance,
            overage=found.overage,
            used=found.used,
            grants=[CreditGrant.of(each) for each in found.holdings],
            allocations=[CreditAllocation.of(each) for each in found.allocations],
            limit_id=None if limit_id is None else strawberry.ID(limit_id),
        )


async def balance_of(info: Info, customer: Customer, of: Denomination, at_us: int | None) -> balances.CreditBalance:
    """What the customer's credits stand at, by default now; NotFound when there is no such feature."""
    if of.feature is not None and await info.context.loaders.feature.load(of.feature) is None:
        raise NotFound("feature", of.feature)
    now_us = info.context.now_us
    asked_us = now_us if at_us is None else at_us
    check_instant("at", asked_us)
    return await info.context.ask(
        lambda conn: balances.balance(conn, customer, of, asked_us, owed_between(conn, customer, now_us))
    )


async def standing(info: Info, customer: Customer, grant: grants.CreditGrant) -> CreditGrant:
    """A grant, with what it has left now."""
    found = await balance_of(info, customer, grant.denomination, None)
    return CreditGrant.of(next(each for each in found.holdings if each.grant.id == grant.id))
