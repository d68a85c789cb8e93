"""Changes of plan, pauses, closed billing periods, and what came to them late."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("replaces", sa.Text(), nullable=True))
    op.add_column("subscriptions", sa.Column("pauses", sa.Text(), nullable=True))
    op.add_column("subscriptions", sa.Column("time_zone", sa.Text(), nullable=False, server_default="UTC"))
    op.execute(
        "UPDATE subscriptions SET time_zone ="
        " (SELECT time_zone FROM customers WHERE customers.key = subscriptions.customer_key)"
    )
    op.add_column("subscriptions", sa.Column("closes_at_us", sa.BigInteger(), nullable=True))
    op.execute("UPDATE subscriptions SET closes_at_us = start_at_us")
    op.create_index(op.f("ix_subscriptions_closes_at_us"), "subscriptions", ["closes_at_us"])
    op.create_table(
        "closed_periods",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("start_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_us", sa.BigInteger(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("total", exact, nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.Column("billed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_closed_periods_subscription_id_subscriptions")
        ),
        sa.PrimaryKeyConstraint("subscription_id", "start_us", name=op.f("pk_closed_periods")),
    )
    op.create_index(op.f("ix_closed_periods_customer_key_end_us"), "closed_periods", ["customer_key", "end_us"])
