"""Counting: events in, rollups and uncountable events out. One pass, pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sidemeter_control.metering.events import Event, parse_data
from sidemeter_control.metering.meters import Meter, Reader, Reading, Uncountable
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


def readers(meters: Iterable[Meter]) -> Readers:
    """The meters, made ready and found by the type of event they count."""
    by_type: dict[str, list[Reader]] = defaultdict(list)
    for meter in meters:
        by_type[meter.event_type].append(Reader(meter))
    return dict(by_type)


def count(counting: Readers, events: Iterable[Event]) -> Counted:
    """Read every event with every meter of its type."""
    found: defaultdict[tuple[Reader, str, int, str], list[Reading]] = defaultdict(list)
    missed: list[Missed] = []
    for event in events:
        taking = counting.get(event.type)
        if not taking:
            continue
        data = parse_data(event.data) if event.data is not None else {}
        hour_us = event.time_us - event.time_us % HOUR_US
        for reader in taking:
            try:
                reading = reader.read(data, event.time_us, event.source, event.id)
            except Uncountable as exc:
                missed.append(Missed(reader.meter, event, exc.code, str(exc)))
            else:
                if reading is not None:
                    found[reader, event.subject, hour_us, reading[0]].append(reading[1])
    hours = {
        Bucket(subject, reader.meter.id, 3600, hour_us, group): fold(reader.meter.aggregation, readings)
        for (reader, subject, hour_us, group), readings in found.items()
    }
    return Counted(hours, missed)


def with_days(hours: Mapping[Bucket, Rollup]) -> dict[Bucket, Rollup]:
    """The hours, and the days they add up to."""
    both = dict(hours)
    for bucket, rollup in hours.items():
        day = bucket._replace(grain_s=86400, bucket_us=bucket.bucket_us - bucket.bucket_us % DAY_US)
        both[day] = merge(both[day], rollup) if day in both else rollup
    return both
