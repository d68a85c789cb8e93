"""Credit grants, resets, snapshots of balances, and top-up rules."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "credit_grants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=False),
        sa.Column("amount", exact, nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("effective_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
        sa.Column("purchased", sa.Boolean(), nullable=False),
        sa.Column("recurrence", sa.Text(), nullable=True),
        sa.Column("anchor_at_us", sa.BigInteger(), nullable=True),
        sa.Column("rollover_max", exact, nullable=False),
        sa.Column("rollover_min", exact, nullable=False),
        sa.Column("charges", sa.Text(), nullable=True),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("voided_at_us", sa.BigInteger(), nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["customer_key"], ["customers.key"], name=op.f("fk_credit_grants_customer_key_customers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_grants")),
        sa.UniqueConstraint(
            "customer_key", "idempotency_key", name=op.f("uq_credit_grants_customer_key_idempotency_key")
        ),
    )
    _of_a_customer(
        "credit_resets",
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("preserve_overage", sa.Boolean(), nullable=False),
        key=["at_us"],
    )
    _of_a_customer(
        "credit_snapshots",
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("counted", exact, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        key=["at_us"],
    )
    _of_a_customer(
        "credit_top_ups",
        sa.Column("below", exact, nullable=False),
        sa.Column("amount", exact, nullable=False),
        sa.Column("max_per_period", sa.Integer(), nullable=False),
        sa.Column("mark", exact, nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        key=[],
    )


def _of_a_customer(table: str, *columns: sa.Column[object], key: list[str]) -> None:
    op.create_table(
        table,
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["customer_key"], ["customers.key"], name=op.f(f"fk_{table}_customer_key_customers")),
        sa.PrimaryKeyConstraint("customer_key", "unit", "feature", *key, name=op.f(f"pk_{table}")),
    )
