"""A charge that can be billed: its model chosen, its parameters checked, what was used turned into explained lines."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal
from typing import Any, cast

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import Aggregation
from sidemeter_control.money import Money, check_minor_unit, exact
from sidemeter_control.pricing.charges.bands import read_bands
from sidemeter_control.pricing.charges.convert import read_convert
from sidemeter_control.pricing.charges.dynamic import Dynamic
from sidemeter_control.pricing.charges.flat import Flat
from sidemeter_control.pricing.charges.graduated import Graduated
from sidemeter_control.pricing.charges.graduated_percentage import GraduatedPercentage
from sidemeter_control.pricing.charges.lines import Checked, Listed, Model, PriceLine
from sidemeter_control.pricing.charges.matrix import Matrix, read_rates
from sidemeter_control.pricing.charges.modifiers import Price, PriceModifiers, QuantityModifiers, read_percentages
from sidemeter_control.pricing.charges.outcome import OutcomeCharge, read_outcome
from sidemeter_control.pricing.charges.package import Package
from sidemeter_control.pricing.charges.parameters import bounded, free_count, not_negative, positive
from sidemeter_control.pricing.charges.per_unit import PerUnit
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.charges.spec import ChargeSpec, PricingModel
from sidemeter_control.pricing.charges.stairstep import Stairstep
from sidemeter_control.pricing.charges.tiers import read_rated_tiers, read_steps, read_tiers
from sidemeter_control.pricing.charges.time_of_day import TimeOfDay
from sidemeter_control.pricing.charges.used import Used
from sidemeter_control.pricing.charges.volume import Volume
from sidemeter_control.pricing.words import Words

__all__ = ["Charge", "Price"]

MODELS: Mapping[PricingModel, type[Model]] = {
    PricingModel.FLAT: Flat,
    PricingModel.PER_UNIT: PerUnit,
    PricingModel.PACKAGE: Package,
    PricingModel.GRADUATED: Graduated,
    PricingModel.VOLUME: Volume,
    PricingModel.STAIRSTEP: Stairstep,
    PricingModel.PERCENTAGE: Percentage,
    PricingModel.GRADUATED_PERCENTAGE: GraduatedPercentage,
    PricingModel.MATRIX: Matrix,
    PricingModel.TIME_OF_DAY: TimeOfDay,
    PricingModel.DYNAMIC: Dynamic,
    PricingModel.OUTCOME: OutcomeCharge,
}

READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "amount": bounded,
    "unit_price": not_negative,
    "package_price": not_negative,
    "package_size": positive,
    "tiers": read_tiers,
    "percentage": not_negative,
    "fixed_per_event": not_negative,
    "min_per_event": not_negative,
    "max_per_event": not_negative,
    "free_events": free_count,
    "free_amount": not_negative,
    "rates": read_rates,
    "bands": read_bands,
    "default_unit_price": not_negative,
    "multiplier": not_negative,
    "outcome": read_outcome,
    "included_units": not_negative,
    "discount_units": not_negative,
    "discount_percentages": read_percentages,
    "minimum": not_negative,
    "maximum": not_negative,
    "convert": read_convert,
}

TIERS: Mapping[PricingModel, Callable[[str, Any], Any]] = {
    PricingModel.STAIRSTEP: read_steps,
    PricingModel.GRADUATED_PERCENTAGE: read_rated_tiers,
}

# Of a model that is not here, any meter gives the quantity.
COUNTED_BY: Mapping[PricingModel, tuple[Collection[Aggregation], str]] = {
    PricingModel.PERCENTAGE: ({Aggregation.SUM}, "each event must have an amount"),
    PricingModel.DYNAMIC: ({Aggregation.SUM}, "each event must have its price"),
    PricingModel.MATRIX: ({Aggregation.COUNT, Aggregation.SUM}, "its parts must add up to the whole"),
    PricingModel.TIME_OF_DAY: ({Aggregation.COUNT, Aggregation.SUM}, "its parts must add up to the whole"),
    PricingModel.OUTCOME: ({Aggregation.COUNT}, "it is events that are confirmed or reversed"),
}


@dataclass(frozen=True, slots=True)
class Charge:
    """One priced line of a plan. Made by `Charge.read`, so it is right.

    >>> spec = ChargeSpec(key="api", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.001"))
    >>> Charge.read("charges.api", spec).price(Used.of(Decimal(333)), Words("USD", "calls")).total
    Money(amount=Decimal('0.333'), currency='USD', rounded=Decimal('0.33'))
    """

    spec: ChargeSpec
    model: Model
    quantity_modifiers: QuantityModifiers
    price_modifiers: PriceModifiers

    @classmethod
    def read(cls, path: str, spec: ChargeSpec) -> "Charge":
        """The charge that `spec` describes; InvalidInput names the field under `path` and the rule it breaks.

        Whether it has a meter is `check_meter`'s question: a quantity can be priced without one. Whether the meter and
        the currency suit it are `check_counted`'s and `check_currency`'s.
        """
        made = MODELS[spec.model]
        given = _given(spec)
        own = _names(made)
        for name in sorted(given.keys() - own - _modifiers(made)):
            raise InvalidInput(f"{path}.{_written(name)}", f"is not a parameter of {spec.model.value}")
        for field in fields(made):
            if field.default is MISSING and field.name not in given:
                raise InvalidInput(f"{path}.{_written(field.name)}", f"must be given: {spec.model.value} needs it")
        values = {name: _reader(spec.model, name)(f"{path}.{_written(name)}", given[name]) for name in sorted(given)}
        model = made(**_among(values, own))
        if isinstance(model, Checked):
            model.check(path)
        price_modifiers = PriceModifiers(**_among(values, _names(PriceModifiers)))
        price_modifiers.check(path)
        return cls(spec, model, QuantityModifiers(**_among(values, _names(QuantityModifiers))), price_modifiers)

    def check_meter(self, path: str) -> None:
        """Raise InvalidInput unless the charge has a meter if its model prices one, and none if it does not."""
        if self.model.metered and self.spec.meter is None:
            raise InvalidInput(f"{path}.meter", f"must be given: {self.spec.model.value} prices a meter")
        if not self.model.metered and self.spec.meter is not None:
            raise InvalidInput(f"{path}.meter", f"must be absent: {self.spec.model.value} is a recurring fee")

    def check_counted(self, path: str, aggregation: Aggregation, dimensions: Collection[str]) -> None:
        """Raise InvalidInput unless a meter of this aggregation and these dimension keys gives what the model needs."""
        wanted, why = COUNTED_BY.get(self.spec.model, (Aggregation, ""))
        if aggregation not in wanted:
            names = " or ".join(each.value for each in Aggregation if each in wanted)
            raise InvalidInput(f"{path}.meter", f"must be a {names} for {self.spec.model.value}: {why}")
        if isinstance(self.model, Matrix):
            for key in self.model.dimensions:
                if key not in dimensions:
                    raise InvalidInput(f"{path}.rates", f"must match dimensions of the meter; it has no {key!r}")

    def check_currency(self, path: str, currency: str) -> None:
        """Raise InvalidInput where an amount that is owed as it stands has more digits than the currency.

        Prices per unit, package and event may be finer: they are owed many times, and rounded once.
        """
        amounts = {name: getattr(self.spec, name) for name in ("amount", "minimum", "maximum")}
        for index, tier in enumerate(self.spec.tiers or ()):
            amounts[f"tiers[{index}].flatFee"] = tier.flat_fee
        for name, amount in amounts.items():
            if amount is not None:
                check_minor_unit(f"{path}.{name}", amount, currency)

    def with_bounds(self, scale: Callable[[Decimal], Decimal]) -> "Charge":
        """The charge for a part of its billing period, with the minimum and the maximum that `scale` makes of its own.

        >>> spec = ChargeSpec(key="api", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal(1), minimum=Decimal(9))
        >>> third = Charge.read("charges.api", spec).with_bounds(lambda amount: amount / 3)
        >>> third.price(Used.of(Decimal(0)), Words("USD", "calls")).total.rounded
        Decimal('3.00')
        """
        return replace(self, price_modifiers=self.price_modifiers.scaled(scale))

    @exact
    def price(self, used: Used, words: Words, *, final: bool = True) -> Price:
        """What was used costs from nothing. `final`: to the end of the billing period, so that its minimum is owed."""
        listed = _listed(self.model)
        if listed is not None:
            used = used.grouped(listed.number_of, listed.unowed)
        billable, own_words, before = self.quantity_modifiers.of(used, words)
        lines = (*before, *self.model.lines(billable, own_words))
        total = Money.of(sum((line.amount for line in lines), Decimal(0)), words.currency)
        return self.price_modifiers.of(Price(total, lines), words, final)

    @exact
    def price_since(self, before: Used, used: Used, words: Words, *, final: bool = True) -> Price:
        """What the cumulative `used` costs on top of an earlier one that was billed (even if it was zero).

        Rounded now minus rounded then, so that the slices of a period add up to the period whatever lies between. The
        earlier slices were not final: no minimum was billed with them.
        """
        then, now = self.price(before, words, final=False).total, self.price(used, words, final=final)
        total = Money(now.total.amount - then.amount, words.currency, now.total.rounded - then.rounded)
        if not then.amount:
            return Price(total, now.lines)
        billed = PriceLine(words.billed_before(before.quantity), -then.amount, quantity=-before.quantity)
        return Price(total, (*now.lines, billed))


def _listed(model: Model) -> Listed | None:
    """The model, if it is a list of prices. To ask the protocol itself takes as long as to price a line."""
    return cast("Listed", model) if hasattr(model, "unowed") else None


_FIELDS = {field.name: field for field in msgspec.structs.fields(ChargeSpec)}
_PARAMETERS = _FIELDS.keys() - {"key", "name", "meter", "model"}


def _given(spec: ChargeSpec) -> dict[str, Any]:
    """The parameters that differ from their defaults."""
    values = {name: getattr(spec, name) for name in _PARAMETERS}
    return {name: value for name, value in values.items() if value != _FIELDS[name].default}


def _names(made: Any) -> set[str]:
    return {field.name for field in fields(made)}


def _modifiers(made: type[Model]) -> set[str]:
    """Every charge has a price to modify; single events are not a quantity, and have an allowance of their own."""
    has_quantity = made.metered and made is not Percentage
    return _names(PriceModifiers) | (_names(QuantityModifiers) if has_quantity else set())


def _reader(model: PricingModel, name: str) -> Callable[[str, Any], Any]:
    return TIERS.get(model, read_tiers) if name == "tiers" else READERS.get(name, _as_it_is)


def _among(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _as_it_is(_path: str, value: Any) -> Any:
    return value


def _written(name: str) -> str:
    return _FIELDS[name].encode_name
