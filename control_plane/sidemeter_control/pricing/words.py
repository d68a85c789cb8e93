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

    # Changes, minimums, commitments, and what comes late.

    def fee_of_part(self, amount: Decimal, first: date, last: date) -> str:
        """A fee of a billing period that is cut, for the days that are billed."""
        return f"{self.fee(amount)}, {first} to {last}"

    @staticmethod
    def unused_time(first: date, last: date) -> str:
        """What is given back of a fee that was paid in advance."""
        return f"unused time, {first} to {last}"

    @staticmethod
    def minimum_spend() -> str:
        """The name of the line that brings a billing period to its minimum."""
        return "Minimum spend"

    def up_to_minimum(self, minimum: Decimal, spent: Decimal) -> str:
        """How far a billing period is from its minimum."""
        return f"up to the minimum of {self._money(minimum)}, {self._money(spent)} of it spent"

    @staticmethod
    def commitment() -> str:
        """The name of the line that settles what was committed with what was used."""
        return "Commitment"

    def not_used(self, rest: Decimal, commitment: Decimal) -> str:
        """What is owed of a commitment that was not used."""
        return f"{self._money(rest)} not used of the {self._money(commitment)} committed"

    def beyond_commitment(self, excess: Decimal, commitment: Decimal, factor: Decimal) -> str:
        """What use beyond a commitment costs more, or less, than its price."""
        more = f"at {_grouped(factor)} times the price"
        return f"{self._money(excess)} beyond the {self._money(commitment)} committed, {more}"

    def commitment_discount(self, percentage: Decimal, base: Decimal) -> str:
        """What a commitment gives in exchange."""
        return f"{_grouped(percentage)} % off the {self._money(base)} committed"

    @staticmethod
    def counted_late(name: str, first: date, last: date) -> str:
        """A line for a closed billing period to which usage came late."""
        return f"{name}, {first} to {last}, counted late"

    @staticmethod
    def billed_then() -> str:
        """What of a closed billing period is billed."""
        return "less what is billed already"

    def _money(self, amount: Decimal) -> str:
        return f"{_grouped(amount)} {self.currency}"

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
