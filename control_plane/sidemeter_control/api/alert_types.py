"""Alerts, as GraphQL shows them."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.bounds import page_size
from sidemeter_control.api.context import Info
from sidemeter_control.api.scalars import Instant, instant
from sidemeter_control.limits import alerts
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import alerts as stored

__all__ = ["DEFAULT_ALERTS", "Alert", "alerts_of"]

DEFAULT_ALERTS = 20


@strawberry.type
class Alert:
    """What was said of a customer's budget or quota, once in a period, in words that the customer understands.

    kind: budget_threshold, quota_threshold, credits_threshold, overage_started, forecast_exceeds, limit_denied or lease_in_doubt.
    """

    id: strawberry.ID
    customer: strawberry.ID
    kind: str
    threshold: int | None = strawberry.field(description="How many percent were reached.")
    what: str = strawberry.field(description='Of what: "budget:" and its key, or "quota:" and the key of the feature.')
    used: Decimal = strawberry.field(description="What was used or spent when it was raised, of the amount.")
    amount: Decimal
    period_start: Instant | None = strawberry.field(description="Of the period it is about; null: it never resets.")
    at: Instant
    text: str

    @classmethod
    def of(cls, alert: alerts.Alert) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(alert.id),
            customer=strawberry.ID(alert.customer_key),
            kind=alert.kind.value,
            threshold=alert.threshold,
            what=alert.what,
            used=alert.used,
            amount=alert.amount,
            period_start=instant(alert.period_start_us),
            at=Instant(alert.at_us),
            text=alert.text,
        )


async def alerts_of(info: Info, customer: Customer, first: int | None) -> list[Alert]:
    """The newest alerts of a customer."""
    size = DEFAULT_ALERTS if first is None else page_size(first)
    return [Alert.of(each) for each in await info.context.ask(lambda conn: stored.page(conn, customer.key, size))]
