"""PERCENTAGE: a rate of what each event is about, with a fixed part, bounds, and an allowance that is free."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import ClassVar, NamedTuple

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import from_nano, nano_of
from sidemeter_control.money import exact
from sidemeter_control.pricing.charges.convert import divided
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.spec import Rounding
from sidemeter_control.pricing.charges.used import Needs, Pieces, Tally, Used
from sidemeter_control.pricing.words import Words

__all__ = ["Allowance", "BreakPoints", "Percentage"]

_EVENT_DIGITS = 9
"""Digits after the point that the value of an event has at most: the grain of the break points."""


class BreakPoints(NamedTuple):
    """Events below `low` owe the minimum, events above `high` the maximum; None: no event does."""

    low: Decimal | None
    high: Decimal | None


class Allowance(NamedTuple):
    """What a free allowance takes from the first events.

    `seen` events were looked at, the `free` ones and then, unless the allowance lasts for all, the one that broke it:
    `charged` is the amount it owes its fee on.
    """

    seen: int
    free: Tally
    charged: Decimal | None


@dataclass(frozen=True, slots=True)
class Percentage:
    """Per event: `percentage` of its amount plus `fixed_per_event`, then the minimum, then the maximum.

    An event is free while the events so far are within `free_events` and their sum is within `free_amount`, whichever
    are given. The first event that breaks the amount pays for the excess only, one that breaks the count in full, and
    nothing is free afterwards. Free events owe no minimum. Without a free allowance the order of events means nothing.
    """

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.AMOUNTS
    percentage: Decimal
    fixed_per_event: Decimal = Decimal(0)
    min_per_event: Decimal | None = None
    max_per_event: Decimal | None = None
    free_events: int | None = None
    free_amount: Decimal | None = None

    def check(self, path: str) -> None:
        """The bounds of a fee must leave room for one."""
        if (
            self.min_per_event is not None
            and self.max_per_event is not None
            and self.max_per_event < self.min_per_event
        ):
            raise InvalidInput(f"{path}.maxPerEvent", "must not be less than minPerEvent")

    @property
    def proportional(self) -> bool:
        """Whether the sum of the amounts decides alone."""
        bounds = (self.min_per_event, self.max_per_event, self.free_events, self.free_amount)
        return not self.fixed_per_event and all(each is None for each in bounds)

    @property
    def has_allowance(self) -> bool:
        """Whether the first events of a period may be free, so that their order matters."""
        return self.free_events is not None or self.free_amount is not None

    @exact
    def fee(self, amount: Decimal) -> Decimal:
        """What one event owes that is not free."""
        owed = self._unbounded(amount)
        owed = owed if self.min_per_event is None else max(owed, self.min_per_event)
        return owed if self.max_per_event is None else min(owed, self.max_per_event)

    @exact
    def break_points(self) -> BreakPoints:
        """Where the fee stops being a straight line; exact for amounts of at most 9 digits after the point.

        >>> Percentage(Decimal(3), min_per_event=Decimal(1)).break_points()
        BreakPoints(low=Decimal('33.333333334'), high=None)
        """
        low, high = self.min_per_event, self.max_per_event
        if not self._rate:
            return BreakPoints(None, None)
        return BreakPoints(
            None if low is None else divided(low - self.fixed_per_event, self._rate, Rounding.UP, _EVENT_DIGITS),
            None if high is None else divided(high - self.fixed_per_event, self._rate, Rounding.DOWN, _EVENT_DIGITS),
        )

    @exact
    def breaks(self) -> tuple[int, ...]:
        """Where the fee stops being a straight line, as the first value in nano-units of what comes then, in order."""
        low, high = self.break_points()
        found = [None if low is None else nano_of(low), None if high is None else nano_of(high) + 1]
        return tuple(sorted({each for each in found if each is not None}))

    @exact
    def pieces_of_bands(self, bands: Mapping[int, tuple[int, Decimal]], breaks: Sequence[int]) -> Pieces:
        """Events, none of them free, that are told apart at `breaks`, which have all of the fee's own among them.

        By band, counted from 0, the number of events and their sum.
        """
        parts = [Tally(), Tally(), Tally()]
        for band, (events, amount) in bands.items():
            # Any value of a band is as good as another: within one the fee is one straight line.
            part = self._part(from_nano(breaks[band - 1]) if band else from_nano(breaks[0] - 1))
            parts[part] = Tally(parts[part].events + events, parts[part].amount + amount)
        return Pieces(Tally(), *parts)

    @exact
    def allowance(self, amounts: Iterable[Decimal]) -> Allowance:
        """Walk the events in their order until the free allowance is used up; nothing behind that is looked at."""
        seen, total = 0, Decimal(0)
        for amount in amounts if self.has_allowance else ():
            if self.free_events is not None and seen >= self.free_events:
                return Allowance(seen + 1, Tally(seen, total), amount)
            if self.free_amount is not None and total + amount > self.free_amount:
                return Allowance(seen + 1, Tally(seen, self.free_amount), total + amount - self.free_amount)
            seen, total = seen + 1, total + amount
        return Allowance(seen, Tally(seen, total), None)

    @exact
    def pieces(self, amounts: Iterable[Decimal]) -> Pieces:
        """Events that are not free, added up by the part of the fee they fall under."""
        parts: tuple[list[Decimal], list[Decimal], list[Decimal]] = ([], [], [])
        for amount in amounts:
            parts[self._part(amount)].append(amount)
        return Pieces(Tally(), *map(Tally.of, parts))

    def pieces_of(self, amounts: Sequence[Decimal]) -> Pieces:
        """Events in their order, the free ones too."""
        allowance = self.allowance(amounts)
        charged = () if allowance.charged is None else (allowance.charged,)
        return replace(self.pieces((*charged, *amounts[allowance.seen :])), free=allowance.free)

    @exact
    def pieces_after(self, prefix: Sequence[Decimal], whole: Pieces) -> Pieces:
        """All events as `whole` adds them up (none as free), given only the first ones in their order.

        `prefix` must reach to the event that breaks the allowance. The same as `pieces_of` all of them.
        """
        first, counted = self.pieces_of(prefix), self.pieces(prefix)
        return Pieces(
            first.free,
            *(
                Tally(all_.events - out.events + in_.events, all_.amount - out.amount + in_.amount)
                for all_, out, in_ in zip(_parts(whole), _parts(counted), _parts(first), strict=True)
            ),
        )

    @exact
    def fee_of(self, pieces: Pieces) -> Decimal:
        """What events owe together."""
        owed = pieces.between.amount * self._rate + pieces.between.events * self._fixed
        for tally, bound in ((pieces.at_minimum, self.min_per_event), (pieces.at_maximum, self.max_per_event)):
            owed += tally.events * (bound or Decimal(0))
        return owed

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """A line per part of the fee that any event falls under. A quantity alone is one event."""
        pieces = used.pieces
        if pieces is None:
            alone = (used.quantity,) if used.quantity else ()
            pieces = self.pieces_of(alone if used.amounts is None else used.amounts)
        return tuple(line for line in self._lines(pieces, words) if line is not None)

    def _lines(self, pieces: Pieces, words: Words) -> Iterable[PriceLine | None]:
        zero = Decimal(0)
        free, between = pieces.free, pieces.between
        if free.events or free.amount:
            yield PriceLine(words.events_free(free.events, free.amount), zero, quantity=free.amount, unit_price=zero)
        if between.events:
            text = words.events_between(between.events, between.amount, self.percentage, self._fixed)
            fixed = between.events * self._fixed
            owed = between.amount * self._rate + fixed
            yield PriceLine(text, owed, None, between.amount, self._rate, fixed or None)
        for tally, bound, say in (
            (pieces.at_minimum, self.min_per_event, words.events_at_minimum),
            (pieces.at_maximum, self.max_per_event, words.events_at_maximum),
        ):
            if tally.events and bound is not None:
                count = Decimal(tally.events)
                yield PriceLine(say(tally.events, bound), count * bound, quantity=count, unit_price=bound)

    @property
    def _rate(self) -> Decimal:
        return self.percentage / 100

    @property
    def _fixed(self) -> Decimal:
        # Without a rate every event owes the same, so its bounds are no break points: they are in what is fixed.
        return self.fixed_per_event if self.percentage else self.fee(Decimal(0))

    def _unbounded(self, amount: Decimal) -> Decimal:
        return amount * self._rate + self.fixed_per_event

    def _part(self, amount: Decimal) -> int:
        """0 at the minimum, 1 between, 2 at the maximum."""
        owed = self._unbounded(amount)
        if not self.percentage:
            return 1
        if self.max_per_event is not None and owed > self.max_per_event:
            return 2
        return 0 if self.min_per_event is not None and owed < self.min_per_event else 1


def _parts(pieces: Pieces) -> tuple[Tally, Tally, Tally]:
    return pieces.at_minimum, pieces.between, pieces.at_maximum
