"""Forecasts, as GraphQL shows them."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.pricing_types import Money
from sidemeter_control.api.scalars import Instant
from sidemeter_control.metering.forecasts import Refusal
from sidemeter_control.pricing import forecasts
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.forecasting import forecast

__all__ = ["CostRange", "Forecast", "MeterForecast", "forecast_for"]

strawberry.enum(Refusal, name="ForecastRefusal")


@strawberry.type
class CostRange:
    """What will be owed, before credits: in 8 of 10 cases from low to high, most likely middle. Never less than now."""

    low: Money
    middle: Money
    high: Money

    @classmethod
    def of(cls, found: forecasts.CostRange) -> Self:
        """The noun in its GraphQL form."""
        return cls(low=Money.of(found.low), middle=Money.of(found.middle), high=Money.of(found.high))


@strawberry.type
class MeterForecast:
    """What a meter will have counted at the period's end: in 8 of 10 cases from low to high, most likely middle.

    reason: why that cannot be said; soFar is what is counted by now.
    """

    meter: strawberry.ID
    unit: str | None
    so_far: Decimal | None
    low: Decimal | None
    middle: Decimal | None
    high: Decimal | None
    reason: Refusal | None

    @classmethod
    def of(cls, found: forecasts.MeterForecast) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            meter=strawberry.ID(found.meter.key),
            unit=found.meter.unit,
            so_far=found.so_far,
            low=found.low,
            middle=found.middle,
            high=found.high,
            reason=found.refusal,
        )


@strawberry.type
class Forecast:
    """What a customer will have used and will owe when the billing period ends, of everything counted by asOf."""

    period_start: Instant
    period_end: Instant
    enough: bool = strawberry.field(description="Whether there is enough to say what will be owed.")
    reason: Refusal | None = strawberry.field(description="Why there is no cost; null where there is one.")
    cost: CostRange | None
    meters: list[MeterForecast] = strawberry.field(description="Those that are priced, in the order of the charges.")
    basis: str = strawberry.field(description="What it is based on, or why there is none, in the customer's language.")
    as_of: Instant

    @classmethod
    def of(cls, found: forecasts.Forecast) -> Self:
        """The noun in its GraphQL form."""
        cost = found.cost
        return cls(
            period_start=Instant(found.period.start_us),
            period_end=Instant(found.period.end_us),
            enough=cost is not None,
            reason=found.refusal,
            cost=None if cost is None else CostRange.of(cost),
            meters=[MeterForecast.of(each) for each in found.meters],
            basis=found.basis(found.customer.language),
            as_of=Instant(found.as_of_us),
        )


async def forecast_for(info: Info, customer: Customer, subscription: str | None) -> Forecast | None:
    """The forecast of a customer, or of one of its subscriptions; null: there is none now."""
    now_us = info.context.now_us
    found = await info.context.ask(lambda conn: forecast(conn, customer, now_us, subscription))
    return None if found is None else Forecast.of(found)
