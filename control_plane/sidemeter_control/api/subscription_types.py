"""Subscriptions, as GraphQL shows them: where each stands, what it replaced, and what moving them would cost."""

from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.pricing_types import Money, Plan
from sidemeter_control.api.scalars import Instant, Json, instant
from sidemeter_control.pricing import differences, subscriptions
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.moves import Move, Moves
from sidemeter_control.pricing.subscriptions import Subscribed, Subscription

__all__ = ["CustomerSubscription", "MoveResult", "Pause", "PlanDiff", "SubscriberMove", "shown"]

strawberry.enum(ChangeAt)
strawberry.enum(differences.Kind, name="DiffKind")


@strawberry.type
class Pause:
    """A time in which a subscription is neither owed nor grants anything; without to: until it is resumed."""

    from_: Instant = strawberry.field(name="from")
    to: Instant | None

    @classmethod
    def of(cls, pause: subscriptions.Pause) -> Self:
        """The noun in its GraphQL form."""
        return cls(from_=Instant(pause.from_us), to=instant(pause.to_us))


@strawberry.type
class CustomerSubscription:
    """A customer on a plan version from an instant on, and the billing period of now."""

    id: strawberry.ID
    plan: Plan
    start_at: Instant
    end_at: Instant | None
    period_start: Instant
    period_end: Instant
    trial_end: Instant | None
    status: str = strawberry.field(description="SCHEDULED, TRIALING, ACTIVE, PAUSED or ENDED.")
    replaces: strawberry.ID | None = strawberry.field(
        description="The subscription that a change of plan ended for it."
    )
    pauses: list[Pause]
    noun: strawberry.Private[Subscription]

    @classmethod
    def of(cls, own: Subscribed, now_us: int) -> Self:
        """The noun in its GraphQL form, as it stands at an instant."""
        subscription, period = own.subscription, own.period_at(now_us)
        return cls(
            id=strawberry.ID(subscription.id),
            plan=Plan.of(own.plan),
            start_at=Instant(subscription.start_at_us),
            end_at=instant(subscription.end_at_us),
            period_start=Instant(period.start_us),
            period_end=Instant(period.end_us),
            trial_end=instant(subscription.trial_end_us),
            status=subscription.status_at(now_us).value,
            replaces=None if subscription.replaces is None else strawberry.ID(subscription.replaces),
            pauses=[Pause.of(pause) for pause in subscription.pauses],
            noun=subscription,
        )

    @strawberry.field
    async def replaced_by(self, info: Info) -> strawberry.ID | None:
        """The subscription that goes on from its end by a change of plan, begun or scheduled."""
        found = [each.subscription for each in await _own(info, self.noun) if each.subscription.replaces == self.id]
        return next((strawberry.ID(each.id) for each in found if not each.is_called_off), None)


async def shown(info: Info, subscription: Subscription) -> CustomerSubscription:
    """A subscription that was changed just now, as it is stored."""
    own = await _own(info, subscription)
    it = next(each for each in own if each.subscription.id == subscription.id)
    return CustomerSubscription.of(it, info.context.now_us)


async def _own(info: Info, subscription: Subscription) -> list[Subscribed]:
    customer = await info.context.loaders.one_customer(subscription.customer_key)
    return [] if customer is None else list(await info.context.loaders.subscribed.load(customer) or ())


@strawberry.type
class SubscriberMove:
    """What a subscription's current billing period costs, and would cost on the other version from its beginning on."""

    customer: strawberry.ID
    subscription: strawberry.ID
    current: Money
    new: Money
    moved: bool
    problem: str | None = strawberry.field(description="Why it cannot be moved.")

    @classmethod
    def of(cls, move: Move) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            customer=strawberry.ID(move.customer),
            subscription=strawberry.ID(move.subscription),
            current=Money.of(move.current),
            new=Money.of(move.new),
            moved=move.moved,
            problem=move.problem,
        )


@strawberry.type
class MoveResult:
    """What was done with the subscribers of a version, or would be."""

    moves: list[SubscriberMove]
    remaining: bool = strawberry.field(description="Whether further subscriptions wait for another call.")

    @classmethod
    def of(cls, found: Moves) -> Self:
        """The noun in its GraphQL form."""
        return cls(moves=[SubscriberMove.of(each) for each in found.moves], remaining=found.remaining)


@strawberry.type
class FieldDiff:
    """What a field says in each version; null where it is not said or has its default."""

    field: str
    before: Json | None
    after: Json | None

    @classmethod
    def of(cls, found: differences.FieldDifference) -> Self:
        """The noun in its GraphQL form."""
        return cls(field=found.field, before=_json(found.before), after=_json(found.after))


@strawberry.type
class PartDiff:
    """What became of a charge, by its key, or of an entitlement, by its feature's."""

    key: strawberry.ID
    kind: differences.Kind
    fields: list[FieldDiff]

    @classmethod
    def of(cls, found: differences.Difference) -> Self:
        """The noun in its GraphQL form."""
        return cls(key=strawberry.ID(found.key), kind=found.kind, fields=[FieldDiff.of(each) for each in found.fields])


@strawberry.type
class PlanDiff:
    """What is different between two versions of a plan."""

    fields: list[FieldDiff]
    charges: list[PartDiff]
    entitlements: list[PartDiff]

    @classmethod
    def of(cls, found: differences.PlanDifferences) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            fields=[FieldDiff.of(each) for each in found.fields],
            charges=[PartDiff.of(each) for each in found.charges],
            entitlements=[PartDiff.of(each) for each in found.entitlements],
        )


def _json(value: object) -> Json | None:
    return None if value is None else Json(value)
