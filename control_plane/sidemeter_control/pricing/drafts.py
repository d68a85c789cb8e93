"""Drafts: a plan that is not published in the place of what customers are on, and what it would change of their bills."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import Meter
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.plans import Plan
from sidemeter_control.pricing.subscriptions import Subscribed, SubscribeSpec, Subscription, new_subscription

__all__ = ["MAX_SIMULATED", "Draft", "Simulation", "SimulationRow"]

MAX_SIMULATED = 5_000
"""Customers in one answer, which takes some 5 s and holds one of the readers so long. More are asked about in parts."""


@dataclass(frozen=True, slots=True)
class SimulationRow:
    """What a customer owes for the interval as it is, and would under the draft, before credits; in the draft's currency."""

    customer: str
    current: Money
    simulated: Money
    difference: Money

    @classmethod
    @exact
    def of(cls, customer: str, current: Decimal, simulated: Decimal, currency: str) -> "SimulationRow":
        """The row of two totals."""
        amounts = (current, simulated, simulated - current)
        return cls(customer, *(Money.of(each, currency) for each in amounts))


@dataclass(frozen=True, slots=True)
class Simulation:
    """`total`: all customers under the draft; `difference`: that less what they owe as it is.

    Rows stand in the order of their difference: who would pay most more first, who would save most last.
    """

    total: Money
    difference: Money
    rows: tuple[SimulationRow, ...]

    @classmethod
    @exact
    def of(cls, rows: Iterable[SimulationRow], currency: str) -> "Simulation":
        """The rows, in order, with their sums."""
        ordered = tuple(sorted(rows, key=lambda row: (-row.difference.amount, row.customer)))
        total, difference = (
            sum(amounts, Decimal(0))
            for amounts in (
                [row.simulated.amount for row in ordered],
                [row.difference.amount for row in ordered],
            )
        )
        return cls(Money.of(total, currency), Money.of(difference, currency), ordered)


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that is not published, and the meters that it prices, by key."""

    plan: Plan
    meters: Mapping[str, Meter]

    def in_place(self, customer: Customer, own: Sequence[Subscribed], asked: Period) -> list[Subscribed]:
        """What the customer is subscribed to, with the draft in the place of every version of the plan of its key.

        Who never was on that plan is put on the draft in place of what they are on in the interval; who is on nothing
        then, for the whole of it. InvalidInput, naming the customer, where there are several plans at once to replace,
        or another currency.
        """
        self._check_currency(customer, own)
        if any(each.plan.key == self.plan.key for each in own):
            return [self._instead_of(each) if each.plan.key == self.plan.key else each for each in own]
        within = [each for each in own if _overlap(each.subscription, asked)]
        if any(_overlap(later.subscription, _life(earlier.subscription)) for earlier, later in pairwise(within)):
            raise InvalidInput(
                "customers", f"{customer.key!r} is on several plans at once, none of them {self.plan.key!r}"
            )
        return [self._instead_of(each) for each in within] or [self._alone(customer, asked)]

    def _instead_of(self, own: Subscribed) -> Subscribed:
        """With the charges that were agreed with this customer alone, as far as the draft has charges of their keys."""
        keys = {charge.spec.key for charge in self.plan.charges}
        overrides = tuple(spec for spec in own.subscription.overrides if spec.key in keys)
        subscription = replace(own.subscription, overrides=overrides)
        return Subscribed.to(self.plan, subscription, {**self.meters, **own.meters})

    def _alone(self, customer: Customer, asked: Period) -> Subscribed:
        spec = SubscribeSpec(customer=customer.key, plan=self.plan.key, start_at_us=asked.start_us, trial_days=0)
        subscription = new_subscription(spec, self.plan, "draft", asked.start_us, customer.time_zone)
        return Subscribed.to(self.plan, subscription, self.meters)

    def _check_currency(self, customer: Customer, own: Sequence[Subscribed]) -> None:
        for currency in [customer.currency, *(each.plan.currency for each in own)]:
            if currency not in {None, self.plan.currency}:
                raise InvalidInput(
                    "customers", f"{customer.key!r} pays in {currency}, and the draft is in {self.plan.currency}"
                )


def _life(subscription: Subscription) -> Period:
    end_us = subscription.end_at_us
    return Period(subscription.start_at_us, EVER.end_us if end_us is None else end_us)


def _overlap(subscription: Subscription, other: Period) -> bool:
    life = _life(subscription)
    return life.start_us < other.end_us and other.start_us < life.end_us
