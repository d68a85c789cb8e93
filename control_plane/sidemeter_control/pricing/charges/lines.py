"""What every pricing model answers with: lines that add up to the price and say why."""

from dataclasses import Field, dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from sidemeter_control.pricing.words import Words

__all__ = ["Model", "PriceLine"]


@dataclass(frozen=True, slots=True)
class PriceLine:
    """One step of a price, exact: `amount = quantity * unit_price + flat_fee`, each None where it has no meaning.

    `tier` counts from 1. For packages `quantity` is the number of packages and `unit_price` the price of one.
    """

    text: str
    amount: Decimal
    tier: int | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    flat_fee: Decimal | None = None


class Model(Protocol):
    """A pricing model with its parameters: a dataclass whose fields are the names of the `ChargeSpec` it takes.

    A field without a default is required. `metered` says whether it prices a meter or stands alone.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    metered: ClassVar[bool]

    def lines(self, quantity: Decimal, words: Words) -> tuple[PriceLine, ...]:
        """The price of a billable quantity; no lines: nothing is owed."""
        ...
