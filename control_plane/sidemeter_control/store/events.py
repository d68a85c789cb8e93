"""Events: written once, found again by subject and time, and read with what they say, also where that is in the archive."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Select, and_, bindparam, case, exists, literal, or_, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.events import Event
from sidemeter_control.metering.meters import Progress
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store.archive import with_data
from sidemeter_control.store.database import savepoint
from sidemeter_control.store.sql import ANY_OF, Sql, on_postgres
from sidemeter_control.store.tables import corrections, events

__all__ = [
    "Position",
    "StoredEvent",
    "add",
    "any_within",
    "arrived",
    "find",
    "in_order",
    "known",
    "last_seq",
    "of_type",
    "page",
    "within",
]

_PAGE = 5_000
_COPIED_FROM = 50
"""Fewer events are inserted sooner than copied, which takes a savepoint."""
_ALIKE = 2  # to know that there are several

_COLUMNS = "seq, received_at_us, id, source, type, subject, time_us, data"
_ADD = f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608 -- names of ours
_COPY = f"COPY events ({_COLUMNS}) FROM STDIN"
_ADD_ALL = f"""
INSERT INTO events ({_COLUMNS})
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[])
ON CONFLICT DO NOTHING RETURNING seq
"""  # noqa: S608 -- names of ours
_KNOWN = Sql(
    """
SELECT events.subject, events.source, events.id FROM json_each(?) AS asked CROSS JOIN events
  ON events.subject = json_extract(asked.value, '$[0]') AND events.source = json_extract(asked.value, '$[1]')
 AND events.id = json_extract(asked.value, '$[2]')
""",
    postgres="""
SELECT events.subject, events.source, events.id FROM json_array_elements(?) AS asked JOIN events
  ON events.subject = asked.value ->> 0 AND events.source = asked.value ->> 1 AND events.id = asked.value ->> 2
""",
)
_ANY_WITHIN = "EXISTS (SELECT 1 FROM events WHERE time_us >= ? AND time_us < ?)"
_ANY_OF_THEM_WITHIN = (
    "EXISTS (SELECT 1 FROM events WHERE time_us >= ? AND time_us < ? AND subject IN (SELECT value FROM json_each(?)))"
)
# An EXISTS outside of WHERE would fetch every event of a cluster's shards to look whether there is one.
_ANY_WITHIN_PG = "(SELECT {} AS place FROM events WHERE time_us >= ? AND time_us < ? LIMIT 1)"
_ANY_OF_THEM_WITHIN_PG = _ANY_WITHIN_PG.replace("LIMIT", f"AND subject = {ANY_OF} LIMIT")

# An event is read as the last correction leaves it. Nearly none has one, so that is one probe of a key for each.
_later = corrections.alias("later")
_CORRECTED = events.outerjoin(
    corrections,
    and_(
        corrections.c.subject == events.c.subject,
        corrections.c.event_seq == events.c.seq,
        ~exists().where(
            _later.c.subject == corrections.c.subject,
            _later.c.event_seq == corrections.c.event_seq,
            _later.c.number > corrections.c.number,
        ),
    ),
)
_DATA = case((corrections.c.kind.is_(None), events.c.data), else_=corrections.c.data)
_COUNTS = or_(corrections.c.kind.is_(None), corrections.c.kind != "VOID")
_EVENT = (events.c.id, events.c.source, events.c.type, events.c.subject, events.c.time_us, _DATA.label("data"))
# The subject is last: of one subject it changes nothing, and between shards an id may come twice.
_PLACE = (events.c.time_us, events.c.source, events.c.id, events.c.subject)
_IN_ORDER = (  # made once: it is asked for every live cost with a free allowance
    select(*_EVENT)
    .select_from(_CORRECTED)
    .where(_COUNTS, events.c.subject == bindparam("subject"), events.c.type == bindparam("type"))
    .where(events.c.time_us >= bindparam("from_us"), events.c.time_us < bindparam("to_us"))
    .order_by(*_PLACE)
    .limit(bindparam("limit"))
)
_IN_ORDER_AFTER = _IN_ORDER.where(
    tuple_(*_PLACE)
    > tuple_(bindparam("time_us", type_=BigInteger), bindparam("source"), bindparam("id"), bindparam("whose"))
)
_STORED = (*_EVENT, events.c.seq, events.c.received_at_us, (~_COUNTS).label("voided"))


_ARRIVED = Sql("""
SELECT subject, min(time_us), max(seq)
FROM (SELECT subject, time_us, seq FROM events WHERE seq > ? ORDER BY seq LIMIT ?) AS next GROUP BY subject
""")


class Position(NamedTuple):
    """A place in the order of pages: newest first, by event time and then by arrival."""

    time_us: int
    seq: int


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it counts now. `seq` is the order of arrival; `data` JSON text of an object, or None.

    Of one that is `voided`, `data` is what it said before: it counts nowhere.
    """

    seq: int
    id: str
    source: str
    type: str
    subject: str
    time_us: int
    received_at_us: int
    data: str | None
    voided: bool = False

    @property
    def position(self) -> Position:
        """Where a page that ends with this event goes on."""
        return Position(self.time_us, self.seq)


async def add(conn: AsyncConnection, offered: Sequence[Event], received_at_us: int) -> Sequence[int]:
    """Insert the events whose (source, id) is not stored yet; answers which of those offered went in (P4).

    Each gets its row number from here, so that which went in can be asked afterwards, and only when fewer did.
    """
    if not offered:
        return ()
    first = await last_seq(conn) + 1
    rows = [
        (seq, received_at_us, event.id, event.source, event.type, event.subject, event.time_us, event.data)
        for seq, event in enumerate(offered, first)
    ]
    if on_postgres(conn):
        if len(rows) >= _COPIED_FROM and await _are_copied(conn, rows):
            return range(len(offered))
        found = await conn.exec_driver_sql(_ADD_ALL, tuple(map(list, zip(*rows, strict=True))))
        return sorted(seq - first for (seq,) in found)
    added = await conn.exec_driver_sql(_ADD, rows)
    if added.rowcount == len(offered):
        return range(len(offered))
    stored = await conn.execute(select(events.c.seq - first).where(events.c.seq >= first).order_by(events.c.seq))
    return stored.scalars().all()


async def _are_copied(conn: AsyncConnection, rows: list[tuple[Any, ...]]) -> bool:
    """Whether all of them went in, by half of what it costs to insert them; else none did, as one is stored already.

    PostgreSQL itself refuses the copy then, by the same constraint that tells which are new (P4).
    """
    try:
        async with savepoint(conn):
            await conn.exec_driver_sql(_COPY, rows)
    except IntegrityError:
        return False
    return True


async def last_seq(conn: AsyncConnection) -> int:
    """The number of the event that arrived last; 0 when none has."""
    return int((await conn.exec_driver_sql("SELECT max(seq) FROM events")).scalar() or 0)


async def arrived(conn: AsyncConnection, after: int, limit: int) -> tuple[int, dict[str, int]]:
    """Of the next `limit` events that arrived: the last one's number, and the earliest time of each subject's."""
    found: Sequence[Sequence[Any]] = (await conn.exec_driver_sql(_ARRIVED.of(conn), (after, limit))).all()
    return max((seq for _, _, seq in found), default=after), {subject: time_us for subject, time_us, _ in found}


async def find(conn: AsyncConnection, source: str, id_: str, subject: str | None = None) -> list[StoredEvent]:
    """The events with that source and id, of that subject or of any: one at most, but for a database that is spread over
    shards, where each subject may have one. At most a few of them."""
    wanted = select(*_STORED).select_from(_CORRECTED).where(events.c.source == source, events.c.id == id_)
    wanted = wanted if subject is None else wanted.where(events.c.subject == subject)
    return list(await with_data(conn, await _stored(conn, wanted.order_by(events.c.seq).limit(_ALIKE))))


async def known(conn: AsyncConnection, offered: Sequence[Event]) -> set[tuple[str, str, str]]:
    """The subject, source and id of those offered that are stored."""
    asked = msgspec.json.encode([(event.subject, event.source, event.id) for event in offered]).decode()
    found = await conn.exec_driver_sql(_KNOWN.of(conn), (asked,))
    return {(row.subject, row.source, row.id) for row in found}


async def page(
    conn: AsyncConnection,
    limit: int,
    *,
    after: Position | None = None,
    subjects: Sequence[str] | None = None,
    type: str | None = None,  # noqa: A002 -- the name the field has everywhere
    from_us: int | None = None,
    to_us: int | None = None,
) -> list[StoredEvent]:
    """At most `limit` events, newest first, that come after `after` and pass every filter given."""
    wanted = select(*_STORED).select_from(_CORRECTED)
    wanted = wanted.order_by(events.c.time_us.desc(), events.c.seq.desc()).limit(limit)
    if type is not None:
        wanted = wanted.where(events.c.type == type)
    if from_us is not None:
        wanted = wanted.where(events.c.time_us >= from_us)
    if to_us is not None:
        wanted = wanted.where(events.c.time_us < to_us)
    if after is not None:
        wanted = wanted.where(events.c.time_us <= after.time_us)
        wanted = wanted.where(
            tuple_(events.c.time_us, events.c.seq) < tuple_(literal(after.time_us), literal(after.seq))
        )
    if subjects is None:
        return await with_data(conn, await _stored(conn, wanted))
    # One walk of the index for each subject: a list of them would be sorted as a whole for every page.
    pages = [await _stored(conn, wanted.where(events.c.subject == subject)) for subject in subjects]
    merged = merge(*pages, key=lambda event: event.position, reverse=True)
    return await with_data(conn, list(islice(merged, limit)))


async def _stored(conn: AsyncConnection, wanted: Select[Any]) -> list[StoredEvent]:
    return [
        StoredEvent(seq, id_, source, type_, subject, time_us, received_at_us, data, bool(voided))
        for id_, source, type_, subject, time_us, data, seq, received_at_us, voided in await conn.execute(wanted)
    ]


async def any_within(
    conn: AsyncConnection, intervals: Sequence[Interval], subjects: Sequence[str] | None
) -> Sequence[bool]:
    """Of each interval, whether any event of those subjects (None: of all) has its time in it; asked in one statement."""
    theirs = () if subjects is None else (msgspec.json.encode(subjects).decode(),)
    values = tuple(value for interval in intervals for value in (*interval, *theirs))
    places = range(len(intervals))
    if on_postgres(conn):
        asked = _ANY_WITHIN_PG if subjects is None else _ANY_OF_THEM_WITHIN_PG
        wanted = Sql(" UNION ALL ".join(asked.format(place) for place in places)).postgres
        having = {place for (place,) in await conn.exec_driver_sql(wanted, values)}
        return [place in having for place in places]
    asked = _ANY_WITHIN if subjects is None else _ANY_OF_THEM_WITHIN
    (found,) = await conn.exec_driver_sql(f"SELECT {', '.join([asked] * len(intervals))}", values)
    return [bool(any_) for any_ in found]


async def within(
    conn: AsyncConnection,
    interval: Interval,
    types: Sequence[str],
    subjects: Sequence[str] | None,
    progress: Progress | None = None,
) -> AsyncIterator[list[Event]]:
    """The events of those types in the interval that count, some thousand at a time; of a meter, as far as it is filled."""
    wanted = _of(interval, subjects).where(events.c.type.in_(types))
    if progress is not None and not progress.done:
        wanted = wanted.where(or_(events.c.seq <= progress.filled_seq, events.c.seq > progress.watermark_seq))
    async with conn.stream(wanted) as rows:
        async for some in rows.partitions(_PAGE):
            yield await with_data(conn, [Event(*row) for row in some])


async def in_order(
    conn: AsyncConnection,
    interval: Interval,
    type: str,  # noqa: A002
    subjects: Sequence[str],
    *,
    limit: int,
    after: Event | None = None,
) -> list[Event]:
    """At most `limit` events of a type in the interval, by time, source, id and subject, that come after `after`.

    One walk of the index for each subject, so that whoever needs only the first events reads no others.
    """
    asked = {"type": type, "from_us": interval.from_us, "to_us": interval.to_us, "limit": limit}
    if after is not None:
        asked |= {"from_us": max(after.time_us, interval.from_us)}
        asked |= {"time_us": after.time_us, "source": after.source, "id": after.id, "whose": after.subject}
    wanted = _IN_ORDER if after is None else _IN_ORDER_AFTER
    pages = [
        [Event(*row) for row in (await conn.execute(wanted, asked | {"subject": each})).all()] for each in subjects
    ]
    merged = merge(*pages, key=lambda each: (each.time_us, each.source, each.id, each.subject))
    return await with_data(conn, list(islice(merged, limit)))


async def of_type(
    conn: AsyncConnection,
    type: str,  # noqa: A002
    after: int,
    upto: int,
    limit: int,
) -> list[tuple[int, Event]]:
    """At most `limit` events of a type that count, with `after < seq <= upto`, in order of arrival, each with its seq."""
    wanted = select(events.c.seq, *_EVENT).select_from(_CORRECTED).order_by(events.c.seq).limit(limit)
    wanted = wanted.where(events.c.seq > after, events.c.seq <= upto, events.c.type == type, _COUNTS)
    found = [(seq, Event(*row)) for seq, *row in await conn.execute(wanted)]
    said = await with_data(conn, [event for _, event in found])
    return [(seq, event) for (seq, _), event in zip(found, said, strict=True)]


def _of(interval: Interval, subjects: Sequence[str] | None) -> Select[Any]:
    wanted = select(*_EVENT).select_from(_CORRECTED).where(_COUNTS)
    wanted = wanted.where(events.c.time_us >= interval.from_us, events.c.time_us < interval.to_us)
    return wanted if subjects is None else wanted.where(events.c.subject.in_(subjects))
