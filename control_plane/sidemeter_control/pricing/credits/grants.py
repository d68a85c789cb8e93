"""Credit grants and top-up rules as they are written and kept, and what makes one right. Pure rules, no I/O."""

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.events import MAX_ID
from sidemeter_control.money import decimal_text, exact, rounded
from sidemeter_control.pricing.charges.parameters import not_negative, positive
from sidemeter_control.pricing.credits.instants import Grant
from sidemeter_control.pricing.periods import Interval, Recurrence, check_instant
from sidemeter_control.pricing.plans import MAX_CHARGES, check_key

__all__ = [
    "MAX_GRANTS",
    "MAX_RESETS",
    "MAX_TOP_UPS_PER_PERIOD",
    "MONEY",
    "CreditGrant",
    "CreditReset",
    "CreditUnit",
    "Denomination",
    "GrantSpec",
    "TopUp",
    "check_top_up",
    "new_grant",
]

MAX_GRANTS = 1_000
"""Of one customer, ended ones too: every balance looks at all of them."""

MAX_RESETS = 1_000
"""Of one customer, that somebody asked for."""

MAX_TOP_UPS_PER_PERIOD = 100
"""So many purchases nobody looks at is the most that a rule may be allowed."""


class CreditUnit(Enum):
    """What a grant's amount counts."""

    MONEY = "MONEY"
    FEATURE = "FEATURE"


@dataclass(frozen=True, slots=True)
class Denomination:
    """What an amount of credits is in: the customer's currency, or units of a feature's meter."""

    unit: CreditUnit
    feature: str | None = None

    @classmethod
    def read(cls, unit: CreditUnit, feature: str | None) -> "Denomination":
        """The denomination that somebody names; InvalidInput when unit and feature do not fit."""
        if (feature is not None) is not (unit is CreditUnit.FEATURE):
            raise InvalidInput("feature", f"must be {'absent' if feature else 'given'}: the unit is {unit.value}")
        return cls(unit, feature)


MONEY = Denomination(CreditUnit.MONEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSpec:
    """A grant to be made, as somebody wrote it. Absent: effective from now on, for ever, any charge."""

    customer: str
    amount: Decimal
    denomination: Denomination = MONEY
    priority: int | None = None
    effective_at_us: int | None = None
    expires_at_us: int | None = None
    purchased: bool = False
    recurrence: Interval | None = None
    anchor_us: int | None = None
    rollover_max: Decimal | None = None
    rollover_min: Decimal | None = None
    charges: tuple[str, ...] | None = None
    automatic: bool = False
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditGrant:
    """A grant that was made. Only `voided_at_us` and `void_reason` ever change.

    `currency` is that of MONEY, else None. `automatic`: a top-up rule made it.
    """

    id: str
    customer_key: str
    denomination: Denomination
    amount: Decimal
    currency: str | None
    priority: int | None
    effective_at_us: int
    expires_at_us: int | None
    purchased: bool
    recurrence: Interval | None
    anchor_us: int | None
    rollover_max: Decimal
    rollover_min: Decimal
    charges: tuple[str, ...] | None
    automatic: bool
    idempotency_key: str | None
    created_at_us: int
    voided_at_us: int | None = None
    void_reason: str | None = None

    def burns(self, time_zone: str) -> Grant:
        """What burns down, by the calendar of the customer's time zone."""
        anchor_us = self.effective_at_us if self.anchor_us is None else self.anchor_us
        return Grant(
            id=self.id,
            amount=self.amount,
            effective_at_us=self.effective_at_us,
            created_at_us=self.created_at_us,
            priority=self.priority,
            expires_at_us=self.expires_at_us,
            voided_at_us=self.voided_at_us,
            purchased=self.purchased,
            recurrence=self.recurrence and Recurrence.every(self.recurrence, 1, anchor_us, time_zone),
            rollover_max=self.rollover_max,
            rollover_min=self.rollover_min,
            scope=None if self.charges is None else frozenset(self.charges),
        )

    def is_of(self, spec: GrantSpec, currency: str | None) -> bool:
        """Whether this is what came, or would have come, of `spec` when it was made."""
        again = new_grant(spec, self.id, self.created_at_us, currency)
        return again == replace(self, voided_at_us=None, void_reason=None)


@dataclass(frozen=True, slots=True)
class CreditReset:
    """A reset that somebody asked for, beside those at the ends of billing periods."""

    customer_key: str
    denomination: Denomination
    at_us: int
    preserve_overage: bool = False


@dataclass(frozen=True, slots=True)
class TopUp:
    """A purchased grant of `amount` each time the balance falls `below`, `max_per_period` times in a billing period.

    `mark` is None until it buys, and again once the balance is not below. Between, it is the most that balance less
    overage has been since: only use that takes it below that is another fall.
    """

    customer_key: str
    denomination: Denomination
    below: Decimal
    amount: Decimal
    max_per_period: int
    created_at_us: int
    mark: Decimal | None = None

    @exact
    def wants(self, balance: Decimal, overage: Decimal) -> bool:
        """Whether the balance has fallen below the threshold, and not only stayed there."""
        return balance < self.below and (self.mark is None or balance - overage < self.mark)

    @exact
    def marked(self, balance: Decimal, overage: Decimal) -> "TopUp":
        """The rule after a look that bought nothing."""
        if self.mark is None or balance >= self.below:
            return replace(self, mark=None)
        return replace(self, mark=max(self.mark, balance - overage))

    @exact
    def bought(self, balance: Decimal, overage: Decimal) -> "TopUp":
        """The rule after a look that bought."""
        return replace(self, mark=balance - overage + self.amount)


def new_grant(spec: GrantSpec, grant_id: str, now_us: int, currency: str | None) -> CreditGrant:
    """The grant that `spec` describes, MONEY in `currency`; InvalidInput names what is wrong.

    Without a `rolloverMax`, a billing period's end takes what is left of granted units, and nothing of what is money or
    was purchased.
    """
    _check_amount("amount", spec.amount, spec.denomination, currency)
    effective_us = now_us if spec.effective_at_us is None else spec.effective_at_us
    _check_instants(spec, effective_us, now_us)
    bought = spec.purchased or spec.denomination.unit is CreditUnit.MONEY
    kept = spec.amount if bought else Decimal(0)
    rollover_max = kept if spec.rollover_max is None else not_negative("rolloverMax", spec.rollover_max)
    rollover_min = not_negative("rolloverMin", spec.rollover_min or Decimal(0))
    if rollover_min > rollover_max:
        raise InvalidInput("rolloverMin", f"must be at most rolloverMax, which is {decimal_text(rollover_max)}")
    _check_charges(spec)
    if spec.idempotency_key is not None and not 1 <= len(spec.idempotency_key) <= MAX_ID:
        raise InvalidInput("idempotencyKey", f"must be 1 to {MAX_ID} characters")
    return CreditGrant(
        id=grant_id,
        customer_key=spec.customer,
        denomination=spec.denomination,
        amount=spec.amount,
        currency=currency if spec.denomination == MONEY else None,
        priority=spec.priority,
        effective_at_us=effective_us,
        expires_at_us=spec.expires_at_us,
        purchased=spec.purchased,
        recurrence=spec.recurrence,
        anchor_us=spec.anchor_us,
        rollover_max=rollover_max,
        rollover_min=rollover_min,
        charges=spec.charges,
        automatic=spec.automatic,
        idempotency_key=spec.idempotency_key,
        created_at_us=now_us,
    )


def check_top_up(rule: TopUp, currency: str | None) -> None:
    """Raise InvalidInput unless the rule can be followed."""
    not_negative("below", rule.below)
    _check_amount("amount", rule.amount, rule.denomination, currency)
    if not 1 <= rule.max_per_period <= MAX_TOP_UPS_PER_PERIOD:
        raise InvalidInput("maxPerPeriod", f"must be from 1 to {MAX_TOP_UPS_PER_PERIOD}")


def _check_amount(field: str, amount: Decimal, denomination: Denomination, currency: str | None) -> None:
    positive(field, amount)
    if denomination.unit is CreditUnit.FEATURE:
        return
    if currency is None:
        raise InvalidInput("unit", "must not be MONEY: the customer has no currency yet")
    if rounded(amount, currency) != amount:
        raise InvalidInput(field, f"must be a whole number of {currency}'s minor units")


def _check_instants(spec: GrantSpec, effective_us: int, now_us: int) -> None:
    check_instant("effectiveAt", effective_us)
    if spec.expires_at_us is not None:
        check_instant("expiresAt", spec.expires_at_us)
        if spec.expires_at_us <= effective_us:
            raise InvalidInput("expiresAt", "must be after effectiveAt")
        if spec.expires_at_us <= now_us:
            raise InvalidInput("expiresAt", "must be in the future: what has expired pays for nothing")
    if spec.anchor_us is not None:
        check_instant("recurrenceAnchor", spec.anchor_us)
        if spec.recurrence is None:
            raise InvalidInput("recurrenceAnchor", "must be absent: there is no recurrence")


def _check_charges(spec: GrantSpec) -> None:
    if spec.charges is None:
        return
    if spec.denomination.unit is CreditUnit.FEATURE:
        raise InvalidInput("charges", "must be absent: units of a feature pay for its use, whatever it is charged")
    if not 1 <= len(spec.charges) <= MAX_CHARGES:
        raise InvalidInput("charges", f"must be 1 to {MAX_CHARGES} keys of charges")
    for index, key in enumerate(spec.charges):
        check_key(f"charges[{index}]", key)
