"""Alerts: what is worth saying of a customer's budgets and quotas, and in which words. Pure rules, no I/O."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Final, NamedTuple

from sidemeter_control.limits.budgets import DEFAULT_THRESHOLDS, BudgetAnswer, BudgetUnit
from sidemeter_control.limits.entitlements import QuotaAnswer, QuotaSource
from sidemeter_control.metering.forecasts import Edge
from sidemeter_control.metering.windows import Interval, Window, windows
from sidemeter_control.money import NO_CURRENCY, decimal_text, exact
from sidemeter_control.pricing.periods import EVER, Period, local_day
from sidemeter_control.pricing.sentences import SENTENCES, Sentences
from sidemeter_control.pricing.words import Language, Words

__all__ = [
    "MAX_ALERTS",
    "Alert",
    "AlertKind",
    "ExpectedBy",
    "Finding",
    "Said",
    "denied",
    "foreseen",
    "in_doubt",
    "is_news",
    "of_budget",
    "of_credits",
    "of_quota",
    "to_foresee_of_budget",
    "to_foresee_of_quota",
]

MAX_ALERTS: Final = 10_000
"""Of one customer; the oldest are forgotten. One that is forgotten within its period would be said again."""


_AGREED = frozenset({QuotaSource.PLAN, QuotaSource.OVERRIDE, QuotaSource.ADD_ON})


class AlertKind(Enum):
    """What an alert is about.

    BUDGET_THRESHOLD, QUOTA_THRESHOLD, CREDITS_THRESHOLD: so many percent are spent or used, or burned. OVERAGE_STARTED: more than the quota is used.
    FORECAST_EXCEEDS: at the pace of now it will be more than the budget or quota when the period ends.
    LIMIT_DENIED: an agent refused something. LEASE_IN_DOUBT: a part of a limit is with an agent that has not come back.
    """

    BUDGET_THRESHOLD = "budget_threshold"
    QUOTA_THRESHOLD = "quota_threshold"
    CREDITS_THRESHOLD = "credits_threshold"
    OVERAGE_STARTED = "overage_started"
    FORECAST_EXCEEDS = "forecast_exceeds"
    LIMIT_DENIED = "limit_denied"
    LEASE_IN_DOUBT = "lease_in_doubt"


_OF_USE: Final = frozenset(
    {AlertKind.BUDGET_THRESHOLD, AlertKind.QUOTA_THRESHOLD, AlertKind.CREDITS_THRESHOLD, AlertKind.OVERAGE_STARTED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to be said once in a period: of `what`, by its `kind`, at so many percent (None: it has none).

    `terms`: what it was a threshold of, the amount first. One of another amount may be another one, so that who raises a
    budget, or buys more, is warned anew: see `is_news`. `name`, `used` and `amount` are for its words, in a `currency` or in
    `unit`; `day` is when it is exceeded.
    """

    kind: AlertKind
    what: str
    threshold: int | None = None
    period_start_us: int
    terms: str = ""
    name: str
    used: Decimal
    amount: Decimal
    currency: str | None = None
    unit: str | None = None
    day: date | None = None

    def text(self, language: Language) -> str:
        """The sentence that the customer reads."""
        words = Words(self.currency or NO_CURRENCY, self.unit, language)
        sentence = _sentence(self, SENTENCES[language])
        return words.alert(sentence, self.name, self.threshold, (self.used, self.amount), self.day)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that was raised. `seq` is the order in which alerts were.

    `used` and `amount` are what it was about when it was raised; `period_start_us` None: what never resets.
    """

    seq: int
    id: str
    customer_key: str
    what: str
    kind: AlertKind
    threshold: int | None
    at_us: int
    text: str
    used: Decimal
    amount: Decimal
    period_start_us: int | None


class Said(NamedTuple):
    """What was said already of the same thing in the same period."""

    kind: AlertKind
    threshold: int | None
    terms: str
    used: Decimal
    amount: Decimal


@exact
def is_news(finding: Finding, said: Iterable[Said]) -> bool:
    """Whether to say it, after that: each once in a period, and once more only if the amount was raised meanwhile beyond
    what was used when something was said last.

    So who raises a budget at 95 % hears nothing of the thresholds that are behind, and is warned anew at those ahead. An
    amount that is lowered, or raised and lowered again, says nothing twice.
    """
    same = [each for each in said if each.kind is finding.kind and each.threshold == finding.threshold]
    if any(each.terms == finding.terms for each in same):
        return False
    if not same or finding.kind not in _OF_USE | {AlertKind.LIMIT_DENIED}:
        return True
    if finding.kind is AlertKind.LIMIT_DENIED:
        return finding.amount > max(each.amount for each in same)
    measured = _measure(finding.terms)
    told = max(
        (each.used for each in said if each.kind in _OF_USE and _measure(each.terms) == measured), default=Decimal(-1)
    )
    if finding.threshold is None:
        return told <= finding.amount
    return told * 100 < finding.amount * finding.threshold


def _measure(terms: str) -> str:
    """What is measured, whatever the amount: one of another unit cannot be compared."""
    return terms.partition(" ")[2]


def of_budget(answer: BudgetAnswer) -> Iterator[Finding]:
    """The thresholds of a budget that what is spent has reached."""
    budget = answer.budget
    for percent in budget.thresholds:
        if _reaches(answer.spent, percent, budget.amount):
            yield _of_budget(answer, AlertKind.BUDGET_THRESHOLD, percent)


def of_quota(quota: QuotaAnswer, name: str, unit: str | None) -> Iterator[Finding]:
    """The thresholds of a quota that usage has reached, and that it is beyond it; nothing where there is no limit."""
    used, limit = quota.used, quota.limit
    if used is None or limit is None:
        return
    for percent in DEFAULT_THRESHOLDS:
        if limit > 0 and _reaches(used, percent, limit):
            yield _of_quota(quota, AlertKind.QUOTA_THRESHOLD, percent, (name, unit), (used, limit))
    if used > limit:
        yield _of_quota(quota, AlertKind.OVERAGE_STARTED, None, (name, unit), (used, limit))


def of_credits(
    of: tuple[Decimal, Decimal], grants: Iterable[str], filled_us: int, name: str, currency: str
) -> Iterator[Finding]:
    """The thresholds that what is burned of a prepaid customer's credits has reached; nothing where there are none.

    `of`: what is burned of these grants, and all that they are. Each once for the same grants, and once more when one of them
    is filled up again, as was last at `filled_us`.
    """
    spent, granted = of
    terms = " ".join([decimal_text(granted), *sorted(grants)])
    for percent in DEFAULT_THRESHOLDS if granted > 0 else ():
        if _reaches(spent, percent, granted):
            yield Finding(
                kind=AlertKind.CREDITS_THRESHOLD,
                what="credits:money",
                threshold=percent,
                period_start_us=filled_us,
                terms=terms,
                name=name,
                used=spent,
                amount=granted,
                currency=currency,
            )


# Of what is expected to exceed.

ExpectedBy = Callable[[int, Edge], Decimal]
"""What will be used or spent by an instant of the period, at an edge of the range."""


def to_foresee_of_budget(answer: BudgetAnswer) -> Finding | None:
    """What is to be said of a budget when it is foreseen; None: too early, or too late."""
    found = _of_budget(answer, AlertKind.FORECAST_EXCEEDS, None)
    return found if _is_open(found, answer.period, answer.as_of_us) else None


def to_foresee_of_quota(quota: QuotaAnswer, name: str, unit: str | None) -> Finding | None:
    """What is to be said of a quota when it is foreseen; None: too early, too late, or without a limit."""
    used, limit = quota.used, quota.limit
    if used is None or not limit:
        return None
    found = _of_quota(quota, AlertKind.FORECAST_EXCEEDS, None, (name, unit), (used, limit))
    return found if _is_open(found, quota.period, quota.as_of_us) else None


@exact
def foreseen(finding: Finding, expected: ExpectedBy, period: Period, now_us: int, time_zone: str) -> Finding | None:
    """With the day on which it is most likely exceeded; None unless that is as good as sure.

    The range of a forecast is too high in one of ten cases, and it is looked at again and again: so the amount must lie
    below a range half as wide again, which holds for all looks of a period together.
    """
    low, middle = expected(period.end_us, Edge.LOW), expected(period.end_us, Edge.MIDDLE)
    if low - max(middle - low, Decimal(0)) / 2 <= finding.amount:
        return None
    days = windows(Interval(now_us, period.end_us), Window.DAY, time_zone)
    first, last = 0, len(days) - 1
    while first < last:
        half = (first + last) // 2
        if expected(days[half].to_us, Edge.MIDDLE) > finding.amount:
            last = half
        else:
            first = half + 1
    return replace(finding, day=local_day(days[first].from_us, time_zone))


def _is_open(finding: Finding, period: Period, now_us: int) -> bool:
    """Whether a quarter of the period is over, before which a pace says little, and the amount is not exceeded yet."""
    if period == EVER or not period.start_us <= now_us < period.end_us:
        return False
    return (now_us - period.start_us) * 4 >= period.end_us - period.start_us and finding.used <= finding.amount


def _of_budget(answer: BudgetAnswer, kind: AlertKind, threshold: int | None) -> Finding:
    budget = answer.budget
    in_money = budget.unit is BudgetUnit.MONEY
    return Finding(
        kind=kind,
        what=f"budget:{budget.key}",
        threshold=threshold,
        period_start_us=answer.period.start_us,
        terms=_terms(answer),
        name=budget.key,
        used=answer.spent,
        amount=budget.amount,
        currency=answer.measured_in if in_money else None,
        unit=None if in_money else answer.measured_in,
    )


def _of_quota(
    quota: QuotaAnswer,
    kind: AlertKind,
    threshold: int | None,
    named: tuple[str, str | None],
    of: tuple[Decimal, Decimal],
) -> Finding:
    (name, unit), (used, limit) = named, of
    return Finding(
        kind=kind,
        what=f"quota:{quota.feature}",
        threshold=threshold,
        period_start_us=quota.period.start_us,
        terms=_agreed(quota),
        name=name,
        used=used,
        amount=limit,
        unit=unit,
    )


# Of what was refused, or is in doubt.


def denied(
    what: str, name: str, period_start_us: int, of: tuple[Decimal, Decimal], measured_in: tuple[str | None, str | None]
) -> Finding:
    """That something was refused at a limit; `of`: what is used, and what the limit was; `measured_in`: currency, or unit."""
    (used, amount), (currency, unit) = of, measured_in
    return Finding(
        kind=AlertKind.LIMIT_DENIED,
        what=what,
        period_start_us=period_start_us,
        terms=decimal_text(amount),
        name=name,
        used=used,
        amount=amount,
        currency=currency,
        unit=unit,
    )


def in_doubt(
    what: str, name: str, period_start_us: int, of: tuple[Decimal, Decimal], measured_in: tuple[str | None, str | None]
) -> Finding:
    """That a part of a limit is with an agent that is gone; `of`: how much, and the limit; `measured_in` as in `denied`."""
    (held, amount), (currency, unit) = of, measured_in
    return Finding(
        kind=AlertKind.LEASE_IN_DOUBT,
        what=what,
        period_start_us=period_start_us,
        name=name,
        used=held,
        amount=amount,
        currency=currency,
        unit=unit,
    )


def _sentence(finding: Finding, say: Sentences) -> str:
    of_budget = finding.what.startswith("budget:")
    return {
        AlertKind.BUDGET_THRESHOLD: say.budget_threshold,
        AlertKind.QUOTA_THRESHOLD: say.quota_threshold,
        AlertKind.CREDITS_THRESHOLD: say.credits_threshold,
        AlertKind.OVERAGE_STARTED: say.overage_started,
        AlertKind.FORECAST_EXCEEDS: say.budget_forecast if of_budget else say.quota_forecast,
        AlertKind.LIMIT_DENIED: say.limit_denied,
        AlertKind.LEASE_IN_DOUBT: say.lease_in_doubt,
    }[finding.kind]


@exact
def _reaches(used: Decimal, percent: int, amount: Decimal) -> bool:
    return used * 100 >= amount * percent


@exact
def _agreed(quota: QuotaAnswer) -> str:
    """What was agreed on of the limit: what is left over, and credits, change with every event that arrives late."""
    agreed = [each.quantity or Decimal(0) for each in quota.parts if each.source in _AGREED]
    return decimal_text(sum(agreed, Decimal(0)))


def _terms(answer: BudgetAnswer) -> str:
    budget = answer.budget
    sliced = [f"{key}={value}" for key, value in budget.slice]
    return " ".join([decimal_text(budget.amount), budget.reset.value, budget.meter_key or "", *sliced]).strip()
