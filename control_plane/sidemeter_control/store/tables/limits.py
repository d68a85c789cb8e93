"""What customers may spend: budgets."""

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text

from sidemeter_control.store.tables.columns import ExactDecimal, metadata

__all__ = ["budgets"]

# Caps on what is spent in a period. `meter_key` null: in money. `slice` is a JSON list of dimensions with their values,
# `thresholds` one of percentages; `version` the configuration's when it was set.
budgets = Table(
    "budgets",
    metadata,
    Column("key", Text, primary_key=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False, index=True),
    Column("amount", ExactDecimal, nullable=False),
    Column("meter_key", Text, ForeignKey("meters.key"), index=True),
    Column("reset", Text, nullable=False),
    Column("slice", Text, nullable=False),
    Column("enforcement", Text, nullable=False),
    Column("thresholds", Text, nullable=False),
    Column("set_at_us", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
)
