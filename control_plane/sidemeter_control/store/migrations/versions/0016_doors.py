"""Keys of one customer or service, with secrets that are replaced; portal links, sessions, and a chained audit log."""

import hashlib

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_AUDIT = sa.text("SELECT seq, at_us, actor, action, target, detail FROM audit ORDER BY seq")


def upgrade() -> None:
    for name, kind in (
        ("prefix", sa.Text()),
        ("customer_key", sa.Text()),
        ("service", sa.Text()),
        ("last_used_at_us", sa.BigInteger()),
    ):
        op.add_column("api_keys", sa.Column(name, kind, nullable=True))
    op.create_table(
        "retired_secrets",
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("ends_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_retired_secrets_key_id_api_keys")),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_retired_secrets")),
    )
    op.create_index(op.f("ix_retired_secrets_key_id"), "retired_secrets", ["key_id"])
    op.create_table(
        "link_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ends_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link_keys")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_owner"), "sessions", ["owner"])
    op.create_index(op.f("ix_sessions_expires_at_us"), "sessions", ["expires_at_us"])
    op.add_column("budgets", sa.Column("by_customer", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("audit", sa.Column("hash", sa.LargeBinary(), nullable=True))
    op.add_column("state", sa.Column("audit_seq", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("state", sa.Column("audit_hash", sa.LargeBinary(), nullable=True))
    _chain()


def _chain() -> None:
    """What older versions wrote is chained as it is found here."""
    conn = op.get_bind()
    seq, previous = 0, bytes(32)
    for number, *said in conn.execute(_AUDIT).all():
        seq = number
        previous = hashlib.sha256(previous + msgspec.json.encode([seq, *said])).digest()
        conn.execute(sa.text("UPDATE audit SET hash = :hash WHERE seq = :seq"), {"hash": previous, "seq": seq})
    conn.execute(sa.text("UPDATE state SET audit_seq = :seq, audit_hash = :hash"), {"seq": seq, "hash": previous})
