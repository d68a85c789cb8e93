"""Budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")


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
