"""Pools of leases say themselves what they count: budgets are shared, too, and of slices."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("lease_pools", sa.Column("meter_key", sa.Text(), nullable=False, server_default=""))
    op.add_column("lease_pools", sa.Column("slice", sa.Text(), nullable=False, server_default="[]"))
    op.execute(
        "UPDATE lease_pools SET meter_key = coalesce((SELECT meter_key FROM features WHERE key = feature_key), '')"
    )
