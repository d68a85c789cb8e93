"""What a plan as a whole owes at the end of a billing period: its commitment, and its minimum spend."""

from collections.abc import Sequence
from decimal import Decimal

from sidemeter_control.money import Money, exact, minor_digits, rounded
from sidemeter_control.pricing.charges import PriceLine
from sidemeter_control.pricing.commitments import CommitmentSpec, committed
from sidemeter_control.pricing.proration import prorated, share
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.pricing.words import Words

__all__ = ["COMMITMENT", "MINIMUM_SPEND", "commitment_lines", "minimum_lines", "of_leg", "total"]

COMMITMENT, MINIMUM_SPEND = "_commitment", "_minimumSpend"
"""Where a charge has its key. No charge has such a key."""


@exact
def commitment_lines(own: Subscribed, legs: Sequence[Leg], used: Decimal, words: Words) -> tuple[PriceLine, ...]:
    """What a commitment adds to or takes from `used`, which all metered charges come to over these legs together.

    The commitment of a leg that is cut is prorated, and rounded.
    """
    terms = own.plan.commitment
    if terms is None:
        return ()
    amount = sum((of_leg(own, leg, terms.amount) for leg in legs), Decimal(0))
    return tuple(line for line in _terms(terms, amount, used, words) if line.amount)


def _terms(terms: CommitmentSpec, amount: Decimal, used: Decimal, words: Words) -> tuple[PriceLine, PriceLine]:
    owed = committed(used, amount, overage_factor=terms.overage_factor, true_up=terms.true_up)
    if used > amount:
        text = words.beyond_commitment(used - amount, amount, terms.overage_factor)
    else:
        text = words.not_used(amount - used, amount)
    base = amount if terms.true_up or used > amount else max(used, Decimal(0))
    discount = -base * terms.discount_percentage.scaleb(-2)
    return (
        PriceLine(text, rounded(owed - used, words.currency)),
        PriceLine(words.commitment_discount(terms.discount_percentage, base), rounded(discount, words.currency)),
    )


@exact
def minimum_lines(own: Subscribed, leg: Leg, spent: Decimal, words: Words) -> tuple[PriceLine, ...]:
    """What is owed on top of everything that a leg has `spent`, which may be nothing, to reach its minimum spend."""
    if own.plan.minimum_spend is None:
        return ()
    minimum = of_leg(own, leg, own.plan.minimum_spend)
    owed = committed(spent, minimum) - spent
    return (PriceLine(words.up_to_minimum(minimum, spent), owed),) if owed > 0 else ()


@exact
def total(lines: Sequence[PriceLine], currency: str) -> Money:
    """What lines come to that are rounded each."""
    return Money(
        sum((line.amount for line in lines), Decimal(0)),
        currency,
        sum((rounded(line.amount, currency) for line in lines), Decimal(0)),
    )


def of_leg(own: Subscribed, leg: Leg, amount: Decimal) -> Decimal:
    """What of an amount per billing period is for a leg: its part by the plan's rule, rounded to the minor unit."""
    part = share(own.plan.proration, leg.cycle, leg.period, own.subscription.time_zone)
    return prorated(amount, part, minor_digits(own.plan.currency))
