"""What events add up to, one by one and in the plainest way: what rollups, edges and corrections must come to as well."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from math import ceil
from typing import Any

from sidemeter_control.metering.events import Event
from sidemeter_control.metering.meters import Aggregation, Meter, Reader

__all__ = ["OneByOne", "added_up", "data_of", "rows", "shown"]

EXACT = Context(prec=300)


class OneByOne(Reader):
    """A reader whose `read` is asked for each event, for tests that read in another way."""

    def added_up(self, data: object) -> None:
        """None: nothing is added up together."""


def data_of(event: Event) -> dict[str, Any]:
    return json.loads(event.data or "{}")


def shown(value: object) -> str | None:
    """A property's text, by the rule of filters and dimensions."""
    return None if value is None else {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def added_up(
    meter: Meter, found: Sequence[Event], interval: tuple[int, int], before: Sequence[Event] = ()
) -> Decimal | None:
    """The meter's quantity of the events in an interval; `before`: those ahead of it. Values are under `n`."""
    values = [Decimal(data_of(event)["n"]) for event in found]
    match meter.aggregation:
        case Aggregation.COUNT:
            return Decimal(len(found))
        case Aggregation.SUM:
            return total(values)
        case Aggregation.UNIQUE_COUNT:
            return Decimal(len({data_of(event)["n"] for event in found}))
        case Aggregation.MIN:
            return min(values, default=None)
        case Aggregation.MAX:
            return max(values, default=None)
        case Aggregation.AVG:
            return rounded(Fraction(total(values)) / len(values)) if values else None
        case Aggregation.LATEST:
            places = [(event.time_us, event.source, event.id) for event in found]
            return max(zip(places, values, strict=True), default=(None, None))[1]
        case Aggregation.PERCENTILE:
            rank = ceil(Fraction(meter.percentile or 0) * len(values) / 100)
            return sorted(values)[rank - 1] if values else None
        case Aggregation.TIME_WEIGHTED:
            return mean_over_time(found, interval, total(Decimal(data_of(event)["n"]) for event in before))


def mean_over_time(found: Sequence[Event], interval: tuple[int, int], level: Decimal) -> Decimal:
    """The level holds from each event to the next."""
    if interval[0] >= interval[1]:
        return Decimal(0)
    area, since_us = Fraction(0), interval[0]
    for event in sorted(found, key=lambda each: each.time_us):
        area += Fraction(level) * (event.time_us - since_us)
        level, since_us = EXACT.add(level, Decimal(data_of(event)["n"])), event.time_us
    area += Fraction(level) * (interval[1] - since_us)
    return rounded(area / (interval[1] - interval[0]))


def total(values: Iterable[Decimal]) -> Decimal:
    found = Decimal(0)
    for value in values:
        found = EXACT.add(found, value)
    return found


def rounded(value: Fraction) -> Decimal:
    """Half away from zero at the 18th digit after the point."""
    scaled = abs(value) * 10**18
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    digits = whole + (2 * rest >= scaled.denominator)
    return EXACT.scaleb(Decimal(digits if value > 0 else -digits), -18)


Who = tuple[str | None, tuple[str | None, ...]]


def rows(
    meter: Meter, counted: Iterable[Event], cut: Sequence[tuple[int, int]], whose: Callable[[Event], Who]
) -> Mapping[object, tuple[Decimal | None, int]]:
    """Quantity and number of events by window, customer and group: of all that has events, or still a running total."""
    by_whom: defaultdict[Who, list[Event]] = defaultdict(list)
    for event in counted:
        by_whom[whose(event)].append(event)
    found: dict[object, tuple[Decimal | None, int]] = {}
    for who, events in by_whom.items():
        for from_us, to_us in cut:
            inside = [event for event in events if from_us <= event.time_us < to_us]
            before = [event for event in events if event.time_us < from_us]
            holds = meter.aggregation is Aggregation.TIME_WEIGHTED and total(Decimal(data_of(e)["n"]) for e in before)
            if inside or holds:
                found[from_us, to_us, *who] = added_up(meter, inside, (from_us, to_us), before), len(inside)
    return found
