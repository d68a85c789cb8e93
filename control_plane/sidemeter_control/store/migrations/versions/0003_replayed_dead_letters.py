"""When a dead letter was counted after all, and by whom."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("replayed_at_us", sa.BigInteger(), nullable=True))
    op.add_column("dead_letters", sa.Column("replayed_by", sa.Text(), nullable=True))
    op.create_index(
        op.f("ix_dead_letters_waiting"),
        "dead_letters",
        ["id"],
        sqlite_where=sa.text("replayed_at_us IS NULL"),
        postgresql_where=sa.text("replayed_at_us IS NULL"),
    )
