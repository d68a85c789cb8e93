"""Raising alerts: each once, whoever finds it and however often.

The rules of leases raise theirs here, too: that an agent refused something, that a lease is in doubt.
"""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.limits.alerts import Alert, Finding
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import alerts

__all__ = ["raise_alerts"]


async def raise_alerts(
    conn: AsyncConnection, clock: Clock, customer: Customer, findings: Iterable[Finding]
) -> list[Alert]:
    """Raise in this transaction what was not raised before; answers the alerts that are new."""
    raised = []
    for finding in findings:
        text, at_us = finding.text(customer.language), clock.now_us()
        alert = await alerts.add(conn, clock.new_id("alert"), customer.key, finding, text=text, at_us=at_us)
        if alert is not None:
            raised.append(alert)
    return raised
