"""Moving the subscribers of one version of a plan to another, with a look at what it would cost them first."""

from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict
from sidemeter_control.money import Money
from sidemeter_control.pricing.catalogue import find_plan, meters_of
from sidemeter_control.pricing.changes import ChangeAt, Life, changed
from sidemeter_control.pricing.cost import cost_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.lifecycle import life_of, written
from sidemeter_control.pricing.plans import Plan
from sidemeter_control.pricing.subscriptions import Subscribed, Subscription
from sidemeter_control.store import audit, customers, subscriptions
from sidemeter_control.store.database import Database

__all__ = ["MAX_MOVED_AT_ONCE", "Move", "Moves", "move_subscribers"]

MAX_MOVED_AT_ONCE = 200
"""Subscriptions of one call: each is priced twice, in one transaction."""


@dataclass(frozen=True, slots=True)
class Move:
    """What a subscription's current billing period costs, and would cost on the other version from its beginning on.

    `problem` says why it cannot be moved.
    """

    customer: str
    subscription: str
    current: Money
    new: Money
    moved: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class Moves:
    """What was done, or would be. `remaining`: further subscriptions wait for another call."""

    moves: tuple[Move, ...]
    remaining: bool


async def move_subscribers(
    database: Database,
    clock: Clock,
    plan: str,
    *,
    from_version: int,
    to_version: int,
    at: ChangeAt,
    preview: bool,
    by: str = audit.OPERATOR,
    at_once: int = MAX_MOVED_AT_ONCE,
) -> Moves:
    """Move up to `at_once`, in one transaction, or only see what it would cost.

    Those that end already are left alone. NotFound names the version that does not exist.
    """
    now_us = clock.now_us()
    async with database.read() if preview else database.write() as conn:
        before, after = await find_plan(conn, plan, from_version), await find_plan(conn, plan, to_version)
        found = await subscriptions.of_version(conn, before.key, before.version, now_us, at_once + 1)
        known = await customers.get(conn, sorted({customer for customer, _ in found}))
        lives = [(known[key], await life_of(conn, each, now_us)) for key, each in found[:at_once]]
        looked = [await _look(conn, *each, after, now_us) for each in lives]
        changes = [_change(life, after, clock.new_id("sub"), at) for _, life in lives]
        made = [each for each in changes if not isinstance(each, Conflict)]
        if made and not preview:
            await written(conn, [ended for ended, _ in made], [following for _, following in made])
            detail = {"from": before.version, "to": after.version, "at": at, "subscriptions": [it.id for it, _ in made]}
            await audit.add(conn, now_us, by, "moveSubscribers", f"plan {plan}", **detail)
    moves = (
        _move(life.subscription, costs, str(change) if isinstance(change, Conflict) else None, preview=preview)
        for (_, life), costs, change in zip(lives, looked, changes, strict=True)
    )
    return Moves(tuple(moves), len(found) > at_once)


def _move(own: Subscription, costs: tuple[Money, Money], problem: str | None, *, preview: bool) -> Move:
    return Move(own.customer_key, own.id, *costs, problem is None and not preview, problem)


def _change(life: Life, plan: Plan, subscription_id: str, at: ChangeAt) -> tuple[Subscription, Subscription] | Conflict:
    try:
        return changed(life, plan, subscription_id, at)
    except Conflict as exc:
        return exc


async def _look(conn: AsyncConnection, customer: Customer, life: Life, plan: Plan, now_us: int) -> tuple[Money, Money]:
    """What the current billing period costs under the plan as it is, and under the other."""
    period = life.own.period_at(now_us)
    kept = {charge.spec.key for charge in plan.charges}
    own = life.subscription
    moved = replace(own, overrides=tuple(spec for spec in own.overrides if spec.key in kept))
    other = Subscribed.to(plan, moved, await meters_of(conn, [plan], [moved]))
    current = await cost_of(conn, customer, [life.own], period, now_us)
    return current.total, (await cost_of(conn, customer, [other], period, now_us)).total
