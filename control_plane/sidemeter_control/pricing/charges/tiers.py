"""Tiers: ranges of a quantity with a price each, in ascending order, the last one open."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import exact
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.parameters import not_negative, positive
from sidemeter_control.pricing.charges.spec import TierSpec

__all__ = ["MAX_TIERS", "Tier", "at_or_below_zero", "reached", "read_rated_tiers", "read_steps", "read_tiers", "slices"]

MAX_TIERS = 100
"""More than any price list has; each tier is a line of every price."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to` (None: all above), `unit_price` each, `flat_fee` for reaching it."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal

    def reaches(self, quantity: Decimal) -> bool:
        """Whether a quantity ends in this tier or a lower one."""
        return self.up_to is None or quantity <= self.up_to


def read_tiers(path: str, specs: Sequence[TierSpec]) -> tuple[Tier, ...]:
    """The tiers of a price per unit, checked; InvalidInput names the tier and its field."""
    return _read(path, specs, ("unit_price", "flat_fee"))


def read_rated_tiers(path: str, specs: Sequence[TierSpec]) -> tuple[Tier, ...]:
    """The tiers of a price in percent; 2.5 % is a unit price of 0.025."""
    return _read(path, specs, ("percentage", "flat_fee"))


def read_steps(path: str, specs: Sequence[TierSpec]) -> tuple[Tier, ...]:
    """The steps of a staircase: each has its price as its flat fee."""
    return _read(path, specs, ("flat_fee",))


_PRICES = {"unit_price": "unitPrice", "percentage": "percentage", "flat_fee": "flatFee"}


@exact
def _read(path: str, specs: Sequence[TierSpec], prices: Sequence[str]) -> tuple[Tier, ...]:
    if not 1 <= len(specs) <= MAX_TIERS:
        raise InvalidInput(path, f"must have 1 to {MAX_TIERS} tiers")
    tiers = tuple(_read_tier(f"{path}[{index}]", spec, prices) for index, spec in enumerate(specs))
    for index, (lower, upper) in enumerate(pairwise(tiers)):
        if lower.up_to is None:
            raise InvalidInput(f"{path}[{index}].upTo", "must be given on every tier but the last")
        if upper.up_to is not None and upper.up_to <= lower.up_to:
            raise InvalidInput(f"{path}[{index + 1}].upTo", "must rise from tier to tier")
    if tiers[-1].up_to is not None:
        raise InvalidInput(f"{path}[{len(tiers) - 1}].upTo", "must be absent: the last tier is open")
    return tiers


def _read_tier(path: str, spec: TierSpec, prices: Sequence[str]) -> Tier:
    given = {name: getattr(spec, name) for name in _PRICES if getattr(spec, name) is not None}
    for name in sorted(given.keys() - set(prices)):
        raise InvalidInput(f"{path}.{_PRICES[name]}", "is not a parameter of this model's tiers")
    if not given:
        wanted = [_PRICES[name] for name in prices]
        raise InvalidInput(path, f"must have a {', a '.join(wanted)}{' or both' * (len(wanted) > 1)}")
    read = {name: not_negative(f"{path}.{_PRICES[name]}", value) for name, value in given.items()}
    up_to = None if spec.up_to is None else positive(f"{path}.upTo", spec.up_to)
    rate = read.get("percentage", Decimal(0)).scaleb(-2)
    return Tier(up_to, read.get("unit_price", rate), read.get("flat_fee", Decimal(0)))


def slices(tiers: Sequence[Tier], quantity: Decimal) -> Iterator[tuple[int, Tier, Decimal]]:
    """Every tier that a quantity above zero falls in, numbered from 1, with how much of it does."""
    floor = Decimal(0)
    for number, tier in enumerate(tiers, 1):
        part = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - floor
        yield number, tier, part
        if tier.reaches(quantity):
            return
        floor += part


def reached(tiers: Sequence[Tier], quantity: Decimal) -> tuple[int, Tier]:
    """The tier that a quantity ends in, numbered from 1."""
    return next((number, tier) for number, tier in enumerate(tiers, 1) if tier.reaches(quantity))


def at_or_below_zero(
    first: Tier, quantity: Decimal, flat_fee_due: bool, say: Callable[[int, Decimal, Decimal, Decimal], str]
) -> tuple[PriceLine, ...]:
    """What a quantity of zero or less owes: units at the first tier's price, its flat fee only if due at zero."""
    flat_fee = first.flat_fee if flat_fee_due else Decimal(0)
    if not quantity and not flat_fee:
        return ()
    text = say(1, quantity, first.unit_price, flat_fee)
    return (PriceLine(text, quantity * first.unit_price + flat_fee, 1, quantity, first.unit_price, flat_fee),)
