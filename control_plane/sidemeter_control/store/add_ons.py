"""Add-ons."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.add_ons import AddOn
from sidemeter_control.store.tables import add_ons

__all__ = ["add", "count", "ever", "get", "of_customers", "of_idempotency_key", "revoke"]


async def add(conn: AsyncConnection, add_on: AddOn) -> None:
    """Write a new add-on; the caller has seen that its customer and feature exist, and its idempotency key is free."""
    await conn.execute(
        insert(add_ons).values(
            id=add_on.id,
            customer_key=add_on.customer_key,
            feature_key=add_on.feature,
            quantity=add_on.quantity,
            effective_at_us=add_on.effective_at_us,
            expires_at_us=add_on.expires_at_us,
            idempotency_key=add_on.idempotency_key,
            granted_at_us=add_on.granted_at_us,
        )
    )


async def revoke(conn: AsyncConnection, add_on: AddOn) -> None:
    """Write when and why the add-on was revoked."""
    ended = update(add_ons).where(add_ons.c.customer_key == add_on.customer_key, add_ons.c.id == add_on.id)
    await conn.execute(ended.values(revoked_at_us=add_on.revoked_at_us, revoke_reason=add_on.revoke_reason))


async def get(conn: AsyncConnection, add_on_id: str) -> AddOn | None:
    """The add-on of that id, ended or not."""
    row = (await conn.execute(select(add_ons).where(add_ons.c.id == add_on_id))).one_or_none()
    return None if row is None else _add_on(row)


async def of_idempotency_key(conn: AsyncConnection, customer: str, key: str) -> AddOn | None:
    """The add-on that was granted to the customer under that key, ended or not."""
    wanted = select(add_ons).where(add_ons.c.customer_key == customer, add_ons.c.idempotency_key == key)
    row = (await conn.execute(wanted)).one_or_none()
    return None if row is None else _add_on(row)


async def of_customers(conn: AsyncConnection, keys: Collection[str], at_us: int) -> dict[str, list[AddOn]]:
    """Those customers' add-ons that have not ended by `at_us`, in the order in which they come into force."""
    wanted = (
        select(add_ons)
        .where(add_ons.c.customer_key.in_(list(keys)), _open(at_us))
        .order_by(add_ons.c.effective_at_us, add_ons.c.id)
    )
    found: dict[str, list[AddOn]] = {}
    for row in await conn.execute(wanted):
        found.setdefault(row.customer_key, []).append(_add_on(row))
    return found


async def ever(conn: AsyncConnection, customer: str, feature: str) -> list[AddOn]:
    """Every add-on that the customer's feature ever had, ended ones too, in the order in which they come into force."""
    wanted = (
        select(add_ons)
        .where(add_ons.c.customer_key == customer, add_ons.c.feature_key == feature)
        .order_by(add_ons.c.effective_at_us, add_ons.c.id)
    )
    return [_add_on(row) for row in await conn.execute(wanted)]


async def count(conn: AsyncConnection, customer: str, at_us: int) -> int:
    """How many add-ons of the customer have not ended by `at_us`."""
    counted = select(func.count()).where(add_ons.c.customer_key == customer, _open(at_us))
    return (await conn.execute(counted)).scalar_one()


def _open(at_us: int) -> ColumnElement[bool]:
    ends = add_ons.c.expires_at_us
    return and_(add_ons.c.revoked_at_us.is_(None), or_(ends.is_(None), ends > at_us))


def _add_on(row: Row[Any]) -> AddOn:
    return AddOn(
        row.id,
        row.customer_key,
        row.feature_key,
        row.quantity,
        row.effective_at_us,
        row.expires_at_us,
        row.idempotency_key,
        row.granted_at_us,
        row.revoked_at_us,
        row.revoke_reason,
    )
