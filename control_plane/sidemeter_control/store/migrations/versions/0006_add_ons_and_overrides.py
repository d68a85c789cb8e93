"""Add-ons, and overrides of what plans entitle to."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "add_ons",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("feature_key", sa.Text(), nullable=False),
        sa.Column("quantity", exact, nullable=True),
        sa.Column("effective_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("granted_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=True),
        sa.Column("revoke_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["customer_key"], ["customers.key"], name=op.f("fk_add_ons_customer_key_customers")),
        sa.ForeignKeyConstraint(["feature_key"], ["features.key"], name=op.f("fk_add_ons_feature_key_features")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_add_ons")),
        sa.UniqueConstraint("customer_key", "idempotency_key", name=op.f("uq_add_ons_customer_key_idempotency_key")),
    )
    op.create_table(
        "overrides",
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("feature_key", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("effective_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
        sa.Column("set_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["customer_key"], ["customers.key"], name=op.f("fk_overrides_customer_key_customers")),
        sa.ForeignKeyConstraint(["feature_key"], ["features.key"], name=op.f("fk_overrides_feature_key_features")),
        sa.PrimaryKeyConstraint("customer_key", "feature_key", name=op.f("pk_overrides")),
    )
