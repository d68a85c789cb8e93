"""Plan versions: written once, never changed."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.definitions import Definition
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.plans import Plan, PlanSpec, read_plan
from sidemeter_control.store.tables import plans, subscriptions

__all__ = ["add", "get", "list_newest", "newest_versions", "subscribers"]


async def add(conn: AsyncConnection, spec: PlanSpec, plan: Plan) -> None:
    """Write a new version: the plan, and the spec it was read from."""
    definition = Definition(
        charges=spec.charges,
        entitlements=spec.entitlements,
        trial_days=spec.trial_days,
        proration=spec.proration,
        minimum_spend=spec.minimum_spend,
        commitment=spec.commitment,
    )
    await conn.execute(
        insert(plans).values(
            key=plan.key,
            version=plan.version,
            name=plan.name,
            currency=plan.currency,
            interval=plan.interval.value,
            interval_count=plan.interval_count,
            definition=definition.text(),
            published_at_us=plan.published_at_us,
        )
    )


async def get(conn: AsyncConnection, versions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Plan]:
    """The plans of those (key, version) that exist."""
    wanted = select(plans).where(tuple_(plans.c.key, plans.c.version).in_(list(versions)))
    return {(row.key, row.version): _plan(row) for row in await conn.execute(wanted)}


async def newest_versions(conn: AsyncConnection, keys: Iterable[str]) -> dict[str, int]:
    """The newest version of each of those keys that has one."""
    newest = (
        select(plans.c.key, func.max(plans.c.version).label("newest"))
        .where(plans.c.key.in_(list(keys)))
        .group_by(plans.c.key)
    )
    return {row.key: row.newest for row in await conn.execute(newest)}


async def list_newest(conn: AsyncConnection) -> list[Plan]:
    """The newest version of every plan, by key."""
    newest = select(plans.c.key, func.max(plans.c.version)).group_by(plans.c.key)
    wanted = select(plans).where(tuple_(plans.c.key, plans.c.version).in_(newest)).order_by(plans.c.key)
    return [_plan(row) for row in await conn.execute(wanted)]


async def subscribers(
    conn: AsyncConnection, versions: Iterable[tuple[str, int]], at_us: int
) -> dict[tuple[str, int], int]:
    """How many subscriptions each (key, version) has that have not ended by `at_us`; none: absent."""
    version = (subscriptions.c.plan_key, subscriptions.c.plan_version)
    ends = subscriptions.c.end_at_us
    counted = (
        select(*version, func.count())
        .where(
            tuple_(*version).in_(list(versions)),
            ends.is_(None) | ((ends > at_us) & (ends > subscriptions.c.start_at_us)),
        )
        .group_by(*version)
    )
    return {(key, number): count for key, number, count in await conn.execute(counted)}


# Keyed by the whole row: a version is parsed once per process, and never taken for that of another database.
@lru_cache(maxsize=1024)
def _plan(row: Row[Any]) -> Plan:
    definition = Definition.read(row.definition)
    spec = PlanSpec(
        key=row.key,
        name=row.name,
        currency=row.currency,
        interval=Interval(row.interval),
        interval_count=row.interval_count,
        charges=definition.charges,
        entitlements=definition.entitlements,
        trial_days=definition.trial_days,
        proration=definition.proration,
        minimum_spend=definition.minimum_spend,
        commitment=definition.commitment,
    )
    return read_plan(spec, row.version, row.published_at_us)
