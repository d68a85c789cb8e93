"""Credits as somebody asks for them. Nothing is checked here but the form: the domain names what is wrong."""

from decimal import Decimal

import strawberry

from sidemeter_control.api.scalars import Instant
from sidemeter_control.pricing.credits.grants import CreditReset, CreditUnit, Denomination, GrantSpec, TopUp
from sidemeter_control.pricing.periods import Interval

__all__ = ["CreditGrantInput", "CreditResetInput", "TopUpInput"]

strawberry.enum(CreditUnit)


@strawberry.input
class CreditGrantInput:
    """Credits to give. An idempotency key that was used before answers the grant that was made under it."""

    customer: strawberry.ID
    unit: CreditUnit = CreditUnit.MONEY
    feature: strawberry.ID | None = None
    amount: Decimal
    priority: int | None = strawberry.field(default=None, description="The smallest pays first, absent last.")
    effective_at: Instant | None = None
    expires_at: Instant | None = None
    purchased: bool | None = False
    recurrence: Interval | None = strawberry.field(
        default=None, description="How often the balance is set back to the amount."
    )
    recurrence_anchor: Instant | None = strawberry.field(
        default=None, description="An instant at which it recurs. Default: effectiveAt."
    )
    rollover_max: Decimal | None = strawberry.field(
        default=None,
        description="The most that a billing period's end leaves. Default: all of MONEY and of what was purchased, "
        "nothing of other units.",
    )
    rollover_min: Decimal | None = None
    charges: list[strawberry.ID] | None = strawberry.field(
        default=None, description="The charges it may pay. Default: whatever is owed."
    )
    idempotency_key: str | None = None

    def spec(self) -> GrantSpec:
        """What is written, for the domain to check."""
        return GrantSpec(
            customer=self.customer,
            amount=self.amount,
            denomination=Denomination.read(self.unit, self.feature),
            priority=self.priority,
            effective_at_us=self.effective_at,
            expires_at_us=self.expires_at,
            purchased=bool(self.purchased),
            recurrence=self.recurrence,
            anchor_us=self.recurrence_anchor,
            rollover_max=self.rollover_max,
            rollover_min=self.rollover_min,
            charges=None if self.charges is None else tuple(self.charges),
            idempotency_key=self.idempotency_key,
        )


@strawberry.input
class CreditResetInput:
    """A reset of a customer's credits, as a billing period's end is one. By default now."""

    customer: strawberry.ID
    unit: CreditUnit = CreditUnit.MONEY
    feature: strawberry.ID | None = None
    at: Instant | None = None
    preserve_overage: bool | None = strawberry.field(
        default=False, description="Take the overage from what rolls over instead of dropping it."
    )

    def reset(self, now_us: int) -> CreditReset:
        """The noun."""
        at_us = now_us if self.at is None else self.at
        return CreditReset(
            self.customer, Denomination.read(self.unit, self.feature), at_us, bool(self.preserve_overage)
        )


@strawberry.input
class TopUpInput:
    """Buy credits of an amount each time the balance falls below a threshold."""

    customer: strawberry.ID
    unit: CreditUnit = CreditUnit.MONEY
    feature: strawberry.ID | None = None
    below: Decimal
    amount: Decimal
    max_per_period: int | None = strawberry.field(
        default=10, description="So many times in one billing period, or calendar month, at most."
    )

    def rule(self, now_us: int) -> TopUp:
        """The noun, for the domain to check."""
        return TopUp(
            self.customer,
            Denomination.read(self.unit, self.feature),
            self.below,
            self.amount,
            10 if self.max_per_period is None else self.max_per_period,
            now_us,
        )
