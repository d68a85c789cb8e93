"""Corrections, the audit, meters that are filled in the background, and counts of distinct values."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

exact = sa.Text().with_variant(sa.Numeric(), "postgresql")
row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
big = sa.BigInteger()

_WAITING_OF_A_METER = sa.text("replayed_at_us IS NULL AND meter_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("state", sa.Column("closed_until_us", big, nullable=False, server_default="0"))
    op.add_column("rollups", sa.Column("moment", exact, nullable=True))
    op.add_column("rollup_values", sa.Column("events", big, nullable=False, server_default="1"))
    for name in ("filled_seq", "watermark_seq"):
        op.add_column("meters", sa.Column(name, big, nullable=False, server_default="0"))
    _add_tables()
    _tell_letters_their_event()
    _count_distinct_values_anew()


def _add_tables() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", row_number, nullable=False),
        sa.Column("at_us", big, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("actor", "action", "target", "detail")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "corrections",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("event_seq", big, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_us", big, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "event_seq", "number", name=op.f("pk_corrections")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "late_days",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("day_us", big, autoincrement=False, nullable=False),
        sa.Column("first_seq", big, nullable=False),
        sa.PrimaryKeyConstraint("subject", "day_us", name=op.f("pk_late_days")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "retired_rollups",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("meter_id", name=op.f("pk_retired_rollups")),
    )
    op.create_table(
        "meter_changes",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("aggregation", sa.Text(), nullable=False),
        sa.Column("value_property", sa.Text(), nullable=True),
        sa.Column("percentile", exact, nullable=True),
        sa.Column("dimensions", sa.Text(), nullable=False),
        sa.Column("filters", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("created_at_us", big, nullable=False),
        sa.Column("filled_seq", big, nullable=False, server_default="0"),
        sa.Column("watermark_seq", big, nullable=False, server_default="0"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["meters.key"], name=op.f("fk_meter_changes_key_meters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter_changes")),
        sa.UniqueConstraint("key", name=op.f("uq_meter_changes_key")),
    )
    op.create_index(op.f("ix_meter_changes_event_type"), "meter_changes", ["event_type"])


def _tell_letters_their_event() -> None:
    op.add_column("dead_letters", sa.Column("meter_id", sa.Integer(), nullable=True))
    op.add_column("dead_letters", sa.Column("event_source", sa.Text(), nullable=True))
    op.add_column("dead_letters", sa.Column("event_id", sa.Text(), nullable=True))
    conn = op.get_bind()
    found = conn.execute(
        sa.text("SELECT d.id, d.raw, m.id FROM dead_letters AS d JOIN meters AS m ON m.key = d.meter_key")
    )
    told = sa.text(
        "UPDATE dead_letters SET meter_id = :meter, event_source = :source, event_id = :event WHERE id = :id"
    )
    for letter, raw, meter in found.all():
        event = json.loads(raw)
        conn.execute(told, {"id": letter, "meter": meter, "source": event["source"], "event": event["id"]})
    op.create_index(
        op.f("ix_dead_letters_of_event"),
        "dead_letters",
        ["event_source", "event_id"],
        sqlite_where=_WAITING_OF_A_METER,
        postgresql_where=_WAITING_OF_A_METER,
    )


def _count_distinct_values_anew() -> None:
    """How often each value came is not known of what was counted so far. These meters are filled anew beside what they
    are now, which goes on answering until then."""
    op.execute(
        "INSERT INTO meter_changes (id, key, name, event_type, aggregation, value_property, percentile, dimensions,"
        "  filters, unit, created_at_us, filled_seq, watermark_seq, actor)"
        " SELECT id + (SELECT max(id) FROM meters), key, name, event_type, aggregation, value_property, percentile,"
        "  dimensions, filters, unit, created_at_us, 0, (SELECT coalesce(max(seq), 0) FROM events), 'operator'"
        " FROM meters WHERE aggregation = 'UNIQUE_COUNT'"
    )
