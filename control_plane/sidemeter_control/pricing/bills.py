"""What one subscription owes for a part of a billing period, as lines that say why, given what was used."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from sidemeter_control.metering.meters import Meter
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.charges import Charge, PriceLine
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.pricing.words import Words

__all__ = ["CostLine", "EventsBehind", "Slice", "total_of"]


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


Used = Mapping[str, Decimal]
"""Quantity by charge key."""


@dataclass(frozen=True, slots=True)
class Slice:
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
        """One line per charge, of what was used `so_far` and `earlier`; a fee only where its period begins."""
        for charge in self.own.charges:
            name, key = charge.spec.name or charge.spec.key, charge.spec.meter
            text = Words.in_period(name, *self.period.days(customer.time_zone)) if self.dated else name
            if key is not None:
                events = EventsBehind(self.own.meters[key], customer.subjects, self.part.start_us, self.part.end_us)
                then = None if before is None else before[charge.spec.key]
                yield self._usage_line(charge, text, events, used[charge.spec.key], then)
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


@exact
def total_of(lines: Iterable[CostLine], currency: str) -> Money:
    """What the lines come to: the sum of their rounded amounts, so that slices of an interval add up to it."""
    return Money.of(sum((line.amount.rounded for line in lines), Decimal(0)), currency)
