"""Live cost: what a customer owes for an interval, from the usage as it is counted now. Nothing of it is stored.

But a billing period that is closed stays as it was: it answers its own lines, and what came to it late stands as an
adjustment at the end of the customer's next open period, or at this moment while none is open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.money import NO_CURRENCY, Money
from sidemeter_control.pricing.bills import CostLine, Slice, total_of
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.closed import ClosedPeriod, adjustments, next_leg, remainder, thaw
from sidemeter_control.pricing.consumption import used
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval, Period, Recurrence, check_interval
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.store import closed_periods, late_days, state

__all__ = [
    "MAX_BILLING_PERIODS",
    "Cost",
    "Late",
    "cost",
    "cost_of",
    "current_period",
    "late",
    "lines_of",
    "slices_of",
]

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


@dataclass(frozen=True, slots=True)
class Late:
    """A closed period whose lines would be others by now, and the lines that adjust it."""

    closed: ClosedPeriod
    by_now: tuple[CostLine, ...]
    lines: tuple[CostLine, ...]


async def cost(
    conn: AsyncConnection, customer: Customer, now_us: int, from_us: int | None = None, to_us: int | None = None
) -> Cost:
    """The customer's cost of `[from_us, to_us)`; by default of the current billing period of the oldest subscription.

    An interval open at one side reaches to that period's boundary. InvalidInput when it is empty, lies outside the
    years 1970 to 9000, or meets more than 400 billing periods of one subscription.
    """
    own = (await subscribed(conn, [customer]))[customer.key]
    asked = _asked(own, customer, now_us, from_us, to_us)
    closed_until_us = (await state.get(conn)).closed_until_us
    if not closed_until_us:
        return await cost_of(conn, customer, own, asked, now_us)
    slices = slices_of(customer, own, asked)
    closed: Sequence[ClosedPeriod] = ()
    if any(each.leg.period.end_us <= closed_until_us for each in slices):
        closed = await closed_periods.meeting(conn, customer.key, asked)
    lines = await _with_closed(conn, customer, own, slices, closed, now_us=now_us)
    lines += await _late_lines(conn, customer, own, asked, now_us)
    return _cost(customer, own, asked, lines, now_us)


async def cost_of(
    conn: AsyncConnection, customer: Customer, own: Sequence[Subscribed], asked: Period, now_us: int
) -> Cost:
    """What the customer would owe for `asked`, had it these subscriptions and nothing closed; InvalidInput as above."""
    lines: list[CostLine] = []
    for each in slices_of(customer, own, asked):
        lines += await lines_of(conn, customer, each, now_us)
    return _cost(customer, own, asked, lines, now_us)


async def lines_of(conn: AsyncConnection, customer: Customer, part: Slice, now_us: int) -> list[CostLine]:
    """The lines of a part of a leg, from what is counted now."""
    so_far = await used(conn, part.own, customer, part.so_far, now_us)
    before = await used(conn, part.own, customer, part.earlier, now_us) if part.earlier else None
    reckoned = [await used(conn, part.own, customer, leg.period, now_us) for leg in part.reckoned_with]
    return list(part.lines(customer, so_far, before, reckoned))


async def late(conn: AsyncConnection, customer: Customer, own: Sequence[Subscribed], now_us: int) -> list[Late]:
    """The customer's closed periods to which something came that is not billed yet. One look-up where nothing did."""
    days = await late_days.of(conn, customer.subjects)
    if not days:
        return []
    by_id = {each.subscription.id: each for each in own}
    found: list[Late] = []
    for closed in await closed_periods.ending_after(conn, customer.key, days[0]):
        part = _whole(customer, by_id[closed.subscription_id], closed.period)
        reckoned_from_us = min(leg.period.start_us for leg in (*part.reckoned_with, part.leg))
        if not any(reckoned_from_us - DAY_US < day < closed.period.end_us for day in days):
            continue
        by_now = await lines_of(conn, customer, part, now_us)
        if lines := adjustments(part.own, closed, by_now, customer.language):
            found.append(Late(closed, tuple(by_now), tuple(lines)))
    return found


async def _late_lines(
    conn: AsyncConnection, customer: Customer, own: Sequence[Subscribed], asked: Period, now_us: int
) -> list[CostLine]:
    found = await late(conn, customer, own, now_us)
    if not found:
        return []
    following = next_leg(own, await closed_periods.closed_until(conn, customer.key))
    stands_us = now_us if following is None else following[1].period.end_us - 1
    return [line for each in found for line in each.lines] if asked.start_us <= stands_us < asked.end_us else []


async def _with_closed(
    conn: AsyncConnection,
    customer: Customer,
    own: Sequence[Subscribed],
    slices: Sequence[Slice],
    closed: Sequence[ClosedPeriod],
    *,
    now_us: int,
) -> list[CostLine]:
    by_place = {(each.subscription_id, each.period.start_us): each for each in closed}
    by_id = {each.subscription.id: each for each in own}
    lines: list[CostLine] = []
    for each in slices:
        frozen = by_place.get((each.own.subscription.id, each.leg.period.start_us))
        if frozen is None or each.part.end_us < each.leg.period.end_us:
            lines += await lines_of(conn, customer, each, now_us)
        else:
            lines += await _frozen(conn, customer, each, frozen, by_id, now_us=now_us)
    return lines


async def _frozen(
    conn: AsyncConnection,
    customer: Customer,
    part: Slice,
    closed: ClosedPeriod,
    own: Mapping[str, Subscribed],
    *,
    now_us: int,
) -> list[CostLine]:
    """The part of a closed period that ends it: what was frozen, less what earlier parts of it come to."""

    def shown(*, adjusting: bool) -> Iterator[CostLine]:
        for line in closed.lines:
            if (line.adjusts is not None) is adjusting:
                yield thaw(line, closed, own, customer.subjects, part.dated)

    whole = list(shown(adjusting=False))
    if part.earlier is not None:
        before = replace(part, part=part.earlier)
        whole = remainder(whole, await lines_of(conn, customer, before, now_us), part.part, customer.language)
    return [*whole, *shown(adjusting=True)]


def _cost(customer: Customer, own: Sequence[Subscribed], asked: Period, lines: Sequence[CostLine], now_us: int) -> Cost:
    currency = own[0].plan.currency if own else customer.currency or NO_CURRENCY
    return Cost(asked.start_us, asked.end_us, total_of(lines, currency), tuple(lines), now_us)


def _asked(
    own: Sequence[Subscribed], customer: Customer, now_us: int, from_us: int | None, to_us: int | None
) -> Period:
    current = current_period(own, customer, now_us)
    asked = Period(current.start_us if from_us is None else from_us, current.end_us if to_us is None else to_us)
    check_interval(asked)
    return asked


def current_period(own: Sequence[Subscribed], customer: Customer, now_us: int) -> Period:
    """The billing period of now of the oldest subscription; without one, the calendar's month.

    Of a subscription that replaced another within the period, also what lies before the change."""
    current = next((each for each in own if each.subscription.is_alive_at(now_us)), None)
    if current is None:
        return Recurrence.on_calendar(Interval.MONTH, customer.time_zone).period_at(now_us)
    period = current.period_at(now_us)
    by_id = {each.subscription.id: each for each in own}
    first = current
    while (before := by_id.get(first.subscription.replaces or "")) is not None:
        first = before
    cycle = current.recurrence.period_at(period.start_us)
    return Period(max(cycle.start_us, first.subscription.start_at_us), period.end_us)


def _whole(customer: Customer, own: Subscribed, period: Period) -> Slice:
    leg = next(own.legs(period.start_us, period.end_us))
    return Slice(own, leg, leg.period, dated=False, language=customer.language)


def slices_of(customer: Customer, own: Sequence[Subscribed], asked: Period) -> list[Slice]:
    """The parts of billing periods that an interval is priced in; InvalidInput when they are too many."""
    found = [(each, leg) for each in own for leg in _legs(each, asked)]
    dated = len({leg.period for _, leg in found}) > 1
    return [
        Slice(each, leg, leg.period.clipped(asked.start_us, asked.end_us), dated, customer.language)
        for each, leg in found
    ]


def _legs(own: Subscribed, asked: Period) -> list[Leg]:
    legs = list(islice(own.legs(asked.start_us, asked.end_us), MAX_BILLING_PERIODS + 1))
    if len(legs) > MAX_BILLING_PERIODS:
        raise InvalidInput("to", f"must be within {MAX_BILLING_PERIODS} billing periods of from")
    return legs
