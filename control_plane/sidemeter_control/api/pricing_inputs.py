"""What it shall cost, as GraphQL takes it: charges, plans and subscriptions as somebody writes them.

Nothing is checked here but the form: each input says `spec()`, and the domain names what is wrong in it.
A null is the same as an absent field.
"""

from decimal import Decimal

import strawberry

from sidemeter_control.api.scalars import Instant, Json, json_text
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel, Rounding, TierSpec
from sidemeter_control.pricing.commitments import CommitmentSpec
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, PlanSpec, ResetPeriod
from sidemeter_control.pricing.proration import ProrationRule
from sidemeter_control.pricing.subscriptions import SubscribeSpec

__all__ = [
    "ChargeInput",
    "CommitmentInput",
    "CustomerInput",
    "EntitlementInput",
    "FeatureInput",
    "PlanInput",
    "SubscribeInput",
    "TierInput",
    "UsageInput",
]

for _enum in (PricingModel, Rounding, Interval, EntitlementKind, Enforcement, ResetPeriod, ProrationRule):
    strawberry.enum(_enum)


@strawberry.input
class TierInput:
    """One tier of a price. upTo is inclusive; absent on the last tier."""

    up_to: Decimal | None = None
    unit_price: Decimal | None = None
    flat_fee: Decimal | None = None

    def spec(self) -> TierSpec:
        """What is written, for the domain to check."""
        return TierSpec(up_to=self.up_to, unit_price=self.unit_price, flat_fee=self.flat_fee)


@strawberry.input
class ChargeInput:
    """One priced line of a plan. Each model takes its own parameters; any other is refused by name."""

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
    included_units: Decimal | None = None
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
            included_units=self.included_units,
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

    def spec(self) -> EntitlementSpec:
        """What is written, for the domain to check."""
        return EntitlementSpec(
            feature=self.feature,
            kind=self.kind,
            value=None if self.value is None else json_text(self.value),
            limit=self.limit,
            enforcement=self.enforcement or Enforcement.SOFT,
            reset=self.reset or ResetPeriod.BILLING_PERIOD,
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
class UsageInput:
    """What was used of a charge's meter. previousQuantity: price only what came on top of it, cumulatively."""

    quantity: Decimal | None = None
    previous_quantity: Decimal | None = None


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
