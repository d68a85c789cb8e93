"""Who pays, what for, and what is allowed: features, customers, plans, subscriptions, closed periods, credits."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from sidemeter_control.store.tables.columns import ExactDecimal, RowNumber, metadata
from sidemeter_control.store.tables.spread import at_home, by, everywhere

__all__ = [
    "add_ons",
    "closed_periods",
    "credit_grants",
    "credit_resets",
    "credit_snapshots",
    "credit_top_ups",
    "customer_subjects",
    "customers",
    "features",
    "overrides",
    "past_overrides",
    "plans",
    "subscriptions",
]

features = Table(
    "features",
    metadata,
    Column("key", Text, primary_key=True),
    Column("name", Text),
    Column("meter_key", Text, ForeignKey("meters.key")),
    Column("created_at_us", BigInteger, nullable=False),
    info=everywhere("definitions, which add-ons and overrides name"),
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
    Column("prepaid", Boolean, nullable=False, server_default=false()),
    info=everywhere("some hundred bytes for each customer, whom rows of every shard name"),
)

# A subject belongs to one customer at most; a customer without listed subjects has one, its key.
customer_subjects = Table(
    "customer_subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False, index=True),
    info=everywhere("who is whose: one subject has one customer, whichever shard either is on"),
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
    info=at_home("definitions, which a control plane remembers"),
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
    info=by("customer_key", "one or more for each customer, and each change of plan"),
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
    info=by("customer_key", "a row for each customer and billing period"),
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
    info=by("customer_key", "as many as customers buy"),
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
    info=by("customer_key", "as many as are agreed with customers"),
)

# What was agreed until it was replaced or removed, in the order in which it was: `expires_at_us` is then, at the latest.
past_overrides = Table(
    "past_overrides",
    metadata,
    Column("seq", RowNumber, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False),
    Column("feature_key", Text, ForeignKey("features.key"), nullable=False),
    Column("definition", Text, nullable=False),
    Column("effective_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Column("set_at_us", BigInteger, nullable=False),
    Index(None, "customer_key", "feature_key"),
    info=by("customer_key", "as many as were agreed with customers"),
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
    info=by("customer_key", "as many as customers buy or are given, again in each period"),
)

credit_resets = Table(
    "credit_resets",
    metadata,
    Column("customer_key", Text, ForeignKey("customers.key"), primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("feature", Text, primary_key=True),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("preserve_overage", Boolean, nullable=False),
    info=by("customer_key", "as many as are asked for of customers"),
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
    info=by("customer_key", "one for each customer with credits"),
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
    info=by("customer_key", "one for each customer that buys by itself"),
)
