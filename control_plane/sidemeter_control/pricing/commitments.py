"""Commitments: a spend agreed on for a period, owed whether it is reached or not, and what more than it costs."""

from decimal import Decimal

from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.charges import PriceLine
from sidemeter_control.pricing.words import Words

__all__ = ["committed"]


@exact
def committed(
    price: Money,
    commitment: Decimal,
    words: Words,
    *,
    overage_factor: Decimal = Decimal(1),
    true_up: bool = True,
    final: bool = True,
) -> tuple[PriceLine, ...]:
    """The lines that a commitment adds to what a period cost; none where the price stays as it is.

    Below the commitment, the final slice of the period owes it whole, unless `true_up` is off. Above it, what is beyond
    is owed `overage_factor` times, in every slice: as each is cumulative, the slices add up to the period.

    >>> [line.amount for line in committed(Money.of(Decimal(70), "EUR"), Decimal(100), Words("EUR"))]
    [Decimal('30')]
    >>> lines = committed(Money.of(Decimal(120), "EUR"), Decimal(100), Words("EUR"), overage_factor=Decimal("1.5"))
    >>> [(line.text, line.amount) for line in lines]
    [('20 EUR above the commitment of 100 EUR, charged 1.5 times', Decimal('10.0'))]
    """
    excess = price.amount - commitment
    if excess < 0:
        return (PriceLine(words.commitment(commitment), -excess),) if true_up and final else ()
    more = excess * (overage_factor - 1)
    return (PriceLine(words.overage(excess, commitment, overage_factor), more),) if more else ()
