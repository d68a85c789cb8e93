"""The first schema."""

import sqlalchemy as sa
from alembic import op

from sidemeter_control.clock import SystemClock

revision = "0001"
down_revision = None

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")
row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_us", sa.BigInteger(), nullable=False),
        sa.Column("backlog", sa.BigInteger(), nullable=False),
        sa.Column("oldest_pending_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_agents")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_keys_secret_hash")),
    )
    op.create_table(
        "batches",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("batch_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "epoch", "batch_no", name=op.f("pk_batches")),
    )
    op.create_table(
        "customers",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_customers")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", row_number, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("meter_key", sa.Text(), nullable=True),
        sa.Column("agent_id", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("batch_no", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "events",
        sa.Column("seq", row_number, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("source", "id", name=op.f("uq_events_source_id")),
    )
    op.create_index(op.f("ix_events_subject_time_us"), "events", ["subject", "time_us"])
    op.create_index(op.f("ix_events_time_us"), "events", ["time_us"])

    op.create_table(
        "meters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("aggregation", sa.Text(), nullable=False),
        sa.Column("value_property", sa.Text(), nullable=True),
        sa.Column("percentile", exact, nullable=True),
        sa.Column("dimensions", sa.Text(), nullable=False),
        sa.Column("filters", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("archived_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meters")),
        sa.UniqueConstraint("key", name=op.f("uq_meters_key")),
    )
    op.create_index(op.f("ix_meters_event_type"), "meters", ["event_type"])

    op.create_table(
        "plans",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("interval", sa.Text(), nullable=False),
        sa.Column("interval_count", sa.Integer(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("published_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "version", name=op.f("pk_plans")),
    )
    op.create_table(
        "rollup_values",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("grain_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dimensions", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject", "meter_id", "grain_s", "bucket_us", "dimensions", "value", name=op.f("pk_rollup_values")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollups",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("grain_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dimensions", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("sum", exact, nullable=True),
        sa.Column("min", exact, nullable=True),
        sa.Column("max", exact, nullable=True),
        sa.Column("last", exact, nullable=True),
        sa.Column("last_time_us", sa.BigInteger(), nullable=True),
        sa.Column("last_source", sa.Text(), nullable=True),
        sa.Column("last_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("subject", "meter_id", "grain_s", "bucket_us", "dimensions", name=op.f("pk_rollups")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_rollups_meter_id_grain_s_bucket_us"), "rollups", ["meter_id", "grain_s", "bucket_us"])

    op.create_table(
        "state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("config_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_state")),
    )
    op.create_table(
        "agent_epochs",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hello_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("next_batch_no", sa.BigInteger(), nullable=False),
        sa.Column("last_digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_agent_epochs_agent_id_agents")),
        sa.PrimaryKeyConstraint("agent_id", "epoch", name=op.f("pk_agent_epochs")),
        sa.UniqueConstraint("agent_id", "hello_id", name=op.f("uq_agent_epochs_agent_id_hello_id")),
    )
    op.create_table(
        "customer_subjects",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_key"], ["customers.key"], name=op.f("fk_customer_subjects_customer_key_customers")
        ),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_customer_subjects")),
    )
    op.create_index(op.f("ix_customer_subjects_customer_key"), "customer_subjects", ["customer_key"])

    op.create_table(
        "features",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("meter_key", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["meter_key"], ["meters.key"], name=op.f("fk_features_meter_key_meters")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_features")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("plan_key", sa.Text(), nullable=False),
        sa.Column("plan_version", sa.Integer(), nullable=False),
        sa.Column("start_at_us", sa.BigInteger(), nullable=False),
        sa.Column("end_at_us", sa.BigInteger(), nullable=True),
        sa.Column("anchor_at_us", sa.BigInteger(), nullable=False),
        sa.Column("trial_end_us", sa.BigInteger(), nullable=True),
        sa.Column("overrides", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_key"], ["customers.key"], name=op.f("fk_subscriptions_customer_key_customers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index(op.f("ix_subscriptions_customer_key"), "subscriptions", ["customer_key"])
    op.create_index(op.f("ix_subscriptions_plan_key"), "subscriptions", ["plan_key"])

    state = sa.table(
        "state", sa.column("id"), sa.column("generation"), sa.column("config_version"), sa.column("created_at_us")
    )
    clock = SystemClock()
    op.bulk_insert(
        state, [{"id": 1, "generation": clock.new_id("gen"), "config_version": 1, "created_at_us": clock.now_us()}]
    )
