"""Every table, once. Instants are integer microseconds since 1970 (UTC); quantities and money are exact decimals.

Each says in its `info` where its rows are on a cluster (`spread`): by the subject or the customer whom it is about, everywhere, or
at home. On a cluster what a table is spread by leads every key of it (`store.shards`).
"""

from sidemeter_control.store.tables.access import api_keys, link_keys, retired_secrets, sessions
from sidemeter_control.store.tables.columns import ExactDecimal, metadata
from sidemeter_control.store.tables.leases import (
    lease_holders,
    lease_holdings,
    lease_pools,
    recoveries,
    recovery_awaited,
)
from sidemeter_control.store.tables.limits import alerts, budgets, webhook_deliveries, webhooks
from sidemeter_control.store.tables.metering import (
    archive_files,
    archived_months,
    corrections,
    dead_letters,
    events,
    late_days,
    meter_changes,
    meters,
    outcome_mentions,
    outcome_rules,
    retired_rollups,
    rollup_values,
    rollups,
)
from sidemeter_control.store.tables.pricing import (
    add_ons,
    closed_periods,
    credit_grants,
    credit_resets,
    credit_snapshots,
    credit_top_ups,
    customer_subjects,
    customers,
    features,
    overrides,
    past_overrides,
    plans,
    subscriptions,
)
from sidemeter_control.store.tables.state import (
    agent_epochs,
    agents,
    audit,
    batches,
    loss_declarations,
    state,
)

__all__ = [
    "ExactDecimal",
    "add_ons",
    "agent_epochs",
    "agents",
    "alerts",
    "api_keys",
    "archive_files",
    "archived_months",
    "audit",
    "batches",
    "budgets",
    "closed_periods",
    "corrections",
    "credit_grants",
    "credit_resets",
    "credit_snapshots",
    "credit_top_ups",
    "customer_subjects",
    "customers",
    "dead_letters",
    "events",
    "features",
    "late_days",
    "lease_holders",
    "lease_holdings",
    "lease_pools",
    "link_keys",
    "loss_declarations",
    "metadata",
    "meter_changes",
    "meters",
    "outcome_mentions",
    "outcome_rules",
    "overrides",
    "past_overrides",
    "plans",
    "recoveries",
    "recovery_awaited",
    "retired_rollups",
    "retired_secrets",
    "rollup_values",
    "rollups",
    "sessions",
    "state",
    "subscriptions",
    "webhook_deliveries",
    "webhooks",
]
