"""What can be subscribed to, found for all who do: a customer's cost, a quota, alerts."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.api.alert_types import Alert
from sidemeter_control.api.customer_types import Cost, Quota, cost_now
from sidemeter_control.api.live.hub import Hub, Look, ShuttingDown, Watch
from sidemeter_control.errors import NotFound
from sidemeter_control.limits import quotas
from sidemeter_control.limits.alerts import Alert as Raised
from sidemeter_control.limits.handed_out import HandedOut, handed_out
from sidemeter_control.limits.shared import period_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.register import registered
from sidemeter_control.store import alerts, state

__all__ = ["costs", "quota_of", "raised"]

ALERTS_AT_ONCE: Final = 100
"""Read in one step; the next are read when these were taken."""

T = TypeVar("T")


def costs(hub: Hub, customer: Customer) -> Watch[Cost]:
    """What the customer owes for its current billing period."""

    async def find(conn: AsyncConnection, of: Customer, now_us: int) -> Cost:
        return await cost_now(conn, of, now_us)

    return _watch(hub, ("cost", customer.key), customer, find, lambda one, other: one.says() == other.says())


def quota_of(hub: Hub, customer: Customer, feature: str) -> Watch[tuple[Quota, HandedOut | None]]:
    """What it may use of a feature, and what agents hold of that; ends with NotFound where nothing grants it."""

    async def find(conn: AsyncConnection, of: Customer, now_us: int) -> tuple[Quota, HandedOut | None]:
        answer = await quotas.quota(conn, of, feature, now_us)
        if answer is None:
            raise NotFound("quota of feature", feature)
        pool = of.key, feature, period_of(answer)
        return Quota.of(answer, of), (await handed_out(conn, [pool])).get(pool)

    def same(one: tuple[Quota, HandedOut | None], other: tuple[Quota, HandedOut | None]) -> bool:
        return one[0].says() == other[0].says() and one[1] == other[1]

    return _watch(hub, ("quota", customer.key, feature), customer, find, same, root=lambda found: found[0])


def _watch(
    hub: Hub,
    key: tuple[str, ...],
    customer: Customer,
    find: Callable[[AsyncConnection, Customer, int], Coroutine[Any, Any, T]],
    same: Callable[[T, T], bool],
    *,
    root: Callable[[T], object] = lambda value: value,
) -> Watch[T]:
    async def look() -> tuple[Customer, T]:
        async def question(conn: AsyncConnection) -> tuple[Customer, T]:
            of = (await registered(conn, [customer.key])).get(customer.key)
            if of is None:
                raise NotFound("customer", customer.key)
            return of, await find(conn, of, (await state.get(conn)).instant(hub.clock.now_us()))

        async with hub.database.snapshot() as snapshot:
            return await snapshot.ask(question)

    return hub.watch(Look(key, look, same, root), customer)


async def raised(hub: Hub, customer: str | None, after: int) -> AsyncGenerator[Alert, None]:
    """Every alert of the customer, or of any, that was raised after the one of that number, the oldest first.

    They are read when there is somebody to take them, so that none is missed and none waits in memory.
    """
    with hub.alarm(customer) as alarm:
        while not hub.is_closed:
            alarm.clear()
            some = await _after(hub, customer, after)
            for alert in some:
                yield Alert.of(alert)
                after = alert.seq
            if len(some) < ALERTS_AT_ONCE:
                await alarm.wait()
                await asyncio.sleep(hub.every_s)
    raise ShuttingDown


async def _after(hub: Hub, customer: str | None, seq: int) -> list[Raised]:
    async with hub.database.snapshot() as snapshot:
        return await snapshot.ask(lambda conn: alerts.after(conn, customer, seq, ALERTS_AT_ONCE))
