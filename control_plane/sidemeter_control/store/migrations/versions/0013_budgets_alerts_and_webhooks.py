"""Budgets, the alerts that they and quotas raise, and the webhooks that these are sent to."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")
row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("amount", exact, nullable=False),
        sa.Column("meter_key", sa.Text(), nullable=True),
        sa.Column("reset", sa.Text(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("enforcement", sa.Text(), nullable=False),
        sa.Column("thresholds", sa.Text(), nullable=False),
        sa.Column("set_at_us", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["customer_key"], ["customers.key"], name=op.f("fk_budgets_customer_key_customers")),
        sa.ForeignKeyConstraint(["meter_key"], ["meters.key"], name=op.f("fk_budgets_meter_key_meters")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_budgets")),
    )
    op.create_index(op.f("ix_budgets_customer_key"), "budgets", ["customer_key"])
    op.create_index(op.f("ix_budgets_meter_key"), "budgets", ["meter_key"])
    op.create_table(
        "alerts",
        sa.Column("seq", row_number, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("period_start_us", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("used", exact, nullable=False),
        sa.Column("amount", exact, nullable=False),
        sa.ForeignKeyConstraint(["customer_key"], ["customers.key"], name=op.f("fk_alerts_customer_key_customers")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_alerts")),
        sa.UniqueConstraint(
            "customer_key",
            "period_start_us",
            "what",
            "kind",
            "threshold",
            "terms",
            name=op.f("uq_alerts_customer_key_period_start_us_what_kind_threshold_terms"),
        ),
        sa.UniqueConstraint("id", name=op.f("uq_alerts_id")),
    )
    op.create_index(op.f("ix_alerts_customer_key_seq"), "alerts", ["customer_key", "seq"])
    op.add_column("state", sa.Column("alerts_seq", sa.BigInteger(), nullable=False, server_default="0"))
    # What was used before there were alerts is looked at customer by customer, not event by event.
    op.execute("UPDATE state SET alerts_seq = (SELECT coalesce(max(seq), 0) FROM events)")
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("url", name=op.f("uq_webhooks_url")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("seq", row_number, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint("id", name=op.f("uq_webhook_deliveries_id")),
    )
    op.create_index(op.f("ix_webhook_deliveries_state_seq"), "webhook_deliveries", ["state", "seq"])
