"""Features."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.features import Feature
from sidemeter_control.store.tables import features

__all__ = ["add", "get", "list_all"]


async def get(conn: AsyncConnection, keys: Sequence[str]) -> dict[str, Feature]:
    """The features of those keys that exist."""
    found = await conn.execute(select(features).where(features.c.key.in_(keys)))
    return {row.key: _feature(row) for row in found}


async def list_all(conn: AsyncConnection) -> list[Feature]:
    """Every feature, by key."""
    return [_feature(row) for row in await conn.execute(select(features).order_by(features.c.key))]


async def add(conn: AsyncConnection, feature: Feature) -> None:
    """Write a new feature; the caller has seen that its key is free and its meter exists."""
    await conn.execute(
        insert(features).values(
            key=feature.key, name=feature.name, meter_key=feature.meter_key, created_at_us=feature.created_at_us
        )
    )


def _feature(row: Row[Any]) -> Feature:
    return Feature(row.key, row.name, row.meter_key, row.created_at_us)
