"""Customers whose credits are all that may be spent."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("customers", sa.Column("prepaid", sa.Boolean(), nullable=False, server_default=sa.false()))
