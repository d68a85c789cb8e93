"""Days to which events or corrections came after they were closed, by subject."""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.events import Event
from sidemeter_control.metering.outcomes import Mention
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.store.sql import ANY_OF, Sql

__all__ = ["forget", "note", "of"]

_NOTE = Sql(
    """
INSERT INTO late_days (subject, day_us, first_seq)
SELECT events.subject, json_extract(late.value, '$[3]'), min(events.seq)
FROM json_each(?) AS late CROSS JOIN events
  ON events.subject = json_extract(late.value, '$[0]') AND events.source = json_extract(late.value, '$[1]')
 AND events.id = json_extract(late.value, '$[2]')
WHERE true GROUP BY 1, 2
ON CONFLICT (subject, day_us) DO NOTHING
""",
    postgres="""
INSERT INTO late_days (subject, day_us, first_seq)
SELECT events.subject, (late.value ->> 3)::bigint, min(events.seq)
FROM json_array_elements(?) AS late JOIN events
  ON events.subject = late.value ->> 0 AND events.source = late.value ->> 1 AND events.id = late.value ->> 2
GROUP BY 1, 2
ON CONFLICT (subject, day_us) DO NOTHING
""",
)
_OF = Sql(
    "SELECT DISTINCT day_us FROM late_days WHERE subject IN (SELECT value FROM json_each(?)) ORDER BY day_us",
    postgres=f"SELECT DISTINCT day_us FROM late_days WHERE subject = {ANY_OF} ORDER BY day_us",  # noqa: S608 -- a list
)
_FORGET = Sql(
    "DELETE FROM late_days WHERE subject IN (SELECT value FROM json_each(?))",
    postgres=f"DELETE FROM late_days WHERE subject = {ANY_OF}",  # noqa: S608 -- a list
)


async def note(conn: AsyncConnection, events: Iterable[tuple[str, Event | Mention]], closed_until_us: int) -> None:
    """Keep the subjects and days (UTC) of stored events that are new, or corrected, and late; no statement when none is.

    The events, each after its subject. `closed_until_us` is 0 when nothing is closed.
    """
    if not closed_until_us:
        return
    late = [
        (subject, event.source, event.id, event.time_us - event.time_us % DAY_US)
        for subject, event in events
        if event.time_us < closed_until_us
    ]
    if late:
        await conn.exec_driver_sql(_NOTE.of(conn), (msgspec.json.encode(late).decode(),))


async def of(conn: AsyncConnection, subjects: Sequence[str]) -> list[int]:
    """The days, by their first microsecond in UTC, in order."""
    return [day_us for (day_us,) in await conn.exec_driver_sql(_OF.of(conn), (_json(subjects),))]


async def forget(conn: AsyncConnection, subjects: Sequence[str]) -> None:
    """Once all that came to them is billed."""
    await conn.exec_driver_sql(_FORGET.of(conn), (_json(subjects),))


def _json(subjects: Sequence[str]) -> str:
    return msgspec.json.encode(subjects).decode()
