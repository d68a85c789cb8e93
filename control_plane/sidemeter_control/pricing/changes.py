"""Changes in a subscription's life: to another plan, its end, its pauses. Each says what is to be written, or why not.

What is scheduled can be taken back until it happens: a change of plan by cancelling the subscription that would begin,
an end by resuming the one that would end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from sidemeter_control.errors import Conflict, InvalidInput
from sidemeter_control.pricing.periods import check_instant
from sidemeter_control.pricing.plans import Plan
from sidemeter_control.pricing.subscriptions import Pause, Subscribed, Subscription, SubscriptionStatus

__all__ = ["MAX_PAUSES", "ChangeAt", "Life", "cancelled", "changed", "paused", "resumed"]

MAX_PAUSES = 500
"""Of one subscription; each is read with it, and cuts a billing period."""


class ChangeAt(Enum):
    """When a change takes effect."""

    NOW = "NOW"
    PERIOD_END = "PERIOD_END"


@dataclass(frozen=True, slots=True)
class Life:
    """A subscription among the others of its customer, at an instant."""

    own: Subscribed
    others: Sequence[Subscribed]
    at_us: int

    @property
    def subscription(self) -> Subscription:
        """The one that is to be changed."""
        return self.own.subscription

    @property
    def status(self) -> SubscriptionStatus:
        """Where the instant lies in its life."""
        return self.subscription.status_at(self.at_us)

    def successor(self) -> Subscription | None:
        """The subscription that replaces it, unless that was called off."""
        found = (each.subscription for each in self.others if each.subscription.replaces == self.subscription.id)
        return next((each for each in found if not each.is_called_off), None)

    def instant(self, at: ChangeAt) -> int:
        """When a change takes effect that is asked for now."""
        return self.at_us if at is ChangeAt.NOW else self.own.period_at(self.at_us).end_us

    def refusal(self, why: str) -> Conflict:
        """The state of the subscription forbids it."""
        return Conflict(f"subscription {self.subscription.id!r} {why}")

    def check_begun(self) -> None:
        """Conflict unless it has begun and not ended."""
        if self.status is SubscriptionStatus.ENDED:
            raise self.refusal("has ended")
        if self.status is SubscriptionStatus.SCHEDULED:
            raise self.refusal("has not begun: cancel it, and subscribe anew")

    def check_open(self) -> None:
        """Conflict when its end is known already."""
        successor = self.successor()
        if successor is not None:
            raise self.refusal(f"is replaced by {successor.id!r}: cancel that one first")
        if self.subscription.end_at_us is not None:
            raise self.refusal("is cancelled: resume it first")


def changed(life: Life, plan: Plan, subscription_id: str, at: ChangeAt) -> tuple[Subscription, Subscription]:
    """The subscription as it ends, and the one to `plan` that goes on from there.

    Periods keep their boundaries where both plans have periods of one length, and begin with the change otherwise. A
    trial goes on to its end, and no new one begins. Overrides stay for the charges that the plan has as well.
    """
    own = life.subscription
    life.check_begun()
    life.check_open()
    if life.status is SubscriptionStatus.PAUSED:
        raise life.refusal("is paused: resume it first")
    if plan.currency != life.own.plan.currency:
        raise life.refusal(f"is in {life.own.plan.currency}, plan {plan.key!r} is in {plan.currency}")
    if (plan.key, plan.version) == (own.plan_key, own.plan_version):
        raise life.refusal(f"is on version {plan.version} of plan {plan.key!r} already")
    start_us = life.instant(at)
    trial_end_us = own.trial_end_us if own.trial_end_us is not None and own.trial_end_us > start_us else None
    before = life.own.plan
    same_length = (plan.interval, plan.interval_count) == (before.interval, before.interval_count)
    known = {charge.spec.key for charge in plan.charges}
    following = replace(
        own,
        id=subscription_id,
        plan_key=plan.key,
        plan_version=plan.version,
        start_at_us=start_us,
        end_at_us=None,
        anchor_us=own.anchor_us if same_length else trial_end_us or start_us,
        trial_end_us=trial_end_us,
        overrides=tuple(spec for spec in own.overrides if spec.key in known),
        created_at_us=life.at_us,
        replaces=own.id,
        pauses=(),
    )
    return replace(own, end_at_us=start_us), following


def cancelled(life: Life, at: ChangeAt) -> list[Subscription]:
    """The subscription as it ends; one that has not begun is called off, and the one it would replace goes on."""
    own = life.subscription
    if life.status is SubscriptionStatus.ENDED:
        raise life.refusal("has ended")
    successor = life.successor()
    if successor is not None:
        raise life.refusal(f"is replaced by {successor.id!r}: cancel that one first")
    if life.status is not SubscriptionStatus.SCHEDULED:
        return [replace(own, end_at_us=life.instant(at))]
    going_on = [each.subscription for each in life.others if each.subscription.id == own.replaces]
    return [replace(own, end_at_us=own.start_at_us), *(replace(each, end_at_us=None) for each in going_on)]


def paused(life: Life, until_us: int | None) -> Subscription:
    """The subscription with a pause that begins now; None: until it is resumed."""
    own = life.subscription
    life.check_begun()
    if life.status is SubscriptionStatus.PAUSED:
        raise life.refusal("is paused already")
    if len(own.pauses) >= MAX_PAUSES:
        raise life.refusal(f"has been paused {MAX_PAUSES} times: cancel it, and subscribe anew")
    if until_us is not None:
        check_instant("until", until_us)
        if until_us <= life.at_us:
            raise InvalidInput("until", "must be in the future")
    return replace(own, pauses=(*own.pauses, Pause(life.at_us, until_us)))


def resumed(life: Life) -> Subscription:
    """The subscription without its pause from now on, or without the end that it was given."""
    own, pause = life.subscription, life.subscription.pause_at(life.at_us)
    life.check_begun()
    if pause is not None:
        kept = tuple(each for each in own.pauses if each != pause)
        ended = (Pause(pause.from_us, life.at_us),) if life.at_us > pause.from_us else ()
        return replace(own, pauses=kept + ended)
    if own.end_at_us is None or life.successor() is not None:
        raise life.refusal("is neither paused nor cancelled")
    return replace(own, end_at_us=None)
