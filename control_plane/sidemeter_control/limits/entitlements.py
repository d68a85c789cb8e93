"""Entitlements: what a customer may use of a feature, and what is left of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from sidemeter_control.money import exact
from sidemeter_control.pricing.periods import EVER, Interval, Period, Recurrence
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = ["Entitlement", "QuotaAnswer", "answer", "granted", "most_permissive", "reset_period"]

_CALENDAR = {
    ResetPeriod.DAY: Interval.DAY,
    ResetPeriod.WEEK: Interval.WEEK,
    ResetPeriod.MONTH: Interval.MONTH,
    ResetPeriod.YEAR: Interval.YEAR,
}


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What one subscription allows, and the period that its usage is counted in."""

    spec: EntitlementSpec
    period: Period


@dataclass(frozen=True, slots=True)
class QuotaAnswer:
    """What a customer may use of a feature at an instant.

    Quantities in the meter's unit. METERED: `limit` None is unlimited, and then so is `remaining`. `value` is JSON
    text: the STATIC value, `true` for BOOLEAN. Instants in microseconds; None where nothing ever resets.
    """

    feature: str
    kind: EntitlementKind
    enforcement: Enforcement
    allowed: bool
    value: str | None
    limit: Decimal | None
    used: Decimal | None
    remaining: Decimal | None
    overage: Decimal | None
    period_start_us: int | None
    resets_at_us: int | None
    as_of_us: int


def granted(own: Iterable[Subscribed], time_zone: str, at_us: int) -> dict[str, Entitlement]:
    """What a customer's subscriptions (the oldest first) grant at an instant, by feature key in their order."""
    offers: dict[str, list[Entitlement]] = {}
    for each in own:
        if each.subscription.is_active_at(at_us):
            for spec in each.plan.entitlements:
                period = reset_period(spec.reset, each.period_at(at_us), time_zone, at_us)
                offers.setdefault(spec.feature, []).append(Entitlement(spec, period))
    return {feature: most_permissive(offered) for feature, offered in sorted(offers.items())}


def reset_period(reset: ResetPeriod, billing_period: Period, time_zone: str, at_us: int) -> Period:
    """The period whose usage counts at an instant; NEVER counts everything there ever was."""
    if reset is ResetPeriod.BILLING_PERIOD:
        return billing_period
    if reset is ResetPeriod.NEVER:
        return EVER
    return Recurrence.on_calendar(_CALENDAR[reset], time_zone).period_at(at_us)


def most_permissive(entitlements: Iterable[Entitlement]) -> Entitlement:
    """The one that counts when several subscriptions grant a feature; among equals, that of the oldest subscription.

    Paying for a second plan must never take anything away: unlimited before a limit, a larger limit before a smaller
    one, SOFT before HARD.
    """
    return max(entitlements, key=_permissiveness)


def _permissiveness(entitlement: Entitlement) -> tuple[bool, Decimal, bool]:
    spec = entitlement.spec
    return spec.limit is None, spec.limit or Decimal(0), spec.enforcement is Enforcement.SOFT


@exact
def answer(entitlement: Entitlement, used: Decimal | None, as_of_us: int) -> QuotaAnswer:
    """The quota, given what the period's usage adds up to (None: the meter has nothing to say, which is no usage)."""
    spec, period = entitlement.spec, entitlement.period
    if spec.kind is not EntitlementKind.METERED:
        value = "true" if spec.kind is EntitlementKind.BOOLEAN else spec.value
        return QuotaAnswer(
            spec.feature, spec.kind, spec.enforcement, True, value, None, None, None, None, None, None, as_of_us
        )
    used = used or Decimal(0)
    limit = spec.limit
    forever = period == EVER
    return QuotaAnswer(
        feature=spec.feature,
        kind=spec.kind,
        enforcement=spec.enforcement,
        allowed=spec.enforcement is Enforcement.SOFT or limit is None or used < limit,
        value=None,
        limit=limit,
        used=used,
        remaining=None if limit is None else max(limit - used, Decimal(0)),
        overage=Decimal(0) if limit is None else max(used - limit, Decimal(0)),
        period_start_us=None if forever else period.start_us,
        resets_at_us=None if forever else period.end_us,
        as_of_us=as_of_us,
    )
