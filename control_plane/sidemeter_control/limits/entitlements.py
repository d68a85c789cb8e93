"""Entitlements: what a customer may use of a feature, where that comes from, and what is left of it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from sidemeter_control.limits.add_ons import AddOn
from sidemeter_control.limits.overrides import Override
from sidemeter_control.money import exact
from sidemeter_control.pricing.periods import EVER, Interval, Period, Recurrence
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.pricing.sentences import SENTENCES, Language
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = [
    "Entitlement",
    "Given",
    "QuotaAnswer",
    "QuotaPart",
    "QuotaSource",
    "Right",
    "answer",
    "granted",
    "most_permissive",
    "reset_period",
]

_CALENDAR = {
    ResetPeriod.DAY: Interval.DAY,
    ResetPeriod.WEEK: Interval.WEEK,
    ResetPeriod.MONTH: Interval.MONTH,
    ResetPeriod.YEAR: Interval.YEAR,
}

PeriodAt = Callable[[int], Period]
"""The period of an instant."""


class QuotaSource(Enum):
    """Where a part of a quota comes from."""

    PLAN = "PLAN"
    OVERRIDE = "OVERRIDE"
    ROLLOVER = "ROLLOVER"
    ADD_ON = "ADD_ON"
    CREDITS = "CREDITS"


@dataclass(frozen=True, slots=True)
class QuotaPart:
    """One of the parts that add up to a limit, in words a customer understands; `quantity` None: without a limit."""

    source: QuotaSource
    text: str
    quantity: Decimal | None


@dataclass(frozen=True, slots=True)
class Given:
    """What one customer has of its own beside its subscriptions: in force now, or at another time."""

    add_ons: tuple[AddOn, ...] = ()
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What one subscription or agreement allows, the period that its usage is counted in, and what was left of earlier ones.

    `part` says where it comes from; None: nothing but add-ons gives the feature. It holds since `since_us`.
    """

    spec: EntitlementSpec
    period: Period
    part: QuotaPart | None = None
    since_us: int = 0
    period_at: PeriodAt = field(default=lambda _: EVER, compare=False, repr=False)
    carried: Decimal = Decimal(0)

    @property
    @exact
    def limit(self) -> Decimal | None:
        """Its own limit with what was carried over."""
        return None if self.spec.limit is None else self.spec.limit + self.carried

    def earlier(self) -> Iterator[Period]:
        """The periods before its own, the newest first, back to the one in which it began to hold."""
        period = self.period
        while period.start_us > self.since_us:
            before = self.period_at(period.start_us - 1)
            if before.start_us >= period.start_us:
                return
            yield before
            period = before


@dataclass(frozen=True, slots=True)
class Right:
    """What a customer has of one feature: what is offered, of which the most permissive counts, and what is added to it.

    `prepaid`: nothing but credits in its units gives the feature. What they give is added to a limit, wherever it is from.
    """

    offers: tuple[Entitlement, ...]
    extra: tuple[QuotaPart, ...] = ()
    prepaid: bool = False

    @exact
    def limit(self, chosen: Entitlement) -> Decimal | None:
        """The limit of one of the offers with what is added to it; None: without a limit."""
        if chosen.limit is None:
            return None
        return sum((each.quantity or Decimal(0) for each in self.extra), chosen.limit)


@dataclass(frozen=True, slots=True)
class QuotaAnswer:
    """What a customer may use of a feature at an instant.

    Quantities in the meter's unit. METERED: `limit` None is unlimited, and then so is `remaining`; `parts` add up to it.
    `ceiling` is where a HARD limit stops usage, None while it does not. `value` is JSON text: the STATIC value, `true`
    for BOOLEAN. Instants in microseconds; None where nothing ever resets.
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
    ceiling: Decimal | None = None
    grace_days: int = 0
    parts: tuple[QuotaPart, ...] = ()

    @property
    def reached(self) -> Decimal | None:
        """The limit, if as much was used; else None."""
        return None if self.limit is None or self.used is None or self.used < self.limit else self.limit

    @property
    def period(self) -> Period:
        """The period that `used` was counted in."""
        if self.period_start_us is None or self.resets_at_us is None:
            return EVER
        return Period(self.period_start_us, self.resets_at_us)


def granted(  # noqa: PLR0917 -- all that there is, and when
    own: Iterable[Subscribed],
    given: Given,
    time_zone: str,
    at_us: int,
    language: Language = Language.EN,
    prepaid: Collection[str] = (),
) -> dict[str, Right]:
    """What a customer has at an instant of its subscriptions (the oldest first) and of its own, by feature key in their order.

    An override takes the place of what plans say of its feature. An add-on comes on top of either; alone it is a HARD
    limit of each billing period, and so are credits in units of features (`prepaid`), where nothing else gives the
    feature. Without an active subscription the calendar's month is the billing period.
    """
    say = SENTENCES[language]
    active = [each for each in own if each.subscription.is_active_at(at_us)]
    calendar = Recurrence.on_calendar(Interval.MONTH, time_zone).period_at
    billing = active[0].period_at if active else calendar
    offers: dict[str, list[Entitlement]] = {}
    for each in active:
        for spec in each.plan.entitlements:
            words = say.from_plan.format(name=each.plan.name or each.plan.key, version=each.plan.version)
            part = QuotaPart(QuotaSource.PLAN, words, spec.limit)
            made = _entitlement(spec, part, each.subscription.start_at_us, each.period_at, time_zone, at_us)
            offers.setdefault(spec.feature, []).append(made)
    for override in given.overrides:
        if override.is_active_at(at_us):
            spec = override.entitlement
            part = QuotaPart(QuotaSource.OVERRIDE, say.agreed, spec.limit)
            made = _entitlement(spec, part, override.effective_at_us, billing, time_zone, at_us)
            offers[spec.feature] = [made]
    extra: dict[str, list[QuotaPart]] = {}
    for add_on in given.add_ons:
        if add_on.is_active_at(at_us):
            extra.setdefault(add_on.feature, []).append(QuotaPart(QuotaSource.ADD_ON, say.add_on, add_on.quantity))
            if add_on.feature not in offers:
                offers[add_on.feature] = [_entitlement(_alone(add_on), None, at_us, billing, time_zone, at_us)]
    alone = set(prepaid) - offers.keys()
    for feature in alone:
        offers[feature] = [_entitlement(_nothing_of(feature), None, at_us, billing, time_zone, at_us)]
    return {
        feature: Right(tuple(offers[feature]), tuple(extra.get(feature, ())), feature in alone)
        for feature in sorted(offers)
    }


def _entitlement(  # noqa: PLR0917 -- what it is, and where it stands
    spec: EntitlementSpec, part: QuotaPart | None, since_us: int, billing: PeriodAt, time_zone: str, at_us: int
) -> Entitlement:
    def period_at(instant_us: int) -> Period:
        billed = billing(instant_us) if spec.reset is ResetPeriod.BILLING_PERIOD else EVER
        return reset_period(spec.reset, billed, time_zone, instant_us)

    return Entitlement(spec, period_at(at_us), part, since_us, period_at)


def _alone(add_on: AddOn) -> EntitlementSpec:
    """What there is of a feature that nothing but add-ons gives, before they are added."""
    if add_on.quantity is None:
        return EntitlementSpec(feature=add_on.feature, kind=EntitlementKind.BOOLEAN)
    return _nothing_of(add_on.feature)


def _nothing_of(feature: str) -> EntitlementSpec:
    return EntitlementSpec(
        feature=feature, kind=EntitlementKind.METERED, limit=Decimal(0), enforcement=Enforcement.HARD
    )


def reset_period(reset: ResetPeriod, billing_period: Period, time_zone: str, at_us: int) -> Period:
    """The period whose usage counts at an instant; NEVER counts everything there ever was."""
    if reset is ResetPeriod.BILLING_PERIOD:
        return billing_period
    if reset is ResetPeriod.NEVER:
        return EVER
    return Recurrence.on_calendar(_CALENDAR[reset], time_zone).period_at(at_us)


def most_permissive(entitlements: Iterable[Entitlement]) -> Entitlement:
    """The one that counts when several subscriptions grant a feature; among equals, that of the oldest subscription.

    Paying for a second plan must never take anything away: what never stops comes before what stops, what stops later
    before what stops sooner, and then no limit before one, a larger limit before a smaller one, a longer grace.
    """
    return max(entitlements, key=_permissiveness)


@exact
def _permissiveness(entitlement: Entitlement) -> tuple[bool, Decimal, bool, Decimal, int]:
    spec, limit = entitlement.spec, entitlement.limit
    stops = limit is not None and spec.enforcement is Enforcement.HARD
    for_good = Decimal(0) if spec.grace_days else spec.overage_up_to or Decimal(0)
    stops_at = (limit or Decimal(0)) + for_good if stops else Decimal(0)
    return not stops, stops_at, limit is None, limit or Decimal(0), spec.grace_days


@exact
def answer(
    entitlement: Entitlement,
    used: Decimal | None,
    as_of_us: int,
    extra: Sequence[QuotaPart] = (),
    *,
    grace_is_over: bool = False,
    language: Language = Language.EN,
) -> QuotaAnswer:
    """The quota, given what the period's usage adds up to (None: the meter has nothing to say, which is no usage).

    `extra` is added to what the entitlement says. `grace_is_over`: the limit had been reached `grace_days` ago.
    """
    spec, period = entitlement.spec, entitlement.period
    parts = (*_own_parts(entitlement, language), *extra)
    if spec.kind is not EntitlementKind.METERED:
        value = "true" if spec.kind is EntitlementKind.BOOLEAN else spec.value
        nothing = (None,) * 6
        return QuotaAnswer(spec.feature, spec.kind, spec.enforcement, True, value, *nothing, as_of_us, parts=parts)
    used = used or Decimal(0)
    limit = entitlement.limit
    if limit is not None:
        limit = sum((each.quantity or Decimal(0) for each in extra), limit)
    ceiling = _ceiling(spec, limit, grace_is_over=grace_is_over)
    forever = period == EVER
    return QuotaAnswer(
        feature=spec.feature,
        kind=spec.kind,
        enforcement=spec.enforcement,
        allowed=ceiling is None or used < ceiling,
        value=None,
        limit=limit,
        used=used,
        remaining=None if limit is None else max(limit - used, Decimal(0)),
        overage=Decimal(0) if limit is None else max(used - limit, Decimal(0)),
        period_start_us=None if forever else period.start_us,
        resets_at_us=None if forever else period.end_us,
        as_of_us=as_of_us,
        ceiling=ceiling,
        grace_days=spec.grace_days,
        parts=parts,
    )


def _own_parts(entitlement: Entitlement, language: Language) -> Iterator[QuotaPart]:
    if entitlement.part is not None:
        yield entitlement.part
    if entitlement.carried:
        yield QuotaPart(QuotaSource.ROLLOVER, SENTENCES[language].left_over, entitlement.carried)


def _ceiling(spec: EntitlementSpec, limit: Decimal | None, *, grace_is_over: bool) -> Decimal | None:
    """Where usage is stopped, as it is with quotas of disks: an overage is room beyond the limit, a grace its time."""
    if limit is None or spec.enforcement is Enforcement.SOFT:
        return None
    if spec.grace_days and grace_is_over:
        return limit
    if spec.overage_up_to is not None:
        return limit + spec.overage_up_to
    return None if spec.grace_days else limit
