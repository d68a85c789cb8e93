"""Subscriptions."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.definitions import charges_text, read_charges_text
from sidemeter_control.pricing.subscriptions import Subscription
from sidemeter_control.store.tables import subscriptions

__all__ = ["add", "of_customers", "subscribers"]


async def add(conn: AsyncConnection, subscription: Subscription) -> None:
    """Write a new subscription; the caller has seen that its customer and plan version exist."""
    await conn.execute(
        insert(subscriptions).values(
            id=subscription.id,
            customer_key=subscription.customer_key,
            plan_key=subscription.plan_key,
            plan_version=subscription.plan_version,
            start_at_us=subscription.start_at_us,
            end_at_us=subscription.end_at_us,
            anchor_at_us=subscription.anchor_us,
            trial_end_us=subscription.trial_end_us,
            overrides=charges_text(subscription.overrides) if subscription.overrides else None,
            created_at_us=subscription.created_at_us,
        )
    )


async def of_customers(conn: AsyncConnection, keys: Iterable[str]) -> dict[str, list[Subscription]]:
    """Every subscription of those customers, the oldest first; a customer without any is absent."""
    wanted = (
        select(subscriptions)
        .where(subscriptions.c.customer_key.in_(list(keys)))
        .order_by(subscriptions.c.start_at_us, subscriptions.c.id)
    )
    found: dict[str, list[Subscription]] = {}
    for row in await conn.execute(wanted):
        found.setdefault(row.customer_key, []).append(_subscription(row))
    return found


async def subscribers(conn: AsyncConnection, plan_key: str, from_us: int, to_us: int, limit: int) -> list[str]:
    """The keys, in order, of at most `limit` customers on any version of the plan at an instant of `[from_us, to_us)`."""
    ends = subscriptions.c.end_at_us
    wanted = (
        select(subscriptions.c.customer_key)
        .where(subscriptions.c.plan_key == plan_key, subscriptions.c.start_at_us < to_us)
        .where(ends.is_(None) | (ends > from_us))
        .distinct()
        .order_by(subscriptions.c.customer_key)
        .limit(limit)
    )
    return [row.customer_key for row in await conn.execute(wanted)]


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        row.id,
        row.customer_key,
        row.plan_key,
        row.plan_version,
        row.start_at_us,
        row.end_at_us,
        row.anchor_at_us,
        row.trial_end_us,
        read_charges_text(row.overrides) if row.overrides else (),
        row.created_at_us,
    )
