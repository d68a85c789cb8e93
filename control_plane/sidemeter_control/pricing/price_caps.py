"""What a customer's usage can still cost: the price caps of all meters, and what is taken of an amount of money already.

Pure, and never too little. Agents debit every event at the caps; what is counted is known exactly, and takes only that.
Whatever is debited and not counted yet, a bill never exceeds `taken` by more than that.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from functools import partial

from sidemeter_control.metering.meters import Aggregation, Meter
from sidemeter_control.money import Money, exact, minor_digits
from sidemeter_control.pricing.bills import CostLine
from sidemeter_control.pricing.charges import Charge, Needs
from sidemeter_control.pricing.charges.cap import Cap, cap_of, most_within
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.settling import MINIMUM_SPEND, of_leg
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.pricing.words import Words

__all__ = ["MeterCap", "PriceCaps", "price_caps", "taken", "uncapped"]

_COUNTED = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT})
"""Of these an event adds at most what it is, or one."""

_DOWN = Context(prec=300, rounding=ROUND_FLOOR)
_NOTHING = Decimal(0)
_ONE = Decimal(1)
_HALF = Decimal("0.5")
_NANO = _ONE.scaleb(-9)


@dataclass(frozen=True, slots=True)
class MeterCap:
    """What an event that a meter counts adds at most to all charges together, in the plan's currency."""

    meter: Meter
    per_unit: Decimal
    per_event: Decimal


@dataclass(frozen=True, slots=True)
class _Priced:
    """A metered charge in one stretch of billing, with its cap."""

    own: Subscribed
    leg: Leg
    charge: Charge
    cap: Cap

    @property
    def meter(self) -> Meter:
        """What it prices."""
        return self.own.meters[self.charge.spec.meter or ""]


@dataclass(frozen=True, slots=True)
class PriceCaps:
    """The caps of every meter that is priced in a period, and the charges behind them.

    `refusal` says why usage cannot be capped now, if it cannot: then nothing may be used that is priced.
    """

    meters: tuple[MeterCap, ...]
    priced: tuple[_Priced, ...]
    period: Period
    refusal: str | None = None

    @property
    def once(self) -> Decimal:
        """What prices may jump by, all of them together."""
        return sum((each.cap.once for each in self.priced), _NOTHING)

    @property
    def alone(self) -> _Priced | None:
        """The one charge that usage can add to, if its price depends on the quantity of a meter alone."""
        if len(self.priced) != 1:
            return None
        (only,) = self.priced
        leg, own = only.leg.period, only.own
        whole = self.period.start_us <= leg.start_us and leg.end_us <= self.period.end_us
        simple = whole and own.plan.commitment is None and only.charge.model.needs is Needs.QUANTITY
        return only if simple and only.meter.aggregation is not Aggregation.UNIQUE_COUNT else None


def uncapped(own: Sequence[Subscribed], period: Period, dimensions: Collection[str] = ()) -> str | None:
    """Why what is used in a period, with these dimensions, cannot be capped, naming the charge; None: it can."""
    for each in own:
        if not any(True for _ in each.legs(period.start_us, period.end_us)):
            continue
        for charge in each.charges:
            reason = (
                _uncapped(each, charge, sliced=bool(dimensions)) if each.has_dimensions(charge, dimensions) else None
            )
            if reason is not None:
                return f"charge {charge.spec.key!r} of plan {each.plan.key!r} {reason}"
    return None


def _uncapped(own: Subscribed, charge: Charge, *, sliced: bool) -> str | None:
    meter = own.meters[charge.spec.meter or ""]
    if sliced and charge.model.needs is Needs.OUTCOMES:
        return (
            "is settled by outcomes, which say nothing of a slice: all of its events would be looked at again and again"
        )
    if meter.aggregation not in _COUNTED:
        return f"prices a {meter.aggregation.value} meter: what an event adds to it is not known when it happens"
    cap = cap_of(charge)
    return cap if isinstance(cap, str) else None


@exact
def price_caps(own: Sequence[Subscribed], period: Period, dimensions: Collection[str] = ()) -> PriceCaps:
    """The caps of what is used in a period by a customer with these subscriptions; with `dimensions`, of what has them.

    Of a meter that several charges price at a time they add up. Where one plan follows another, the dearer one counts for
    all of the period: an agent does not ask when, and may hear of the change late.
    """
    priced = tuple(_priced(own, period, dimensions))
    reason = uncapped(own, period, dimensions) or _unfilled(priced)
    if reason is not None:
        return PriceCaps(tuple(_closed(own, period, dimensions)), (), period, reason)
    by_meter: dict[str, MeterCap] = {}
    for at_us in {each.leg.period.start_us for each in priced}:
        for key, cap in _at(priced, at_us).items():
            before = by_meter.get(key, cap)
            dearest = max(before.per_unit, cap.per_unit), max(before.per_event, cap.per_event)
            by_meter[key] = MeterCap(cap.meter, *dearest)
    return PriceCaps(tuple(by_meter[key] for key in sorted(by_meter)), priced, period)


def _unfilled(priced: Sequence[_Priced]) -> str | None:
    unfilled = (each.meter.key for each in priced if not each.meter.progress.done)
    return next((f"meter {key!r} still counts what was stored before it" for key in unfilled), None)


def _closed(own: Sequence[Subscribed], period: Period, dimensions: Collection[str]) -> Iterator[MeterCap]:
    """Whatever is priced at all costs something: where nothing is left, that is all that has to be known."""
    charged = [each for each in own if any(True for _ in each.legs(period.start_us, period.end_us))]
    meters = {
        meter.key: meter
        for each in charged
        for charge in each.charges
        if each.has_dimensions(charge, dimensions)
        for meter in [each.meters[charge.spec.meter or ""]]
    }
    return (MeterCap(meters[key], _NOTHING, _ONE) for key in sorted(meters))


def _priced(own: Sequence[Subscribed], period: Period, dimensions: Collection[str]) -> Iterator[_Priced]:
    for each in own:
        factor = _ONE if each.plan.commitment is None else max(each.plan.commitment.overage_factor, _ONE)
        for leg in each.legs(period.start_us, period.end_us):
            for charge in each.charges:
                cap = cap_of(charge) if each.has_dimensions(charge, dimensions) else "costs nothing more"
                if isinstance(cap, Cap):
                    yield _Priced(each, leg, charge, cap.times(factor))


def _at(priced: Sequence[_Priced], at_us: int) -> Mapping[str, MeterCap]:
    """What is charged at an instant, by meter key."""
    per: defaultdict[str, Cap] = defaultdict(lambda: Cap(_NOTHING))
    meters: dict[str, Meter] = {}
    for each in priced:
        if each.leg.period.start_us <= at_us < each.leg.period.end_us:
            key = each.meter.key
            meters[key] = each.meter
            per[key] = Cap(per[key].per_unit + each.cap.per_unit, per[key].per_event + each.cap.per_event)
    return {key: MeterCap(meters[key], cap.per_unit, cap.per_event) for key, cap in per.items()}


@exact
def taken(caps: PriceCaps, amount: Decimal, total: Money, lines: Sequence[CostLine]) -> Decimal:
    """How much of an amount of money cannot be spent any more: what is owed by now, and what may be owed beyond debits.

    `total` and `lines` are the cost of the period. What is left may be debited at the caps, in whatever parts.
    """
    minor = _ONE.scaleb(-minor_digits(total.currency))
    whole = amount.quantize(minor, context=_DOWN)  # a bill has no smaller amounts
    if caps.refusal is not None or total.rounded > whole:
        return amount
    alone = caps.alone
    if alone is not None and alone.cap.once:
        return amount - _left_of_one(alone, whole, total, lines)
    owed = total.rounded + _unrounded(caps, lines) + _rounding(caps, minor) + caps.once
    legs = {(each.own.subscription.id, each.leg.period) for each in caps.priced}
    if len(legs) == 1 and alone is not None:  # usage fills up a minimum spend before it adds to it
        owed -= sum((line.amount.rounded for line in lines if line.charge == MINIMUM_SPEND), _NOTHING)
    return owed + amount - whole


def _unrounded(caps: PriceCaps, lines: Sequence[CostLine]) -> Decimal:
    """What the metered lines come to exactly, beyond what they come to rounded."""
    factors = (each.own.plan.commitment.overage_factor for each in caps.priced if each.own.plan.commitment is not None)
    factor = max([_ONE, *factors])
    rests = (line.amount.amount - line.amount.rounded for line in lines if line.events is not None)
    return sum((rest * factor if rest > 0 else rest for rest in rests), _NOTHING)


def _rounding(caps: PriceCaps, minor: Decimal) -> Decimal:
    """What rounding may add to all lines together. One line alone that is within the amount exactly is so rounded."""
    rounded_twice = [each for each in caps.priced if each.charge.price_modifiers.discount_percentages]
    committed = [each for each in caps.priced if each.own.plan.commitment is not None]
    if len(caps.priced) <= 1 and not rounded_twice and not committed:
        return _NOTHING
    factors = (each.own.plan.commitment.overage_factor for each in committed if each.own.plan.commitment is not None)
    return minor * _HALF * (len(caps.priced) + len(rounded_twice) + 2 * len(committed)) * max([_ONE, *factors])


def _left_of_one(only: _Priced, whole: Decimal, total: Money, lines: Sequence[CostLine]) -> Decimal:
    """What may be debited where the price of one charge jumps: its cap for each unit that the amount is enough for."""
    from_us = only.leg.period.start_us
    own_lines = [
        line
        for line in lines
        if line.charge == only.charge.spec.key and line.events is not None and line.events.from_us == from_us
    ]
    fixed = total.rounded - sum((line.amount.rounded for line in own_lines), _NOTHING)
    fixed -= sum((line.amount.rounded for line in lines if line.charge == MINIMUM_SPEND), _NOTHING)
    used = sum((line.quantity or _NOTHING for line in own_lines), _NOTHING)
    grain = _ONE if only.meter.aggregation is Aggregation.COUNT else _NANO
    words = Words(total.currency, only.meter.unit)
    charge = only.charge.with_bounds(partial(of_leg, only.own, only.leg))
    most = most_within(charge, words, whole - fixed, used, grain)
    return only.cap.per_unit * (most if most is not None else _ONE.scaleb(30))
