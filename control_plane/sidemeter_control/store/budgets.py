"""Budgets."""

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.budgets import Budget
from sidemeter_control.limits.units import Slice
from sidemeter_control.pricing.plans import Enforcement, ResetPeriod
from sidemeter_control.store.tables import budgets

__all__ = ["count", "get", "of_customers", "of_meter", "put", "remove", "set_since", "sliced_by"]

_slice = msgspec.json.Decoder(Slice).decode
_thresholds = msgspec.json.Decoder(tuple[int, ...]).decode


async def put(conn: AsyncConnection, budget: Budget, version: int) -> None:
    """Write a budget, new or in place of the one of its key; `version` is the configuration's from here on."""
    await remove(conn, budget.key)
    await conn.execute(
        insert(budgets).values(
            key=budget.key,
            customer_key=budget.customer_key,
            amount=budget.amount,
            meter_key=budget.meter_key,
            reset=budget.reset.value,
            slice=msgspec.json.encode(budget.slice).decode(),
            enforcement=budget.enforcement.value,
            thresholds=msgspec.json.encode(budget.thresholds).decode(),
            set_at_us=budget.set_at_us,
            version=version,
            by_customer=budget.by_customer,
        )
    )


async def remove(conn: AsyncConnection, key: str) -> bool:
    """Forget a budget; False when there was none of that key."""
    return bool((await conn.execute(delete(budgets).where(budgets.c.key == key))).rowcount)


async def get(conn: AsyncConnection, key: str) -> Budget | None:
    """The budget of that key."""
    row = (await conn.execute(select(budgets).where(budgets.c.key == key))).one_or_none()
    return None if row is None else _budget(row)


async def of_customers(conn: AsyncConnection, keys: Collection[str]) -> dict[str, list[Budget]]:
    """Every budget of those customers, by key; a customer without any is absent."""
    found: dict[str, list[Budget]] = {}
    for row in await conn.execute(
        select(budgets).where(budgets.c.customer_key.in_(list(keys))).order_by(budgets.c.key)
    ):
        found.setdefault(row.customer_key, []).append(_budget(row))
    return found


async def count(conn: AsyncConnection, customer: str) -> int:
    """How many budgets the customer has."""
    return (
        await conn.execute(select(func.count()).select_from(budgets).where(budgets.c.customer_key == customer))
    ).scalar_one()


async def of_meter(conn: AsyncConnection, meter: str) -> list[Budget]:
    """Every budget that caps what a meter counts, by key."""
    wanted = select(budgets).where(budgets.c.meter_key == meter).order_by(budgets.c.key)
    return [_budget(row) for row in await conn.execute(wanted)]


async def sliced_by(conn: AsyncConnection, dimensions: Collection[str]) -> list[Budget]:
    """Every budget in money of a slice that names one of those dimensions, by key."""
    if not dimensions:
        return []
    wanted = select(budgets).where(budgets.c.meter_key.is_(None), budgets.c.slice != "[]").order_by(budgets.c.key)
    found = (_budget(row) for row in await conn.execute(wanted))
    return [each for each in found if not set(dimensions).isdisjoint(each.dimensions)]


async def set_since(conn: AsyncConnection, version: int) -> list[str]:
    """The customers (keys) one of whose budgets was set after that version of the configuration."""
    return list(
        (await conn.execute(select(budgets.c.customer_key).where(budgets.c.version > version).distinct())).scalars()
    )


def _budget(row: Row[Any]) -> Budget:
    return Budget(
        row.key,
        row.customer_key,
        row.amount,
        row.meter_key,
        ResetPeriod(row.reset),
        _slice(row.slice),
        Enforcement(row.enforcement),
        _thresholds(row.thresholds),
        row.set_at_us,
        row.by_customer,
    )
