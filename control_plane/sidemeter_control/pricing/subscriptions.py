"""Subscriptions: a customer on a plan version from an instant on, and the billing periods that follow from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.charges import Charge, ChargeSpec
from sidemeter_control.pricing.periods import Period, Recurrence, check_instant
from sidemeter_control.pricing.plans import Plan, check_trial_days, read_charges

__all__ = ["SubscribeSpec", "Subscribed", "Subscription", "SubscriptionStatus", "charges_of", "new_subscription"]

_DAY_US = 86_400_000_000


class SubscriptionStatus(Enum):
    """Where an instant lies in a subscription's life."""

    SCHEDULED = "SCHEDULED"
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeSpec:
    """A subscription to be made. Absent: the newest version, from now on, anchored where billing starts, the plan's trial."""

    customer: str
    plan: str
    version: int | None = None
    start_at_us: int | None = None
    anchor_us: int | None = None
    overrides: tuple[ChargeSpec, ...] = ()
    trial_days: int | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer on a plan version. Instants in microseconds since 1970; `overrides` replace charges of their key.

    Billing periods have a boundary at `anchor_us`; nothing is owed before `trial_end_us`.
    """

    id: str
    customer_key: str
    plan_key: str
    plan_version: int
    start_at_us: int
    end_at_us: int | None
    anchor_us: int
    trial_end_us: int | None
    overrides: tuple[ChargeSpec, ...]
    created_at_us: int

    @property
    def billed_from_us(self) -> int:
        """The first instant whose usage is owed."""
        return self.start_at_us if self.trial_end_us is None else max(self.start_at_us, self.trial_end_us)

    def status_at(self, at_us: int) -> SubscriptionStatus:
        """Where the instant lies: SCHEDULED before the start, ENDED from the end on."""
        if at_us < self.start_at_us:
            return SubscriptionStatus.SCHEDULED
        if self.end_at_us is not None and at_us >= self.end_at_us:
            return SubscriptionStatus.ENDED
        return SubscriptionStatus.TRIALING if at_us < self.billed_from_us else SubscriptionStatus.ACTIVE

    def is_active_at(self, at_us: int) -> bool:
        """Whether the customer has what the plan gives, on trial or not."""
        return self.status_at(at_us) in {SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE}


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription with what it stands for: the plan, the charges that apply, their meters, the billing periods.

    Periods are anchored, on the clock of the customer's time zone, and cut at the subscription's own ends.
    """

    subscription: Subscription
    plan: Plan
    charges: tuple[Charge, ...]
    meters: Mapping[str, Meter]
    recurrence: Recurrence

    @classmethod
    def to(cls, plan: Plan, subscription: Subscription, time_zone: str, known: Mapping[str, Meter]) -> "Subscribed":
        """The subscription to `plan` by a customer in `time_zone`; `known` has the meters of its charges, by key."""
        charges = charges_of(plan, subscription.overrides)
        priced = {charge.spec.meter: known[charge.spec.meter] for charge in charges if charge.spec.meter is not None}
        recurrence = Recurrence.every(plan.interval, plan.interval_count, subscription.anchor_us, time_zone)
        return cls(subscription, plan, charges, priced, recurrence)

    def period_at(self, at_us: int) -> Period:
        """The billing period of an instant; before the start the first one, from the end on the last one."""
        own = self.subscription
        last_us = at_us if own.end_at_us is None else min(at_us, own.end_at_us - 1)
        period = self.recurrence.period_at(max(last_us, own.start_at_us))
        return period.clipped(own.start_at_us, own.end_at_us)

    def billed(self, from_us: int, to_us: int) -> Iterator[Period]:
        """The billing periods, without what is on trial, that share an instant with `[from_us, to_us)`."""
        own = self.subscription
        wanted = Period(from_us, to_us).clipped(own.billed_from_us, own.end_at_us)
        for period in self.recurrence.meeting(wanted.start_us, wanted.end_us):
            yield period.clipped(own.billed_from_us, own.end_at_us)


def new_subscription(spec: SubscribeSpec, plan: Plan, subscription_id: str, now_us: int) -> Subscription:
    """The subscription to `plan` that `spec` describes; InvalidInput names what is wrong."""
    start_us = now_us if spec.start_at_us is None else spec.start_at_us
    trial_days = plan.trial_days if spec.trial_days is None else spec.trial_days
    check_trial_days("trialDays", trial_days)
    trial_end_us = start_us + trial_days * _DAY_US if trial_days else None
    anchor_us = spec.anchor_us if spec.anchor_us is not None else trial_end_us or start_us
    check_instant("startAt", start_us)
    check_instant("anchor", anchor_us)
    return Subscription(
        id=subscription_id,
        customer_key=spec.customer,
        plan_key=plan.key,
        plan_version=plan.version,
        start_at_us=start_us,
        end_at_us=None,
        anchor_us=anchor_us,
        trial_end_us=trial_end_us,
        overrides=spec.overrides,
        created_at_us=now_us,
    )


def charges_of(plan: Plan, overrides: tuple[ChargeSpec, ...]) -> tuple[Charge, ...]:
    """The plan's charges, each replaced by the override of its key; InvalidInput when an override is wrong."""
    if not overrides:
        return plan.charges
    own = {charge.spec.key: charge for charge in read_charges("overrides", overrides)}
    if unknown := own.keys() - {charge.spec.key for charge in plan.charges}:
        raise InvalidInput(f"overrides.{min(unknown)}", f"must be a charge of plan {plan.key!r}")
    return tuple(own.get(charge.spec.key, charge) for charge in plan.charges)
