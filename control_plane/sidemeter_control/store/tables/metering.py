"""Events, what was said of them later, the meters, and what these add up to."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from sidemeter_control.store.tables.columns import ExactDecimal, RowNumber, metadata
from sidemeter_control.store.tables.spread import at_home, by, everywhere

__all__ = [
    "archive_files",
    "archived_months",
    "corrections",
    "dead_letters",
    "events",
    "late_days",
    "meter_changes",
    "meters",
    "outcome_mentions",
    "outcome_rules",
    "retired_rollups",
    "rollup_values",
    "rollups",
]

events = Table(
    "events",
    metadata,
    Column("seq", RowNumber, primary_key=True),
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("data", Text),
    UniqueConstraint("source", "id"),
    Index(
        None, "subject", "time_us", "type"
    ),  # the type, so that events of others are passed over without a look at them
    Index(None, "time_us"),
    info=by("subject", "a row for each event"),
)

# Parquet files that hold events. An event whose `data` begins with "@", which no JSON object does, is in one of them: "@7:41" in
# file 7, its row 41, and "@" alone for one that has no data. `id` stands in the file as well, `digest` is the SHA-256 of its
# bytes, `directory` where it was written. Until `detached_at_us` its events are on their way out of `events`.
archive_files = Table(
    "archive_files",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("directory", Text, nullable=False),
    Column("month_us", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("to_us", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("group_events", Integer, nullable=False),
    Column("data_bytes", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("written_at_us", BigInteger, nullable=False),
    Column("detached_at_us", BigInteger),
    info=everywhere("one for each file of an old month, looked up for events of any subject"),
)

# Months (UTC) of which every event up to that number is in a file.
archived_months = Table(
    "archived_months",
    metadata,
    Column("month_us", BigInteger, primary_key=True, autoincrement=False),
    Column("scanned_seq", BigInteger, nullable=False),
    info=at_home("one for each month, and only asked for when there is something to archive"),
)

# What was said of events later, in order: the last of an event counts. `data` is what the event says from then on, or said
# when it was voided. The events themselves never change.
corrections = Table(
    "corrections",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("event_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("data", Text),
    Column("reason", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    sqlite_with_rowid=False,
    info=by("subject", "as many as events are corrected, and read with them"),
)

# The days (UTC) to which an event or a correction came after they were closed, and the first event of each.
late_days = Table(
    "late_days",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("day_us", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    info=by("subject", "a row for each subject and day"),
)

# What a meter adds up to for one subject, one bucket of time (grain: 3600 or 86400 seconds) and one set of dimensions
# (the values as a JSON array in the order of the meter's dimensions). The last value goes by (time, source, id), so
# that it does not depend on the order of arrival.
rollups = Table(
    "rollups",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("meter_id", Integer, primary_key=True, autoincrement=False),
    Column("grain_s", Integer, primary_key=True, autoincrement=False),
    Column("bucket_us", BigInteger, primary_key=True, autoincrement=False),
    Column("dimensions", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("sum", ExactDecimal),
    Column("min", ExactDecimal),
    Column("max", ExactDecimal),
    Column("last", ExactDecimal),
    Column("last_time_us", BigInteger),
    Column("last_source", Text),
    Column("last_id", Text),
    Column("moment", ExactDecimal),
    Index(None, "meter_id", "grain_s", "bucket_us"),
    sqlite_with_rowid=False,
    info=by("subject", "a row for each subject, hour and set of dimensions"),
)

# How many events had each value of UNIQUE_COUNT and PERCENTILE meters, in the buckets of `rollups`.
rollup_values = Table(
    "rollup_values",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("meter_id", Integer, primary_key=True, autoincrement=False),
    Column("grain_s", Integer, primary_key=True, autoincrement=False),
    Column("bucket_us", BigInteger, primary_key=True, autoincrement=False),
    Column("dimensions", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("events", BigInteger, nullable=False, server_default="1"),
    sqlite_with_rowid=False,
    info=by("subject", "a row for each distinct value in a bucket"),
)

# The meters' numbers whose rollups nobody reads any more, to be deleted.
retired_rollups = Table(
    "retired_rollups",
    metadata,
    Column("meter_id", Integer, primary_key=True, autoincrement=False),
    info=everywhere("numbers of meters, and asked for with outcome rules"),
)

# What settles what a meter counts: see `metering.outcomes`.
outcome_rules = Table(
    "outcome_rules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("meter_key", Text, ForeignKey("meters.key"), nullable=False),
    Column("confirm_type", Text, nullable=False),
    Column("reverse_type", Text, nullable=False),
    Column("window_us", BigInteger, nullable=False),
    Column("named_by", Text, nullable=False),
    Column("filled_seq", BigInteger, nullable=False),
    Column("watermark_seq", BigInteger, nullable=False),
    UniqueConstraint("meter_key", "confirm_type", "reverse_type", "window_us", "named_by"),
    info=everywhere("a row for each rule of a meter"),
)

# What events say of things that outcome rules settle; `nano` is the quantity of a use.
outcome_mentions = Table(
    "outcome_mentions",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("rule_id", Integer, primary_key=True, autoincrement=False),
    Column("thing", Text, primary_key=True),
    Column("time_us", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("nano", Text, nullable=False),
    sqlite_with_rowid=False,
    info=by("subject", "a row for each event that settles, or is settled"),
)

# `meter_key` null: the event as a whole could not be counted. Else: only that meter could not count it, as it was defined
# under the number `meter_id`; the event is stored.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("meter_key", Text),
    Column("agent_id", Text),
    Column("epoch", BigInteger),
    Column("batch_no", BigInteger),
    Column("replayed_at_us", BigInteger),
    Column("replayed_by", Text),
    Column("meter_id", Integer),
    Column("event_source", Text),
    Column("event_id", Text),
    Column("event_subject", Text),
    info=at_home("events that may have no subject that can be read, and few as long as senders are right"),
)
# Those that wait are few beside those that were counted after all.
Index(
    "ix_dead_letters_waiting",
    dead_letters.c.id,
    sqlite_where=text("replayed_at_us IS NULL"),
    postgresql_where=text("replayed_at_us IS NULL"),
)
Index(
    "ix_dead_letters_of_event",
    dead_letters.c.event_source,
    dead_letters.c.event_id,
    sqlite_where=text("replayed_at_us IS NULL AND meter_id IS NOT NULL"),
    postgresql_where=text("replayed_at_us IS NULL AND meter_id IS NOT NULL"),
)


def _definition() -> list[Column[Any]]:
    """What a meter counts, and how far it is filled from the events that were stored before it."""
    return [
        Column("name", Text),
        Column("event_type", Text, nullable=False, index=True),
        Column("aggregation", Text, nullable=False),
        Column("value_property", Text),
        Column("percentile", ExactDecimal),
        Column("dimensions", Text, nullable=False),
        Column("filters", Text, nullable=False),
        Column("unit", Text),
        Column("created_at_us", BigInteger, nullable=False),
        Column("breaks", Text, nullable=False, server_default="[]"),
        Column("filled_seq", BigInteger, nullable=False, server_default="0"),
        Column("watermark_seq", BigInteger, nullable=False, server_default="0"),
    ]


# `id` goes with what is counted, `key` with the meter: a change of what is counted comes with another id.
meters = Table(
    "meters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    *_definition(),
    Column("archived_at_us", BigInteger),
    info=everywhere("definitions, which budgets name"),
)

# What meters are about to count: it takes the place of what they count now once it is filled.
meter_changes = Table(
    "meter_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, ForeignKey("meters.key"), nullable=False, unique=True),
    *_definition(),
    Column("actor", Text, nullable=False),
    info=everywhere("definitions, at most one for each meter"),
)
