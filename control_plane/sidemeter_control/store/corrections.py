"""Corrections, each written once, in the order in which they were made."""

from collections.abc import Sequence

from sqlalchemy import insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.corrections import Correction, CorrectionKind
from sidemeter_control.store.tables import corrections

__all__ = ["add", "of"]


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
    wanted = select(corrections).where(tuple_(corrections.c.subject, corrections.c.event_seq).in_(events))
    found: dict[tuple[str, int], list[Correction]] = {}
    for row in await conn.execute(wanted.order_by(corrections.c.number)):
        correction = Correction(CorrectionKind(row.kind), row.data, row.reason, row.at_us, row.actor)
        found.setdefault((row.subject, row.event_seq), []).append(correction)
    return found
