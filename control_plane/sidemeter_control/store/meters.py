"""Meters, and the changes of meters that are not filled yet."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import Aggregation, Dimension, Meter, Progress, PropertyFilter
from sidemeter_control.store.tables import meter_changes, meters, retired_rollups

__all__ = [
    "add",
    "archive",
    "changes",
    "counting",
    "drop_change",
    "fill",
    "forget",
    "get",
    "list_all",
    "put_change",
    "rename",
    "retired",
    "switch",
]

_encode = msgspec.json.encode
_dimensions = msgspec.json.Decoder(tuple[Dimension, ...]).decode
_filters = msgspec.json.Decoder(tuple[PropertyFilter, ...]).decode
_breaks = msgspec.json.Decoder(tuple[int, ...]).decode

_LAST_ID = """
SELECT max(id) FROM (SELECT id FROM meters UNION ALL SELECT id FROM meter_changes
                     UNION ALL SELECT meter_id FROM retired_rollups) AS given
"""


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


async def counting(conn: AsyncConnection) -> list[Meter]:
    """All that count events, by their number: every meter, and every change of one that is not in its place yet."""
    found = [_meter(row) for table in (meters, meter_changes) for row in await conn.execute(select(table))]
    return sorted(found, key=lambda meter: meter.id)


async def changes(conn: AsyncConnection, keys: Sequence[str]) -> dict[str, Meter]:
    """What those meters are about to count, where that is something else than now."""
    found = await conn.execute(select(meter_changes).where(meter_changes.c.key.in_(keys)))
    return {row.key: _meter(row) for row in found}


async def add(conn: AsyncConnection, meter: Meter) -> Meter:
    """Write a new meter and give it its number; the caller has seen that its key is free."""
    meter = replace(meter, id=await _next_id(conn))
    await conn.execute(insert(meters).values(id=meter.id, key=meter.key, **_definition(meter)))
    return meter


async def archive(conn: AsyncConnection, key: str, now_us: int) -> None:
    """Mark a meter as archived. Again: no change."""
    await conn.execute(
        update(meters).where(meters.c.key == key, meters.c.archived_at_us.is_(None)).values(archived_at_us=now_us)
    )


async def rename(conn: AsyncConnection, meter: Meter) -> None:
    """Write the name and the unit of a meter, which change nothing of what it counts."""
    for table in (meters, meter_changes):
        named = update(table).where(table.c.key == meter.key)
        await conn.execute(named.values(name=meter.name, unit=meter.unit))


async def put_change(conn: AsyncConnection, meter: Meter, actor: str) -> Meter:
    """Write what a meter is about to count, and give that its number; there is no other change of the meter."""
    meter = replace(meter, id=await _next_id(conn))
    values = _definition(meter)
    await conn.execute(insert(meter_changes).values(id=meter.id, key=meter.key, actor=actor, **values))
    return meter


async def drop_change(conn: AsyncConnection, change: Meter) -> None:
    """Forget a change that is not in its place yet, and retire its rollups."""
    await conn.execute(delete(meter_changes).where(meter_changes.c.id == change.id))
    await conn.execute(insert(retired_rollups).values(meter_id=change.id))


async def switch(conn: AsyncConnection, change: Meter) -> tuple[int, str]:
    """Put a change in its place, and retire the rollups that the meter had; answers their number, and who changed it."""
    old = (await conn.execute(select(meters.c.id).where(meters.c.key == change.key))).scalar_one()
    actor = (await conn.execute(select(meter_changes.c.actor).where(meter_changes.c.id == change.id))).scalar_one()
    await conn.execute(delete(meter_changes).where(meter_changes.c.id == change.id))
    values = _definition(change) | {"id": change.id}
    del values["created_at_us"]
    await conn.execute(update(meters).where(meters.c.id == old).values(values))
    await conn.execute(insert(retired_rollups).values(meter_id=old))
    return old, actor


async def fill(conn: AsyncConnection, meter: Meter) -> None:
    """Write how far a meter, or a change of one, is filled."""
    for table in (meters, meter_changes):
        filled = update(table).where(table.c.id == meter.id)
        await conn.execute(filled.values(_progress(meter)))


async def retired(conn: AsyncConnection) -> int | None:
    """The number of a meter whose rollups are to be deleted, if there is any."""
    return (await conn.execute(select(retired_rollups.c.meter_id).limit(1))).scalar()


async def forget(conn: AsyncConnection, meter_id: int) -> None:
    """Say that all rollups of that number are deleted."""
    await conn.execute(delete(retired_rollups).where(retired_rollups.c.meter_id == meter_id))


async def _next_id(conn: AsyncConnection) -> int:
    """A number that no rollup has, not even one that is to be deleted."""
    return int((await conn.exec_driver_sql(_LAST_ID)).scalar() or 0) + 1


def _definition(meter: Meter) -> dict[str, Any]:
    return {
        "name": meter.name,
        "event_type": meter.event_type,
        "aggregation": meter.aggregation.value,
        "value_property": meter.value_property,
        "percentile": meter.percentile,
        "dimensions": _encode(meter.dimensions).decode(),
        "filters": _encode(meter.filters).decode(),
        "breaks": _encode(meter.breaks).decode(),
        "unit": meter.unit,
        "created_at_us": meter.created_at_us,
    } | _progress(meter)


def _progress(meter: Meter) -> dict[str, int]:
    return {"filled_seq": meter.progress.filled_seq, "watermark_seq": meter.progress.watermark_seq}


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
        getattr(row, "archived_at_us", None),
        Progress(row.filled_seq, row.watermark_seq),
        _breaks(row.breaks),
    )
