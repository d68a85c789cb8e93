"""Days to which events or corrections came after they were closed, by subject."""

from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["DAY_US", "add", "forget", "of"]

DAY_US = 86_400_000_000

_ADD = "INSERT INTO late_days (subject, day_us, first_seq) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_OF = "SELECT DISTINCT day_us FROM late_days WHERE subject IN (SELECT value FROM json_each(?)) ORDER BY day_us"
_FORGET = "DELETE FROM late_days WHERE subject IN (SELECT value FROM json_each(?))"


async def add(conn: AsyncConnection, late: Sequence[tuple[str, int, int]]) -> None:
    """Note (subject, first microsecond of a UTC day, number of an event) where that is not noted yet."""
    if late:
        await conn.exec_driver_sql(_ADD, [*late])


async def of(conn: AsyncConnection, subjects: Sequence[str]) -> list[int]:
    """The days, by their first microsecond in UTC, in order."""
    return [day_us for (day_us,) in await conn.exec_driver_sql(_OF, (_json(subjects),))]


async def forget(conn: AsyncConnection, subjects: Sequence[str]) -> None:
    """Once all that came to them is billed."""
    await conn.exec_driver_sql(_FORGET, (_json(subjects),))


def _json(subjects: Sequence[str]) -> str:
    return msgspec.json.encode(subjects).decode()
