"""Leases: holders, pools, holdings, and recoveries after a rollback."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COUNTS = (
    "granted",
    "returned",
    "used",
    "refunded",
    "overrun",
    "written_off",
    "reserved",
    "want_free",
    "need",
    "turn",
)


def upgrade() -> None:
    op.add_column("state", sa.Column("lease_version", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("state", sa.Column("holders", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("state", sa.Column("leases_generation", sa.Text(), nullable=True))
    op.create_table(
        "lease_holders",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("hello_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "hello_id", name=op.f("pk_lease_holders")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO lease_holders (agent_id, hello_id, epoch, standing)"
        " SELECT e.agent_id, e.hello_id, e.epoch,"
        " CASE WHEN e.epoch = a.epoch THEN 'CURRENT' ELSE 'SUPERSEDED' END"
        " FROM agent_epochs AS e JOIN agents AS a ON a.agent_id = e.agent_id"
    )
    op.execute("UPDATE state SET holders = (SELECT count(*) FROM lease_holders)")
    op.create_table(
        "lease_pools",
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("feature_key", sa.Text(), nullable=False),
        sa.Column("period", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_us", sa.BigInteger(), nullable=True),
        sa.Column("scale", sa.Integer(), nullable=False),
        sa.Column("outside", sa.BigInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("customer_key", "feature_key", "period", name=op.f("pk_lease_pools")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_lease_pools_end_us"), "lease_pools", ["end_us"])
    op.create_table(
        "lease_holdings",
        sa.Column("customer_key", sa.Text(), nullable=False),
        sa.Column("feature_key", sa.Text(), nullable=False),
        sa.Column("period", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("hello_id", sa.Text(), nullable=False),
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS],
        sa.PrimaryKeyConstraint(
            "customer_key", "feature_key", "period", "agent_id", "hello_id", name=op.f("pk_lease_holdings")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_lease_holdings_agent_id_hello_id"), "lease_holdings", ["agent_id", "hello_id"])
    op.create_table(
        "recoveries",
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("through", sa.BigInteger(), nullable=False),
        sa.Column("holders", sa.BigInteger(), nullable=True),
        sa.Column("began_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_recoveries")),
    )
    op.create_table(
        "recovery_awaited",
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("hello_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation"], ["recoveries.generation"], name=op.f("fk_recovery_awaited_generation_recoveries")
        ),
        sa.PrimaryKeyConstraint("generation", "agent_id", "hello_id", name=op.f("pk_recovery_awaited")),
    )
