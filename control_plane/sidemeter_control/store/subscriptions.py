"""Subscriptions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.definitions import charges_text, read_charges_text
from sidemeter_control.pricing.subscriptions import Pause, Subscription
from sidemeter_control.store.tables import subscriptions

__all__ = ["add", "change", "customers_of", "of_customers", "of_version", "set_closing", "subscribers", "to_close"]


async def add(conn: AsyncConnection, subscription: Subscription) -> None:
    """Write a new subscription; the caller has seen that its customer and plan version exist."""
    await conn.execute(
        insert(subscriptions).values(
            id=subscription.id,
            customer_key=subscription.customer_key,
            plan_key=subscription.plan_key,
            plan_version=subscription.plan_version,
            start_at_us=subscription.start_at_us,
            anchor_at_us=subscription.anchor_us,
            trial_end_us=subscription.trial_end_us,
            overrides=charges_text(subscription.overrides) if subscription.overrides else None,
            created_at_us=subscription.created_at_us,
            replaces=subscription.replaces,
            time_zone=subscription.time_zone,
            **_changeable(subscription),
        )
    )


async def change(conn: AsyncConnection, subscription: Subscription) -> None:
    """Write what can change of a subscription: its end and its pauses."""
    changed = update(subscriptions).where(subscriptions.c.customer_key == subscription.customer_key)
    await conn.execute(changed.where(subscriptions.c.id == subscription.id).values(**_changeable(subscription)))


def _changeable(subscription: Subscription) -> dict[str, Any]:
    """Where it ends or pauses, periods end: from its start on, it is to be seen which of them can be closed."""
    pauses = [(each.from_us, each.to_us) for each in subscription.pauses]
    return {
        "end_at_us": subscription.end_at_us,
        "pauses": msgspec.json.encode(pauses).decode() if pauses else None,
        "closes_at_us": subscription.start_at_us,
    }


async def customers_of(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, str]:
    """The customer (key) of each of those subscriptions that exist."""
    wanted = select(subscriptions.c.id, subscriptions.c.customer_key).where(subscriptions.c.id.in_(ids))
    return {row.id: row.customer_key for row in await conn.execute(wanted)}


async def of_version(
    conn: AsyncConnection, plan_key: str, version: int, at_us: int, limit: int
) -> list[tuple[str, str]]:
    """At most `limit` subscriptions (customer key, id) to a version that have not ended by `at_us`, by customer.

    One that ends later, or is called off, is left out: it has its successor or its end already.
    """
    wanted = (
        select(subscriptions.c.customer_key, subscriptions.c.id)
        .where(
            subscriptions.c.plan_key == plan_key,
            subscriptions.c.plan_version == version,
            subscriptions.c.start_at_us <= at_us,
            subscriptions.c.end_at_us.is_(None),
        )
        .order_by(subscriptions.c.customer_key, subscriptions.c.id)
        .limit(limit)
    )
    return [(row.customer_key, row.id) for row in await conn.execute(wanted)]


async def to_close(conn: AsyncConnection, until_us: int, limit: int) -> list[str]:
    """At most `limit` customers (keys) with billing periods that may have ended by then, the longest ago first."""
    closes = subscriptions.c.closes_at_us
    wanted = (
        select(subscriptions.c.customer_key)
        .where(closes <= until_us)
        .group_by(subscriptions.c.customer_key)
        .order_by(func.min(closes))
        .limit(limit)
    )
    return [row.customer_key for row in await conn.execute(wanted)]


async def set_closing(conn: AsyncConnection, closes_at_us: Mapping[str, int | None]) -> None:
    """Say when the next billing period of each of those subscriptions (by id) ends; None: all are closed."""
    for subscription_id, at_us in closes_at_us.items():
        changed = update(subscriptions).where(subscriptions.c.id == subscription_id)
        await conn.execute(changed.values(closes_at_us=at_us))


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
        row.replaces,
        tuple(Pause(*each) for each in msgspec.json.decode(row.pauses)) if row.pauses else (),
        row.time_zone,
    )
