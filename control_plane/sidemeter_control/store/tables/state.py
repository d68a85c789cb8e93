"""The database itself, who changed it, and the agents."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from sidemeter_control.store.tables.columns import RowNumber, metadata
from sidemeter_control.store.tables.spread import BATCHES, at_home, by

__all__ = [
    "agent_epochs",
    "agents",
    "audit",
    "batches",
    "loss_declarations",
    "state",
]

# One row. `generation` names this copy of the database; `config_version` rises with every change of a definition. What
# happens before `closed_until_us` is late. `lease_version` rises with what is stored of leases, `holders`
# is the number of `lease_holders`; `leases_generation` is the generation that they were granted in: another than the present one
# shows that a backup was put in the place of the database. Every event up to `alerts_seq` has been looked at for alerts.
# `audit_seq` and `audit_hash` are those of the newest entry of the audit log, so that its end cannot go unseen; `changed_at_us` is
# the latest instant of any entry.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("generation", Text, nullable=False),
    Column("config_version", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("closed_until_us", BigInteger, nullable=False, server_default="0"),
    Column("lease_version", BigInteger, nullable=False, server_default="0"),
    Column("holders", BigInteger, nullable=False, server_default="0"),
    Column("leases_generation", Text),
    Column("alerts_seq", BigInteger, nullable=False, server_default="0"),
    Column("audit_seq", BigInteger, nullable=False, server_default="0"),
    Column("audit_hash", LargeBinary),
    Column("changed_at_us", BigInteger, nullable=False, server_default="0"),
    info=at_home("one row, which nearly every transaction writes"),
)

# Who changed what, in the order of the changes. `actor`: the id of a key or of a portal link, or "operator" for whoever has the
# machine. `hash` covers the entry and the hash of the one before.
audit = Table(
    "audit",
    metadata,
    Column("seq", RowNumber, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", LargeBinary),
    info=at_home("a chain in one order"),
)

agents = Table(
    "agents",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("last_seen_us", BigInteger, nullable=False),
    Column("backlog", BigInteger, nullable=False),
    Column("oldest_pending_us", BigInteger),
    info=at_home("a row for each agent, written every second"),
)

# The cursor: which batch of an agent's epoch comes next, and the digest it must build on; and the nonce that its next
# sync brings, or the one before if the answer was lost.
agent_epochs = Table(
    "agent_epochs",
    metadata,
    Column("agent_id", Text, ForeignKey("agents.agent_id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("hello_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("next_batch_no", BigInteger, nullable=False),
    Column("last_digest", LargeBinary, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("nonce", LargeBinary),
    Column("previous_nonce", LargeBinary),
    UniqueConstraint("agent_id", "hello_id"),
    info=at_home("a row for each start of an agent, written with every batch"),
)

# What agents say is lost (P6): rows of a buffer, which had numbers; `last_row` and `events` null where it is not known.
loss_declarations = Table(
    "loss_declarations",
    metadata,
    Column("seq", RowNumber, primary_key=True),
    Column("agent_id", Text, ForeignKey("agents.agent_id"), nullable=False),
    Column("id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("last_row", BigInteger),
    Column("events", BigInteger),
    Column("reason", Text, nullable=False),
    Column("noticed_at_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    UniqueConstraint("agent_id", "id"),
    info=at_home("a row for each loss, in one order"),
)

# What every counted batch looked like, so that a repeat is told from a fork.
batches = Table(
    "batches",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_no", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("events", Integer, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    info=by("agent_id", "a row for each batch", group=BATCHES),
)
