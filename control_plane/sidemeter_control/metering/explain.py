"""From a quantity back to the events that it was counted from, a page at a time."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.events import parse_data
from sidemeter_control.metering.meters import Meter, Reader, Uncountable
from sidemeter_control.store import events
from sidemeter_control.store.events import Position, StoredEvent

__all__ = ["MAX_LOOKED_AT", "counted_events"]

# A filter may leave one event in a million: a page ends after this many, also when it is not full.
MAX_LOOKED_AT = 5_000

_AT_ONCE = 500


async def counted_events(
    conn: AsyncConnection,
    meter: Meter,
    subjects: Sequence[str],
    from_us: int,
    to_us: int,
    *,
    limit: int,
    after: Position | None = None,
) -> tuple[list[StoredEvent], Position | None]:
    """At most `limit` events that the meter counted, newest first, and where to go on; None: there are no more."""
    reader = Reader(meter)
    found: list[StoredEvent] = []
    for _ in range(MAX_LOOKED_AT // _AT_ONCE):
        some = await events.page(
            conn, _AT_ONCE, after=after, subjects=subjects, type=meter.event_type, from_us=from_us, to_us=to_us
        )
        for event in some:
            if _counts(reader, event):
                if len(found) == limit:
                    return found, found[-1].position
                found.append(event)
            after = event.position
        if len(some) < _AT_ONCE:
            return found, None
    return found, after


def _counts(reader: Reader, event: StoredEvent) -> bool:
    if event.voided:
        return False
    data = parse_data(event.data) if event.data is not None else {}
    try:
        return reader.read(data, event.time_us, event.source, event.id) is not None
    except Uncountable:
        return False
