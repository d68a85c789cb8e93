"""MATRIX: a price by what was used: a model, a region, a cloud."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.parameters import not_negative
from sidemeter_control.pricing.charges.spec import MatrixRateSpec
from sidemeter_control.pricing.charges.used import Needs, Used, UsedLine
from sidemeter_control.pricing.words import Words

__all__ = ["MAX_MATCHED_KEYS", "MAX_MATCHED_VALUES", "MAX_RATES", "Matrix", "Rate", "read_rates"]

MAX_RATES = 1_000
"""More than all models of all providers. Each usage line is held against every rate."""

MAX_MATCHED_KEYS = 10
"""A meter has no more dimensions."""

MAX_MATCHED_VALUES = 100
"""Listed for one key of a match: a line of a price has to name them."""

_MAX_VALUE_CHARS = 256


@dataclass(frozen=True, slots=True)
class Rate:
    """A price for usage whose every dimension in `match` has one of the values listed there.

    `number` is its place in the price list, counted from 0.
    """

    number: int
    match: Mapping[str, tuple[str, ...]]
    unit_price: Decimal

    def takes(self, dimensions: Mapping[str, str | None]) -> bool:
        """Whether it is a price for that."""
        for key, values in self.match.items():  # noqa: SIM110 -- asked for each line and rate: half the time of all()
            if dimensions.get(key) not in values:
                return False
        return True

    @property
    def rank(self) -> tuple[int, int, int]:
        """The lower, the more specific: more keys, then fewer listed values, then the older."""
        return -len(self.match), sum(map(len, self.match.values())), self.number


@dataclass(frozen=True, slots=True)
class Matrix:
    """Everything at the price of the most specific of the `rates` that match, what no rate matches at the default.

    There is no matrix without a default: what it would not name would be free.
    """

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.DIMENSIONS
    unowed: ClassVar[frozenset[int]] = frozenset()
    rates: tuple[Rate, ...]
    default_unit_price: Decimal

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions that the price depends on, by name."""
        return tuple(sorted({key for rate in self.rates for key in rate.match}))

    def number_of(self, line: UsedLine, time_zone: str) -> int:  # noqa: ARG002 -- no clock is looked at
        """The number of the rate; one more than the last: the default."""
        for rate in self.rates:
            if rate.takes(line.dimensions):
                return rate.number
        return len(self.rates)

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line per rate that took anything, in the order of the price list, then the default."""
        by_number = {rate.number: rate for rate in self.rates}
        default = Rate(len(self.rates), {}, self.default_unit_price)
        lines = []
        for group in used.groups or ():
            if group.quantity:
                rate = by_number.get(group.number, default)
                text = words.matched(group.quantity, rate.match, rate.unit_price)
                amount = group.quantity * rate.unit_price
                lines.append(
                    PriceLine(text, amount, quantity=group.quantity, unit_price=rate.unit_price, match=rate.match)
                )
        return tuple(lines)


def read_rates(path: str, specs: Sequence[MatrixRateSpec]) -> tuple[Rate, ...]:
    """The rates, checked, the most specific first; InvalidInput names the rate and its field."""
    if not 1 <= len(specs) <= MAX_RATES:
        raise InvalidInput(path, f"must have 1 to {MAX_RATES} rates")
    rates = [
        Rate(
            number,
            _read_match(f"{path}[{number}].match", spec.match),
            not_negative(f"{path}[{number}].unitPrice", spec.unit_price),
        )
        for number, spec in enumerate(specs)
    ]
    return tuple(sorted(rates, key=lambda rate: rate.rank))


def _read_match(path: str, match: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(match, Mapping) or not 1 <= len(match) <= MAX_MATCHED_KEYS:
        raise InvalidInput(path, f"must be an object of 1 to {MAX_MATCHED_KEYS} dimensions")
    return {key: _read_values(f"{path}.{key}", values) for key, values in match.items()}


def _read_values(path: str, values: object) -> tuple[str, ...]:
    listed = (values,) if isinstance(values, str) else values
    if not isinstance(listed, list | tuple) or not 1 <= len(listed) <= MAX_MATCHED_VALUES:
        raise InvalidInput(path, f"must be a text or a list of 1 to {MAX_MATCHED_VALUES} texts")
    for value in listed:
        if not isinstance(value, str) or len(value) > _MAX_VALUE_CHARS:
            raise InvalidInput(path, f"must be texts of at most {_MAX_VALUE_CHARS} characters")
    twice = [value for value, times in Counter(listed).items() if times > 1]
    if twice:
        raise InvalidInput(path, f"must name {twice[0]!r} once")
    return tuple(listed)
