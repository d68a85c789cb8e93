"""Rollups: read by ranges of buckets for answers, and bucket by bucket to be added to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Select, Table, and_, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import Aggregation, Meter, from_nano, nano_of
from sidemeter_control.metering.rollups import Bucket, Last, Rollup
from sidemeter_control.metering.windows import Span
from sidemeter_control.store.tables import rollup_values, rollups

__all__ = ["get", "put", "read"]

T = TypeVar("T")

# Each span is a branch of one statement; a month has three at most, a year of local months 36.
SPANS_AT_ONCE = 40

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
    found: list[tuple[Bucket, Rollup]] = []
    distinct = [meter.id for meter in meters if meter.aggregation is Aggregation.UNIQUE_COUNT]
    for some in _chunks(spans, SPANS_AT_ONCE):
        asked: dict[str, Any] = {"meters": [meter.id for meter in meters], "subjects": subjects}
        for index, span in enumerate(some):
            asked |= {f"grain{index}": span.grain_s, f"from{index}": span.from_us, f"to{index}": span.to_us}
        values: dict[Bucket, set[str]] = {}
        if distinct:
            rows = await conn.execute(
                _in_spans(rollup_values, len(some), subjects is None), asked | {"meters": distinct}
            )
            for row in rows:
                values.setdefault(_bucket(row), set()).add(row.value)
        for row in await conn.execute(_in_spans(rollups, len(some), subjects is None), asked):
            bucket = _bucket(row)
            found.append((bucket, _rollup(row, frozenset(values.get(bucket, ())))))
    return found


@lru_cache(maxsize=4 * SPANS_AT_ONCE)
def _in_spans(table: Table, spans: int, everyone: bool) -> Select[Any]:
    key = table.c
    within = or_(
        *(
            and_(
                key.grain_s == bindparam(f"grain{index}"),
                key.bucket_us >= bindparam(f"from{index}"),
                key.bucket_us < bindparam(f"to{index}"),
            )
            for index in range(spans)
        )
    )
    wanted = select(table).where(key.meter_id.in_(bindparam("meters", expanding=True)), within)
    return wanted if everyone else wanted.where(key.subject.in_(bindparam("subjects", expanding=True)))


async def get(conn: AsyncConnection, buckets: Iterable[Bucket]) -> dict[Bucket, Rollup]:
    """What those buckets hold so far, without the distinct values of UNIQUE_COUNT."""
    rows = await conn.exec_driver_sql(_GET, (msgspec.json.encode(list(buckets)).decode(),))
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


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
