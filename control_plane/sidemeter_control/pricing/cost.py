"""Live cost: what a customer owes for an interval, from the usage as it is counted now. Nothing of it is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import NO_CURRENCY, Money
from sidemeter_control.pricing.bills import CostLine, Slice, total_of
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.consumption import used
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval, Period, Recurrence, check_interval
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = ["MAX_BILLING_PERIODS", "Cost", "cost", "cost_of"]

MAX_BILLING_PERIODS = 400
"""Of one subscription in one answer: more than a year of daily ones. Each is one or two usage questions."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a customer owes for `[from_us, to_us)`, of everything counted by `as_of_us`.

    The total is the sum of the lines' rounded amounts, so that slices of an interval add up to it.
    """

    from_us: int
    to_us: int
    total: Money
    lines: tuple[CostLine, ...]
    as_of_us: int


async def cost(
    conn: AsyncConnection, customer: Customer, now_us: int, from_us: int | None = None, to_us: int | None = None
) -> Cost:
    """The customer's cost of `[from_us, to_us)`; by default of the current billing period of the oldest subscription.

    An interval open at one side reaches to that period's boundary. InvalidInput when it is empty, lies outside the
    years 1970 to 9000, or meets more than 400 billing periods of one subscription.
    """
    own = (await subscribed(conn, [customer]))[customer.key]
    return await cost_of(conn, customer, own, _asked(own, customer, now_us, from_us, to_us), now_us)


async def cost_of(
    conn: AsyncConnection, customer: Customer, own: Sequence[Subscribed], asked: Period, now_us: int
) -> Cost:
    """What the customer would owe for `asked`, had it these subscriptions; InvalidInput as for `cost`."""
    lines: list[CostLine] = []
    for each in _slices(own, asked):
        so_far = await used(conn, each.own, customer, each.so_far)
        before = await used(conn, each.own, customer, each.earlier) if each.earlier else None
        lines += each.lines(customer, so_far, before)
    currency = own[0].plan.currency if own else customer.currency or NO_CURRENCY
    return Cost(asked.start_us, asked.end_us, total_of(lines, currency), tuple(lines), now_us)


def _asked(
    own: Sequence[Subscribed], customer: Customer, now_us: int, from_us: int | None, to_us: int | None
) -> Period:
    current = _current_period(own, customer, now_us)
    asked = Period(current.start_us if from_us is None else from_us, current.end_us if to_us is None else to_us)
    check_interval(asked)
    return asked


def _current_period(own: Sequence[Subscribed], customer: Customer, now_us: int) -> Period:
    active = [each for each in own if each.subscription.is_active_at(now_us)]
    if active:
        return active[0].period_at(now_us)
    return Recurrence.on_calendar(Interval.MONTH, customer.time_zone).period_at(now_us)


def _slices(own: Sequence[Subscribed], asked: Period) -> list[Slice]:
    found = [(each, period) for each in own for period in _billed(each, asked)]
    dated = len({period for _, period in found}) > 1
    return [Slice(each, period, period.clipped(asked.start_us, asked.end_us), dated) for each, period in found]


def _billed(own: Subscribed, asked: Period) -> list[Period]:
    periods = list(islice(own.billed(asked.start_us, asked.end_us), MAX_BILLING_PERIODS + 1))
    if len(periods) > MAX_BILLING_PERIODS:
        raise InvalidInput("to", f"must be within {MAX_BILLING_PERIODS} billing periods of from")
    return periods
