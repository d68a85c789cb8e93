"""Leases: who holds what of which limit, and what a database that was rolled back waits for."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text

from sidemeter_control.store.tables.columns import metadata
from sidemeter_control.store.tables.spread import at_home, by, everywhere

__all__ = ["lease_holders", "lease_holdings", "lease_pools", "recoveries", "recovery_awaited"]

# Every epoch of every agent, named by its hello: also those that only their agents remember after a rollback.
lease_holders = Table(
    "lease_holders",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("hello_id", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("standing", Text, nullable=False),
    sqlite_with_rowid=False,
    info=everywhere("a row for each start of an agent, asked for with what it holds"),
)

# A limit in one period: of a feature, or of a budget, whose name here no feature has. `meter_key` counts it, of `slice` as in
# `budgets`, whatever becomes of the budget. One unit is 10^-scale of the meter's; `outside` are units that no holder speaks
# for, `turn` counts the syncs that asked for it. `end_us` null: the period never ends.
lease_pools = Table(
    "lease_pools",
    metadata,
    Column("customer_key", Text, primary_key=True),
    Column("feature_key", Text, primary_key=True),
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("meter_key", Text, nullable=False, server_default=""),
    Column("slice", Text, nullable=False, server_default="[]"),
    Column("end_us", BigInteger),
    Column("scale", Integer, nullable=False),
    Column("outside", BigInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Index(None, "end_us"),
    sqlite_with_rowid=False,
    info=by("customer_key", "a row for each customer, limit and period"),
)

# What one holder has of a pool, in its units.
lease_holdings = Table(
    "lease_holdings",
    metadata,
    Column("customer_key", Text, primary_key=True),
    Column("feature_key", Text, primary_key=True),
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("agent_id", Text, primary_key=True),
    Column("hello_id", Text, primary_key=True),
    Column("granted", BigInteger, nullable=False),
    Column("returned", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("overrun", BigInteger, nullable=False),
    Column("written_off", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("want_free", BigInteger, nullable=False),
    Column("need", BigInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Index(None, "agent_id", "hello_id"),
    sqlite_with_rowid=False,
    info=by("customer_key", "a row for each of those and each agent"),
)

# One row for each generation that began because the database found itself an older copy; at most one has not ended.
recoveries = Table(
    "recoveries",
    metadata,
    Column("generation", Text, primary_key=True),
    Column("through", BigInteger, nullable=False),
    Column("holders", BigInteger),
    Column("began_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    info=at_home("a row for each recovery"),
)

recovery_awaited = Table(
    "recovery_awaited",
    metadata,
    Column("generation", Text, ForeignKey("recoveries.generation"), primary_key=True),
    Column("agent_id", Text, primary_key=True),
    Column("hello_id", Text, primary_key=True),
    info=at_home("a row for each agent that a recovery waits for"),
)
