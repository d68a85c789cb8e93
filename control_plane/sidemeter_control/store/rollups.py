"""Rollups: read by ranges of buckets for answers, and bucket by bucket to be added to."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Any, overload

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import NANO, Aggregation, Meter, from_nano, nano_of
from sidemeter_control.metering.rollups import EMPTY, Bucket, Last, Rollup, merge
from sidemeter_control.metering.windows import Span
from sidemeter_control.store.sql import ANY_OF, Sql, keeper, on_postgres

__all__ = ["add", "by_hour", "drop_some", "exact_sum", "get", "leave", "put", "read", "totals"]

# Walks of the key, one for each subject, meter and span; the planner by itself reads all there ever was of a meter.
_OF_ALL = """
FROM json_each(?) AS m CROSS JOIN json_each(?) AS span CROSS JOIN rollups AS r
  ON r.meter_id = m.value AND r.grain_s = json_extract(span.value, '$[0]')
 AND r.bucket_us >= json_extract(span.value, '$[1]') AND r.bucket_us < json_extract(span.value, '$[2]')
"""
_OF_SOME = _OF_ALL.replace("FROM", "FROM json_each(?) AS s CROSS JOIN") + " AND r.subject = s.value"
# PostgreSQL walks the key once for each span that stands in the statement, and for each subject and meter; of spans in a list
# that it would have to join it thinks nothing of reading every rollup there is. More spans than these are one walk for each
# grain, from the first to the last, which lets go of what is between them.
_MOST_WALKS = 8
_WALK = "grain_s = ?::integer AND bucket_us >= ?::bigint AND bucket_us < ?::bigint"
_WALK_OVER = f"{_WALK} AND bucket_us <@ ?::text::int8multirange"
_OF_PG = "FROM (SELECT * FROM rollups WHERE ({}) AND meter_id = ANY (?::text::integer[]) AND {}) AS r"
_OF_WHOM_PG = {"all": "true", "one": "subject = ?::text", "some": f"subject = {ANY_OF}"}
_READ = """
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions,
       r.events, r.sum, r.min, r.max, r.last, r.last_time_us, r.last_source, r.last_id, r.moment
{}"""
_READ_VALUES = """
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions, v.value, v.events
{} JOIN rollup_values AS v USING (subject, meter_id, grain_s, bucket_us, dimensions)
"""
# SQLite has no exact sum of decimals, but it joins their texts faster than rows reach Python one by one. PostgreSQL has one.
_JOIN = """
SELECT r.meter_id, sum(r.events), group_concat(r.sum), group_concat(r.min), group_concat(r.max), group_concat(r.moment)
{} GROUP BY r.meter_id
"""
_JOIN_PG = """
SELECT r.meter_id, sum(r.events)::bigint, sum(r.sum)::text, min(r.min)::text, max(r.max)::text, sum(r.moment)::text
{} GROUP BY r.meter_id
"""
_JOIN_VALUES = """
SELECT r.meter_id, v.value, CAST(sum(v.events) AS bigint)
{} JOIN rollup_values AS v USING (subject, meter_id, grain_s, bucket_us, dimensions) GROUP BY r.meter_id, v.value
"""
# A COUNT has no sum. Both lists are joined from the same rows, so they are in one order.
_JOIN_HOURS = """
SELECT r.meter_id, group_concat(r.bucket_us / 3600000000), group_concat(coalesce(r.sum, r.events))
{} GROUP BY r.meter_id
"""
_JOIN_HOURS_PG = """
SELECT meter_id, string_agg(hour::text, ','), string_agg(amount::text, ',') FROM (
    SELECT r.meter_id, r.bucket_us / 3600000000 AS hour, sum(coalesce(r.sum, r.events)) AS amount {} GROUP BY 1, 2
) AS hours GROUP BY meter_id
"""
_WITH_VALUES = {Aggregation.UNIQUE_COUNT, Aggregation.PERCENTILE}

# SQLite answers a list of row values by a scan; from a JSON array it takes one probe of the key for each bucket.
_GET = Sql(
    """
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions,
       r.events, r.sum, r.min, r.max, r.last, r.last_time_us, r.last_source, r.last_id, r.moment
FROM json_each(?) AS asked CROSS JOIN rollups AS r
  ON r.subject = json_extract(asked.value, '$[0]') AND r.meter_id = json_extract(asked.value, '$[1]')
 AND r.grain_s = json_extract(asked.value, '$[2]') AND r.bucket_us = json_extract(asked.value, '$[3]')
 AND r.dimensions = json_extract(asked.value, '$[4]')
""",
    postgres="""
SELECT r.subject, r.meter_id, r.grain_s, r.bucket_us, r.dimensions,
       r.events, r.sum, r.min, r.max, r.last, r.last_time_us, r.last_source, r.last_id, r.moment
FROM json_array_elements(?) AS asked JOIN rollups AS r
  ON r.subject = asked.value ->> 0 AND r.meter_id = (asked.value ->> 1)::integer
 AND r.grain_s = (asked.value ->> 2)::integer AND r.bucket_us = (asked.value ->> 3)::bigint
 AND r.dimensions = asked.value ->> 4
""",
)
_PUT = Sql("""
INSERT INTO rollups (subject, meter_id, grain_s, bucket_us, dimensions,
                     events, sum, min, max, last, last_time_us, last_source, last_id, moment)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, meter_id, grain_s, bucket_us, dimensions) DO UPDATE SET
    events = excluded.events, sum = excluded.sum, min = excluded.min, max = excluded.max, last = excluded.last,
    last_time_us = excluded.last_time_us, last_source = excluded.last_source, last_id = excluded.last_id,
    moment = excluded.moment
""")
# What only adds up: a third of what it takes to read what is there, and to write what it comes to.
_ADD = """
INSERT INTO rollups AS r (subject, meter_id, grain_s, bucket_us, dimensions, events, sum, moment)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, meter_id, grain_s, bucket_us, dimensions) DO UPDATE SET
    events = r.events + excluded.events, sum = exact_sum(r.sum, excluded.sum),
    moment = exact_sum(r.moment, excluded.moment)
"""
# PostgreSQL adds them up itself, all in one statement; texts, because the driver takes far longer over numbers in arrays.
_LAST = ("last_time_us", "last_source", "last_id", "last")
_LATER = f"({', '.join(f'excluded.{part}' for part in _LAST)}) > ({', '.join(f'r.{part}' for part in _LAST)})"
_ADD_PG = f"""
INSERT INTO rollups AS r (subject, meter_id, grain_s, bucket_us, dimensions,
                          events, sum, min, max, last, last_time_us, last_source, last_id, moment)
SELECT subject, meter_id::integer, grain_s::integer, bucket_us::bigint, dimensions, events::bigint, sum::numeric,
       min::numeric, max::numeric, last::numeric, last_time_us::bigint, last_source, last_id, moment::numeric
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
     AS added (subject, meter_id, grain_s, bucket_us, dimensions,
               events, sum, min, max, last, last_time_us, last_source, last_id, moment)
ON CONFLICT (subject, meter_id, grain_s, bucket_us, dimensions) DO UPDATE SET
    events = r.events + excluded.events, sum = r.sum + excluded.sum, moment = r.moment + excluded.moment,
    min = least(r.min, excluded.min), max = greatest(r.max, excluded.max),
    {", ".join(f"{part} = CASE WHEN {_LATER} THEN excluded.{part} ELSE r.{part} END" for part in _LAST)}
"""  # noqa: S608 -- names of ours
_PUT_VALUES = Sql(
    """
INSERT INTO rollup_values (subject, meter_id, grain_s, bucket_us, dimensions, value, events) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, meter_id, grain_s, bucket_us, dimensions, value)
DO UPDATE SET events = rollup_values.events + excluded.events
""",
    postgres="""
INSERT INTO rollup_values (subject, meter_id, grain_s, bucket_us, dimensions, value, events)
SELECT subject, meter_id::integer, grain_s::integer, bucket_us::bigint, dimensions, value, events::bigint
FROM unnest(?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[])
     AS added (subject, meter_id, grain_s, bucket_us, dimensions, value, events)
ON CONFLICT (subject, meter_id, grain_s, bucket_us, dimensions, value)
DO UPDATE SET events = rollup_values.events + excluded.events
""",
)
_DROP = "DELETE FROM rollups WHERE subject = ? AND meter_id = ? AND grain_s = ? AND bucket_us = ? AND dimensions = ?"
_DROP_VALUES = _DROP.replace("rollups", "rollup_values")
_DROP_VALUE = Sql(_DROP_VALUES + " AND value = ? AND events <= 0")
_SOME = Sql("SELECT subject, meter_id, grain_s, bucket_us, dimensions FROM rollups WHERE meter_id = ? LIMIT ?")


async def read(
    conn: AsyncConnection, meters: Sequence[Meter], spans: Sequence[Span], subjects: Sequence[str] | None
) -> list[tuple[Bucket, Rollup]]:
    """Every rollup of those meters in those spans, of those subjects (None: of all)."""
    values: dict[Bucket, dict[str, int]] = {}
    with_values = [meter for meter in meters if meter.aggregation in _WITH_VALUES]
    for row in await _within(conn, _READ_VALUES, with_values, spans, subjects) if with_values else ():
        values.setdefault(_bucket(row), {})[row[5]] = row[6]
    return [
        (bucket := _bucket(row), _rollup(row, values.get(bucket)))
        for row in await _within(conn, _READ, meters, spans, subjects)
    ]


async def totals(
    conn: AsyncConnection, meters: Sequence[Meter], spans: Sequence[Span], subjects: Sequence[str] | None
) -> dict[int, Rollup]:
    """What all of `read` adds up to, by meter; one without any rollup is absent."""
    total: dict[int, Rollup] = {}
    joined = [meter for meter in meters if meter.aggregation is not Aggregation.LATEST]
    with_values = [meter for meter in meters if meter.aggregation in _WITH_VALUES]
    values: dict[int, dict[str, int]] = {meter.id: {} for meter in with_values}
    for meter_id, value, events in await _within(conn, _JOIN_VALUES, with_values, spans, subjects) if values else ():
        values[meter_id][value] = events
    for meter_id, *sums in (
        await _within(conn, _JOIN_PG if on_postgres(conn) else _JOIN, joined, spans, subjects) if joined else ()
    ):
        total[meter_id] = _total(values.get(meter_id), *sums)
    latest = [meter for meter in meters if meter.aggregation is Aggregation.LATEST]
    for bucket, rollup in await read(conn, latest, spans, subjects) if latest else ():
        total[bucket.meter_id] = merge(total.get(bucket.meter_id, EMPTY), rollup)
    return total


async def by_hour(
    conn: AsyncConnection, meters: Sequence[Meter], from_us: int, to_us: int, subjects: Sequence[str]
) -> dict[int, dict[int, int]]:
    """What COUNT and SUM meters count in each hour that begins in `[from_us, to_us)`, in nano-units.

    By the meter's number, then by hours since 1970; an hour without rollups is absent.
    """
    found: dict[int, dict[int, int]] = {meter.id: {} for meter in meters}
    asked = [Span(3600, from_us, to_us)]
    wanted = _JOIN_HOURS_PG if on_postgres(conn) else _JOIN_HOURS
    for meter_id, hours, amounts in await _within(conn, wanted, meters, asked, subjects) if meters else ():
        listed, nanos = list(map(int, hours.split(","))), list(_nanos(amounts))
        found[meter_id] = dict(zip(listed, nanos, strict=True))
        if len(found[meter_id]) < len(listed):  # several subjects or groups have something in one hour
            found[meter_id] = _added_up(listed, nanos)
    return found


def _added_up(hours: Iterable[int], nanos: Iterable[int]) -> dict[int, int]:
    total: defaultdict[int, int] = defaultdict(int)
    for hour, nano in zip(hours, nanos, strict=True):
        total[hour] += nano
    return total


async def _within(
    conn: AsyncConnection,
    wanted: str,
    meters: Iterable[Meter],
    spans: Sequence[Span],
    subjects: Sequence[str] | None,
) -> Sequence[Sequence[Any]]:
    if not spans:
        return ()
    ids, theirs = {meter.id for meter in meters}, None if subjects is None else set(subjects)
    if on_postgres(conn):
        over = len(spans) > _MOST_WALKS
        walks = _over(spans) if over else spans
        whom, names = _whom_pg(theirs)
        statement = _statement_pg(wanted, len(walks), over, whom)
        parts = (*chain.from_iterable(walks), f"{{{','.join(map(str, sorted(ids)))}}}", *names)
        return (await conn.exec_driver_sql(statement, parts)).all()
    asked = _json(ids), _json(spans)
    if theirs is None:
        return (await conn.exec_driver_sql(wanted.format(_OF_ALL), asked)).all()
    return (await conn.exec_driver_sql(wanted.format(_OF_SOME), (_json(theirs), *asked))).all()


def _whom_pg(subjects: AbstractSet[str] | None) -> tuple[str, tuple[str, ...]]:
    """One is most customers: the server knows then that it is one, and a cluster where it is."""
    if subjects is None:
        return "all", ()
    return ("one", tuple(subjects)) if len(subjects) == 1 else ("some", (_json(subjects),))


@cache
def _statement_pg(wanted: str, walks: int, over: bool, whom: str) -> str:
    walked = " OR ".join([f"({_WALK_OVER if over else _WALK})"] * walks)
    return Sql(wanted.format(_OF_PG.format(walked, _OF_WHOM_PG[whom]))).postgres


def _over(spans: Iterable[Span]) -> list[tuple[int, int, int, str]]:
    """One walk over all spans of each grain, and which they are as PostgreSQL writes several ranges.

    >>> _over([Span(3600, 0, 7200), Span(86400, 0, 86400), Span(3600, 10800, 14400)])
    [(3600, 0, 14400, '{[0,7200),[10800,14400)}'), (86400, 0, 86400, '{[0,86400)}')]
    """
    by_grain: defaultdict[int, list[Span]] = defaultdict(list)
    for span in spans:
        by_grain[span.grain_s].append(span)
    return [
        (
            grain_s,
            min(each.from_us for each in found),
            max(each.to_us for each in found),
            f"{{{','.join(f'[{each.from_us},{each.to_us})' for each in found)}}}",
        )
        for grain_s, found in by_grain.items()
    ]


def _json(values: Collection[Any]) -> str:
    return msgspec.json.encode(values).decode()


def _total(  # noqa: PLR0917 -- the columns of a row
    values: Mapping[str, int] | None,
    events: int,
    sums: str | None,
    mins: str | None,
    maxs: str | None,
    moments: str | None,
) -> Rollup:
    return Rollup(
        events,
        None if sums is None else sum(_nanos(sums)),
        None if mins is None else min(_nanos(mins)),
        None if maxs is None else max(_nanos(maxs)),
        None,
        values,
        None if moments is None else sum(map(int, moments.split(","))),
    )


def _nanos(joined: str) -> Iterable[int]:
    amounts = joined.split(",")
    if "." in joined:
        return map(_nano_of_text, amounts)
    return (int(each) * NANO for each in amounts)


_NOUGHTS = ["0" * missing for missing in range(9, -1, -1)]


def _nano_of_text(text: str) -> int:
    """Of a sum as it was written here: plain, with at most nine digits after the point. A third of what Decimal takes."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction + _NOUGHTS[len(fraction)])


async def get(conn: AsyncConnection, buckets: Iterable[Bucket]) -> dict[Bucket, Rollup]:
    """What those buckets hold so far, without their `values`."""
    rows = await conn.exec_driver_sql(_GET.of(conn), (_json(list(buckets)),))
    return {_bucket(row): _rollup(row, None) for row in rows}


async def add(conn: AsyncConnection, added: Mapping[Bucket, Rollup]) -> None:
    """Add to what those buckets hold what more events come to, as `merge` tells."""
    if not on_postgres(conn):
        compared = {bucket: rollup for bucket, rollup in added.items() if _compares(rollup)}
        if compared:
            known = await get(conn, compared)
            await put(conn, {bucket: merge(known.get(bucket, EMPTY), rollup) for bucket, rollup in compared.items()})
        summed = {bucket: rollup for bucket, rollup in added.items() if bucket not in compared} if compared else added
        if summed:
            rows = [(*bucket, each.events, _text(each.sum), _whole(each.moment)) for bucket, each in summed.items()]
            await conn.exec_driver_sql(_ADD, rows)
            await _put_values(conn, summed)
    elif added:
        rows = [(*bucket, *_amounts(rollup)) for bucket, rollup in added.items()]
        await conn.exec_driver_sql(_ADD_PG, _columns(rows))
        await _put_values(conn, added)


def _compares(rollup: Rollup) -> bool:
    """Whether it takes more than a sum to add it."""
    return not (rollup.min is None and rollup.max is None and rollup.last is None)


def _columns(rows: Iterable[Sequence[Any]]) -> tuple[list[str | None], ...]:
    """Rows as PostgreSQL is given them in one statement: an array of texts for each column."""
    return tuple([None if value is None else str(value) for value in column] for column in zip(*rows, strict=True))


async def put(conn: AsyncConnection, changed: Mapping[Bucket, Rollup]) -> None:
    """Write what those buckets hold now; their `values` are added to those known."""
    if not changed:
        return
    await conn.exec_driver_sql(_PUT.of(conn), [(*bucket, *_amounts(rollup)) for bucket, rollup in changed.items()])
    await _put_values(conn, changed)


async def _put_values(conn: AsyncConnection, changed: Mapping[Bucket, Rollup]) -> None:
    kept = keeper(conn)
    values = [
        (*bucket, kept(value), events)
        for bucket, rollup in changed.items()
        for value, events in (rollup.values or {}).items()
    ]
    if values:
        await conn.exec_driver_sql(_PUT_VALUES.of(conn), _columns(values) if on_postgres(conn) else values)


async def leave(conn: AsyncConnection, left: Mapping[Bucket, Rollup]) -> None:
    """Write what is left in those buckets, as `minus` tells; those that nothing is left in, and values, disappear."""
    await put(conn, {bucket: rollup for bucket, rollup in left.items() if rollup.events})
    await _drop(conn, [bucket for bucket, rollup in left.items() if not rollup.events])
    kept = keeper(conn)
    fewer = [(*bucket, kept(value)) for bucket, rollup in left.items() for value in rollup.values or {}]
    if fewer:
        await conn.exec_driver_sql(_DROP_VALUE.of(conn), fewer)


async def drop_some(conn: AsyncConnection, meter_id: int, most: int) -> int:
    """Delete at most so many rollups of that number; answers how many there were to be deleted."""
    found = (await conn.exec_driver_sql(_SOME.of(conn), (meter_id, most))).all()
    await _drop(conn, [Bucket._make(row) for row in found])
    return len(found)


async def _drop(conn: AsyncConnection, buckets: Sequence[Bucket]) -> None:
    if buckets:
        await conn.exec_driver_sql(Sql(_DROP_VALUES).of(conn), [tuple(bucket) for bucket in buckets])
        await conn.exec_driver_sql(Sql(_DROP).of(conn), [tuple(bucket) for bucket in buckets])


def _bucket(row: Sequence[Any]) -> Bucket:
    return Bucket._make(row[:5])


def _amounts(rollup: Rollup) -> tuple[Any, ...]:
    last = rollup.last
    return (
        rollup.events,
        *map(_text, (rollup.sum, rollup.min, rollup.max)),
        *((None,) * 4 if last is None else (_text(last.nano), last.time_us, last.source, last.id)),
        _whole(rollup.moment),
    )


def _text(nano: int | None) -> str | None:
    """As `format(from_nano(nano), "f")`, whole ones at 40 % of what that takes."""
    if nano is None:
        return None
    whole, rest = divmod(nano, NANO)
    return str(whole) if not rest else format(from_nano(nano), "f")


def _whole(number: int | None) -> str | None:
    return None if number is None else str(number)


def exact_sum(one: str | None, other: str | None) -> str | None:
    """The sum of two amounts as they are written here, as SQLite asks for it; None where one is None.

    >>> exact_sum("1.5", "-0.500000001"), exact_sum("7", "3"), exact_sum("1", None)
    ('0.999999999', '10', None)
    """
    if one is None or other is None:
        return None
    if "." in one or "." in other:
        return _text(_nano_of_text(one) + _nano_of_text(other))
    return str(int(one) + int(other))


def _rollup(row: Sequence[Any], values: Mapping[str, int] | None) -> Rollup:
    _, _, _, _, _, events, total, least, most, last_value, last_time_us, last_source, last_id, moment = row
    last = None if last_value is None else Last(last_time_us, last_source, last_id, _nano(last_value))
    moments = None if moment is None else int(moment)
    return Rollup(events, _nano(total), _nano(least), _nano(most), last, values, moments)


@overload
def _nano(amount: None) -> None: ...
@overload
def _nano(amount: Decimal | str) -> int: ...
def _nano(amount: Decimal | str | None) -> int | None:
    if amount is None:
        return None
    return nano_of(amount) if isinstance(amount, Decimal) else _nano_of_text(amount)
