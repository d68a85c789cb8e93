"""Live cost: what a customer owes for an interval, from the usage as it is counted now. Nothing of it is stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering import usage
from sidemeter_control.metering.meters import Meter
from sidemeter_control.money import NO_CURRENCY, Money, check_currency, exact
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.charges import Charge, ChargeSpec, Price, PriceLine
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval, Period, Recurrence, check_instant
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.pricing.words import Words

__all__ = ["MAX_BILLING_PERIODS", "Cost", "CostLine", "EventsBehind", "cost", "preview"]

MAX_BILLING_PERIODS = 400
"""Of one subscription in one answer: more than a year of daily ones. Each is one or two usage questions."""


@dataclass(frozen=True, slots=True)
class EventsBehind:
    """Which events a line counted: those the meter takes, of these subjects, with a time in `[from_us, to_us)`."""

    meter: Meter
    subjects: tuple[str, ...]
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class CostLine:
    """What one charge owes for one billing period, as far as it lies in the interval asked for.

    `parts` add up to the exact amount. A recurring fee has neither quantity nor events.
    """

    charge: str
    text: str
    quantity: Decimal | None
    amount: Money
    parts: tuple[PriceLine, ...]
    events: EventsBehind | None


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
    current = _current_period(own, customer, now_us)
    asked = Period(current.start_us if from_us is None else from_us, current.end_us if to_us is None else to_us)
    check_instant("from", asked.start_us)
    check_instant("to", asked.end_us)
    if asked.start_us >= asked.end_us:
        raise InvalidInput("to", "must be after from")
    lines: list[CostLine] = []
    for each in _slices(own, asked):
        used = await _used(conn, each.own, customer, each.so_far)
        before = await _used(conn, each.own, customer, each.earlier) if each.earlier else None
        lines += each.lines(customer, used, before)
    currency = own[0].plan.currency if own else customer.currency or NO_CURRENCY
    return Cost(asked.start_us, asked.end_us, _sum(lines, currency), tuple(lines), now_us)


def preview(currency: str, spec: ChargeSpec, quantity: Decimal, previous_quantity: Decimal | None = None) -> Price:
    """What a quantity would cost under a charge, or what it would add to an earlier one of the same period."""
    check_currency("currency", currency)
    charge, words = Charge.read("charge", spec), Words(currency)
    if previous_quantity is None:
        return charge.price(quantity, words)
    return charge.price_since(previous_quantity, quantity, words)


def _current_period(own: Sequence[Subscribed], customer: Customer, now_us: int) -> Period:
    active = [each for each in own if each.subscription.is_active_at(now_us)]
    if active:
        return active[0].period_at(now_us)
    return Recurrence.on_calendar(Interval.MONTH, customer.time_zone).period_at(now_us)


Used = Mapping[str, Decimal]
"""Quantity by meter key."""


async def _used(conn: AsyncConnection, own: Subscribed, customer: Customer, period: Period) -> Used:
    """One usage question, however many meters are priced."""
    priced = list(own.meters.values())
    counted = await usage.quantities(conn, priced, customer.subjects, period.start_us, period.end_us)
    return {meter.key: quantity.value or Decimal(0) for meter, quantity in zip(priced, counted, strict=True)}


@exact
def _sum(lines: Iterable[CostLine], currency: str) -> Money:
    return Money.of(sum((line.amount.rounded for line in lines), Decimal(0)), currency)


@dataclass(frozen=True, slots=True)
class _Slice:
    """The part of one billing period that is asked for. `dated`: its lines name the period's days."""

    own: Subscribed
    period: Period
    part: Period
    dated: bool

    @property
    def so_far(self) -> Period:
        """What is priced cumulatively: the period up to the end of the part."""
        return Period(self.period.start_us, self.part.end_us)

    @property
    def earlier(self) -> Period | None:
        """What slices before this one have billed of the period, if there is room for any."""
        starts_with_it = self.part.start_us == self.period.start_us
        return None if starts_with_it else Period(self.period.start_us, self.part.start_us)

    def lines(self, customer: Customer, used: Used, before: Used | None) -> Iterator[CostLine]:
        """One line per charge; a recurring fee only where its period begins."""
        for charge in self.own.charges:
            name, key = charge.spec.name or charge.spec.key, charge.spec.meter
            text = Words.in_period(name, *self.period.days(customer.time_zone)) if self.dated else name
            if key is not None:
                events = EventsBehind(self.own.meters[key], customer.subjects, self.part.start_us, self.part.end_us)
                yield self._usage_line(charge, text, events, used[key], None if before is None else before[key])
            elif before is None:
                fee = charge.price(Decimal(0), Words(self.own.plan.currency))
                yield CostLine(charge.spec.key, text, None, fee.total, fee.lines, None)

    @exact
    def _usage_line(
        self, charge: Charge, text: str, events: EventsBehind, used: Decimal, before: Decimal | None
    ) -> CostLine:
        words = Words(self.own.plan.currency, events.meter.unit or "units")
        if before is None:
            price, quantity = charge.price(used, words), used
        else:
            price, quantity = charge.price_since(before, used, words), used - before
        return CostLine(charge.spec.key, text, quantity, price.total, price.lines, events)


def _slices(own: Sequence[Subscribed], asked: Period) -> list[_Slice]:
    found = [(each, period) for each in own for period in _billed(each, asked)]
    dated = len({period for _, period in found}) > 1
    return [_Slice(each, period, period.clipped(asked.start_us, asked.end_us), dated) for each, period in found]


def _billed(own: Subscribed, asked: Period) -> list[Period]:
    periods = list(islice(own.billed(asked.start_us, asked.end_us), MAX_BILLING_PERIODS + 1))
    if len(periods) > MAX_BILLING_PERIODS:
        raise InvalidInput("to", f"must be within {MAX_BILLING_PERIODS} billing periods of from")
    return periods
