"""Closed billing periods: the lines that stay, and what usage that comes late changes of them, in a later period."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec

from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.bills import CostLine, EventsBehind
from sidemeter_control.pricing.charges import PriceLine
from sidemeter_control.pricing.periods import LATEST_US, Period
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.pricing.words import Language, Words

__all__ = [
    "Billed",
    "ClosedPeriod",
    "FrozenLine",
    "adjustments",
    "billed_of",
    "freeze",
    "next_leg",
    "remainder",
    "thaw",
]


class FrozenLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A cost line as it is kept. Its events are those of `meter` in `[from_us, to_us)`.

    `adjusts` is the subscription to whose earlier closed period it belongs, where that is not its own. `language` is that of
    its words, whatever the customer's is by now.
    """

    charge: str
    text: str
    amount: Decimal
    rounded: Decimal
    quantity: Decimal | None = None
    parts: tuple[PriceLine, ...] = ()
    meter: str | None = None
    from_us: int = 0
    to_us: int = 0
    adjusts: str | None = None
    language: Language = Language.EN


class Billed(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is billed of one charge for a closed period by now."""

    text: str
    amount: Decimal
    rounded: Decimal
    quantity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A leg that is over. `total` is what its lines come to; `last_seq` the last event that was counted before.

    `billed` goes by charge key, with what later periods adjusted.
    """

    subscription_id: str
    customer_key: str
    period: Period
    closed_at_us: int
    last_seq: int
    total: Decimal
    lines: tuple[FrozenLine, ...]
    billed: Mapping[str, Billed]


def next_leg(own: Sequence[Subscribed], closed_until_us: Mapping[str, int]) -> tuple[Subscribed, Leg] | None:
    """The leg of a customer's subscriptions that is closed next, the first of those that end first; None: none is open.

    `closed_until_us` says by subscription how far it is closed.
    """
    open_legs = [
        (each, leg)
        for each in own
        if (leg := next(each.legs(closed_until_us.get(each.subscription.id, 0), LATEST_US), None)) is not None
    ]
    return min(open_legs, key=lambda found: found[1].period.end_us, default=None)


def freeze(line: CostLine, language: Language, adjusts: str | None = None) -> FrozenLine:
    """The line as it is kept."""
    behind = line.events
    return FrozenLine(
        charge=line.charge,
        text=line.text,
        amount=line.amount.amount,
        rounded=line.amount.rounded,
        quantity=line.quantity,
        parts=line.parts,
        meter=None if behind is None else behind.meter.key,
        from_us=0 if behind is None else behind.from_us,
        to_us=0 if behind is None else behind.to_us,
        adjusts=adjusts,
        language=language,
    )


def thaw(
    line: FrozenLine, closed: ClosedPeriod, own: Mapping[str, Subscribed], subjects: tuple[str, ...], dated: bool
) -> CostLine:
    """The line as it is shown. `own` are the customer's subscriptions by id."""
    of = own[line.adjusts or closed.subscription_id]
    text = line.text
    if dated and line.adjusts is None:
        text = Words.in_period(text, *closed.period.days(of.subscription.time_zone), line.language)
    events = None if line.meter is None else EventsBehind(of.meters[line.meter], subjects, line.from_us, line.to_us)
    amount = Money(line.amount, of.plan.currency, line.rounded)
    return CostLine(line.charge, text, line.quantity, amount, line.parts, events)


def remainder(
    whole: Sequence[CostLine], earlier: Sequence[CostLine], part: Period, language: Language
) -> list[CostLine]:
    """What `part`, the last one of a closed period, owes after `earlier` ones, so that they add up to what is frozen."""
    before = {line.charge: line for line in earlier}
    left = [_less(line, before.pop(line.charge, None), line.text, part, language) for line in whole]
    return left + [
        _less(_nothing(line, line.amount.currency), line, line.text, part, language) for line in before.values()
    ]


def adjustments(
    own: Subscribed, closed: ClosedPeriod, by_now: Sequence[CostLine], language: Language
) -> list[CostLine]:
    """What the lines of a closed period are by now less what is billed of them; none where they are the same."""
    currency, days = own.plan.currency, closed.period.days(own.subscription.time_zone)
    words = Words(currency, language=language)
    billed = {key: _line(key, each, currency) for key, each in closed.billed.items()}
    found = [(line, billed.pop(line.charge, None)) for line in by_now]
    found += [(_nothing(line, currency), line) for line in billed.values()]
    lines = (_less(now, then, words.counted_late(now.text, *days), closed.period, language) for now, then in found)
    return [line for line in lines if line.quantity or line.amount.amount or line.amount.rounded]


def billed_of(lines: Sequence[CostLine]) -> Mapping[str, Billed]:
    """What is billed once these lines of a closed period are."""
    return {
        line.charge: Billed(
            text=line.text, amount=line.amount.amount, rounded=line.amount.rounded, quantity=line.quantity
        )
        for line in lines
    }


@exact
def _less(now: CostLine, then: CostLine | None, text: str, part: Period, language: Language) -> CostLine:
    """The difference of two lines of a charge, shown as what it is now without what was billed then."""
    if then is None:
        return replace(now, text=text)
    then_amount, currency = then.amount, now.amount.currency
    amount = Money(now.amount.amount - then_amount.amount, currency, now.amount.rounded - then_amount.rounded)
    quantity = None if now.quantity is None else now.quantity - (then.quantity or 0)
    if now.quantity is None and then.quantity is not None:
        quantity = -then.quantity
    parts = now.parts
    if then_amount.amount or then.quantity:
        billed = PriceLine(
            Words(currency, language=language).billed_then(),
            -then_amount.amount,
            quantity=then.quantity and -then.quantity,
        )
        parts = (*parts, billed)
    events = now.events and replace(now.events, from_us=part.start_us, to_us=part.end_us)
    return CostLine(now.charge, text, quantity, amount, parts, events)


def _line(charge: str, billed: Billed, currency: str) -> CostLine:
    amount = Money(billed.amount, currency, billed.rounded)
    return CostLine(charge, billed.text, billed.quantity, amount, (), None)


def _nothing(line: CostLine, currency: str) -> CostLine:
    return CostLine(line.charge, line.text, None, Money(Decimal(0), currency, Decimal(0)), (), line.events)
