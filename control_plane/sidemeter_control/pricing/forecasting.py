"""Forecasting cost: what is counted and expected of a customer's meters, put together with what their use is like."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import NotFound
from sidemeter_control.metering import usage
from sidemeter_control.metering.forecasting import outlooks
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.money import Money
from sidemeter_control.pricing.bills import Slice, UsedBy
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.consumption import used
from sidemeter_control.pricing.cost import cost, cost_of, current_period, slices_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.forecasts import Forecast, MeterForecast, Prospect
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.projection import is_told_apart
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = ["forecast", "forecast_of"]

ALIKE_US = 28 * DAY_US
"""What comes is like what was in so many days: whole weeks, so that each hour and day of them has its part."""


async def forecast(
    conn: AsyncConnection, customer: Customer, now_us: int, subscription_id: str | None = None
) -> Forecast | None:
    """The forecast for the current billing period of the oldest subscription, of all that is owed in it.

    Or of one subscription alone, for its own period; NotFound when the customer has none of that id. None: nothing is
    subscribed to now.
    """
    own = (await subscribed(conn, [customer]))[customer.key]
    if subscription_id is not None:
        own = [each for each in own if each.subscription.id == subscription_id]
        if not own:
            raise NotFound("subscription", subscription_id)
    if not any(each.subscription.is_alive_at(now_us) for each in own):
        return None
    if subscription_id is None:
        return await forecast_of(conn, customer, now_us, current_period(own, customer, now_us))
    period = own[0].period_at(now_us)
    owed = await cost_of(conn, customer, own, period, now_us)
    return await _forecast(conn, customer, own, period, owed.total, now_us=now_us)


async def forecast_of(conn: AsyncConnection, customer: Customer, now_us: int, period: Period) -> Forecast:
    """The forecast of all that the customer will owe for a period in which now lies."""
    own = (await subscribed(conn, [customer]))[customer.key]
    owed = await cost(conn, customer, now_us, period.start_us, period.end_us)
    return await _forecast(conn, customer, own, period, owed.total, now_us=now_us)


async def _forecast(
    conn: AsyncConnection,
    customer: Customer,
    own: Sequence[Subscribed],
    period: Period,
    owed: Money,
    *,
    now_us: int,
) -> Forecast:
    slices = [each for each in slices_of(customer, own, period) if each.part.end_us > now_us]
    meters = _meters(slices)
    expected = await outlooks(
        conn, meters, customer.subjects, customer.time_zone, now_us=now_us, until_us=period.end_us
    )
    counted = await usage.quantities(conn, meters, customer.subjects, period.start_us, period.end_us) if meters else ()
    found = [
        MeterForecast.of(meter, each.value, expected[meter.key], period)
        for meter, each in zip(meters, counted, strict=True)
    ]
    prospects = [await _prospect(conn, customer, each, now_us) for each in slices]
    return Forecast(customer, period, owed, found, expected, prospects, now_us)


def _meters(slices: Sequence[Slice]) -> list[Meter]:
    """Those that are priced, in the order of the charges."""
    found: dict[str, Meter] = {}
    for each in slices:
        for charge in each.own.charges:
            if charge.spec.meter is not None:
                found.setdefault(charge.spec.meter, each.own.meters[charge.spec.meter])
    return list(found.values())


async def _prospect(conn: AsyncConnection, customer: Customer, part: Slice, now_us: int) -> Prospect:
    so_far = await used(conn, part.own, customer, part.so_far, now_us)
    before = await used(conn, part.own, customer, part.earlier, now_us) if part.earlier else None
    reckoned = [await used(conn, part.own, customer, leg.period, now_us) for leg in part.reckoned_with]
    return Prospect(part, so_far, before, reckoned, await _alike(conn, customer, part.own, so_far, now_us))


async def _alike(conn: AsyncConnection, customer: Customer, own: Subscribed, so_far: UsedBy, now_us: int) -> UsedBy:
    """What was used of late, of the charges whose price depends on more than the quantity."""
    told_apart = tuple(each for each in own.charges if each.spec.key in so_far and is_told_apart(so_far[each.spec.key]))
    if not told_apart:
        return {}
    lately = Period(now_us - ALIKE_US, now_us)
    return await used(conn, replace(own, charges=told_apart), customer, lately, now_us)
