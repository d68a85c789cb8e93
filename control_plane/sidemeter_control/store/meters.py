"""Meters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import Aggregation, Dimension, Meter, PropertyFilter
from sidemeter_control.store.tables import meters

__all__ = ["add", "archive", "get", "list_all"]

_encode = msgspec.json.encode
_dimensions = msgspec.json.Decoder(tuple[Dimension, ...]).decode
_filters = msgspec.json.Decoder(tuple[PropertyFilter, ...]).decode


async def get(conn: AsyncConnection, keys: Sequence[str]) -> dict[str, Meter]:
    """The meters of those keys that exist, archived ones too."""
    found = await conn.execute(select(meters).where(meters.c.key.in_(keys)))
    return {row.key: _meter(row) for row in found}


async def list_all(conn: AsyncConnection, *, archived: bool = False) -> list[Meter]:
    """Every meter, by key; archived ones only when asked for."""
    wanted = select(meters).order_by(meters.c.key)
    if not archived:
        wanted = wanted.where(meters.c.archived_at_us.is_(None))
    return [_meter(row) for row in await conn.execute(wanted)]


async def add(conn: AsyncConnection, meter: Meter) -> Meter:
    """Write a new meter and give it its number; the caller has seen that its key is free."""
    written = await conn.execute(
        insert(meters).values(
            key=meter.key,
            name=meter.name,
            event_type=meter.event_type,
            aggregation=meter.aggregation.value,
            value_property=meter.value_property,
            percentile=meter.percentile,
            dimensions=_encode(meter.dimensions).decode(),
            filters=_encode(meter.filters).decode(),
            unit=meter.unit,
            created_at_us=meter.created_at_us,
        )
    )
    (number,) = written.inserted_primary_key or (0,)
    return replace(meter, id=number)


async def archive(conn: AsyncConnection, key: str, now_us: int) -> None:
    """Mark a meter as archived. Again: no change."""
    await conn.execute(
        update(meters).where(meters.c.key == key, meters.c.archived_at_us.is_(None)).values(archived_at_us=now_us)
    )


def _meter(row: Row[Any]) -> Meter:
    return Meter(
        row.id,
        row.key,
        row.name,
        row.event_type,
        Aggregation(row.aggregation),
        row.value_property,
        row.percentile,
        _dimensions(row.dimensions),
        _filters(row.filters),
        row.unit,
        row.created_at_us,
        row.archived_at_us,
    )
