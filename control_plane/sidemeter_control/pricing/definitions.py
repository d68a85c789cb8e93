"""How the inside of a plan is kept: JSON with the API's names, and decimals as text, digit for digit."""

from decimal import Decimal

import msgspec

from sidemeter_control.money import decimal_text
from sidemeter_control.pricing.charges import ChargeSpec
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.plans import EntitlementSpec
from sidemeter_control.pricing.proration import ProrationRule

__all__ = [
    "Definition",
    "charges_text",
    "entitlement_text",
    "plain",
    "read_charges_text",
    "read_entitlement_text",
]


class Definition(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The part of a plan that has no column of its own."""

    charges: tuple[ChargeSpec, ...] = ()
    entitlements: tuple[EntitlementSpec, ...] = ()
    trial_days: int = 0
    proration: ProrationRule = ProrationRule.SECONDS
    minimum_spend: Decimal | None = None
    commitment: CommitmentSpec | None = None

    def text(self) -> str:
        """The JSON to keep."""
        return _text(self)

    @classmethod
    def read(cls, text: str) -> "Definition":
        """What `text` gave."""
        return msgspec.json.decode(text, type=cls)


def charges_text(charges: tuple[ChargeSpec, ...]) -> str:
    """The charges that one subscription has of its own, as JSON to keep."""
    return _text(charges)


def read_charges_text(text: str) -> tuple[ChargeSpec, ...]:
    """What `charges_text` gave."""
    return msgspec.json.decode(text, type=tuple[ChargeSpec, ...])


def entitlement_text(spec: EntitlementSpec) -> str:
    """What one customer has of a feature in place of its plans, as JSON to keep."""
    return _text(spec)


def read_entitlement_text(text: str) -> EntitlementSpec:
    """What `entitlement_text` gave."""
    return msgspec.json.decode(text, type=EntitlementSpec)


def plain(value: object) -> object:
    """A spec as JSON values under the API's names, without what has its default.

    >>> from sidemeter_control.pricing.charges import PricingModel
    >>> plain(ChargeSpec(key="api", model=PricingModel.PER_UNIT, unit_price=Decimal("1E-7")))
    {'key': 'api', 'model': 'PER_UNIT', 'unitPrice': '0.0000001'}
    """
    return _without_decimals(msgspec.to_builtins(_with_own_defaults(value), builtin_types=(Decimal,)))


def _with_own_defaults(value: object) -> object:
    """The same, each default being the very object of its struct: msgspec leaves out no other, be it equal."""
    match value:
        case msgspec.Struct():
            fields = msgspec.structs.fields(type(value))
            return type(value)(**{each.name: _own(each.default, getattr(value, each.name)) for each in fields})
        case tuple():
            return tuple(_with_own_defaults(each) for each in value)
    return value


def _own(default: object, value: object) -> object:
    return default if type(value) is type(default) and value == default else _with_own_defaults(value)


def _without_decimals(value: object) -> object:
    match value:
        case Decimal():
            return decimal_text(value)
        case dict():
            return {key: _without_decimals(each) for key, each in value.items()}
        case list() | tuple():
            return [_without_decimals(each) for each in value]
    return value


def _text(value: object) -> str:
    return msgspec.json.encode(plain(value)).decode()
