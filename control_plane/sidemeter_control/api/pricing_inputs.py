"""What it shall cost, as GraphQL takes it: charges, plans and subscriptions as somebody writes them.

Nothing is checked here but the form: each input says `spec()`, and the domain names what is wrong in it.
A null is the same as an absent field.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import cast

import strawberry

from sidemeter_control.api.scalars import Instant, Json, json_text
from sidemeter_control.pricing.charges import (
    BandSpec,
    ChargeSpec,
    ConvertSpec,
    MatrixRateSpec,
    OutcomeSpec,
    PricingModel,
    Rounding,
    TierSpec,
)
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, PlanSpec, ResetPeriod
from sidemeter_control.pricing.preview import UsageLineSpec, UsageSpec
from sidemeter_control.pricing.proration import ProrationRule
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.pricing.words import Language

__all__ = [
    "BandInput",
    "ChargeInput",
    "CommitmentInput",
    "ConvertInput",
    "CustomerInput",
    "EntitlementInput",
    "FeatureInput",
    "MatrixRateInput",
    "OutcomeInput",
    "PlanInput",
    "SubscribeInput",
    "TierInput",
    "UsageInput",
    "UsageLineInput",
]

for _enum in (PricingModel, Rounding, Language, Interval, EntitlementKind, Enforcement, ResetPeriod, ProrationRule):
    strawberry.enum(_enum)


@strawberry.input
class TierInput:
    """One tier of a price. upTo is inclusive; absent on the last tier."""

    up_to: Decimal | None = None
    unit_price: Decimal | None = None
    flat_fee: Decimal | None = None
    percentage: Decimal | None = None

    def spec(self) -> TierSpec:
        """What is written, for the domain to check."""
        return TierSpec(
            up_to=self.up_to, unit_price=self.unit_price, flat_fee=self.flat_fee, percentage=self.percentage
        )


@strawberry.input
class MatrixRateInput:
    """A price for usage with certain dimensions, each one text or any of several: {model: "large", region: ["eu", "us"]}.

    Of the rates that match, the most specific wins: more keys, then fewer listed values, then the older.
    """

    match: Json
    unit_price: Decimal

    def spec(self) -> MatrixRateSpec:
        """What is written, for the domain to check."""
        return MatrixRateSpec(match=cast("Mapping[str, str | tuple[str, ...]]", self.match), unit_price=self.unit_price)


@strawberry.input
class BandInput:
    """A price for a part of the day, on the clocks of the customer's time zone.

    days: 1 Monday to 7 Sunday, absent: all. from and to as HH:MM; a band that ends no later than it begins ends on the
    next day.
    """

    days: list[int] | None = None
    from_: str = strawberry.field(name="from")
    to: str
    unit_price: Decimal

    def spec(self) -> BandSpec:
        """What is written, for the domain to check."""
        days = None if self.days is None else tuple(self.days)
        return BandSpec(days=days, from_=self.from_, to=self.to, unit_price=self.unit_price)


@strawberry.input
class OutcomeInput:
    """Which later event settles a provisional charge: one of the types, within windowHours of the charged event.

    property: the dotted path of what the charged event and the later one have in common in their data.
    """

    confirm_type: str
    reverse_type: str
    window_hours: int
    property: str | None = "id"

    def spec(self) -> OutcomeSpec:
        """What is written, for the domain to check."""
        return OutcomeSpec(
            confirm_type=self.confirm_type,
            reverse_type=self.reverse_type,
            window_hours=self.window_hours,
            property="id" if self.property is None else self.property,
        )


@strawberry.input
class ConvertInput:
    """How a meter's quantity becomes the charge's: multiplied, divided, then rounded to precision digits."""

    multiply: Decimal | None = None
    divide: Decimal | None = None
    rounding: Rounding | None = None
    precision: int | None = 0

    def spec(self) -> ConvertSpec:
        """What is written, for the domain to check."""
        return ConvertSpec(
            multiply=self.multiply, divide=self.divide, rounding=self.rounding, precision=self.precision or 0
        )


@strawberry.input
class ChargeInput:
    """One priced line of a plan. Each model takes its own parameters; any other is refused by name.

    Every percentage is in percent: "2.9" is 2.9 %.
    """

    key: strawberry.ID
    name: str | None = None
    meter: strawberry.ID | None = strawberry.field(default=None, description="absent: a recurring fee")
    model: PricingModel
    amount: Decimal | None = None
    unit_price: Decimal | None = None
    package_price: Decimal | None = None
    package_size: Decimal | None = None
    package_rounding: Rounding | None = Rounding.UP
    tiers: list[TierInput] | None = None
    stairstep_cumulative: bool | None = False
    percentage: Decimal | None = None
    fixed_per_event: Decimal | None = None
    min_per_event: Decimal | None = None
    max_per_event: Decimal | None = None
    free_events: int | None = None
    free_amount: Decimal | None = None
    rates: list[MatrixRateInput] | None = None
    bands: list[BandInput] | None = None
    default_unit_price: Decimal | None = None
    multiplier: Decimal | None = None
    outcome: OutcomeInput | None = None
    included_units: Decimal | None = None
    discount_units: Decimal | None = None
    discount_percentages: list[Decimal] | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    convert: ConvertInput | None = None
    charge_flat_fee_at_zero: bool | None = False
    in_advance: bool | None = False

    def spec(self) -> ChargeSpec:
        """What is written, for the domain to check."""
        return ChargeSpec(
            key=self.key,
            name=self.name,
            meter=self.meter,
            model=self.model,
            amount=self.amount,
            unit_price=self.unit_price,
            package_price=self.package_price,
            package_size=self.package_size,
            package_rounding=self.package_rounding or Rounding.UP,
            tiers=None if self.tiers is None else tuple(tier.spec() for tier in self.tiers),
            stairstep_cumulative=bool(self.stairstep_cumulative),
            percentage=self.percentage,
            fixed_per_event=self.fixed_per_event,
            min_per_event=self.min_per_event,
            max_per_event=self.max_per_event,
            free_events=self.free_events,
            free_amount=self.free_amount,
            rates=None if self.rates is None else tuple(rate.spec() for rate in self.rates),
            bands=None if self.bands is None else tuple(band.spec() for band in self.bands),
            default_unit_price=self.default_unit_price,
            multiplier=self.multiplier,
            outcome=None if self.outcome is None else self.outcome.spec(),
            included_units=self.included_units,
            discount_units=self.discount_units,
            discount_percentages=None if self.discount_percentages is None else tuple(self.discount_percentages),
            minimum=self.minimum,
            maximum=self.maximum,
            convert=None if self.convert is None else self.convert.spec(),
            charge_flat_fee_at_zero=bool(self.charge_flat_fee_at_zero),
            in_advance=bool(self.in_advance),
        )


@strawberry.input
class EntitlementInput:
    """What a plan allows of a feature, as somebody writes it."""

    feature: strawberry.ID
    kind: EntitlementKind
    value: Json | None = None
    limit: Decimal | None = None
    enforcement: Enforcement | None = Enforcement.SOFT
    reset: ResetPeriod | None = ResetPeriod.BILLING_PERIOD
    overage_up_to: Decimal | None = strawberry.field(
        default=None, description="A HARD limit lets usage run so far beyond it."
    )
    grace_days: int | None = strawberry.field(
        default=0,
        description="A HARD limit lets usage run on for so long after it was reached; with overageUpTo, no further than that.",
    )
    rollover_max: Decimal | None = strawberry.field(
        default=None, description="What a period left unused is added to the next one, up to this."
    )
    rollover_min: Decimal | None = strawberry.field(
        default=None, description="So much is carried over whatever was used."
    )

    def spec(self) -> EntitlementSpec:
        """What is written, for the domain to check."""
        return EntitlementSpec(
            feature=self.feature,
            kind=self.kind,
            value=None if self.value is None else json_text(self.value),
            limit=self.limit,
            enforcement=self.enforcement or Enforcement.SOFT,
            reset=self.reset or ResetPeriod.BILLING_PERIOD,
            overage_up_to=self.overage_up_to,
            grace_days=self.grace_days or 0,
            rollover_max=self.rollover_max,
            rollover_min=self.rollover_min or Decimal(0),
        )


@strawberry.input
class CommitmentInput:
    """What a subscriber commits to use of all metered charges in each billing period, at their prices.

    Use up to amount costs discountPercentage less. What is not used of it is owed all the same, unless trueUp is false;
    what is used beyond it costs overageFactor times its price. With smoothingMonths this is settled once for so many
    months together, at their end.
    """

    amount: Decimal
    overage_factor: Decimal | None = Decimal(1)
    true_up: bool | None = True
    discount_percentage: Decimal | None = None
    smoothing_months: int | None = None

    def spec(self) -> CommitmentSpec:
        """What is written, for the domain to check."""
        return CommitmentSpec(
            amount=self.amount,
            overage_factor=Decimal(1) if self.overage_factor is None else self.overage_factor,
            true_up=self.true_up is not False,
            discount_percentage=self.discount_percentage or Decimal(0),
            smoothing_months=self.smoothing_months,
        )


@strawberry.input
class PlanInput:
    """A version of a plan, as somebody writes it."""

    key: strawberry.ID
    name: str | None = None
    currency: str
    interval: Interval = Interval.MONTH
    interval_count: int | None = 1
    charges: list[ChargeInput]
    entitlements: list[EntitlementInput] | None = strawberry.field(default_factory=list)
    minimum_spend: Decimal | None = None
    trial_days: int | None = 0
    proration: ProrationRule | None = ProrationRule.SECONDS
    commitment: CommitmentInput | None = None

    def spec(self) -> PlanSpec:
        """What is written, for the domain to check."""
        return PlanSpec(
            key=self.key,
            name=self.name,
            currency=self.currency,
            interval=self.interval,
            interval_count=1 if self.interval_count is None else self.interval_count,
            charges=tuple(charge.spec() for charge in self.charges),
            entitlements=tuple(entitlement.spec() for entitlement in self.entitlements or ()),
            trial_days=self.trial_days or 0,
            proration=self.proration or ProrationRule.SECONDS,
            minimum_spend=self.minimum_spend,
            commitment=None if self.commitment is None else self.commitment.spec(),
        )


@strawberry.input
class UsageLineInput:
    """A part of a usage: how much, with which dimensions and, for a price by the time of day, when.

    For a charge by outcome the dimension "outcome" is PROVISIONAL, CONFIRMED, REVERSED or EXPIRED.
    """

    dimensions: Json
    quantity: Decimal
    at: Instant | None = None


@strawberry.input
class UsageInput:
    """What was used of a charge's meter: one of quantity, events (amount of each, in order) or lines.

    previousQuantity: price only what came on top of it, cumulatively. final: whether the billing period ends with it, so
    that a minimum is owed.
    """

    quantity: Decimal | None = None
    events: list[Decimal] | None = None
    lines: list[UsageLineInput] | None = None
    previous_quantity: Decimal | None = None
    final: bool | None = True

    def spec(self) -> UsageSpec:
        """What is written, for the domain to check."""
        lines = None
        if self.lines is not None:
            lines = tuple(
                UsageLineSpec(dimensions=line.dimensions, quantity=line.quantity, at_us=line.at) for line in self.lines
            )
        return UsageSpec(
            quantity=self.quantity,
            events=self.events,
            lines=lines,
            previous_quantity=self.previous_quantity,
            final=self.final is not False,
        )


@strawberry.input
class FeatureInput:
    """A feature to create."""

    key: strawberry.ID
    name: str | None = None
    meter: strawberry.ID | None = None


@strawberry.input
class CustomerInput:
    """A customer as it shall be: what is absent here is afterwards absent there. Without subjects, the key is the one."""

    key: strawberry.ID
    name: str | None = None
    currency: str | None = None
    time_zone: str | None = "UTC"
    subjects: list[str] | None = None
    metadata: Json | None = None
    language: Language | None = strawberry.field(
        default=Language.EN, description="What lines of cost and parts of quotas are written in."
    )
    prepaid: bool | None = strawberry.field(
        default=False, description="Its credits in money are all that may be spent: agents stop what they do not cover."
    )


@strawberry.input
class SubscribeInput:
    """A customer on a version of a plan: the newest, from now on, with periods from the start, unless said otherwise."""

    customer: strawberry.ID
    plan: strawberry.ID
    version: int | None = None
    start_at: Instant | None = None
    anchor: Instant | None = None
    overrides: list[ChargeInput] | None = None
    trial_days: int | None = None

    def spec(self) -> SubscribeSpec:
        """What is written, for the domain to check."""
        return SubscribeSpec(
            customer=self.customer,
            plan=self.plan,
            version=self.version,
            start_at_us=self.start_at,
            anchor_us=self.anchor,
            overrides=tuple(charge.spec() for charge in self.overrides or ()),
            trial_days=self.trial_days,
        )
