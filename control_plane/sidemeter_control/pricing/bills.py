"""What one subscription owes for a part of a billing period, as lines that say why, given what was used."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from sidemeter_control.metering.meters import Meter
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.charges import Charge, PriceLine, Used
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.fees import fee_lines
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.settling import (
    COMMITMENT,
    MINIMUM_SPEND,
    commitment_lines,
    minimum_lines,
    of_leg,
    total,
)
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.pricing.words import Language, Words

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


UsedBy = Mapping[str, Used]
"""What was used, by charge key."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of one leg that is asked for, in words of a language. `dated`: its lines name the leg's days.

    Usage is priced from the leg's start, so that slices add up to the leg; included units and tiers are whole in every
    leg, because a plan promises them per billing period and a customer who comes or goes in one loses nothing. What a
    charge costs at least and at most is prorated where the leg is cut, so that nobody owes a minimum twice in a period.
    """

    own: Subscribed
    leg: Leg
    part: Period
    dated: bool
    language: Language

    @property
    def so_far(self) -> Period:
        """What is priced cumulatively: the leg up to the end of the part."""
        return Period(self.leg.period.start_us, self.part.end_us)

    @property
    def earlier(self) -> Period | None:
        """What slices before this one have billed of the leg, if there is room for any."""
        starts_with_it = self.part.start_us == self.leg.period.start_us
        return None if starts_with_it else Period(self.leg.period.start_us, self.part.start_us)

    @property
    def reckoned_with(self) -> Sequence[Leg]:
        """The legs before it whose use is settled together with this one's, in this slice."""
        legs, last = self.own.window(self.leg)
        return legs[:-1] if last and self.is_final else ()

    @property
    def is_final(self) -> bool:
        """Whether the leg ends with it: what is owed of a period as a whole stands here."""
        return self.part.end_us == self.leg.period.end_us

    def lines(
        self, customer: Customer, used: UsedBy, before: UsedBy | None, reckoned: Sequence[UsedBy] = ()
    ) -> Iterator[CostLine]:
        """What falls in the part, given what was used `so_far`, `earlier` and in the legs `reckoned_with`.

        One line per metered charge, one per recurring fee of which anything stands in the part, and where the leg ends
        what the plan as a whole owes.
        """
        for charge in self.own.charges:
            if charge.spec.meter is not None:
                yield self.usage_line(customer, charge, used, before, final=self.is_final)
            else:
                name = charge.spec.name or charge.spec.key
                yield from self._line(charge.spec.key, name, self._fee(charge, self.part))
        if self.is_final:
            yield from self._settled(used, reckoned)

    def usage_line(
        self, customer: Customer, charge: Charge, used: UsedBy, before: UsedBy | None, *, final: bool
    ) -> CostLine:
        """What one metered charge comes to in the part, of what was used `so_far` and `earlier`. `final`: its minimum is
        owed with it."""
        key = charge.spec.key
        meter = self.own.meters[charge.spec.meter or ""]
        events = EventsBehind(meter, customer.subjects, self.part.start_us, self.part.end_us)
        then = None if before is None else before[key]
        text = self._text(charge.spec.name or key)
        return self._usage_line(_for_leg(self.own, self.leg, charge), text, events, used[key], then, final=final)

    @exact
    def _settled(self, used: UsedBy, reckoned: Sequence[UsedBy]) -> list[CostLine]:
        if self.own.plan.commitment is None and self.own.plan.minimum_spend is None:
            return []
        spent, words = self._use(self.leg, used), self._words()
        commitment: tuple[PriceLine, ...] = ()
        legs, last = self.own.window(self.leg)
        if last:
            together = sum(map(self._use, self.reckoned_with, reckoned), spent)
            commitment = commitment_lines(self.own, legs, together, words)
        fees = [line for charge in self.own.charges for line in self._fee(charge, self.leg.period)]
        spent += total((*fees, *commitment), self.own.plan.currency).rounded
        minimum = minimum_lines(self.own, self.leg, spent, words)
        named = ((COMMITMENT, words.commitment(), commitment), (MINIMUM_SPEND, words.minimum_spend(), minimum))
        return [line for each in named for line in self._line(*each)]

    @exact
    def _use(self, leg: Leg, used: UsedBy) -> Decimal:
        """What all metered charges of a leg come to."""
        metered = [_for_leg(self.own, leg, each) for each in self.own.charges if each.spec.meter is not None]
        prices = (charge.price(used[charge.spec.key], self._words()).total.rounded for charge in metered)
        return sum(prices, Decimal(0))

    def _fee(self, charge: Charge, part: Period) -> tuple[PriceLine, ...]:
        if charge.spec.meter is not None:
            return ()
        return fee_lines(self.own, charge, self.leg, part, self._words())

    def _line(self, key: str, name: str, lines: tuple[PriceLine, ...]) -> Iterator[CostLine]:
        if lines:
            yield CostLine(key, self._text(name), None, total(lines, self.own.plan.currency), lines, None)

    @exact
    def _usage_line(
        self, charge: Charge, text: str, events: EventsBehind, used: Used, before: Used | None, *, final: bool
    ) -> CostLine:
        words = self._words(events.meter)
        if before is None:
            price, quantity = charge.price(used, words, final=final), used.quantity
        else:
            price = charge.price_since(before, used, words, final=final)
            quantity = used.quantity - before.quantity
        return CostLine(charge.spec.key, text, quantity, price.total, price.lines, events)

    def _text(self, name: str) -> str:
        if not self.dated:
            return name
        return Words.in_period(name, *self.leg.period.days(self.own.subscription.time_zone), self.language)

    def _words(self, meter: Meter | None = None) -> Words:
        return Words(self.own.plan.currency, None if meter is None else meter.unit, self.language)


def _for_leg(own: Subscribed, leg: Leg, charge: Charge) -> Charge:
    """The metered charge as it holds for a leg."""
    return charge if leg.period == leg.cycle else charge.with_bounds(partial(of_leg, own, leg))


@exact
def total_of(lines: Iterable[CostLine], currency: str) -> Money:
    """What the lines come to: the sum of their rounded amounts, so that slices of an interval add up to it."""
    return Money.of(sum((line.amount.rounded for line in lines), Decimal(0)), currency)
