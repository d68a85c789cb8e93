"""Every table, once. Instants are integer microseconds since 1970 (UTC); quantities and money are exact decimals.

Hot tables (`events`, `corrections`, `rollups`, `rollup_values`, `late_days`) carry the subject in their keys, so that
they can be spread by it.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = [
    "ExactDecimal",
    "add_ons",
    "agent_epochs",
    "agents",
    "api_keys",
    "audit",
    "batches",
    "closed_periods",
    "corrections",
    "credit_grants",
    "credit_resets",
    "credit_snapshots",
    "credit_top_ups",
    "customer_subjects",
    "customers",
    "dead_letters",
    "events",
    "features",
    "late_days",
    "loss_declarations",
    "metadata",
    "meter_changes",
    "meters",
    "outcome_mentions",
    "outcome_rules",
    "overrides",
    "plans",
    "retired_rollups",
    "rollup_values",
    "rollups",
    "state",
    "subscriptions",
]


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal that comes back digit for digit: NUMERIC where the database has it, text where it has not (SQLite)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """NUMERIC without precision on PostgreSQL, TEXT elsewhere."""
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """A decimal on its way to the database."""
        return value if value is None or dialect.name == "postgresql" else format(value, "f")

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 -- the interface
        """A decimal on its way back."""
        return value if value is None or isinstance(value, Decimal) else Decimal(value)


# SQLite numbers rows by itself only in a column declared INTEGER.
_RowNumber = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row. `generation` names this copy of the database; `config_version` rises with every change of a definition. What
# happens before `closed_until_us` is late.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("generation", Text, nullable=False),
    Column("config_version", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("closed_until_us", BigInteger, nullable=False, server_default="0"),
)

# Who changed what, in the order of the changes. `actor`: the id of a key, or "operator" for whoever has the machine.
audit = Table(
    "audit",
    metadata,
    Column("seq", _RowNumber, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
)

agents = Table(
    "agents",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("last_seen_us", BigInteger, nullable=False),
    Column("backlog", BigInteger, nullable=False),
    Column("oldest_pending_us", BigInteger),
)

# The cursor: which batch of an agent's epoch comes next, and the digest it must build on; and the nonce that its next
# sync brings, or the one before if the answer was lost.
agent_epochs = Table(
    "agent_epochs",
    metadata,
    Column("agent_id", Text, ForeignKey("agents.agent_id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("hello_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("next_batch_no", BigInteger, nullable=False),
    Column("last_digest", LargeBinary, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("nonce", LargeBinary),
    Column("previous_nonce", LargeBinary),
    UniqueConstraint("agent_id", "hello_id"),
)

# What agents say is lost (P6): rows of a buffer, which had numbers; `last_row` and `events` null where it is not known.
loss_declarations = Table(
    "loss_declarations",
    metadata,
    Column("seq", _RowNumber, primary_key=True),
    Column("agent_id", Text, ForeignKey("agents.agent_id"), nullable=False),
    Column("id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("last_row", BigInteger),
    Column("events", BigInteger),
    Column("reason", Text, nullable=False),
    Column("noticed_at_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    UniqueConstraint("agent_id", "id"),
)

# What every counted batch looked like, so that a repeat is told from a fork.
batches = Table(
    "batches",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_no", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("events", Integer, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", _RowNumber, primary_key=True),
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("data", Text),
    UniqueConstraint("source", "id"),
    Index(None, "subject", "time_us"),
    Index(None, "time_us"),
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
)

# The days (UTC) to which an event or a correction came after they were closed, and the first event of each.
late_days = Table(
    "late_days",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("day_us", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
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
)

# The meters' numbers whose rollups nobody reads any more, to be deleted.
retired_rollups = Table(
    "retired_rollups",
    metadata,
    Column("meter_id", Integer, primary_key=True, autoincrement=False),
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
)

# `meter_key` null: the event as a whole could not be counted. Else: only that meter could not count it, as it was defined
# under the number `meter_id`; the event is stored.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", _RowNumber, primary_key=True),
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
)

# What meters are about to count: it takes the place of what they count now once it is filled.
meter_changes = Table(
    "meter_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, ForeignKey("meters.key"), nullable=False, unique=True),
    *_definition(),
    Column("actor", Text, nullable=False),
)

features = Table(
    "features",
    metadata,
    Column("key", Text, primary_key=True),
    Column("name", Text),
    Column("meter_key", Text, ForeignKey("meters.key")),
    Column("created_at_us", BigInteger, nullable=False),
)

customers = Table(
    "customers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("name", Text),
    Column("currency", Text),
    Column("time_zone", Text, nullable=False),
    Column("metadata", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("language", Text, nullable=False, server_default="EN"),
)

# A subject belongs to one customer at most; a customer without listed subjects has one, its key.
customer_subjects = Table(
    "customer_subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False, index=True),
)

# A plan's versions, each written once. `definition` holds charges, entitlements, minimum spend, commitment and trial as
# JSON.
plans = Table(
    "plans",
    metadata,
    Column("key", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text),
    Column("currency", Text, nullable=False),
    Column("interval", Text, nullable=False),
    Column("interval_count", Integer, nullable=False),
    Column("definition", Text, nullable=False),
    Column("published_at_us", BigInteger, nullable=False),
)

# `replaces`: the id of the subscription before a change of plan. `pauses`: pairs of instants as a JSON array.
# `closes_at_us`: before that instant no billing period of it can be closed; null: none is open.
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False, index=True),
    Column("plan_key", Text, nullable=False, index=True),
    Column("plan_version", Integer, nullable=False),
    Column("start_at_us", BigInteger, nullable=False),
    Column("end_at_us", BigInteger),
    Column("anchor_at_us", BigInteger, nullable=False),
    Column("trial_end_us", BigInteger),
    Column("overrides", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("replaces", Text),
    Column("pauses", Text),
    Column("time_zone", Text, nullable=False, server_default="UTC"),
    Column("closes_at_us", BigInteger, index=True),
)

# Billing periods that are over and do not change any more. `lines` and `total` say what was owed then; `billed` what is
# billed of each charge by now, with the adjustments in later periods; `last_seq` is the last event counted before.
closed_periods = Table(
    "closed_periods",
    metadata,
    Column("subscription_id", Text, ForeignKey("subscriptions.id"), primary_key=True),
    Column("start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("end_us", BigInteger, nullable=False),
    Column("customer_key", Text, nullable=False),
    Column("closed_at_us", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("total", ExactDecimal, nullable=False),
    Column("lines", Text, nullable=False),
    Column("billed", Text, nullable=False),
    Index(None, "customer_key", "end_us"),
)

# More of a feature than the plan gives, for one customer and an interval. `quantity` null: the feature has no meter.
add_ons = Table(
    "add_ons",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False),
    Column("feature_key", Text, ForeignKey("features.key"), nullable=False),
    Column("quantity", ExactDecimal),
    Column("effective_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("idempotency_key", Text),
    Column("granted_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
    Column("revoke_reason", Text),
    UniqueConstraint("customer_key", "idempotency_key"),
)

# What was agreed with one customer about a feature. `definition` holds the entitlement as JSON.
overrides = Table(
    "overrides",
    metadata,
    Column("customer_key", Text, ForeignKey("customers.key"), primary_key=True),
    Column("feature_key", Text, ForeignKey("features.key"), primary_key=True),
    Column("definition", Text, nullable=False),
    Column("effective_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("set_at_us", BigInteger, nullable=False),
)

# Written once; only the void is added later. `feature` is empty where the unit is MONEY: a key without NULL. `charges` is
# a JSON list of the charges that it may pay, NULL where it is any.
credit_grants = Table(
    "credit_grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False),
    Column("unit", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("amount", ExactDecimal, nullable=False),
    Column("currency", Text),
    Column("priority", Integer),
    Column("effective_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("purchased", Boolean, nullable=False),
    Column("recurrence", Text),
    Column("anchor_at_us", BigInteger),
    Column("rollover_max", ExactDecimal, nullable=False),
    Column("rollover_min", ExactDecimal, nullable=False),
    Column("charges", Text),
    Column("automatic", Boolean, nullable=False),
    Column("idempotency_key", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("voided_at_us", BigInteger),
    Column("void_reason", Text),
    UniqueConstraint("customer_key", "idempotency_key"),
)

credit_resets = Table(
    "credit_resets",
    metadata,
    Column("customer_key", Text, ForeignKey("customers.key"), primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("feature", Text, primary_key=True),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("preserve_overage", Boolean, nullable=False),
)

# What stood at an instant, so that history is not burned down anew for ever. It holds for what it was made of: `terms`.
credit_snapshots = Table(
    "credit_snapshots",
    metadata,
    Column("customer_key", Text, ForeignKey("customers.key"), primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("feature", Text, primary_key=True),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("terms", Text, nullable=False),
    Column("counted", ExactDecimal, nullable=False),
    Column("state", Text, nullable=False),
)

credit_top_ups = Table(
    "credit_top_ups",
    metadata,
    Column("customer_key", Text, ForeignKey("customers.key"), primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("feature", Text, primary_key=True),
    Column("below", ExactDecimal, nullable=False),
    Column("amount", ExactDecimal, nullable=False),
    Column("max_per_period", Integer, nullable=False),
    Column("mark", ExactDecimal),
    Column("created_at_us", BigInteger, nullable=False),
)
