"""Charges written shortly, for tests of what they cost."""

from decimal import Decimal
from typing import Any

import msgspec

from sidemeter_control.money import exact
from sidemeter_control.pricing.charges import Charge, ChargeSpec, TierSpec, Used
from sidemeter_control.pricing.words import Words

__all__ = ["WORDS", "charge", "lines", "shown", "spec", "tiers"]

WORDS = Words("USD", "tokens")


def spec(model: str, **parameters: Any) -> ChargeSpec:
    """A charge under the API's names; decimals as text. Its key is `input`, its meter `tokens`, unless said otherwise."""
    meter = {} if model == "FLAT" else {"meter": "tokens"}
    return msgspec.convert({"key": "input", "model": model, **meter, **parameters}, type=ChargeSpec)


def charge(model: str, **parameters: Any) -> Charge:
    return Charge.read("charges.input", spec(model, **parameters))


def tiers(*rows: tuple[str | None, str | None, str | None]) -> tuple[TierSpec, ...]:
    decimals = [[None if text is None else Decimal(text) for text in row] for row in rows]
    return tuple(TierSpec(up_to=top, unit_price=each, flat_fee=flat) for top, each, flat in decimals)


def shown(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


@exact
def lines(own: Charge, used: Used | str, words: Words = WORDS, *, final: bool = True) -> list[tuple[str, str]]:
    """Text and amount of each line; a text is a quantity."""
    price = own.price(Used.of(Decimal(used)) if isinstance(used, str) else used, words, final=final)
    assert price.total.amount == sum(line.amount for line in price.lines)
    return [(line.text, shown(line.amount)) for line in price.lines]
