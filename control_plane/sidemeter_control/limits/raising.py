"""Raising alerts: each once, whoever finds it and however often; with it, in one transaction, what is sent to webhooks.

Whoever finds something raises it here: `alerting` looks at what is used, `denying` hears what agents refused, `doubting` looks
for leases that nobody speaks for.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.limits.alerts import MAX_ALERTS, Alert, Finding
from sidemeter_control.limits.webhooks import body_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import alerts, changes, webhooks
from sidemeter_control.store.database import Database

__all__ = ["raise_alerts", "raise_all"]


async def raise_all(
    database: Database, clock: Clock, found: Sequence[tuple[Customer, Sequence[Finding]]]
) -> list[Alert]:
    """Raise what was found of customers, in one transaction; answers the alerts that are new. None for nothing found."""
    if not found:
        return []
    async with database.write() as conn:
        return [alert for customer, findings in found for alert in await raise_alerts(conn, clock, customer, findings)]


async def raise_alerts(
    conn: AsyncConnection, clock: Clock, customer: Customer, findings: Iterable[Finding], *, keep: int = MAX_ALERTS
) -> list[Alert]:
    """Raise in this transaction what was not raised before; answers the alerts that are new. The newest `keep` stay."""
    raised = []
    for finding in findings:
        text, at_us = finding.text(customer.language), clock.now_us()
        alert = await alerts.add(conn, clock.new_id("alert"), customer.key, finding, text=text, at_us=at_us)
        if alert is not None:
            raised.append(alert)
    if raised:
        changes.note(conn, alerted=[customer.key])
        await _send(conn, clock, raised)
        await alerts.forget(conn, customer.key, keep)
    return raised


async def _send(conn: AsyncConnection, clock: Clock, raised: Sequence[Alert]) -> None:
    """Write down what is to be sent, so that an alert is never there without it."""
    for webhook in await webhooks.list_all(conn):
        for alert in raised:
            if webhook.wants(alert.kind):
                await webhooks.add_delivery(
                    conn,
                    delivery_id=clock.new_id("delivery"),
                    webhook_id=webhook.id,
                    message_id=clock.new_id("msg"),
                    alert_id=alert.id,
                    body=body_of(alert),
                    now_us=alert.at_us,
                )
