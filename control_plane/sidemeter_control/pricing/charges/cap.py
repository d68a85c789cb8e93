"""Price caps: the most that usage can add to what a charge costs, whatever was used before. Pure, and never too little.

An event of `n` units adds at most `per_event + n * per_unit`, but for what a price jumps by where a tier, a step or a
package begins: all jumps together come to `once` at most, however many events there are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from sidemeter_control.money import Money, exact, minor_digits
from sidemeter_control.pricing.charges.charge import Charge, Price
from sidemeter_control.pricing.charges.dynamic import Dynamic
from sidemeter_control.pricing.charges.flat import Flat
from sidemeter_control.pricing.charges.graduated import Graduated
from sidemeter_control.pricing.charges.graduated_percentage import GraduatedPercentage
from sidemeter_control.pricing.charges.matrix import Matrix
from sidemeter_control.pricing.charges.outcome import OutcomeCharge
from sidemeter_control.pricing.charges.package import Package
from sidemeter_control.pricing.charges.per_unit import PerUnit
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.charges.stairstep import Stairstep
from sidemeter_control.pricing.charges.time_of_day import TimeOfDay
from sidemeter_control.pricing.charges.used import Needs, Outcome, Used
from sidemeter_control.pricing.charges.volume import Volume
from sidemeter_control.pricing.words import Words

__all__ = ["Cap", "cap_of", "most_within"]

_UP = Context(prec=300, rounding=ROUND_CEILING)
_FINEST = Decimal(1).scaleb(-18)
_HUNDRED = Decimal(100)
_NOTHING = Decimal(0)

_NO_END = 2**100
"""Grains of a quantity: more than a meter can count."""


@dataclass(frozen=True, slots=True)
class Cap:
    """What usage can cost at most, in the plan's currency."""

    per_unit: Decimal
    per_event: Decimal = _NOTHING
    once: Decimal = _NOTHING

    @exact
    def times(self, factor: Decimal) -> "Cap":
        """The same of a price that is multiplied."""
        return Cap(self.per_unit * factor, self.per_event * factor, self.once * factor)

    @exact
    def of(self, quantity: Decimal) -> Decimal:
        """What one event of this quantity adds at most, without what is reserved once."""
        return self.per_event + max(quantity, _NOTHING) * self.per_unit


@exact
def cap_of(charge: Charge) -> Cap | str:
    """The cap of a metered charge, or why it has none: words that follow the charge's name.

    Discounts of the price lower it; included units, a minimum and a maximum only put off or take away what is owed, and
    leave it as it is.
    """
    cap = _OF_MODEL[type(charge.model)](charge.model)
    if isinstance(cap, str):
        return cap
    convert = charge.quantity_modifiers.convert
    if convert is not None:
        grain = _NOTHING if convert.divide is None else _FINEST
        if convert.rounding is not None:
            grain = Decimal(1).scaleb(-convert.precision)
        factor = _UP.divide(convert.multiply or Decimal(1), convert.divide or Decimal(1))
        jumps = cap.per_unit * grain * _parts(charge.model)
        cap = Cap(_up(_UP.multiply(cap.per_unit, factor)), cap.per_event, cap.once + jumps)
    for each in charge.price_modifiers.discount_percentages:
        cap = cap.times((_HUNDRED - each) / _HUNDRED)
    return Cap(_up(cap.per_unit), _up(cap.per_event), cap.once)


def _up(amount: Decimal) -> Decimal:
    """At most 18 digits after the point, rounded up."""
    return amount.quantize(_FINEST, context=_UP)


def _parts(model: Any) -> int:
    """How many quantities a model prices, each of which is converted and rounded for itself."""
    if isinstance(model, Matrix):
        return len(model.rates) + 1
    if isinstance(model, TimeOfDay):
        return len(model.bands) + 1
    return len(Outcome) if isinstance(model, OutcomeCharge) else 1


def _tiered(model: Graduated | GraduatedPercentage) -> Cap:
    """Every flat fee may still come, each once."""
    return Cap(
        max(each.unit_price for each in model.tiers), once=sum((each.flat_fee for each in model.tiers), _NOTHING)
    )


def _volume(model: Volume) -> Cap:
    """The amount jumps where the next tier begins; where it falls, it may rise again at its new price."""
    before, jumps = _NOTHING, []
    edge = _NOTHING
    for tier in model.tiers:
        jumps.append(edge * tier.unit_price + tier.flat_fee - before)
        if tier.up_to is not None:
            edge = tier.up_to
            before = edge * tier.unit_price + tier.flat_fee
    return Cap(max(each.unit_price for each in model.tiers), once=_rises(jumps))


def _stairstep(model: Stairstep) -> Cap:
    """Nothing but jumps. Units have a price all the same, of the dearest step, so that there is something to share."""
    fees = [each.flat_fee for each in model.tiers]
    once = sum(fees, _NOTHING)
    if not model.stairstep_cumulative:
        once = _rises(after - before for before, after in zip([_NOTHING, *fees], fees, strict=False))
    per_unit, edge = _NOTHING, _NOTHING
    for tier in model.tiers:
        width = Decimal(1) if tier.up_to is None else tier.up_to - edge
        if tier.up_to is not None or not edge:
            per_unit = max(per_unit, _UP.divide(tier.flat_fee, width))
        edge = tier.up_to or edge
    if not per_unit and once:
        per_unit = once
    return Cap(_up(per_unit), once=once)


def _rises(jumps: Iterable[Decimal]) -> Decimal:
    return sum((max(each, _NOTHING) for each in jumps), _NOTHING)


def _package(model: Package) -> Cap:
    """The next package is owed as soon as any of it is used."""
    return Cap(_up(_UP.divide(model.package_price, model.package_size)), once=model.package_price)


def _percentage(model: Percentage) -> Cap | str:
    """An event told late comes before others, and may take the allowance from a larger one that was free."""
    if model.has_allowance:
        return "has free events or a free amount: which events are free changes with each that is told late"
    fixed = max(model.fixed_per_event, model.min_per_event or _NOTHING)
    return Cap(model.percentage.scaleb(-2), fixed)


def _matrix(model: Matrix) -> Cap:
    return Cap(max(model.default_unit_price, *(each.unit_price for each in model.rates)))


def _time_of_day(model: TimeOfDay) -> Cap:
    return Cap(max(model.default_unit_price or _NOTHING, *(each.unit_price for each in model.bands)))


_OF_MODEL: dict[type, Callable[[Any], Cap | str]] = {
    Flat: lambda _: Cap(_NOTHING),
    PerUnit: lambda model: Cap(model.unit_price),
    Package: _package,
    Graduated: _tiered,
    Volume: _volume,
    Stairstep: _stairstep,
    Percentage: _percentage,
    GraduatedPercentage: _tiered,
    Matrix: _matrix,
    TimeOfDay: _time_of_day,
    Dynamic: lambda model: Cap(model.multiplier),
    OutcomeCharge: lambda model: Cap(model.unit_price),
}


@exact
def most_within(charge: Charge, words: Words, amount: Decimal, used: Decimal, grain: Decimal) -> Decimal | None:
    """How much may still be used on top of `used`, in whole grains, so that nothing up to that costs more than `amount`.

    For a charge whose price depends on the quantity alone; `amount` is in whole minor units. None: however much it is.
    """
    if charge.model.needs is not Needs.QUANTITY:
        raise ValueError(f"{charge.spec.key} needs more than a quantity")

    def fits(grains: int) -> bool:
        return _peak(charge, words, used, used + grains * grain) <= amount

    if not fits(0):
        return _NOTHING
    low, high = 0, 1
    while fits(high):
        low, high = high, high * 2
        if high > _NO_END:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * grain


def _peak(charge: Charge, words: Words, used: Decimal, quantity: Decimal) -> Decimal:
    """The most that any quantity from `used` to `quantity` costs, rounded as it is billed or higher.

    Only of VOLUME is that not the last one: what it comes to at the end of a tier may be more than in the next.
    """
    amounts = [charge.price(Used.of(quantity), words).total]
    if isinstance(charge.model, Volume):
        first, last = (_billable(charge, words, each) for each in (used, quantity))
        edges = [each.up_to for each in charge.model.tiers if each.up_to is not None and first <= each.up_to <= last]
        amounts += [_at_edge(charge, words, edge) for edge in edges]
    if charge.price_modifiers.discount_percentages:  # a price and its discount are rounded each for itself
        minor = Decimal(1).scaleb(-minor_digits(words.currency))
        return max(each.amount for each in amounts) + minor
    return max(each.rounded for each in amounts)


def _billable(charge: Charge, words: Words, quantity: Decimal) -> Decimal:
    return charge.quantity_modifiers.of(Used.of(quantity), words)[0].quantity


def _at_edge(charge: Charge, words: Words, edge: Decimal) -> Money:
    lines = charge.model.lines(Used.of(edge), words)
    total = Money.of(sum((line.amount for line in lines), _NOTHING), words.currency)
    return charge.price_modifiers.of(Price(total, lines), words, final=True).total
