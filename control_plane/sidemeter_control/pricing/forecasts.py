"""Forecasts of cost: what a customer will owe at a billing period's end, as what is expected is priced. Pure rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sidemeter_control.metering.forecasts import Edge, Outlook, Refusal
from sidemeter_control.metering.meters import Meter, from_nano
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.bills import Slice, UsedBy, total_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.projection import projected
from sidemeter_control.pricing.words import Language, Words

__all__ = ["CostRange", "Forecast", "MeterForecast", "Outlooks", "Prospect"]

Outlooks = Mapping[str, Outlook | Refusal]
"""What is expected of each meter, by its key."""


@dataclass(frozen=True, slots=True)
class CostRange:
    """What will be owed: in nine of ten cases at least `low`, most likely `middle`, in nine of ten at most `high`.

    Before credits, as budgets count it, and never less than what is owed by now.
    """

    low: Money
    middle: Money
    high: Money


@dataclass(frozen=True, slots=True)
class MeterForecast:
    """What a meter will have counted in the period, in its unit; `so_far` of it by now. Or why that cannot be said."""

    meter: Meter
    so_far: Decimal | None
    low: Decimal | None
    middle: Decimal | None
    high: Decimal | None
    refusal: Refusal | None

    @classmethod
    @exact
    def of(cls, meter: Meter, so_far: Decimal | None, expected: Outlook | Refusal, period: Period) -> "MeterForecast":
        """What is counted already with what is expected."""
        if isinstance(expected, Refusal):
            return cls(meter, so_far, None, None, None, expected)
        begun = so_far or Decimal(0)
        low, middle, high = (begun + from_nano(expected.between(expected.now_us, period.end_us, each)) for each in Edge)
        return cls(meter, begun, low, middle, high, None)


@dataclass(frozen=True, slots=True)
class Prospect:
    """A part of a billing period that is not over, with what was used by now; `alike` says what the rest will be like."""

    part: Slice
    so_far: UsedBy
    before: UsedBy | None
    reckoned: Sequence[UsedBy]
    alike: UsedBy

    def owed(self, customer: Customer) -> Decimal:
        """Were nothing more used."""
        return self._priced(customer, self.so_far)

    def owed_by(self, customer: Customer, outlooks: Outlooks, now_us: int, by_us: int, edge: Edge) -> Decimal:
        """For the whole part, when what is expected by an instant is used and nothing after it.

        A meter without a forecast stays where it is.
        """
        begin_us, end_us = max(now_us, self.part.leg.period.start_us), min(by_us, self.part.part.end_us)
        used = dict(self.so_far)
        for charge in self.part.own.charges:
            outlook = outlooks.get(charge.spec.meter or "")
            if isinstance(outlook, Outlook):
                key, more = charge.spec.key, outlook.between(begin_us, end_us, edge)
                used[key] = projected(charge, used[key], self.alike.get(key, used[key]), more, now_us)
        return self._priced(customer, used)

    def _priced(self, customer: Customer, used: UsedBy) -> Decimal:
        lines = self.part.lines(customer, used, self.before, self.reckoned)
        return total_of(lines, self.part.own.plan.currency).amount


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a customer will have used and will owe at the end of `period`, of everything counted by `as_of_us`.

    `owed` is the cost by now. `refusal` says why there is no cost; a single meter may have none where the cost has: it is
    priced as it stands.
    """

    customer: Customer
    period: Period
    owed: Money
    meters: Sequence[MeterForecast]
    outlooks: Outlooks
    prospects: Sequence[Prospect]
    as_of_us: int

    @property
    def refusal(self) -> Refusal | None:
        """Why the cost cannot be said; None: it can."""
        found = (each.refusal for each in self.meters if each.refusal not in {None, Refusal.NOT_ADDITIVE})
        return next(found, None)

    @property
    def cost(self) -> CostRange | None:
        """What will be owed at the end; None where a meter that is priced has no forecast though it could have one."""
        if self.refusal is not None:
            return None
        ends = {edge: self.owed_by(self.period.end_us, edge) for edge in Edge}
        low, high = min(ends.values()), max(ends.values())
        return CostRange(*(Money.of(each, self.owed.currency) for each in (low, ends[Edge.MIDDLE], high)))

    @exact
    def owed_by(self, by_us: int, edge: Edge) -> Decimal:
        """What is owed for the period once what is expected by then is used; never less than by now."""
        more = (
            each.owed_by(self.customer, self.outlooks, self.as_of_us, by_us, edge) - each.owed(self.customer)
            for each in self.prospects
        )
        return max(self.owed.amount, sum(more, self.owed.amount))

    def basis(self, language: Language) -> str:
        """What it is based on, or why there is none, in words that the customer understands."""
        days = max((each.days for each in self.outlooks.values() if isinstance(each, Outlook)), default=0)
        held = [each.meter.name or each.meter.key for each in self.meters if each.refusal is Refusal.NOT_ADDITIVE]
        return Words.forecast(days, held, self.refusal, language)
