"""Recurring fees: where each stands in a billing period, and what of it is owed when the period is cut."""

from decimal import Decimal

from sidemeter_control.money import exact, minor_digits
from sidemeter_control.pricing.charges import Charge, PriceLine, Used
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.proration import credit, prorated, share
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.pricing.words import Words

__all__ = ["fee_lines"]


def fee_lines(own: Subscribed, charge: Charge, leg: Leg, part: Period, words: Words) -> tuple[PriceLine, ...]:
    """What of a leg's fee falls in a part of the leg.

    In advance it stands where the leg begins, for all that is left of the billing period then; what is not used of that
    is given back where the leg ends. In arrears it stands where the leg ends, for the leg alone.
    """
    stands = _in_advance if charge.spec.in_advance else _in_arrears
    return tuple(line for at_us, line in stands(own, charge, leg, words) if part.start_us <= at_us < part.end_us)


def _in_arrears(own: Subscribed, charge: Charge, leg: Leg, words: Words) -> list[tuple[int, PriceLine]]:
    return [(leg.period.end_us - 1, line) for line in _of(own, charge, leg, leg.period, words)]


@exact
def _in_advance(own: Subscribed, charge: Charge, leg: Leg, words: Words) -> list[tuple[int, PriceLine]]:
    lines = _of(own, charge, leg, Period(leg.period.start_us, leg.cycle.end_us), words)
    standing = [(leg.period.start_us, line) for line in lines]
    paid = sum((line.amount for line in lines), Decimal(0))
    unused = Period(leg.period.end_us, leg.cycle.end_us)
    back = credit(abs(_share(own, charge, leg, unused, words)), abs(paid)).copy_sign(-paid)
    if back:
        text = words.unused_time(*unused.days(own.subscription.time_zone))
        standing.append((leg.period.end_us - 1, PriceLine(text, back, flat_fee=back)))
    return standing


def _of(own: Subscribed, charge: Charge, leg: Leg, part: Period, words: Words) -> tuple[PriceLine, ...]:
    """The fee of a part of the billing period: the fee itself of all of it, else its share."""
    if part == leg.cycle:
        return charge.price(Used.of(Decimal(0)), words).lines
    amount = _share(own, charge, leg, part, words)
    if not amount:
        return ()
    days = part.days(own.subscription.time_zone)
    return (PriceLine(words.fee_of_part(amount, *days), amount, flat_fee=amount),)


def _share(own: Subscribed, charge: Charge, leg: Leg, part: Period, words: Words) -> Decimal:
    fee = charge.price(Used.of(Decimal(0)), words).total.amount
    ratio = share(own.plan.proration, leg.cycle, part, own.subscription.time_zone)
    return prorated(fee, ratio, minor_digits(words.currency))
