"""Overrides of entitlements: one for a customer and feature."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.overrides import Override
from sidemeter_control.pricing.definitions import entitlement_text, read_entitlement_text
from sidemeter_control.store.tables import overrides

__all__ = ["add", "count", "of_customers", "remove"]


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


async def remove(conn: AsyncConnection, customer: str, feature: str) -> bool:
    """Forget the override of the customer's feature; False when there was none."""
    gone = await conn.execute(
        delete(overrides).where(overrides.c.customer_key == customer, overrides.c.feature_key == feature)
    )
    return gone.rowcount > 0


async def of_customers(conn: AsyncConnection, keys: Collection[str]) -> dict[str, list[Override]]:
    """Every override of those customers, by feature; a customer without any is absent."""
    wanted = select(overrides).where(overrides.c.customer_key.in_(list(keys))).order_by(overrides.c.feature_key)
    found: dict[str, list[Override]] = {}
    for row in await conn.execute(wanted):
        found.setdefault(row.customer_key, []).append(_override(row))
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
