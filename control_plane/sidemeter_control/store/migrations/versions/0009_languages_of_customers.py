"""The language of a customer's bills and quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("customers", sa.Column("language", sa.Text(), nullable=False, server_default="EN"))
