"""A charge that can be billed: its model chosen, its parameters checked, its quantity turned into explained lines."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from typing import Any

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.charges.flat import Flat
from sidemeter_control.pricing.charges.graduated import Graduated
from sidemeter_control.pricing.charges.lines import Model, PriceLine
from sidemeter_control.pricing.charges.package import Package
from sidemeter_control.pricing.charges.parameters import bounded, not_negative, positive
from sidemeter_control.pricing.charges.per_unit import PerUnit
from sidemeter_control.pricing.charges.spec import ChargeSpec, PricingModel
from sidemeter_control.pricing.charges.tiers import read_tiers
from sidemeter_control.pricing.charges.volume import Volume
from sidemeter_control.pricing.words import Words

__all__ = ["Charge", "Price"]

MODELS: Mapping[PricingModel, type[Model]] = {
    PricingModel.FLAT: Flat,
    PricingModel.PER_UNIT: PerUnit,
    PricingModel.PACKAGE: Package,
    PricingModel.GRADUATED: Graduated,
    PricingModel.VOLUME: Volume,
}

READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "amount": bounded,
    "unit_price": not_negative,
    "package_price": not_negative,
    "package_size": positive,
    "tiers": read_tiers,
    "included_units": not_negative,
}

MODIFIERS = frozenset({"included_units"})
"""Parameters that change the quantity or the price of any metered model."""


@dataclass(frozen=True, slots=True)
class Price:
    """An exact price, its rounding, and the lines that add up to the exact one."""

    total: Money
    lines: tuple[PriceLine, ...]


@dataclass(frozen=True, slots=True)
class Charge:
    """One priced line of a plan. Made by `Charge.read`, so it is right.

    >>> spec = ChargeSpec(key="api", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.001"))
    >>> Charge.read("charges.api", spec).price(Decimal(333), Words("USD", "calls")).total
    Money(amount=Decimal('0.333'), currency='USD', rounded=Decimal('0.33'))
    """

    spec: ChargeSpec
    model: Model
    included_units: Decimal | None

    @classmethod
    def read(cls, path: str, spec: ChargeSpec) -> "Charge":
        """The charge that `spec` describes; InvalidInput names the field under `path` and the rule it breaks.

        Whether it has a meter is `check_meter`'s question: a quantity can be priced without one.
        """
        made = MODELS[spec.model]
        parameters = {field.name: field for field in fields(made)}
        given = _given(spec)
        for name in sorted(given.keys() - parameters.keys() - (MODIFIERS if made.metered else frozenset())):
            raise InvalidInput(f"{path}.{_written(name)}", f"is not a parameter of {spec.model.value}")
        for name, parameter in parameters.items():
            if parameter.default is MISSING and name not in given:
                raise InvalidInput(f"{path}.{_written(name)}", f"must be given: {spec.model.value} needs it")
        values = {name: READERS.get(name, _as_it_is)(f"{path}.{_written(name)}", given[name]) for name in sorted(given)}
        model = made(**{name: value for name, value in values.items() if name in parameters})
        return cls(spec, model, values.get("included_units"))

    def check_meter(self, path: str) -> None:
        """Raise InvalidInput unless the charge has a meter if its model prices one, and none if it does not."""
        if self.model.metered and self.spec.meter is None:
            raise InvalidInput(f"{path}.meter", f"must be given: {self.spec.model.value} prices a meter")
        if not self.model.metered and self.spec.meter is not None:
            raise InvalidInput(f"{path}.meter", f"must be absent: {self.spec.model.value} is a recurring fee")

    @exact
    def price(self, quantity: Decimal, words: Words) -> Price:
        """What a quantity costs from nothing."""
        included, billable = self._included(quantity)
        lines = self.model.lines(billable, words)
        if included:
            text = words.included(included)
            lines = (PriceLine(text, Decimal(0), quantity=included, unit_price=Decimal(0)), *lines)
        return Price(Money.of(sum((line.amount for line in lines), Decimal(0)), words.currency), lines)

    @exact
    def price_since(self, before: Decimal, quantity: Decimal, words: Words) -> Price:
        """What the cumulative `quantity` costs on top of an earlier one that was billed (even if it was zero).

        Rounded now minus rounded then, so that the slices of a period add up to the period whatever lies between.
        """
        then, now = self.price(before, words).total, self.price(quantity, words)
        total = Money(now.total.amount - then.amount, words.currency, now.total.rounded - then.rounded)
        if not then.amount:
            return Price(total, now.lines)
        billed = PriceLine(words.billed_before(before), -then.amount, quantity=-before)
        return Price(total, (*now.lines, billed))

    def _included(self, quantity: Decimal) -> tuple[Decimal, Decimal]:
        if self.included_units is None:
            return Decimal(0), quantity
        billable = max(quantity - self.included_units, Decimal(0))
        return max(quantity, Decimal(0)) - billable, billable


_FIELDS = {field.name: field for field in msgspec.structs.fields(ChargeSpec)}
_PARAMETERS = _FIELDS.keys() - {"key", "name", "meter", "model"}


def _given(spec: ChargeSpec) -> dict[str, Any]:
    """The parameters that differ from their defaults."""
    values = {name: getattr(spec, name) for name in _PARAMETERS}
    return {name: value for name, value in values.items() if value != _FIELDS[name].default}


def _as_it_is(_path: str, value: Any) -> Any:
    return value


def _written(name: str) -> str:
    return _FIELDS[name].encode_name
