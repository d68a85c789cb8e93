"""Rules that buy credits when they run low: one for each customer and denomination."""

from typing import Any

from sqlalchemy import Row, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.credits.grants import Denomination, TopUp
from sidemeter_control.store.credits import denomination, is_of, key_of
from sidemeter_control.store.tables import credit_grants, credit_top_ups

__all__ = ["bought", "get", "mark", "of_customer", "page", "put", "remove"]


async def bought(conn: AsyncConnection, rule: TopUp, from_us: int, to_us: int) -> int:
    """How many grants the rule made in `[from_us, to_us)`."""
    table = credit_grants.c
    found = await conn.execute(
        select(func.count()).where(
            *is_of(credit_grants, rule.customer_key, rule.denomination),
            table.automatic,
            table.created_at_us >= from_us,
            table.created_at_us < to_us,
        )
    )
    return int(found.scalar_one())


async def put(conn: AsyncConnection, rule: TopUp) -> None:
    """Write a rule, new or in place of the one for these credits."""
    await remove(conn, rule.customer_key, rule.denomination)
    await conn.execute(
        insert(credit_top_ups).values(
            **key_of(rule.customer_key, rule.denomination),
            below=rule.below,
            amount=rule.amount,
            max_per_period=rule.max_per_period,
            mark=rule.mark,
            created_at_us=rule.created_at_us,
        )
    )


async def remove(conn: AsyncConnection, customer_key: str, of: Denomination) -> bool:
    """Delete the rule for these credits; answers whether there was one."""
    gone = await conn.execute(delete(credit_top_ups).where(*is_of(credit_top_ups, customer_key, of)))
    return bool(gone.rowcount)


async def mark(conn: AsyncConnection, rule: TopUp) -> None:
    """Note what the rule has seen."""
    ours = is_of(credit_top_ups, rule.customer_key, rule.denomination)
    await conn.execute(update(credit_top_ups).where(*ours).values(mark=rule.mark))


async def get(conn: AsyncConnection, customer_key: str, of: Denomination) -> TopUp | None:
    """The rule for these credits."""
    found = await conn.execute(select(credit_top_ups).where(*is_of(credit_top_ups, customer_key, of)))
    row = found.one_or_none()
    return None if row is None else _top_up(row)


async def of_customer(conn: AsyncConnection, customer_key: str) -> list[TopUp]:
    """Every rule of a customer, in a fixed order."""
    table = credit_top_ups.c
    wanted = select(credit_top_ups).where(table.customer_key == customer_key).order_by(table.unit, table.feature)
    return [_top_up(row) for row in await conn.execute(wanted)]


async def page(conn: AsyncConnection, limit: int, after: TopUp | None = None) -> list[TopUp]:
    """At most `limit` rules, in a fixed order, from the one after `after` on."""
    table = credit_top_ups.c
    place = table.customer_key, table.unit, table.feature
    wanted = select(credit_top_ups).order_by(*place).limit(limit)
    if after is not None:
        wanted = wanted.where(tuple_(*place) > tuple_(*key_of(after.customer_key, after.denomination).values()))
    return [_top_up(row) for row in await conn.execute(wanted)]


def _top_up(row: Row[Any]) -> TopUp:
    return TopUp(
        row.customer_key, denomination(row), row.below, row.amount, row.max_per_period, row.created_at_us, row.mark
    )
