"""Days that were closed before all that belongs to them had come."""

from collections.abc import Iterable

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.events import Event
from sidemeter_control.metering.rollups import DAY_US

__all__ = ["note"]

_NOTE = """
INSERT INTO late_days (subject, day_us, first_seq)
SELECT events.subject, json_extract(late.value, '$[2]'), min(events.seq)
FROM json_each(?) AS late CROSS JOIN events
  ON events.source = json_extract(late.value, '$[0]') AND events.id = json_extract(late.value, '$[1]')
WHERE true GROUP BY 1, 2
ON CONFLICT (subject, day_us) DO NOTHING
"""


async def note(conn: AsyncConnection, events: Iterable[Event], closed_until_us: int) -> None:
    """Keep the subjects and days (UTC) of stored events that are new, or corrected, and late; no statement when none is.

    `closed_until_us` is 0 when nothing is closed.
    """
    if not closed_until_us:
        return
    late = [
        (event.source, event.id, event.time_us - event.time_us % DAY_US)
        for event in events
        if event.time_us < closed_until_us
    ]
    if late:
        await conn.exec_driver_sql(_NOTE, (msgspec.json.encode(late).decode(),))
