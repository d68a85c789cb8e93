"""What confirms or reverses uses, and where the values of a meter are told apart."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for table in ("meters", "meter_changes"):
        op.add_column(table, sa.Column("breaks", sa.Text(), nullable=False, server_default="[]"))
    op.create_table(
        "outcome_rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("meter_key", sa.Text(), nullable=False),
        sa.Column("confirm_type", sa.Text(), nullable=False),
        sa.Column("reverse_type", sa.Text(), nullable=False),
        sa.Column("window_us", sa.BigInteger(), nullable=False),
        sa.Column("named_by", sa.Text(), nullable=False),
        sa.Column("filled_seq", sa.BigInteger(), nullable=False),
        sa.Column("watermark_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["meter_key"], ["meters.key"], name=op.f("fk_outcome_rules_meter_key_meters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcome_rules")),
        sa.UniqueConstraint(
            "meter_key",
            "confirm_type",
            "reverse_type",
            "window_us",
            "named_by",
            name=op.f("uq_outcome_rules_meter_key_confirm_type_reverse_type_window_us_named_by"),
        ),
    )
    op.create_table(
        "outcome_mentions",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("thing", sa.Text(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("nano", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject", "rule_id", "thing", "time_us", "source", "id", "state", name=op.f("pk_outcome_mentions")
        ),
        sqlite_with_rowid=False,
    )
