"""Lease units: the whole numbers in which a limit is shared. Pure, and never more than the limit.

One unit is 10^-scale of the meter's unit. A limit is rounded down to them and what is used is rounded up, so that units
stop usage too early rather than too late.
"""

import hashlib
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import msgspec

from sidemeter_control.limits.leases import Key
from sidemeter_control.metering.meters import Aggregation

__all__ = [
    "CREDITS",
    "LEASED",
    "MAX_UNITS",
    "PoolId",
    "Slice",
    "budget_key",
    "budget_name",
    "from_units",
    "is_budget",
    "limit_id",
    "limit_units",
    "money_scale",
    "pool_id",
    "scale_of",
    "units_of",
    "units_of_nano",
]

LEASED = frozenset({Aggregation.COUNT, Aggregation.SUM})
"""Of these, what one event adds is known when it happens, whatever else happens meanwhile."""

MAX_UNITS = 2**56
"""A larger limit is shared as this one: counts of many agents still fit into 64 bits."""

_ROOMY_UNITS = 2**55
_ROOMY_NANO = 2**44
_SCALES = (9, 6, 3, 0)

# As many digits as `money.exact` has: a limit times a power of ten always fits.
_DOWN = Context(prec=300, rounding=ROUND_FLOOR)
_UP = Context(prec=300, rounding=ROUND_CEILING)

CREDITS = "$"
"""What the limit that a prepaid customer's credits are has in the place of a feature's key."""

PoolId = tuple[str, str, int]
"""A customer's key, a feature's key or the name of a budget (or `CREDITS`), and the period."""

Slice = tuple[tuple[str, str], ...]
"""The dimensions of a meter, in order, that only count with these values."""


def scale_of(aggregation: Aggregation, limit: Decimal) -> int:
    """How many digits after the point a limit is shared with: as many as leave room to raise it.

    >>> scale_of(Aggregation.SUM, Decimal("1000.5")), scale_of(Aggregation.SUM, Decimal(10**11))
    (9, 3)
    """
    if aggregation is Aggregation.COUNT:
        return 0
    return next((scale for scale in _SCALES if limit.scaleb(scale, _UP) <= _ROOMY_UNITS), 0)


def money_scale(amount: Decimal) -> int:
    """The same of an amount of money: nano-units of a currency, or fewer digits for what is very large.

    Agents add up what they debited at price caps, and settle it, as often as those are above what is owed.

    >>> money_scale(Decimal(1000)), money_scale(Decimal(10**6))
    (9, 6)
    """
    return next((scale for scale in _SCALES if amount.scaleb(scale, _UP) <= _ROOMY_NANO), 0)


def limit_units(limit: Decimal, scale: int) -> int:
    """The limit in units, rounded down.

    >>> limit_units(Decimal("2.5"), 0), limit_units(Decimal("2.5"), 3)
    (2, 2500)
    """
    return max(0, min(int(limit.scaleb(scale, _DOWN).to_integral_value(context=_DOWN)), MAX_UNITS))


def units_of(amount: Decimal, scale: int) -> int:
    """A quantity in units, rounded up; less than nothing is nothing.

    >>> units_of(Decimal("2.5"), 0), units_of(Decimal(-1), 0)
    (3, 0)
    """
    return max(0, min(int(amount.scaleb(scale, _UP).to_integral_value(context=_UP)), MAX_UNITS))


def units_of_nano(nano: int, scale: int) -> int:
    """The same of nano-units of the meter's unit; `scale` is 9 at most.

    >>> units_of_nano(2_500_000_000, 0), units_of_nano(2_500_000_000, 9), units_of_nano(1, 6)
    (3, 2500000000, 1)
    """
    step: int = 10 ** (9 - scale)
    return max(0, min(-(-nano // step), MAX_UNITS))


def from_units(units: int, scale: int) -> Decimal:
    """So many units in the meter's unit, exactly.

    >>> from_units(2500, 3), from_units(7, 0)
    (Decimal('2.500'), Decimal('7'))
    """
    return Decimal(units).scaleb(-scale, _UP)


def budget_name(key: str, meter_key: str | None, sliced: Slice) -> str:
    """What a budget has in the place of a feature's key, which begins with a letter or digit.

    What it caps is in it: a lease of tokens is never spent as one of calls, nor that of one team as another's, when a
    budget is set anew under its old key. Set back, it is the limit that it was.

    >>> budget_name("team-a", "calls", (("team", "a"),))
    '@team-a:717aba91be50'
    """
    capped = hashlib.sha256(msgspec.json.encode((meter_key, sliced))).hexdigest()
    return f"@{key}:{capped[:12]}"


def is_budget(name: str) -> bool:
    """Whether it is the name of a budget, rather than a feature's key."""
    return name.startswith("@")


def budget_key(name: str) -> str:
    """The key of the budget that has that name.

    >>> budget_key("@team-a:717aba91be50")
    'team-a'
    """
    return name.removeprefix("@").rpartition(":")[0]


def limit_id(customer: str, feature: str) -> str:
    """What agents call the limit that a customer has of a feature, or by a budget.

    >>> limit_id("acme/berlin", "calls")
    'acme/berlin/calls'
    """
    return f"{customer}/{feature}"


def pool_id(key: Key) -> PoolId:
    """The customer, feature (or name of a budget) and period of a lease; these have no slash in them.

    >>> pool_id(("acme/berlin/calls", 0))
    ('acme/berlin', 'calls', 0)
    """
    limit, period = key
    customer, _, feature = limit.rpartition("/")
    return customer, feature, period
