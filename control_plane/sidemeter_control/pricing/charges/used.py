"""What was used of a meter, as far as a price depends on it: one figure, single events, or lines told apart."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum

from sidemeter_control.money import exact

__all__ = ["Group", "Needs", "Outcome", "Pieces", "Tally", "Used", "UsedLine"]


class Needs(Enum):
    """What a pricing model asks of metering, and which part of `Used` it then reads."""

    QUANTITY = "QUANTITY"
    """One figure: `quantity`."""
    AMOUNTS = "AMOUNTS"
    """What each event is about, in the order of the events: `amounts`, or `pieces` that add them up."""
    DIMENSIONS = "DIMENSIONS"
    """`lines` by the dimensions that the model names as its `dimensions`."""
    BANDS = "BANDS"
    """`lines` by the windows of time that the model's `bands_within` gives, each with its beginning as `at_us`."""
    OUTCOMES = "OUTCOMES"
    """`lines` by what became of the events."""


class Outcome(Enum):
    """What became of an event that is charged by its outcome. EXPIRED: the window passed and nothing undid it."""

    PROVISIONAL = "PROVISIONAL"
    CONFIRMED = "CONFIRMED"
    REVERSED = "REVERSED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class UsedLine:
    """A part of what was used. A dimension that is absent counts as None: the events had no such property."""

    quantity: Decimal
    dimensions: Mapping[str, str | None] = field(default_factory=dict)
    at_us: int | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """So many events, and what they are about together."""

    events: int = 0
    amount: Decimal = Decimal(0)

    @classmethod
    @exact
    def of(cls, amounts: Iterable[Decimal]) -> "Tally":
        """The events of these amounts."""
        listed = list(amounts)
        return cls(len(listed), sum(listed, Decimal(0)))


@dataclass(frozen=True, slots=True)
class Pieces:
    """Events by which part of a fee per event they fall under: none, its minimum, neither bound, its maximum."""

    free: Tally = Tally()
    at_minimum: Tally = Tally()
    between: Tally = Tally()
    at_maximum: Tally = Tally()

    @exact
    def plus(self, other: "Pieces") -> "Pieces":
        """The events of both."""
        pairs = (
            (getattr(self, part), getattr(other, part)) for part in ("free", "at_minimum", "between", "at_maximum")
        )
        return Pieces(*(Tally(one.events + two.events, one.amount + two.amount) for one, two in pairs))


@dataclass(frozen=True, slots=True)
class Group:
    """All that a price list prices alike: its entry `number`, counted from 0, and how much falls under it.

    `owed` false: the entry is for what costs nothing, so no free units are spent on it.
    """

    number: int
    quantity: Decimal
    owed: bool = True


@dataclass(frozen=True, slots=True)
class Used:
    """What was used, always with its total as `quantity`; the rest as far as a model needs it.

    `time_zone` is whose clock on the wall the bands of a day are about.

    >>> Used.of_amounts([Decimal("1.5"), Decimal(2)]).quantity
    Decimal('3.5')
    """

    quantity: Decimal
    amounts: tuple[Decimal, ...] | None = None
    pieces: Pieces | None = None
    lines: tuple[UsedLine, ...] | None = None
    time_zone: str = "UTC"
    groups: tuple[Group, ...] | None = None

    @classmethod
    def of(cls, quantity: Decimal) -> "Used":
        """One figure and nothing more."""
        return cls(quantity)

    @classmethod
    @exact
    def of_amounts(cls, amounts: Iterable[Decimal]) -> "Used":
        """Single events, in their order."""
        listed = tuple(amounts)
        return cls(sum(listed, Decimal(0)), amounts=listed)

    @classmethod
    @exact
    def of_pieces(cls, pieces: Pieces) -> "Used":
        """Events that metering added up already."""
        tallies = (pieces.free, pieces.at_minimum, pieces.between, pieces.at_maximum)
        return cls(sum((tally.amount for tally in tallies), Decimal(0)), pieces=pieces)

    @classmethod
    @exact
    def of_lines(cls, lines: Iterable[UsedLine], time_zone: str = "UTC") -> "Used":
        """Parts that are told apart; their order means nothing."""
        listed = tuple(lines)
        return cls(sum((line.quantity for line in listed), Decimal(0)), lines=listed, time_zone=time_zone)

    @property
    def is_anything(self) -> bool:
        """Whether there was an event that a price may depend on, as far as this tells."""
        pieces = self.pieces
        counted = pieces is not None and any(
            each.events for each in (pieces.free, pieces.at_minimum, pieces.between, pieces.at_maximum)
        )
        return bool(self.quantity or self.lines or self.amounts or counted)

    def grouped(self, number_of: Callable[[UsedLine, str], int], unowed: Collection[int] = ()) -> "Used":
        """The lines added up by the entry of the price list they fall under, in the order of the list."""
        lines = self.lines
        if lines is None:
            lines = (UsedLine(self.quantity),) if self.quantity else ()
        quantities: dict[int, Decimal] = defaultdict(Decimal)
        for line in lines:
            quantities[number_of(line, self.time_zone)] += line.quantity
        return replace(self, groups=tuple(Group(n, q, n not in unowed) for n, q in sorted(quantities.items())))
