"""What it costs, as GraphQL shows it: plans, and prices with the steps that explain them."""

from decimal import Decimal
from typing import Self

import msgspec
import strawberry

from sidemeter_control import money
from sidemeter_control.api.context import Info
from sidemeter_control.api.meter_types import Meter
from sidemeter_control.api.scalars import Instant, Json
from sidemeter_control.limits import features
from sidemeter_control.pricing import charges, commitments, definitions, documents, plans
from sidemeter_control.pricing.charges import PricingModel
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, ResetPeriod
from sidemeter_control.pricing.proration import ProrationRule

__all__ = [
    "Charge",
    "Commitment",
    "Entitlement",
    "Feature",
    "Money",
    "Plan",
    "Price",
    "PriceLine",
]


@strawberry.type
class Money:
    """An exact amount and its currency."""

    amount: Decimal
    currency: str
    rounded: Decimal = strawberry.field(description="amount rounded to the minor unit")

    @classmethod
    def of(cls, value: money.Money) -> Self:
        """The noun in its GraphQL form."""
        return cls(amount=value.amount, currency=value.currency, rounded=value.rounded)


@strawberry.type
class PriceLine:
    """One step of a price, in words a customer understands."""

    text: str
    tier: int | None
    quantity: Decimal | None
    unit_price: Decimal | None
    flat_fee: Decimal | None
    match: Json | None = strawberry.field(
        description="The dimensions that a matrix price is for, each with its texts; empty for the default."
    )
    amount: Money

    @classmethod
    def of(cls, line: charges.PriceLine, currency: str) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            text=line.text,
            tier=line.tier,
            quantity=line.quantity,
            unit_price=line.unit_price,
            flat_fee=line.flat_fee,
            match=None if line.match is None else Json(line.match),
            amount=Money.of(money.Money.of(line.amount, currency)),
        )


@strawberry.type
class Price:
    """A price and the steps that add up to it."""

    total: Money
    lines: list[PriceLine]

    @classmethod
    def of(cls, price: charges.Price) -> Self:
        """The noun in its GraphQL form."""
        lines = [PriceLine.of(line, price.total.currency) for line in price.lines]
        return cls(total=Money.of(price.total), lines=lines)


@strawberry.type
class Feature:
    """Something a customer may use, and the meter that says how much of it was."""

    key: strawberry.ID
    name: str | None
    meter_key: strawberry.Private[str | None]

    @classmethod
    def of(cls, feature: features.Feature) -> Self:
        """The noun in its GraphQL form."""
        return cls(key=strawberry.ID(feature.key), name=feature.name, meter_key=feature.meter_key)

    @strawberry.field
    async def meter(self, info: Info) -> Meter | None:
        """What counts its use; null where nothing does."""
        return await meter_of(info, self.meter_key)


@strawberry.type
class Charge:
    """One priced line of a plan: a meter with a pricing model, or a recurring fee."""

    key: strawberry.ID
    name: str | None
    model: PricingModel
    definition: Json = strawberry.field(description="The charge as it was written, without what has its default.")
    meter_key: strawberry.Private[str | None]

    @classmethod
    def of(cls, charge: charges.Charge) -> Self:
        """The noun in its GraphQL form."""
        spec = charge.spec
        definition = Json(definitions.plain(spec))
        return cls(
            key=strawberry.ID(spec.key), name=spec.name, model=spec.model, definition=definition, meter_key=spec.meter
        )

    @strawberry.field
    async def meter(self, info: Info) -> Meter | None:
        """What it prices; null for a recurring fee."""
        return await meter_of(info, self.meter_key)


@strawberry.type
class Entitlement:
    """What a plan allows of a feature."""

    kind: EntitlementKind
    value: Json | None
    limit: Decimal | None
    enforcement: Enforcement
    reset: ResetPeriod
    overage_up_to: Decimal | None
    grace_days: int
    rollover_max: Decimal | None
    rollover_min: Decimal | None
    feature_key: strawberry.Private[str]

    @classmethod
    def of(cls, spec: plans.EntitlementSpec) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            kind=spec.kind,
            value=None if spec.value is None else Json(msgspec.Raw(spec.value.encode())),
            limit=spec.limit,
            enforcement=spec.enforcement,
            reset=spec.reset,
            overage_up_to=spec.overage_up_to,
            grace_days=spec.grace_days,
            rollover_max=spec.rollover_max,
            rollover_min=None if spec.rollover_max is None else spec.rollover_min,
            feature_key=spec.feature,
        )

    @strawberry.field
    async def feature(self, info: Info) -> Feature:
        """What it is about."""
        return await feature_of(info, self.feature_key)


@strawberry.type
class Commitment:
    """What a plan's subscribers commit to use in each billing period, and on which terms."""

    amount: Decimal
    overage_factor: Decimal
    true_up: bool
    discount_percentage: Decimal
    smoothing_months: int | None

    @classmethod
    def of(cls, spec: commitments.CommitmentSpec) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            amount=spec.amount,
            overage_factor=spec.overage_factor,
            true_up=spec.true_up,
            discount_percentage=spec.discount_percentage,
            smoothing_months=spec.smoothing_months,
        )


@strawberry.type
class Plan:
    """One version of a price list. Versions never change."""

    key: strawberry.ID
    version: int
    name: str | None
    currency: str
    interval: Interval
    interval_count: int
    charges: list[Charge]
    entitlements: list[Entitlement]
    trial_days: int
    proration: ProrationRule
    minimum_spend: Decimal | None
    commitment: Commitment | None
    definition: Json = strawberry.field(description="The plan as publishPlan takes it, without what has its default.")
    published_at: Instant

    @classmethod
    def of(cls, plan: plans.Plan) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            key=strawberry.ID(plan.key),
            version=plan.version,
            name=plan.name,
            currency=plan.currency,
            interval=plan.interval,
            interval_count=plan.interval_count,
            charges=[Charge.of(each) for each in plan.charges],
            entitlements=[Entitlement.of(each) for each in plan.entitlements],
            trial_days=plan.trial_days,
            proration=plan.proration,
            minimum_spend=plan.minimum_spend,
            commitment=None if plan.commitment is None else Commitment.of(plan.commitment),
            definition=Json(documents.document(documents.spec_of(plan))),
            published_at=Instant(plan.published_at_us),
        )

    @strawberry.field
    async def subscribers(self, info: Info) -> int:
        """Subscriptions to this version that have not ended."""
        return await info.context.loaders.subscribers.load((self.key, self.version)) or 0


async def meter_of(info: Info, key: str | None) -> Meter | None:
    """The meter of that key, if there is one."""
    meter = None if key is None else await info.context.loaders.meter.load(key)
    return None if meter is None else Meter.of(meter)


async def feature_of(info: Info, key: str) -> Feature:
    """The feature of that key, which something stored refers to."""
    feature = await info.context.loaders.feature.load(key)
    if feature is None:
        raise LookupError(f"feature {key!r} is referred to and does not exist")
    return Feature.of(feature)
