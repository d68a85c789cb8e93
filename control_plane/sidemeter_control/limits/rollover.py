"""Rollover: how much of what earlier periods left unused a period may use besides its own limit. Pure rules, no I/O.

What a period hands on is `min(most, max(least, limit + handed to it - used in it))`: what was handed on may be handed on
again, and what was used beyond the limit is no debt. Nothing is handed to the first period. What add-ons gave is not
handed on, and counts as used last.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

from sidemeter_control.money import exact
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.plans import EntitlementSpec

__all__ = ["MAX_ROLLOVER_PERIODS", "carried", "in_parts", "settled"]

# Five years of months. What was left of earlier ones has been used or cut by then, unless it is more than 60 limits.
MAX_ROLLOVER_PERIODS = 60
# Mostly the last two decide what is carried over. Where they do not, each look is at as many as all before it.
_PERIODS_AT_FIRST = 2


@exact
def carried(spec: EntitlementSpec, used: Iterable[Decimal], start: Decimal = Decimal(0)) -> Decimal:
    """What periods with that usage, the oldest first, hand on; `start` is what was handed to the oldest.

    >>> from sidemeter_control.pricing.plans import EntitlementKind
    >>> monthly = EntitlementSpec(feature="f", kind=EntitlementKind.METERED, limit=Decimal(100), rollover_max=Decimal(150))
    >>> [str(carried(monthly, [Decimal(each) for each in used])) for used in ([30], [30, 10], [30, 10, 400])]
    ['70', '150', '0']
    """
    if spec.limit is None or spec.rollover_max is None:
        return Decimal(0)
    for each in used:
        start = min(spec.rollover_max, max(spec.rollover_min, spec.limit + start - each))
    return start


def settled(spec: EntitlementSpec, used: Iterable[Decimal]) -> Decimal | None:
    """What those periods hand on, if it is the same whatever was handed to the oldest of them; else None.

    More handed to a period is never less handed on, so the two ends decide for all between them: nothing, which is
    handed to the first period, and the most.
    """
    known = list(used)
    least, most = (carried(spec, known, start) for start in (Decimal(0), spec.rollover_max or Decimal(0)))
    return most if least == most else None


def in_parts(earlier: Iterable[Period]) -> Iterator[Sequence[Period]]:
    """The periods to look back at, the newest first: part by part, as far as it matters; each part in order of time."""
    periods, seen = islice(earlier, MAX_ROLLOVER_PERIODS), 0
    while some := list(islice(periods, max(_PERIODS_AT_FIRST, seen))):
        seen += len(some)
        yield some[::-1]
