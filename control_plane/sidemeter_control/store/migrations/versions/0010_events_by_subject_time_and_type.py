"""The events of one type among a subject's are found without a look at the others."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_index(op.f("ix_events_subject_time_us_type"), "events", ["subject", "time_us", "type"])
    op.drop_index(op.f("ix_events_subject_time_us"), "events")
