"""A charge as it is written down: in the API's input, in a plan's stored definition. Nothing here is checked yet."""

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum

import msgspec

__all__ = [
    "BandSpec",
    "ChargeSpec",
    "ConvertSpec",
    "MatrixRateSpec",
    "OutcomeSpec",
    "PricingModel",
    "Rounding",
    "TierSpec",
]


class PricingModel(Enum):
    """How a quantity becomes an amount; each has a module of this package."""

    FLAT = "FLAT"
    PER_UNIT = "PER_UNIT"
    PACKAGE = "PACKAGE"
    GRADUATED = "GRADUATED"
    VOLUME = "VOLUME"
    STAIRSTEP = "STAIRSTEP"
    PERCENTAGE = "PERCENTAGE"
    GRADUATED_PERCENTAGE = "GRADUATED_PERCENTAGE"
    MATRIX = "MATRIX"
    TIME_OF_DAY = "TIME_OF_DAY"
    DYNAMIC = "DYNAMIC"
    OUTCOME = "OUTCOME"


class Rounding(Enum):
    """How a quantity becomes a whole one. UP and DOWN: to the next higher, lower one. HALF_UP: half away from zero."""

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
    percentage: Decimal | None = None


class MatrixRateSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """A price for usage whose dimensions have these values: each one text, or any of several."""

    match: Mapping[str, str | tuple[str, ...]]
    unit_price: Decimal


class BandSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """A price for a part of the day, from `from_` to `to` as HH:MM. `days`: 1 Monday to 7 Sunday; None: every day."""

    days: tuple[int, ...] | None = None
    from_: str = msgspec.field(name="from")
    to: str
    unit_price: Decimal


class OutcomeSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """Which later events settle a provisional charge. `property` is the dotted path that both carry in their data."""

    confirm_type: str
    reverse_type: str
    window_hours: int
    property: str = "id"


class ConvertSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """How a meter's quantity becomes a charge's: multiplied, divided, then rounded to `precision` digits."""

    multiply: Decimal | None = None
    divide: Decimal | None = None
    rounding: Rounding | None = None
    precision: int = 0


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
    stairstep_cumulative: bool = False
    percentage: Decimal | None = None
    fixed_per_event: Decimal | None = None
    min_per_event: Decimal | None = None
    max_per_event: Decimal | None = None
    free_events: int | None = None
    free_amount: Decimal | None = None
    rates: tuple[MatrixRateSpec, ...] | None = None
    bands: tuple[BandSpec, ...] | None = None
    default_unit_price: Decimal | None = None
    multiplier: Decimal | None = None
    outcome: OutcomeSpec | None = None
    included_units: Decimal | None = None
    discount_units: Decimal | None = None
    discount_percentages: tuple[Decimal, ...] | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    convert: ConvertSpec | None = None
    charge_flat_fee_at_zero: bool = False
    in_advance: bool = False
