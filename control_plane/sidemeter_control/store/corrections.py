"""Corrections, each written once, in the order in which they were made."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.corrections import Correction, CorrectionKind
from sidemeter_control.store.sql import Sql
from sidemeter_control.store.tables import corrections

__all__ = ["add", "of"]

# As for rollups: one walk of the key for each event, where a list of row values would be answered by a scan.
_OF = Sql(
    """
SELECT c.subject, c.event_seq, c.kind, c.data, c.reason, c.at_us, c.actor
FROM json_each(?) AS asked CROSS JOIN corrections AS c
  ON c.subject = json_extract(asked.value, '$[0]') AND c.event_seq = json_extract(asked.value, '$[1]')
ORDER BY c.number
""",
    postgres="""
SELECT c.subject, c.event_seq, c.kind, c.data, c.reason, c.at_us, c.actor
FROM json_array_elements(?) AS asked JOIN corrections AS c
  ON c.subject = asked.value ->> 0 AND c.event_seq = (asked.value ->> 1)::bigint
ORDER BY c.number
""",
)


async def add(conn: AsyncConnection, subject: str, event_seq: int, number: int, correction: Correction) -> None:
    """Write the correction of that number of an event; the first has number 1."""
    await conn.execute(
        insert(corrections).values(
            subject=subject,
            event_seq=event_seq,
            number=number,
            kind=correction.kind.value,
            data=correction.data,
            reason=correction.reason,
            at_us=correction.at_us,
            actor=correction.actor,
        )
    )


async def of(conn: AsyncConnection, events: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[Correction]]:
    """The corrections of events, given by subject and seq, the oldest first; one without any is absent."""
    rows = await conn.exec_driver_sql(_OF.of(conn), (msgspec.json.encode(events).decode(),))
    found: dict[tuple[str, int], list[Correction]] = {}
    for row in rows:
        subject, event_seq, kind, data, reason, at_us, actor = tuple(row)
        correction = Correction(CorrectionKind(kind), data, reason, at_us, actor)
        found.setdefault((subject, event_seq), []).append(correction)
    return found
