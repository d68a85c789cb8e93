"""Closed billing periods: written once, but for what is billed of them later."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.closed import Billed, ClosedPeriod, FrozenLine
from sidemeter_control.pricing.periods import Period
from sidemeter_control.store.tables import closed_periods, events

__all__ = ["add", "closed_until", "ending_after", "last_event", "meeting", "set_billed"]

_lines = msgspec.json.Decoder(tuple[FrozenLine, ...]).decode
_billed = msgspec.json.Decoder(dict[str, Billed]).decode


async def add(conn: AsyncConnection, closed: ClosedPeriod) -> None:
    """Write a period that is closed in this transaction."""
    await conn.execute(
        insert(closed_periods).values(
            subscription_id=closed.subscription_id,
            start_us=closed.period.start_us,
            end_us=closed.period.end_us,
            customer_key=closed.customer_key,
            closed_at_us=closed.closed_at_us,
            last_seq=closed.last_seq,
            total=closed.total,
            lines=_text(closed.lines),
            billed=_text(closed.billed),
        )
    )


async def set_billed(conn: AsyncConnection, closed: ClosedPeriod, billed: Mapping[str, Billed]) -> None:
    """Say what is billed of a closed period by now."""
    changed = update(closed_periods).where(
        closed_periods.c.customer_key == closed.customer_key,
        closed_periods.c.subscription_id == closed.subscription_id,
        closed_periods.c.start_us == closed.period.start_us,
    )
    await conn.execute(changed.values(billed=_text(billed)))


async def meeting(conn: AsyncConnection, customer_key: str, asked: Period) -> list[ClosedPeriod]:
    """The customer's closed periods that share an instant with `asked`, the earliest end first."""
    wanted = _of(customer_key).where(closed_periods.c.end_us > asked.start_us, closed_periods.c.start_us < asked.end_us)
    return [_closed(row) for row in await conn.execute(wanted)]


async def ending_after(conn: AsyncConnection, customer_key: str, at_us: int) -> list[ClosedPeriod]:
    """The customer's closed periods that end after an instant, the earliest end first."""
    wanted = _of(customer_key).where(closed_periods.c.end_us > at_us)
    return [_closed(row) for row in await conn.execute(wanted)]


async def closed_until(conn: AsyncConnection, customer_key: str) -> dict[str, int]:
    """How far each subscription (id) of the customer is closed; one of which nothing is closed is absent."""
    found = await conn.execute(
        select(closed_periods.c.subscription_id, func.max(closed_periods.c.end_us))
        .where(closed_periods.c.customer_key == customer_key)
        .group_by(closed_periods.c.subscription_id)
    )
    return {subscription_id: end_us for subscription_id, end_us in found}  # noqa: C416 -- rows are not pairs to mypy


async def last_event(conn: AsyncConnection) -> int:
    """The number of the event that was counted last; 0 before the first."""
    return await conn.scalar(select(func.max(events.c.seq))) or 0


def _of(customer_key: str) -> Select[Any]:
    order = (closed_periods.c.end_us, closed_periods.c.subscription_id)
    return select(closed_periods).where(closed_periods.c.customer_key == customer_key).order_by(*order)


def _closed(row: Row[Any]) -> ClosedPeriod:
    return ClosedPeriod(
        row.subscription_id,
        row.customer_key,
        Period(row.start_us, row.end_us),
        row.closed_at_us,
        row.last_seq,
        row.total,
        _lines(row.lines),
        _billed(row.billed),
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
