"""What may change any charge's quantity before it is priced, and its price afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import Money, rounded
from sidemeter_control.pricing.charges.convert import Convert
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.parameters import not_negative
from sidemeter_control.pricing.charges.used import Group, Used
from sidemeter_control.pricing.words import Words

__all__ = ["MAX_DISCOUNTS", "Price", "PriceModifiers", "QuantityModifiers", "read_percentages"]

MAX_DISCOUNTS = 5
"""Of one charge, one after the other. Each adds its digits to those of an exact price."""

_HUNDRED = Decimal(100)
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Price:
    """An exact price, its rounding, and the lines that add up to the exact one."""

    total: Money
    lines: tuple[PriceLine, ...]


@dataclass(frozen=True, slots=True)
class QuantityModifiers:
    """Conversion, then units that cost nothing. Of a list of prices, those of its first entries are free first."""

    convert: Convert | None = None
    included_units: Decimal | None = None
    discount_units: Decimal | None = None

    def of(self, used: Used, words: Words) -> tuple[Used, Words, tuple[PriceLine, ...]]:
        """What is billable, the words for it, and the lines that say what became of the rest."""
        lines: list[PriceLine] = []
        if self.convert is not None:
            lines += [self.convert.line(quantity, words) for quantity in _quantities(used) if quantity]
            used = _mapped(used, [self.convert.of(quantity) for quantity in _quantities(used)])
            words = self.convert.words(words)
        for units, say in ((self.included_units, words.included), (self.discount_units, words.usage_discount)):
            if units is not None:
                free, used = _less(used, units)
                if free:
                    lines.append(PriceLine(say(free), _NOTHING, quantity=free, unit_price=_NOTHING))
        return used, words, tuple(lines)


def _quantities(used: Used) -> list[Decimal]:
    return [used.quantity] if used.groups is None else [group.quantity for group in used.groups]


def _mapped(used: Used, quantities: Sequence[Decimal]) -> Used:
    total = sum(quantities, _NOTHING)
    if used.groups is None:
        return replace(used, quantity=total)
    groups = zip(used.groups, quantities, strict=True)
    return replace(used, quantity=total, groups=tuple(replace(group, quantity=each) for group, each in groups))


def _less(used: Used, units: Decimal) -> tuple[Decimal, Used]:
    left, billable = units, []
    for group in (Group(0, used.quantity),) if used.groups is None else used.groups:
        if group.owed:
            rest = max(group.quantity - left, _NOTHING)
            left -= max(group.quantity, _NOTHING) - rest
        else:
            rest = group.quantity
        billable.append(rest)
    return units - left, _mapped(used, billable)


@dataclass(frozen=True, slots=True)
class PriceModifiers:
    """Discounts in percent, one after the other, then the most and the least that a period may cost."""

    discount_percentages: tuple[Decimal, ...] = ()
    maximum: Decimal | None = None
    minimum: Decimal | None = None

    def check(self, path: str) -> None:
        """Raise InvalidInput unless the least is no more than the most."""
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise InvalidInput(f"{path}.minimum", "must not be more than maximum")

    def scaled(self, scale: Callable[[Decimal], Decimal]) -> "PriceModifiers":
        """The same with other bounds, each what `scale` makes of it."""
        maximum, minimum = (None if bound is None else scale(bound) for bound in (self.maximum, self.minimum))
        return replace(self, maximum=maximum, minimum=minimum)

    def of(self, price: Price, words: Words, final: bool) -> Price:
        """The price that is owed; the minimum only by the final slice of a period.

        The discount is rounded for itself, and the rest is what remains of the rounded price.
        """
        if self.discount_percentages:
            kept = Decimal(1)
            for each in self.discount_percentages:
                kept *= (_HUNDRED - each) / _HUNDRED
            off = price.total.amount * (1 - kept)
            left = price.total.rounded - rounded(off, words.currency)
            price = _changed(price, price.total.amount - off, left, words.discount(self.discount_percentages))
        if self.maximum is not None:
            price = _bounded(price, self.maximum, min, words.maximum(self.maximum))
        if self.minimum is not None and final:
            price = _bounded(price, self.minimum, max, words.minimum(self.minimum))
        return price


def _bounded(price: Price, bound: Decimal, choose: Callable[[Decimal, Decimal], Decimal], text: str) -> Price:
    total = price.total
    return _changed(price, choose(total.amount, bound), choose(total.rounded, rounded(bound, total.currency)), text)


def _changed(price: Price, amount: Decimal, rounded_amount: Decimal, text: str) -> Price:
    """The price at another amount, with the line that says why; as it is when nothing changes."""
    if amount == price.total.amount:
        return price
    total = Money(amount, price.total.currency, rounded_amount)
    return Price(total, (*price.lines, PriceLine(text, amount - price.total.amount)))


def read_percentages(path: str, values: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """The discounts, checked: one to five, each from 0 to 100 %."""
    if not 1 <= len(values) <= MAX_DISCOUNTS:
        raise InvalidInput(path, f"must be 1 to {MAX_DISCOUNTS} percentages")
    return tuple(_discount(f"{path}[{index}]", value) for index, value in enumerate(values))


def _discount(path: str, value: Decimal) -> Decimal:
    if not_negative(path, value) > _HUNDRED:
        raise InvalidInput(path, "must be at most 100")
    return value
