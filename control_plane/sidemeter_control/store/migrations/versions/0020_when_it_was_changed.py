"""When anything was changed last: what is shared by then is shared by it, whoever's clock is behind."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("state", sa.Column("changed_at_us", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE state SET changed_at_us = coalesce((SELECT max(at_us) FROM audit), 0)")
