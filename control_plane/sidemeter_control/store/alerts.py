"""Alerts that were raised, each once, and how far events were looked at for them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.alerts import Alert, AlertKind, Finding, Said, is_news
from sidemeter_control.pricing.periods import EVER
from sidemeter_control.store.sql import Sql
from sidemeter_control.store.tables import alerts, state

__all__ = ["add", "after", "forget", "looked_at", "newest", "number_of", "page", "set_looked_at", "unraised"]

_ADD = Sql(
    "INSERT INTO alerts (id, customer_key, period_start_us, what, kind, threshold, terms, at_us, text, used, amount)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)


async def add(
    conn: AsyncConnection, alert_id: str, customer_key: str, finding: Finding, *, text: str, at_us: int
) -> Alert | None:
    """Raise an alert, unless the same was raised before: then None."""
    numbers = format(finding.used, "f"), format(finding.amount, "f")
    values = (alert_id, customer_key, *_identity(finding), at_us, text, *numbers)
    if not (await conn.exec_driver_sql(_ADD.of(conn), values)).rowcount:
        return None
    return _alert((await conn.execute(select(alerts).where(alerts.c.id == alert_id))).one())


async def unraised(conn: AsyncConnection, customer_key: str, findings: Iterable[Finding]) -> list[Finding]:
    """Those of the findings that are news after what was raised of the same; each once."""
    found = {_identity(each): each for each in findings}
    if not found:
        return []
    said = await _raised(conn, customer_key, {each.period_start_us for each in found.values()})
    return [each for each in found.values() if is_news(each, said.get((each.period_start_us, each.what), ()))]


async def page(conn: AsyncConnection, customer_key: str, limit: int) -> list[Alert]:
    """At most `limit` alerts of a customer, newest first."""
    wanted = select(alerts).where(alerts.c.customer_key == customer_key).order_by(alerts.c.seq.desc()).limit(limit)
    return [_alert(row) for row in await conn.execute(wanted)]


async def after(conn: AsyncConnection, customer_key: str | None, seq: int, limit: int) -> list[Alert]:
    """At most `limit` alerts of a customer, or of all, that were raised after the one of that number, the oldest first."""
    wanted = select(alerts).where(alerts.c.seq > seq).order_by(alerts.c.seq).limit(limit)
    if customer_key is not None:
        wanted = wanted.where(alerts.c.customer_key == customer_key)
    return [_alert(row) for row in await conn.execute(wanted)]


async def newest(conn: AsyncConnection) -> int:
    """The number of the alert that was raised last; 0 before the first."""
    return int(await conn.scalar(select(func.max(alerts.c.seq))) or 0)


async def number_of(conn: AsyncConnection, alert_id: str, customer_key: str | None) -> int | None:
    """The number of an alert of that customer, or of any; None when there is none of that id."""
    wanted = select(alerts.c.seq).where(alerts.c.id == alert_id)
    if customer_key is not None:
        wanted = wanted.where(alerts.c.customer_key == customer_key)
    found: int | None = await conn.scalar(wanted)
    return found


async def looked_at(conn: AsyncConnection) -> int:
    """The number of the last event that was looked at, with all before it."""
    return int((await conn.execute(select(state.c.alerts_seq))).scalar_one())


async def set_looked_at(conn: AsyncConnection, seq: int) -> None:
    """Say so of an event and all before it."""
    await conn.execute(update(state).values(alerts_seq=seq))


async def forget(conn: AsyncConnection, customer_key: str, keep: int) -> None:
    """Delete a customer's alerts but for the newest `keep`."""
    own = select(alerts.c.seq).where(alerts.c.customer_key == customer_key).order_by(alerts.c.seq.desc())
    newest_old = await conn.scalar(own.offset(keep).limit(1))
    if newest_old is not None:
        await conn.execute(delete(alerts).where(alerts.c.customer_key == customer_key, alerts.c.seq <= newest_old))


async def _raised(
    conn: AsyncConnection, customer_key: str, periods: Collection[int]
) -> Mapping[tuple[int, str], list[Said]]:
    """What was said of a customer in these periods, by period and thing."""
    wanted = select(alerts).where(alerts.c.customer_key == customer_key, alerts.c.period_start_us.in_(sorted(periods)))
    found: defaultdict[tuple[int, str], list[Said]] = defaultdict(list)
    for row in await conn.execute(wanted):
        said = Said(AlertKind(row.kind), row.threshold or None, row.terms, row.used, row.amount)
        found[row.period_start_us, row.what].append(said)
    return found


def _identity(finding: Finding) -> tuple[Any, ...]:
    return finding.period_start_us, finding.what, finding.kind.value, finding.threshold or 0, finding.terms


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        row.seq,
        row.id,
        row.customer_key,
        row.what,
        AlertKind(row.kind),
        row.threshold or None,
        row.at_us,
        row.text,
        row.used,
        row.amount,
        None if row.period_start_us == EVER.start_us else row.period_start_us,
    )
