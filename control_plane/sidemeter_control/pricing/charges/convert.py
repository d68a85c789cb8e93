"""Conversion of a quantity: multiplied, divided, rounded, before anything is priced."""

from dataclasses import dataclass
from decimal import Decimal

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import exact
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.parameters import MAX_DIGITS_AFTER, positive
from sidemeter_control.pricing.charges.spec import ConvertSpec, Rounding
from sidemeter_control.pricing.words import Words

__all__ = ["Convert", "divided", "read_convert"]


@exact
def divided(quantity: Decimal, divisor: Decimal, rounding: Rounding, precision: int = 0) -> Decimal:
    """`quantity / divisor`, rounded to `precision` digits after the point.

    >>> divided(Decimal(1247), Decimal(1000), Rounding.UP), divided(Decimal(-15), Decimal(10), Rounding.HALF_UP)
    (Decimal('2'), Decimal('-2'))
    """
    whole, rest = divmod(quantity.scaleb(precision), divisor)
    match rounding:
        case Rounding.UP:
            whole += rest > 0
        case Rounding.DOWN:
            whole -= rest < 0
        case Rounding.HALF_UP:
            whole += (2 * rest >= divisor) - (2 * rest <= -divisor)
    return whole.scaleb(-precision)


@dataclass(frozen=True, slots=True)
class Convert:
    """`quantity * multiply / divide`. Without a rounding it is exact, or has 18 digits where a division has no end."""

    multiply: Decimal | None
    divide: Decimal | None
    rounding: Rounding | None
    precision: int

    @exact
    def of(self, quantity: Decimal) -> Decimal:
        """The quantity that is priced."""
        product = quantity if self.multiply is None else quantity * self.multiply
        if self.rounding is not None:
            return divided(product, self.divide or Decimal(1), self.rounding, self.precision)
        if self.divide is not None:
            return divided(product, self.divide, Rounding.HALF_UP, MAX_DIGITS_AFTER)
        return product

    def words(self, words: Words) -> Words:
        """The words for what is left: so many thousands of the meter's unit, or units of another kind."""
        return words.of_converted(self.divide if self.multiply is None else None)

    def line(self, quantity: Decimal, words: Words) -> PriceLine:
        """What became of a quantity; it owes nothing by itself."""
        factors = [(sign, each) for sign, each in (("×", self.multiply), ("÷", self.divide)) if each is not None]
        rounding = "" if self.rounding is None else self.rounding.value
        return PriceLine(words.converted(quantity, factors, self.of(quantity), rounding), Decimal(0))


def read_convert(path: str, spec: ConvertSpec) -> Convert:
    """The conversion, checked; InvalidInput names its field."""
    if spec.multiply is None and spec.divide is None:
        raise InvalidInput(path, "must have a multiply, a divide or both")
    if not 0 <= spec.precision <= MAX_DIGITS_AFTER:
        raise InvalidInput(f"{path}.precision", f"must be from 0 to {MAX_DIGITS_AFTER}")
    if spec.precision and spec.rounding is None:
        raise InvalidInput(f"{path}.rounding", "must be given with a precision")
    return Convert(
        None if spec.multiply is None else positive(f"{path}.multiply", spec.multiply),
        None if spec.divide is None else positive(f"{path}.divide", spec.divide),
        spec.rounding,
        spec.precision,
    )
