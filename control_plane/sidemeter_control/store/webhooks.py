"""Webhooks, and what is on its way to them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.alerts import AlertKind
from sidemeter_control.limits.webhooks import Delivery, DeliveryState, Webhook
from sidemeter_control.store.tables import webhook_deliveries, webhooks

__all__ = [
    "add_delivery",
    "count",
    "delivery",
    "disable",
    "forget",
    "get",
    "give_up",
    "list_all",
    "of_url",
    "page",
    "pending",
    "put",
    "remove",
    "set_outcome",
    "waiting",
]

_kinds = msgspec.json.Decoder(tuple[AlertKind, ...]).decode


async def put(conn: AsyncConnection, webhook: Webhook) -> None:
    """Write a webhook, new or in place of the one of its id."""
    await remove(conn, webhook.id)
    kinds = None if webhook.kinds is None else msgspec.json.encode(webhook.kinds).decode()
    await conn.execute(insert(webhooks).values(asdict(webhook) | {"kinds": kinds}))


async def disable(conn: AsyncConnection, webhook_id: str, now_us: int) -> bool:
    """Send nothing more there until it is enabled again; False when that is so already, or there is none of that id."""
    enabled = webhooks.c.id == webhook_id, webhooks.c.disabled_at_us.is_(None)
    return bool((await conn.execute(update(webhooks).where(*enabled).values(disabled_at_us=now_us))).rowcount)


async def remove(conn: AsyncConnection, webhook_id: str) -> bool:
    """Forget a webhook with its secret; False when there was none of that id."""
    return bool((await conn.execute(delete(webhooks).where(webhooks.c.id == webhook_id))).rowcount)


async def get(conn: AsyncConnection, webhook_id: str) -> Webhook | None:
    """The webhook of that id."""
    row = (await conn.execute(select(webhooks).where(webhooks.c.id == webhook_id))).one_or_none()
    return None if row is None else _webhook(row)


async def of_url(conn: AsyncConnection, url: str) -> Webhook | None:
    """The webhook of that URL."""
    row = (await conn.execute(select(webhooks).where(webhooks.c.url == url))).one_or_none()
    return None if row is None else _webhook(row)


async def list_all(conn: AsyncConnection) -> list[Webhook]:
    """Every webhook, the oldest first."""
    wanted = select(webhooks).order_by(webhooks.c.created_at_us, webhooks.c.id)
    return [_webhook(row) for row in await conn.execute(wanted)]


async def count(conn: AsyncConnection) -> int:
    """How many webhooks there are."""
    return (await conn.execute(select(func.count()).select_from(webhooks))).scalar_one()


async def add_delivery(
    conn: AsyncConnection, *, delivery_id: str, webhook_id: str, message_id: str, alert_id: str, body: str, now_us: int
) -> None:
    """Write what is to be sent."""
    await conn.execute(
        insert(webhook_deliveries).values(
            id=delivery_id,
            webhook_id=webhook_id,
            message_id=message_id,
            alert_id=alert_id,
            body=body,
            state=DeliveryState.PENDING.value,
            attempts=0,
            created_at_us=now_us,
        )
    )


async def delivery(conn: AsyncConnection, delivery_id: str) -> Delivery | None:
    """The delivery of that id."""
    wanted = select(webhook_deliveries).where(webhook_deliveries.c.id == delivery_id)
    row = (await conn.execute(wanted)).one_or_none()
    return None if row is None else _delivery(row)


async def waiting(conn: AsyncConnection, after: int, limit: int) -> list[tuple[int, str]]:
    """At most `limit` deliveries that are to be sent, by their number, from the one after `after` on: number, webhook."""
    table = webhook_deliveries.c
    wanted = select(table.seq, table.webhook_id).where(table.state == DeliveryState.PENDING.value, table.seq > after)
    return [(row.seq, row.webhook_id) for row in await conn.execute(wanted.order_by(table.seq).limit(limit))]


async def pending(conn: AsyncConnection, seqs: Iterable[int]) -> list[Delivery]:
    """Those of the deliveries that are still to be sent, in order."""
    table = webhook_deliveries.c
    wanted = select(webhook_deliveries).where(table.seq.in_(list(seqs)), table.state == DeliveryState.PENDING.value)
    return [_delivery(row) for row in await conn.execute(wanted.order_by(table.seq))]


async def set_outcome(conn: AsyncConnection, after: Delivery) -> None:
    """Write what became of an attempt; nothing where the delivery was given up meanwhile."""
    table = webhook_deliveries.c
    changed = update(webhook_deliveries).where(table.seq == after.seq, table.state == DeliveryState.PENDING.value)
    await conn.execute(
        changed.values(
            state=after.state.value,
            attempts=after.attempts,
            last_status=after.last_status,
            last_error=after.last_error,
            ended_at_us=after.ended_at_us,
        )
    )


async def give_up(conn: AsyncConnection, webhook_id: str, reason: str, now_us: int) -> None:
    """Send nothing more to a webhook."""
    table = webhook_deliveries.c
    own = update(webhook_deliveries).where(table.webhook_id == webhook_id, table.state == DeliveryState.PENDING.value)
    await conn.execute(own.values(state=DeliveryState.FAILED.value, last_error=reason, ended_at_us=now_us))


async def page(
    conn: AsyncConnection, limit: int, *, before: int | None = None, state: DeliveryState | None = None
) -> Sequence[Delivery]:
    """At most `limit` deliveries, newest first; `before`: those with a lower number."""
    wanted = select(webhook_deliveries).order_by(webhook_deliveries.c.seq.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(webhook_deliveries.c.seq < before)
    if state is not None:
        wanted = wanted.where(webhook_deliveries.c.state == state.value)
    return [_delivery(row) for row in await conn.execute(wanted)]


async def forget(conn: AsyncConnection, keep: int, limit: int) -> int:
    """Delete at most `limit` deliveries that have ended and are older than the newest `keep`; how many there were."""
    table = webhook_deliveries.c
    newest = select(func.max(table.seq)).scalar_subquery()
    old = select(table.seq).where(table.seq <= newest - keep, table.state != DeliveryState.PENDING.value)
    some = old.order_by(table.seq).limit(limit)
    return (await conn.execute(delete(webhook_deliveries).where(table.seq.in_(some)))).rowcount


def _webhook(row: Row[Any]) -> Webhook:
    kinds = None if row.kinds is None else _kinds(row.kinds)
    return Webhook(**{**row._mapping, "kinds": kinds})  # noqa: SLF001 -- a row's public name for it


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})  # noqa: SLF001 -- a row's public name for it
