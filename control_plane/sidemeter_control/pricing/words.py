"""The words of a price: every sentence that a customer reads on a line, in one place and, so far, in English."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

__all__ = ["Words"]


@dataclass(frozen=True, slots=True)
class Words:
    """What a line says, given the charge's currency and the unit of its meter.

    >>> Words("USD", "tokens").slice(1, Decimal(1_000_000), Decimal("0.0025"), Decimal(0))
    'first 1,000,000 tokens at 0.0025 USD'
    """

    currency: str
    unit: str = "units"

    def fee(self, amount: Decimal) -> str:
        """What is owed, or given back, once per period."""
        return "recurring fee" if amount >= 0 else "recurring credit"

    def included(self, quantity: Decimal) -> str:
        """Units that cost nothing."""
        return f"{self._amount(quantity)} included"

    def units(self, quantity: Decimal, unit_price: Decimal) -> str:
        """Units at one price."""
        return f"{self._amount(quantity)}{self._at(unit_price)}"

    def packages(self, packages: Decimal, size: Decimal, price: Decimal) -> str:
        """Whole packages."""
        noun = "package" if packages == 1 else "packages"
        return f"{_grouped(packages)} {noun} of {self._amount(size)}{self._at(price)}"

    def slice(self, tier: int, quantity: Decimal, unit_price: Decimal, flat_fee: Decimal) -> str:
        """The part of a quantity that falls in one tier (counted from 1)."""
        order = "first" if tier == 1 else "next"
        return f"{order} {self._amount(quantity)}{self._at(unit_price, flat_fee)}"

    def whole(self, quantity: Decimal, unit_price: Decimal, flat_fee: Decimal) -> str:
        """A whole quantity at the price of the tier it reaches."""
        return f"all {self._amount(quantity)}{self._at(unit_price, flat_fee)}"

    def billed_before(self, quantity: Decimal) -> str:
        """What an earlier slice of the period has billed already."""
        return f"less {self._amount(quantity)} billed before"

    @staticmethod
    def in_period(name: str, first: date, last: date) -> str:
        """A line among others of the same name, told apart by its days."""
        return f"{name}, {first} to {last}"

    def _amount(self, quantity: Decimal) -> str:
        return f"{_grouped(quantity)} {self.unit}"

    def _at(self, unit_price: Decimal, flat_fee: Decimal = Decimal(0)) -> str:
        flat = f"{_grouped(flat_fee)} {self.currency}"
        if not unit_price:
            return f" for {flat} flat" if flat_fee else " free"
        each = f" at {_grouped(unit_price)} {self.currency}"
        return f"{each} plus {flat} flat" if flat_fee else each


def _grouped(value: Decimal) -> str:
    text = format(value, ",f")
    return text.rstrip("0").rstrip(".") if "." in text else text
