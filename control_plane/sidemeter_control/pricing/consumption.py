"""What a subscription's charges have to price: how much of each was used in a period."""

from collections.abc import Mapping
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import usage
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = ["used"]


async def used(conn: AsyncConnection, own: Subscribed, customer: Customer, period: Period) -> Mapping[str, Decimal]:
    """The quantity of every metered charge, by charge key; zero where the meter has nothing to say.

    One usage question, however many meters are priced.
    """
    priced = list(own.meters.values())
    counted = await usage.quantities(conn, priced, customer.subjects, period.start_us, period.end_us)
    by_meter = {meter.key: quantity.value or Decimal(0) for meter, quantity in zip(priced, counted, strict=True)}
    return {charge.spec.key: by_meter[key] for charge in own.charges if (key := charge.spec.meter) is not None}
