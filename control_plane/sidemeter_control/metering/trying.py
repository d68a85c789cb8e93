"""What a meter would make of events that are stored already, while somebody is defining it. Stores nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import rollups
from sidemeter_control.metering.events import parse_data
from sidemeter_control.metering.meters import Aggregation, Meter, Reader, Reading, Uncountable, from_nano, values_of
from sidemeter_control.store import events
from sidemeter_control.store.events import StoredEvent

__all__ = ["Trial", "TriedEvent", "try_meter"]


@dataclass(frozen=True, slots=True)
class TriedEvent:
    """One event, and what it gives the meter: a decimal or, where distinct values are counted, a text.

    Without `gives` a filter keeps it out, it is void, or `problem` says why it cannot be counted.
    """

    event: StoredEvent
    gives: str | None = None
    dimensions: Mapping[str, str | None] | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What all of them come to; None where that depends on how long it is asked for, or where none counts."""

    value: Decimal | None
    events: Sequence[TriedEvent]


async def try_meter(conn: AsyncConnection, meter: Meter, limit: int) -> Trial:
    """The newest events of the meter's type, at most `limit`, each as the meter would read it."""
    reader = Reader(meter)
    readings: list[Reading] = []
    found = [_tried(reader, event, readings) for event in await events.page(conn, limit, type=meter.event_type)]
    return Trial(_value(meter, readings), found)


def _tried(reader: Reader, event: StoredEvent, readings: list[Reading]) -> TriedEvent:
    if event.voided:
        return TriedEvent(event)
    data = parse_data(event.data) if event.data is not None else {}
    try:
        read = reader.read(data, event.time_us, event.source, event.id)
    except Uncountable as exc:
        return TriedEvent(event, problem=str(exc))
    if read is None:
        return TriedEvent(event)
    group, reading = read
    readings.append(reading)
    return TriedEvent(event, _gives(reader.meter.aggregation, reading), values_of(reader.meter, group))


def _gives(aggregation: Aggregation, reading: Reading) -> str:
    match reading:
        case str():
            return reading
        case int():
            return "1" if aggregation is Aggregation.COUNT else format(from_nano(reading), "f")
        case (_, _, _, nano):
            return format(from_nano(nano), "f")
        case (nano, _):
            return format(from_nano(nano), "f")


def _value(meter: Meter, readings: Sequence[Reading]) -> Decimal | None:
    if not readings or meter.aggregation is Aggregation.TIME_WEIGHTED:
        return None
    return rollups.value(meter.aggregation, rollups.fold(meter.aggregation, readings), meter.percentile)
