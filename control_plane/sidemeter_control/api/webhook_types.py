"""Webhooks, as GraphQL takes and shows them. A secret is shown once, when it is new."""

from typing import Self

import strawberry

from sidemeter_control.api.scalars import Instant, instant
from sidemeter_control.limits import webhooks
from sidemeter_control.limits.webhooks import DeliveryState

__all__ = ["Webhook", "WebhookDelivery", "WebhookInput", "WebhookSecret"]

strawberry.enum(DeliveryState)


@strawberry.input
class WebhookInput:
    """Where to send alerts, in place of what was set for this URL."""

    url: str = strawberry.field(description="Over https, to an address of the Internet.")
    events: list[str] | None = strawberry.field(
        default=None, description="The kinds of alerts to send: budget_threshold, quota_threshold … Absent: all."
    )
    secret: str | None = strawberry.field(
        default=None,
        description='Signs each request: "whsec_" and 24 to 64 bytes in base64. Absent: one is made, or stays.'
        " The one before it signs as well for a day.",
    )


@strawberry.type
class Webhook:
    """Where alerts are sent, signed after Standard Webhooks (https://www.standardwebhooks.com)."""

    id: strawberry.ID
    url: str
    events: list[str] | None = strawberry.field(description="The kinds of alerts that are sent; null: all.")
    created_at: Instant
    disabled_at: Instant | None = strawberry.field(
        description="When its receiver answered 410 Gone: nothing is sent there until enableWebhook or setWebhook."
    )
    old_secret_until: Instant | None = strawberry.field(
        description="Until then each request has a second signature, by the secret before this one."
    )

    @classmethod
    def of(cls, webhook: webhooks.Webhook) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(webhook.id),
            url=webhook.url,
            events=None if webhook.kinds is None else [kind.value for kind in webhook.kinds],
            created_at=Instant(webhook.created_at_us),
            disabled_at=instant(webhook.disabled_at_us),
            old_secret_until=instant(webhook.old_secret_until_us),
        )


@strawberry.type
class WebhookSecret:
    """A webhook that was set, with its secret where that is new: it is not shown again, and kept because it signs."""

    webhook: Webhook
    secret: str | None


@strawberry.type
class WebhookDelivery:
    """One alert on its way to one webhook, and what became of it."""

    id: strawberry.ID
    webhook: strawberry.ID
    message: strawberry.ID = strawberry.field(description="The webhook-id, by which a receiver knows a repeat.")
    alert: strawberry.ID
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: Instant
    ended_at: Instant | None

    @classmethod
    def of(cls, delivery: webhooks.Delivery) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(delivery.id),
            webhook=strawberry.ID(delivery.webhook_id),
            message=strawberry.ID(delivery.message_id),
            alert=strawberry.ID(delivery.alert_id),
            state=delivery.state,
            attempts=delivery.attempts,
            last_status=delivery.last_status,
            last_error=delivery.last_error,
            created_at=Instant(delivery.created_at_us),
            ended_at=instant(delivery.ended_at_us),
        )
