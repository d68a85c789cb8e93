"""A dead letter of one meter says whose event it is: between shards, an id may be two subjects'."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("event_subject", sa.Text(), nullable=True))
    op.execute(
        "UPDATE dead_letters SET event_subject = (SELECT subject FROM events WHERE source = event_source AND id = event_id)"
        " WHERE event_id IS NOT NULL AND replayed_at_us IS NULL"
    )
