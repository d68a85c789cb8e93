"""Nonces of syncs, and loss declarations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("agent_epochs", sa.Column("nonce", sa.LargeBinary(), nullable=True))
    op.add_column("agent_epochs", sa.Column("previous_nonce", sa.LargeBinary(), nullable=True))
    op.create_table(
        "loss_declarations",
        sa.Column("seq", row_number, nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first_row", sa.BigInteger(), nullable=False),
        sa.Column("last_row", sa.BigInteger(), nullable=True),
        sa.Column("events", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("noticed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name=op.f("fk_loss_declarations_agent_id_agents")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_loss_declarations")),
        sa.UniqueConstraint("agent_id", "id", name=op.f("uq_loss_declarations_agent_id_id")),
    )
