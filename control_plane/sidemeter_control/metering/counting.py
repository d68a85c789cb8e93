"""Counting: events in, rollups and uncountable events out. One pass, pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sidemeter_control.metering.events import Data, Event, parse_data
from sidemeter_control.metering.meters import UNGROUPED, Aggregation, Meter, Reader, Reading, Uncountable
from sidemeter_control.metering.rollups import DAY_US, HOUR_US, Bucket, Rollup, fold, merge

__all__ = ["Counted", "Missed", "Readers", "count", "readers", "with_days"]

Readers = Mapping[str, Sequence[Reader]]
"""The meters that count, by type of event."""


@dataclass(frozen=True, slots=True)
class Missed:
    """An event that one meter could not count, and why."""

    meter: Meter
    event: Event
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What events add up to, by the hour, and what could not be counted."""

    hours: dict[Bucket, Rollup]
    missed: list[Missed]


def readers(meters: Iterable[Meter], reader: Callable[[Meter], Reader] = Reader) -> Readers:
    """The meters, made ready by `reader` and found by the type of event they count."""
    by_type: dict[str, list[Reader]] = defaultdict(list)
    for meter in meters:
        by_type[meter.event_type].append(reader(meter))
    return dict(by_type)


def count(counting: Readers, events: Sequence[Event], data: Sequence[Data] | None = None) -> Counted:
    """Read every event with every meter of its type. `data`: the events' data where it is parsed already."""
    together: defaultdict[tuple[str, str, int], list[tuple[Event, Data]]] = defaultdict(list)
    for event, parsed in zip(events, data or (parse_data(event.data) for event in events), strict=True):
        if event.type in counting:
            together[event.type, event.subject, event.time_us // HOUR_US].append((event, parsed))
    counted = Counted({}, [])
    for (type_, subject, hour), some in together.items():
        for reader in counting[type_]:
            for group, rollup in _read(reader, some, counted.missed):
                counted.hours[Bucket(subject, reader.meter.id, 3600, hour * HOUR_US, group)] = rollup
    return counted


def _read(reader: Reader, some: Sequence[tuple[Event, Data]], missed: list[Missed]) -> Iterator[tuple[str, Rollup]]:
    """What one meter makes of events of one subject and hour, by group."""
    if reader.counts_all:
        yield UNGROUPED, Rollup(len(some))
        return
    together = reader.added_up([data for _, data in some])
    if together is not None:
        is_sum = reader.meter.aggregation is not Aggregation.COUNT
        for group, (events, total) in together.items():
            yield group, Rollup(events, sum=total if is_sum else None)
        return
    readings: defaultdict[str, list[Reading]] = defaultdict(list)
    for event, data in some:
        try:
            found = reader.read(data, event.time_us, event.source, event.id)
        except Uncountable as exc:
            missed.append(Missed(reader.meter, event, exc.code, str(exc)))
            continue
        if found is not None:
            readings[found[0]].append(found[1])
    for group, values in readings.items():
        yield group, fold(reader.meter.aggregation, values)


def with_days(hours: Mapping[Bucket, Rollup]) -> dict[Bucket, Rollup]:
    """The hours, and the days they add up to."""
    both = dict(hours)
    for bucket, rollup in hours.items():
        day = bucket._replace(grain_s=86400, bucket_us=bucket.bucket_us - bucket.bucket_us % DAY_US)
        both[day] = merge(both[day], rollup) if day in both else rollup
    return both
