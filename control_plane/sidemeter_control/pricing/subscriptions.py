"""Subscriptions: a customer on a plan version from an instant on, and the billing periods that follow from it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.charges import Charge, ChargeSpec
from sidemeter_control.pricing.periods import EVER, MONTHS, Period, Recurrence, check_instant
from sidemeter_control.pricing.plans import Plan, check_trial_days, read_charges

__all__ = [
    "Leg",
    "Pause",
    "SubscribeSpec",
    "Subscribed",
    "Subscription",
    "SubscriptionStatus",
    "charges_of",
    "new_subscription",
]

_DAY_US = 86_400_000_000


class SubscriptionStatus(Enum):
    """Where an instant lies in a subscription's life."""

    SCHEDULED = "SCHEDULED"
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
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
class Pause:
    """`[from_us, to_us)` in which a customer neither has what the plan gives nor owes it; None: until it is resumed."""

    from_us: int
    to_us: int | None


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of one billing period that is billed as one. `cycle`: all of the billing period, on its calendar.

    The two differ where a start, an end, a change of plan, a pause or the end of a trial cuts the billing period.
    """

    cycle: Period
    period: Period


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer on a plan version. Instants in microseconds since 1970; `overrides` replace charges of their key.

    Billing periods have a boundary at `anchor_us`; nothing is owed before `trial_end_us`, or in a pause. `replaces` is
    the id of the subscription that this one goes on from, by a change of plan. One that ends where it starts was
    called off before it began.
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
    replaces: str | None = None
    pauses: tuple[Pause, ...] = ()
    time_zone: str = "UTC"

    @property
    def billed_from_us(self) -> int:
        """The first instant whose usage is owed."""
        return self.start_at_us if self.trial_end_us is None else max(self.start_at_us, self.trial_end_us)

    @property
    def is_called_off(self) -> bool:
        """Whether it was cancelled before it began."""
        return self.end_at_us is not None and self.end_at_us <= self.start_at_us

    def status_at(self, at_us: int) -> SubscriptionStatus:
        """Where the instant lies: SCHEDULED before the start, ENDED from the end on, PAUSED in a pause."""
        if self.is_called_off or (self.end_at_us is not None and at_us >= self.end_at_us):
            return SubscriptionStatus.ENDED
        if at_us < self.start_at_us:
            return SubscriptionStatus.SCHEDULED
        if self.pause_at(at_us) is not None:
            return SubscriptionStatus.PAUSED
        return SubscriptionStatus.TRIALING if at_us < self.billed_from_us else SubscriptionStatus.ACTIVE

    def is_active_at(self, at_us: int) -> bool:
        """Whether the customer has what the plan gives, on trial or not."""
        return self.status_at(at_us) in {SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE}

    def is_alive_at(self, at_us: int) -> bool:
        """Whether it has begun and not ended, paused or not."""
        return self.status_at(at_us) not in {SubscriptionStatus.SCHEDULED, SubscriptionStatus.ENDED}

    def pause_at(self, at_us: int) -> Pause | None:
        """The pause in which an instant lies."""
        found = (each for each in self.pauses if each.from_us <= at_us and (each.to_us is None or at_us < each.to_us))
        return next(found, None)

    def stretches(self) -> Iterator[Period]:
        """The times that are billed: from the start or the end of the trial to the end, without the pauses."""
        end_us = EVER.end_us if self.end_at_us is None else self.end_at_us
        start_us = self.billed_from_us
        for pause in self.pauses:
            paused_us = max(start_us, min(pause.from_us, end_us))
            resumed_us = end_us if pause.to_us is None else min(pause.to_us, end_us)
            if paused_us < resumed_us:
                if start_us < paused_us:
                    yield Period(start_us, paused_us)
                start_us = resumed_us
        if start_us < end_us:
            yield Period(start_us, end_us)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription with what it stands for: the plan, the charges that apply, their meters, the billing periods.

    Periods are anchored, on the clock of the subscription's time zone, and cut at the subscription's own ends.
    """

    subscription: Subscription
    plan: Plan
    charges: tuple[Charge, ...]
    meters: Mapping[str, Meter]
    recurrence: Recurrence

    @classmethod
    def to(cls, plan: Plan, subscription: Subscription, known: Mapping[str, Meter]) -> "Subscribed":
        """The subscription to `plan`, its own or a draft; `known` has the meters of its charges, by key."""
        charges = charges_of(plan, subscription.overrides)
        priced = {charge.spec.meter: known[charge.spec.meter] for charge in charges if charge.spec.meter is not None}
        recurrence = Recurrence.every(
            plan.interval, plan.interval_count, subscription.anchor_us, subscription.time_zone
        )
        return cls(subscription, plan, charges, priced, recurrence)

    def has_dimensions(self, charge: Charge, dimensions: Collection[str]) -> bool:
        """Whether the charge prices what a meter with all of these dimensions counts; with none of them, any meter."""
        if charge.spec.meter is None:
            return False
        return {each.key for each in self.meters[charge.spec.meter].dimensions}.issuperset(dimensions)

    def period_at(self, at_us: int) -> Period:
        """The billing period of an instant; before the start the first one, from the end on the last one."""
        own = self.subscription
        last_us = at_us if own.end_at_us is None else min(at_us, own.end_at_us - 1)
        period = self.recurrence.period_at(max(last_us, own.start_at_us))
        return period.clipped(own.start_at_us, own.end_at_us)

    def legs(self, from_us: int, to_us: int) -> Iterator[Leg]:
        """What is billed, in order, that shares an instant with `[from_us, to_us)`."""
        for stretch in self.subscription.stretches():
            wanted = stretch.clipped(from_us, to_us)
            for cycle in self.recurrence.meeting(wanted.start_us, wanted.end_us):
                yield Leg(cycle, cycle.clipped(stretch.start_us, stretch.end_us))

    def window(self, leg: Leg) -> tuple[Sequence[Leg], bool]:
        """The legs whose use is reckoned together with this one's, up to it; and whether it is the last of them.

        Where the commitment is smoothed, as many billing periods as that takes from the start of the stretch on: an
        end or a pause ends the window early, and a new one begins when it is resumed.
        """
        commitment, months = self.plan.commitment, MONTHS.get(self.recurrence.interval)
        if commitment is None or commitment.smoothing_months is None or months is None:
            return [leg], True
        stretch = next(each for each in self.subscription.stretches() if leg.period.start_us < each.end_us)
        together = list(self.legs(stretch.start_us, leg.period.end_us))
        many = commitment.smoothing_months // (months * self.recurrence.count)
        first = (len(together) - 1) // many * many
        return together[first:], len(together) % many == 0 or leg.period.end_us == stretch.end_us


def new_subscription(
    spec: SubscribeSpec, plan: Plan, subscription_id: str, now_us: int, time_zone: str = "UTC"
) -> Subscription:
    """The subscription to `plan` that `spec` describes; InvalidInput names what is wrong.

    `time_zone` is the customer's.
    """
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
        time_zone=time_zone,
    )


def charges_of(plan: Plan, overrides: tuple[ChargeSpec, ...]) -> tuple[Charge, ...]:
    """The plan's charges, each replaced by the override of its key; InvalidInput when an override is wrong."""
    if not overrides:
        return plan.charges
    own = {charge.spec.key: charge for charge in read_charges("overrides", overrides)}
    if unknown := own.keys() - {charge.spec.key for charge in plan.charges}:
        raise InvalidInput(f"overrides.{min(unknown)}", f"must be a charge of plan {plan.key!r}")
    return tuple(own.get(charge.spec.key, charge) for charge in plan.charges)
