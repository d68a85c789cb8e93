"""Changing subscriptions: to another plan, to their end, into a pause and out of it."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import NotFound
from sidemeter_control.pricing.catalogue import find_plan, subscribed
from sidemeter_control.pricing.changes import ChangeAt, Life, cancelled, changed, paused, resumed
from sidemeter_control.pricing.subscriptions import Subscription
from sidemeter_control.store import audit, closed_periods, customers, state, subscriptions
from sidemeter_control.store.database import Database

__all__ = ["cancel", "change_plan", "life_of", "pause", "resume", "written"]


async def change_plan(
    database: Database,
    clock: Clock,
    subscription: str,
    *,
    plan: str,
    version: int | None = None,
    at: ChangeAt,
    by: str = audit.OPERATOR,
) -> Subscription:
    """Move the subscription to a plan, by default to its newest version; answers the one that goes on from there.

    NotFound names the subscription, plan or version that does not exist; Conflict says why this one cannot be changed.
    """
    async with database.write() as conn:
        now_us = clock.now_us()
        life = await life_of(conn, subscription, now_us)
        ended, following = changed(life, await find_plan(conn, plan, version), clock.new_id("sub"), at)
        await written(conn, [ended], [following])
        detail = {"plan": following.plan_key, "version": following.plan_version, "following": following.id}
        await audit.add(conn, now_us, by, "changePlan", _target(ended), at=at, **detail)
    return following


async def cancel(
    database: Database, clock: Clock, subscription: str, at: ChangeAt, *, by: str = audit.OPERATOR
) -> Subscription:
    """End the subscription; one that has not begun never does, and the one that it would replace goes on.

    NotFound when there is none, Conflict when it has ended or is about to be replaced.
    """
    async with database.write() as conn:
        now_us = clock.now_us()
        ended, *going_on = cancelled(await life_of(conn, subscription, now_us), at)
        await written(conn, [ended, *going_on])
        await audit.add(conn, now_us, by, "cancelSubscription", _target(ended), at=at, endsAtUs=ended.end_at_us)
    return ended


async def pause(
    database: Database, clock: Clock, subscription: str, until_us: int | None, *, by: str = audit.OPERATOR
) -> Subscription:
    """Pause the subscription from now on: no fees, no entitlements, and what is used meanwhile is not billed.

    NotFound when there is none, Conflict when it is no subscription of now, InvalidInput for an instant that is over.
    """
    async with database.write() as conn:
        now_us = clock.now_us()
        made = paused(await life_of(conn, subscription, now_us), until_us)
        await written(conn, [made])
        await audit.add(conn, now_us, by, "pauseSubscription", _target(made), untilUs=until_us)
    return made


async def resume(database: Database, clock: Clock, subscription: str, *, by: str = audit.OPERATOR) -> Subscription:
    """End the subscription's pause, or take back the end that it was given.

    NotFound when there is none, Conflict when there is nothing to be taken back.
    """
    async with database.write() as conn:
        now_us = clock.now_us()
        made = resumed(await life_of(conn, subscription, now_us))
        await written(conn, [made])
        await audit.add(conn, now_us, by, "resumeSubscription", _target(made))
    return made


async def life_of(conn: AsyncConnection, subscription: str, now_us: int) -> Life:
    """The subscription among those of its customer. Nothing changes before what is closed, wherever the clock stands."""
    key = (await subscriptions.customers_of(conn, [subscription])).get(subscription)
    if key is None:
        raise NotFound("subscription", subscription)
    own = (await subscribed(conn, (await customers.get(conn, [key])).values()))[key]
    closed_until_us = await closed_periods.closed_until(conn, key)
    (it,) = (each for each in own if each.subscription.id == subscription)
    others = [each for each in own if each is not it]
    return Life(it, others, max(now_us, closed_until_us.get(subscription, now_us)))


async def written(conn: AsyncConnection, kept: Sequence[Subscription], new: Sequence[Subscription] = ()) -> None:
    """Write subscriptions that were changed, and new ones."""
    for each in kept:
        await subscriptions.change(conn, each)
    for each in new:
        await subscriptions.add(conn, each)
    await state.config_changed(conn, *{each.customer_key for each in (*kept, *new)})


def _target(subscription: Subscription) -> str:
    return f"subscription {subscription.id}"
