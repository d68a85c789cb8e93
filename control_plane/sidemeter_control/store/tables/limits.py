"""What customers may spend, and what was said of it to whom: budgets, alerts, webhooks."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, false

from sidemeter_control.store.tables.columns import ExactDecimal, RowNumber, metadata
from sidemeter_control.store.tables.spread import at_home, by

__all__ = ["alerts", "budgets", "webhook_deliveries", "webhooks"]

# Caps on what is spent in a period. `meter_key` null: in money. `slice` is a JSON list of dimensions with their values,
# `thresholds` one of percentages; `version` the configuration's when it was set;
# `by_customer`: over a portal link, and the customer's to change.
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
    Column("by_customer", Boolean, nullable=False, server_default=false()),
    info=by("customer_key", "as many as customers set"),
)

# What was said, once in a period. `threshold` 0: there is none, because a NULL is never equal to another.
alerts = Table(
    "alerts",
    metadata,
    Column("seq", RowNumber, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("customer_key", Text, ForeignKey("customers.key"), nullable=False),
    Column("period_start_us", BigInteger, nullable=False),
    Column("what", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("threshold", Integer, nullable=False),
    Column("terms", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("used", ExactDecimal, nullable=False),
    Column("amount", ExactDecimal, nullable=False),
    UniqueConstraint("customer_key", "period_start_us", "what", "kind", "threshold", "terms"),
    Index(None, "customer_key", "seq"),
    info=by("customer_key", "up to a number for each customer"),
)

# Where alerts are sent. `kinds` is a JSON list, null: of every kind. The secret is there as it is: it has to sign, and so has
# the one before it, until then. `disabled_at_us`: when its receiver said that it is gone.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False, unique=True),
    Column("kinds", Text),
    Column("secret", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("old_secret", Text),
    Column("old_secret_until_us", BigInteger),
    Column("disabled_at_us", BigInteger),
    info=at_home("a row for each receiver"),
)

# Alerts on their way, written with the alert, and what became of them. They stay when their webhook goes.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("seq", RowNumber, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("webhook_id", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("alert_id", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    Index(None, "state", "seq"),
    info=at_home("the newest, up to a number in all"),
)
