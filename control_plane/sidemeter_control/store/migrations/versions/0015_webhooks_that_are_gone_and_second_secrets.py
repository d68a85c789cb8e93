"""Webhooks may be disabled, because their receiver said it is gone, and sign with the secret before this one for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("old_secret", sa.Text()))
    op.add_column("webhooks", sa.Column("old_secret_until_us", sa.BigInteger()))
    op.add_column("webhooks", sa.Column("disabled_at_us", sa.BigInteger()))
