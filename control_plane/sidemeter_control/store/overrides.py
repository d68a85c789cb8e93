"""Overrides of entitlements: one for a customer and feature, and those that it replaced."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.overrides import MAX_PAST_OVERRIDES, Override
from sidemeter_control.pricing.definitions import entitlement_text, read_entitlement_text
from sidemeter_control.store.tables import overrides, past_overrides

__all__ = ["add", "count", "ever", "of_customers", "remove"]


async def add(conn: AsyncConnection, override: Override) -> None:
    """Write a new override; the caller has seen that its customer and feature exist, and removed the one before."""
    await conn.execute(
        insert(overrides).values(
            customer_key=override.customer_key,
            feature_key=override.entitlement.feature,
            definition=entitlement_text(override.entitlement),
            effective_at_us=override.effective_at_us,
            expires_at_us=override.expires_at_us,
            set_at_us=override.set_at_us,
        )
    )


async def remove(conn: AsyncConnection, customer: str, feature: str, at_us: int) -> bool:
    """End the override of the customer's feature by `at_us`; False when there was none.

    It stays known for the time until then.
    """
    own = overrides.c.customer_key == customer, overrides.c.feature_key == feature
    row = (await conn.execute(select(overrides).where(*own))).mappings().one_or_none()
    if row is None:
        return False
    ends_us = at_us if row["expires_at_us"] is None else min(at_us, row["expires_at_us"])
    if row["effective_at_us"] < ends_us:
        await conn.execute(insert(past_overrides).values({**row, "expires_at_us": ends_us}))
        await _forget_oldest(conn, customer, feature)
    await conn.execute(delete(overrides).where(*own))
    return True


async def of_customers(conn: AsyncConnection, keys: Collection[str]) -> dict[str, list[Override]]:
    """Every override of those customers, by feature; a customer without any is absent."""
    wanted = select(overrides).where(overrides.c.customer_key.in_(list(keys))).order_by(overrides.c.feature_key)
    found: dict[str, list[Override]] = {}
    for row in await conn.execute(wanted):
        found.setdefault(row.customer_key, []).append(_override(row))
    return found


async def _forget_oldest(conn: AsyncConnection, customer: str, feature: str) -> None:
    past = past_overrides.c
    own = past.customer_key == customer, past.feature_key == feature
    kept = select(past.seq).where(*own).order_by(past.seq.desc()).limit(MAX_PAST_OVERRIDES)
    await conn.execute(delete(past_overrides).where(*own, past.seq.not_in(kept)))


async def ever(conn: AsyncConnection, customer: str, feature: str) -> list[Override]:
    """Every override that the customer's feature ever had, in the order in which they were set."""
    found = []
    for table in (past_overrides, overrides):
        wanted = select(table).where(table.c.customer_key == customer, table.c.feature_key == feature)
        ordered = wanted.order_by(table.c.seq) if table is past_overrides else wanted
        found += [_override(row) for row in await conn.execute(ordered)]
    return found


async def count(conn: AsyncConnection, customer: str) -> int:
    """How many overrides the customer has."""
    counted = select(func.count()).where(overrides.c.customer_key == customer)
    return (await conn.execute(counted)).scalar_one()


def _override(row: Row[Any]) -> Override:
    return Override(
        row.customer_key,
        read_entitlement_text(row.definition),
        row.effective_at_us,
        row.expires_at_us,
        row.set_at_us,
    )
