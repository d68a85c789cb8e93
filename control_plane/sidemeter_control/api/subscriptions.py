"""Every subscription of the contract, under a key with the scope READ: what is there now, and again when it changes."""

from collections.abc import AsyncIterator
from typing import cast

import strawberry

from sidemeter_control.api.alert_types import Alert
from sidemeter_control.api.context import Info
from sidemeter_control.api.customer_types import Cost, Quota, customer_of
from sidemeter_control.api.live import topics
from sidemeter_control.errors import NotFound
from sidemeter_control.store import alerts

__all__ = ["Subscription"]


@strawberry.type
class Subscription:
    """Answers that go on: over a WebSocket (graphql-transport-ws), or as server-sent events."""

    @strawberry.subscription
    async def cost_changed(self, info: Info, customer: strawberry.ID) -> AsyncIterator[Cost]:
        """What the customer owes for its current billing period: now, and again whenever it changes, at most 4 times a second.

        Who connects again misses nothing: the first message is the state by then.
        """
        return cast("AsyncIterator[Cost]", topics.costs(info.context.hub, await customer_of(info, customer)))

    @strawberry.subscription
    async def quota_changed(self, info: Info, customer: strawberry.ID, feature: strawberry.ID) -> AsyncIterator[Quota]:
        """What it may use of a feature: now, and again whenever it changes, at most 4 times a second.

        NOT_FOUND, at first or later, when no active subscription, override or add-on grants the feature.
        """
        of = await customer_of(info, customer)
        return cast("AsyncIterator[Quota]", topics.quota_of(info.context.hub, of, feature))

    @strawberry.subscription
    async def alert_raised(
        self, info: Info, customer: strawberry.ID | None = None, after: strawberry.ID | None = None
    ) -> AsyncIterator[Alert]:
        """Each alert of the customer, or of any, once it is raised.

        after: the id of the alert that was seen last; those raised since come first, so that who connects again misses none.
        """
        if customer is not None:
            await customer_of(info, customer)
        seen = await info.context.ask(
            alerts.newest if after is None else lambda conn: alerts.number_of(conn, after, customer)
        )
        if seen is None:
            raise NotFound("alert", after or "")
        return topics.raised(info.context.hub, customer, seen)
