"""What every pricing model answers with: lines that add up to the price and say why."""

from collections.abc import Mapping
from dataclasses import Field, dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol, runtime_checkable

from sidemeter_control.pricing.charges.used import Needs, Used, UsedLine
from sidemeter_control.pricing.words import Words

__all__ = ["Checked", "Listed", "Model", "PriceLine"]


@dataclass(frozen=True, slots=True)
class PriceLine:
    """One step of a price, exact: `amount = quantity * unit_price + flat_fee`, each None where it has no meaning.

    `tier` counts from 1. For packages `quantity` is the number of packages and `unit_price` the price of one. `match`
    is what the price of a matrix is for; empty for the default.
    """

    text: str
    amount: Decimal
    tier: int | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    flat_fee: Decimal | None = None
    match: Mapping[str, tuple[str, ...]] | None = None


class Model(Protocol):
    """A pricing model with its parameters: a dataclass whose fields are the names of the `ChargeSpec` it takes.

    A field without a default is required. `metered` says whether it prices a meter or stands alone, `needs` what of.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    metered: ClassVar[bool]
    needs: ClassVar[Needs]

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """The price of what is billable; no lines: nothing is owed."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A model whose parameters must fit each other."""

    def check(self, path: str) -> None:
        """Raise InvalidInput, naming a field under `path`, unless they do."""
        ...


class Listed(Protocol):
    """A model that is a list of prices for usage of different kinds. It reads `Used.groups`.

    `unowed`: the entries of the list that never cost anything.
    """

    unowed: ClassVar[frozenset[int]]

    def number_of(self, line: UsedLine, time_zone: str) -> int:
        """Which entry of the list, counted from 0, prices the line."""
        ...
