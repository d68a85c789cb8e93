"""Rollups: read by ranges of buckets for answers, and bucket by bucket to be added to."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import NANO, Aggregation, Meter, from_nano, nano_of
from sidemeter_control.metering.rollups import EMPTY, Bucket, Last, Rollup, merge
from sidemeter_control.metering.windows import Span

__all__ = ["get", "put", "read", "totals"]

# Walks of the key, one for each subject, meter and span; the planner by itself reads all there ever was of a meter.
_OF_ALL = """
FROM json_each(?) AS m CROSS JOIN json_each(?) AS span CROSS JOIN rollups AS r
  ON r.meter_id = m.value AND r.grain_s = json_extract(span.value, '$[0]')
 AND r.bucket_us >= json_extract(span.value, '$[1]') AND r.bucket_us < json_extract(span.value, '$[2]')
"""
_OF_SOME = _OF_ALL.replace("FROM", "FROM json_each(?) AS s CROSS JOIN") + " AND r.subject = s.value"
_READ = """
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions,
       r.events, r.sum, r.min, r.max, r.last, r.last_time_us, r.last_source, r.last_id
{}"""
_READ_VALUES = """
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions, v.value
{} JOIN rollup_values AS v USING (subject, meter_id, grain_s, bucket_us, dimensions)
"""
# SQLite has no exact sum of decimals, but it joins their texts faster than rows reach Python one by one.
_JOIN = """
SELECT r.meter_id, sum(r.events), group_concat(r.sum), group_concat(r.min), group_concat(r.max)
{} GROUP BY r.meter_id
"""
_JOINED = {Aggregation.COUNT, Aggregation.SUM, Aggregation.AVG, Aggregation.MIN, Aggregation.MAX}

# SQLite answers a list of row values by a scan; from a JSON array it takes one probe of the key for each bucket.
_GET = """
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions,
       r.events, r.sum, r.min, r.max, r.last, r.last_time_us, r.last_source, r.last_id
FROM json_each(?) AS asked CROSS JOIN rollups AS r
  ON r.subject = json_extract(asked.value, '$[0]') AND r.meter_id = json_extract(asked.value, '$[1]')
 AND r.grain_s = json_extract(asked.value, '$[2]') AND r.bucket_us = json_extract(asked.value, '$[3]')
 AND r.dimensions = json_extract(asked.value, '$[4]')
"""
_PUT = """
INSERT INTO rollups (subject, meter_id, grain_s, bucket_us, dimensions,
                     events, sum, min, max, last, last_time_us, last_source, last_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, meter_id, grain_s, bucket_us, dimensions) DO UPDATE SET
    events = excluded.events, sum = excluded.sum, min = excluded.min, max = excluded.max, last = excluded.last,
    last_time_us = excluded.last_time_us, last_source = excluded.last_source, last_id = excluded.last_id
"""
_PUT_VALUES = """
INSERT INTO rollup_values (subject, meter_id, grain_s, bucket_us, dimensions, value) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""


async def read(
    conn: AsyncConnection, meters: Sequence[Meter], spans: Sequence[Span], subjects: Sequence[str] | None
) -> list[tuple[Bucket, Rollup]]:
    """Every rollup of those meters in those spans, of those subjects (None: of all)."""
    values: dict[Bucket, set[str]] = {}
    distinct = [meter for meter in meters if meter.aggregation is Aggregation.UNIQUE_COUNT]
    for row in await _within(conn, _READ_VALUES, distinct, spans, subjects) if distinct else ():
        values.setdefault(_bucket(row), set()).add(row[5])
    return [
        (bucket := _bucket(row), _rollup(row, frozenset(values.get(bucket, ()))))
        for row in await _within(conn, _READ, meters, spans, subjects)
    ]


async def totals(
    conn: AsyncConnection, meters: Sequence[Meter], spans: Sequence[Span], subjects: Sequence[str] | None
) -> dict[int, Rollup]:
    """What all of `read` adds up to, by meter; one without any rollup is absent."""
    total: dict[int, Rollup] = {}
    joined = [meter for meter in meters if meter.aggregation in _JOINED]
    for meter_id, *sums in await _within(conn, _JOIN, joined, spans, subjects) if joined else ():
        total[meter_id] = _total(*sums)
    others = [meter for meter in meters if meter.aggregation not in _JOINED]
    for bucket, rollup in await read(conn, others, spans, subjects) if others else ():
        total[bucket.meter_id] = merge(total.get(bucket.meter_id, EMPTY), rollup)
    return total


async def _within(
    conn: AsyncConnection,
    wanted: str,
    meters: Iterable[Meter],
    spans: Sequence[Span],
    subjects: Sequence[str] | None,
) -> Sequence[Sequence[Any]]:
    asked = (_json({meter.id for meter in meters}), _json(spans))
    if subjects is None:
        return (await conn.exec_driver_sql(wanted.format(_OF_ALL), asked)).all()
    return (await conn.exec_driver_sql(wanted.format(_OF_SOME), (_json(set(subjects)), *asked))).all()


def _json(values: Collection[Any]) -> str:
    return msgspec.json.encode(values).decode()


def _total(events: int, sums: str | None, mins: str | None, maxs: str | None) -> Rollup:
    return Rollup(
        events,
        None if sums is None else sum(_nanos(sums)),
        None if mins is None else min(_nanos(mins)),
        None if maxs is None else max(_nanos(maxs)),
    )


def _nanos(joined: str) -> Iterable[int]:
    amounts = joined.split(",")
    if "." in joined:
        return (nano_of(Decimal(each)) for each in amounts)
    return (int(each) * NANO for each in amounts)


async def get(conn: AsyncConnection, buckets: Iterable[Bucket]) -> dict[Bucket, Rollup]:
    """What those buckets hold so far, without the distinct values of UNIQUE_COUNT."""
    rows = await conn.exec_driver_sql(_GET, (_json(list(buckets)),))
    return {_bucket(row): _rollup(row, frozenset()) for row in rows}


async def put(conn: AsyncConnection, changed: Mapping[Bucket, Rollup]) -> None:
    """Write what those buckets hold now; their distinct values are added to those known."""
    if not changed:
        return
    await conn.exec_driver_sql(_PUT, [(*bucket, *_amounts(rollup)) for bucket, rollup in changed.items()])
    values = [(*bucket, value) for bucket, rollup in changed.items() for value in rollup.values]
    if values:
        await conn.exec_driver_sql(_PUT_VALUES, values)


def _bucket(row: Sequence[Any]) -> Bucket:
    return Bucket._make(row[:5])


def _amounts(rollup: Rollup) -> tuple[Any, ...]:
    last = rollup.last
    return (
        rollup.events,
        *map(_text, (rollup.sum, rollup.min, rollup.max)),
        *((None,) * 4 if last is None else (_text(last.nano), last.time_us, last.source, last.id)),
    )


def _text(nano: int | None) -> str | None:
    return None if nano is None else format(from_nano(nano), "f")


def _rollup(row: Sequence[Any], values: frozenset[str]) -> Rollup:
    _, _, _, _, _, events, total, least, most, last_value, last_time_us, last_source, last_id = row
    last = None if last_value is None else Last(last_time_us, last_source, last_id, nano_of(Decimal(last_value)))
    return Rollup(events, _nano(total), _nano(least), _nano(most), last, values)


def _nano(amount: Decimal | str | None) -> int | None:
    return None if amount is None else nano_of(Decimal(amount))
