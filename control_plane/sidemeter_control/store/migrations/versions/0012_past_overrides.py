"""Overrides of what plans entitle to are kept when they are replaced or removed."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "past_overrides",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("feature_key", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("effective_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("set_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_key"], ["customers.key"], name=op.f("fk_past_overrides_customer_key_customers")
        ),
        sa.ForeignKeyConstraint(["feature_key"], ["features.key"], name=op.f("fk_past_overrides_feature_key_features")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_past_overrides")),
    )
    op.create_index(
        op.f("ix_past_overrides_customer_key_feature_key"), "past_overrides", ["customer_key", "feature_key"]
    )
