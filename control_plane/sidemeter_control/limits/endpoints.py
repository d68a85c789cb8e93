"""Saying where alerts are sent, with which secret, and sending one again."""

import base64
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.limits.alerts import AlertKind
from sidemeter_control.limits.webhooks import MAX_WEBHOOKS, Delivery, Webhook, check_secret, check_url, secret_of
from sidemeter_control.store import audit, webhooks
from sidemeter_control.store.database import Database

__all__ = ["enable_webhook", "redeliver", "remove_webhook", "rotate_secret", "set_webhook"]


async def set_webhook(
    database: Database,
    clock: Clock,
    url: str,
    kinds: tuple[AlertKind, ...] | None,
    secret: str | None = None,
    *,
    private: bool = False,
    by: str = audit.OPERATOR,
) -> tuple[Webhook, str | None]:
    """Send alerts of those kinds (None: of every kind) to a URL, new or in place of what was set for it, also if that was
    disabled.

    Answers the secret where it is new: the one that was given, or one that is made for a new webhook. The one before it
    signs as well for a day. InvalidInput names what is wrong, Conflict says that there are as many webhooks as there may be.
    """
    check_url(url, private=private)
    if secret is not None:
        check_secret(secret)
    async with database.write() as conn:
        before = await webhooks.of_url(conn, url)
        if before is None and await webhooks.count(conn) >= MAX_WEBHOOKS:
            raise Conflict(f"there are {MAX_WEBHOOKS} webhooks, and no more are allowed")
        now_us = clock.now_us()
        if before is None:
            secret = secret or _new_secret(clock)
            webhook = Webhook(clock.new_id("webhook"), url, kinds, now_us, secret)
        else:
            changed = before if secret is None else before.with_secret(secret, now_us)
            webhook = replace(changed, kinds=kinds, disabled_at_us=None)
        await webhooks.put(conn, webhook)
        detail = {"url": url, "events": kinds, "newSecret": secret is not None}
        was = None if before is None else {"events": before.kinds}
        await audit.add(conn, now_us, by, "setWebhook", f"webhook {webhook.id}", **detail, before=was)
    return webhook, secret


async def rotate_secret(
    database: Database, clock: Clock, webhook_id: str, *, by: str = audit.OPERATOR
) -> tuple[Webhook, str]:
    """Sign with a secret that is made now, and for a day with the one before it as well; answers the new one.

    NotFound when there is no webhook of that id.
    """
    secret = _new_secret(clock)
    async with database.write() as conn:
        before, now_us = await _known(conn, webhook_id), clock.now_us()
        webhook = before.with_secret(secret, now_us)
        await webhooks.put(conn, webhook)
        await audit.add(conn, now_us, by, "rotateWebhookSecret", f"webhook {webhook_id}")
    return webhook, secret


async def enable_webhook(database: Database, clock: Clock, webhook_id: str, *, by: str = audit.OPERATOR) -> Webhook:
    """Send alerts there again, from the next one on; what was given up stays so until `redeliver`.

    NotFound when there is no webhook of that id.
    """
    async with database.write() as conn:
        before = await _known(conn, webhook_id)
        if before.disabled_at_us is None:
            return before
        webhook = replace(before, disabled_at_us=None)
        await webhooks.put(conn, webhook)
        await audit.add(conn, clock.now_us(), by, "enableWebhook", f"webhook {webhook_id}")
    return webhook


async def _known(conn: AsyncConnection, webhook_id: str) -> Webhook:
    found = await webhooks.get(conn, webhook_id)
    if found is None:
        raise NotFound("webhook", webhook_id)
    return found


async def remove_webhook(database: Database, clock: Clock, webhook_id: str, *, by: str = audit.OPERATOR) -> bool:
    """Send nothing there any more, also of what is on its way; False when there is none of that id."""
    async with database.write() as conn:
        before = await webhooks.get(conn, webhook_id)
        if before is None:
            return False
        await webhooks.remove(conn, webhook_id)
        now_us = clock.now_us()
        await webhooks.give_up(conn, webhook_id, "the webhook was removed", now_us)
        said = {"url": before.url, "events": before.kinds}
        await audit.add(conn, now_us, by, "removeWebhook", f"webhook {webhook_id}", before=said)
    return True


async def redeliver(database: Database, clock: Clock, delivery_id: str, *, by: str = audit.OPERATOR) -> Delivery:
    """Send a message once more, whatever became of it: as a delivery of its own, under the same webhook-id.

    NotFound when there is no such delivery, Conflict when its webhook was removed, or is disabled.
    """
    async with database.write() as conn:
        found = await webhooks.delivery(conn, delivery_id)
        if found is None:
            raise NotFound("delivery", delivery_id)
        webhook = await webhooks.get(conn, found.webhook_id)
        if webhook is None:
            raise Conflict(f"the webhook of delivery {delivery_id!r} was removed")
        if webhook.disabled_at_us is not None:
            raise Conflict(f"the webhook of delivery {delivery_id!r} is disabled: enableWebhook, and deliver it then")
        again, now_us = clock.new_id("delivery"), clock.now_us()
        await webhooks.add_delivery(
            conn,
            delivery_id=again,
            webhook_id=found.webhook_id,
            message_id=found.message_id,
            alert_id=found.alert_id,
            body=found.body,
            now_us=now_us,
        )
        await audit.add(conn, now_us, by, "redeliver", f"delivery {again}", repeats=delivery_id)
        made = await webhooks.delivery(conn, again)
    if made is None:
        raise LookupError(f"delivery {again!r} was written and is not there")
    return made


def _new_secret(clock: Clock) -> str:
    random = clock.new_secret()
    return secret_of(base64.urlsafe_b64decode(random + "=" * (-len(random) % 4)))
