"""A charge as it is written down: in the API's input, in a plan's stored definition. Nothing here is checked yet."""

from decimal import Decimal
from enum import Enum

import msgspec

__all__ = ["ChargeSpec", "PricingModel", "Rounding", "TierSpec"]


class PricingModel(Enum):
    """How a quantity becomes an amount; each has a module of this package."""

    FLAT = "FLAT"
    PER_UNIT = "PER_UNIT"
    PACKAGE = "PACKAGE"
    GRADUATED = "GRADUATED"
    VOLUME = "VOLUME"


class Rounding(Enum):
    """How a quantity becomes a whole one. HALF_UP: half away from zero."""

    UP = "UP"
    DOWN = "DOWN"
    HALF_UP = "HALF_UP"


class TierSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """One tier. `up_to` is inclusive; None on the last one: everything above."""

    up_to: Decimal | None = None
    unit_price: Decimal | None = None
    flat_fee: Decimal | None = None


class ChargeSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """One priced line of a plan. `meter` None: a recurring fee. Prices are in major units of the plan's currency.

    A parameter that has its default counts as not given; which ones a model takes is said by the model.
    """

    key: str
    name: str | None = None
    meter: str | None = None
    model: PricingModel
    amount: Decimal | None = None
    unit_price: Decimal | None = None
    package_price: Decimal | None = None
    package_size: Decimal | None = None
    package_rounding: Rounding = Rounding.UP
    tiers: tuple[TierSpec, ...] | None = None
    included_units: Decimal | None = None
    charge_flat_fee_at_zero: bool = False
    in_advance: bool = False
