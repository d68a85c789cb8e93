"""Plans: immutable versions of a price list, and what it lets its subscribers use."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import check_currency
from sidemeter_control.pricing.charges import Charge, ChargeSpec
from sidemeter_control.pricing.charges.parameters import not_negative
from sidemeter_control.pricing.commitments import CommitmentSpec, check_commitment
from sidemeter_control.pricing.periods import MONTHS, Interval
from sidemeter_control.pricing.proration import ProrationRule

__all__ = [
    "MAX_CHARGES",
    "MAX_ENTITLEMENTS",
    "Enforcement",
    "EntitlementKind",
    "EntitlementSpec",
    "Plan",
    "PlanSpec",
    "ResetPeriod",
    "check_entitlement",
    "check_key",
    "check_trial_days",
    "read_charges",
    "read_plan",
]

MAX_CHARGES = 200
MAX_ENTITLEMENTS = 500
MAX_INTERVAL_COUNT = {Interval.DAY: 366, Interval.WEEK: 53, Interval.MONTH: 36, Interval.QUARTER: 12, Interval.YEAR: 5}
MAX_TRIAL_DAYS = 730
MAX_NAME_CHARS = 256
MAX_VALUE_BYTES = 4096
MAX_GRACE_DAYS = 366

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


class EntitlementKind(Enum):
    """What a plan can say of a feature: it is there; it has this value; this much of it per period."""

    BOOLEAN = "BOOLEAN"
    STATIC = "STATIC"
    METERED = "METERED"


class Enforcement(Enum):
    """HARD: no more once the limit is reached. SOFT: counted and told, never refused."""

    HARD = "HARD"
    SOFT = "SOFT"


class ResetPeriod(Enum):
    """How long a quota lasts, on the customer's calendar or by the subscription's billing periods."""

    BILLING_PERIOD = "BILLING_PERIOD"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"
    NEVER = "NEVER"


class EntitlementSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """What a plan allows of a feature. METERED has a `limit` (None: unlimited), STATIC a `value` (JSON text).

    A HARD limit may let usage run on: by `overage_up_to`, for `grace_days` after it was reached, or, where both are
    given, by so much for so long. What a period left unused is added to the next one, at least `rollover_min` and at
    most `rollover_max`; without the latter nothing is.
    """

    feature: str
    kind: EntitlementKind
    value: str | None = None
    limit: Decimal | None = None
    enforcement: Enforcement = Enforcement.SOFT
    reset: ResetPeriod = ResetPeriod.BILLING_PERIOD
    overage_up_to: Decimal | None = None
    grace_days: int = 0
    rollover_max: Decimal | None = None
    rollover_min: Decimal = Decimal(0)


class PlanSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """A version to be published, as somebody wrote it."""

    key: str
    name: str | None = None
    currency: str
    interval: Interval = Interval.MONTH
    interval_count: int = 1
    charges: tuple[ChargeSpec, ...]
    entitlements: tuple[EntitlementSpec, ...] = ()
    trial_days: int = 0
    proration: ProrationRule = ProrationRule.SECONDS
    minimum_spend: Decimal | None = None
    commitment: CommitmentSpec | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A published version. Made by `read_plan`, so every charge and entitlement in it is right.

    `proration` is the rule for fees, minimum spend and commitment of a billing period that is cut. `minimum_spend` is
    owed of every billing period at least, fees included.
    """

    key: str
    version: int
    name: str | None
    currency: str
    interval: Interval
    interval_count: int
    charges: tuple[Charge, ...]
    entitlements: tuple[EntitlementSpec, ...]
    trial_days: int
    published_at_us: int
    proration: ProrationRule = ProrationRule.SECONDS
    minimum_spend: Decimal | None = None
    commitment: CommitmentSpec | None = None


def read_plan(spec: PlanSpec, version: int, published_at_us: int) -> Plan:
    """The version that `spec` describes; InvalidInput names what is wrong as `charges.<key>.<field>` or the like."""
    check_key("key", spec.key)
    _check_name("name", spec.name)
    check_currency("currency", spec.currency)
    longest = MAX_INTERVAL_COUNT[spec.interval]
    if not 1 <= spec.interval_count <= longest:
        raise InvalidInput("intervalCount", f"must be from 1 to {longest} for {spec.interval.value}")
    check_trial_days("trialDays", spec.trial_days)
    _check_amounts(spec)
    return Plan(
        spec.key,
        version,
        spec.name,
        spec.currency,
        spec.interval,
        spec.interval_count,
        read_charges("charges", spec.charges),
        _read_entitlements(spec.entitlements),
        spec.trial_days,
        published_at_us,
        spec.proration,
        spec.minimum_spend,
        spec.commitment,
    )


def _check_amounts(spec: PlanSpec) -> None:
    months = MONTHS.get(spec.interval)
    if spec.proration is ProrationRule.THIRTY_DAY_MONTHS and months is None:
        raise InvalidInput("proration", f"must not be THIRTY_DAY_MONTHS: {spec.interval.value} is shorter than a month")
    if spec.minimum_spend is not None:
        not_negative("minimumSpend", spec.minimum_spend)
    if spec.commitment is not None:
        check_commitment("commitment", spec.commitment, None if months is None else months * spec.interval_count)


def read_charges(path: str, specs: Sequence[ChargeSpec]) -> tuple[Charge, ...]:
    """The charges, checked one by one and together; InvalidInput names the charge by its key."""
    if len(specs) > MAX_CHARGES:
        raise InvalidInput(path, f"must be at most {MAX_CHARGES}")
    for index, spec in enumerate(specs):
        check_key(f"{path}[{index}].key", spec.key)
        _check_name(f"{path}.{spec.key}.name", spec.name)
    _check_unique(path, (spec.key for spec in specs))
    charges = tuple(Charge.read(f"{path}.{spec.key}", spec) for spec in specs)
    for charge in charges:
        charge.check_meter(f"{path}.{charge.spec.key}")
    return charges


def _read_entitlements(specs: Sequence[EntitlementSpec]) -> tuple[EntitlementSpec, ...]:
    if len(specs) > MAX_ENTITLEMENTS:
        raise InvalidInput("entitlements", f"must be at most {MAX_ENTITLEMENTS}")
    _check_unique("entitlements", (spec.feature for spec in specs))
    for spec in specs:
        check_entitlement(f"entitlements.{spec.feature}.", spec)
    return tuple(specs)


def check_entitlement(prefix: str, spec: EntitlementSpec) -> None:
    """Raise InvalidInput for `<prefix><field>` unless what is said of the feature goes together."""
    if spec.limit is not None:
        if spec.kind is not EntitlementKind.METERED:
            raise InvalidInput(f"{prefix}limit", f"must be absent: {spec.kind.value} is not counted")
        not_negative(f"{prefix}limit", spec.limit)
    if (spec.value is None) is (spec.kind is EntitlementKind.STATIC):
        needs = "must be given: STATIC is a value" if spec.value is None else f"must be absent for {spec.kind.value}"
        raise InvalidInput(f"{prefix}value", needs)
    if len((spec.value or "").encode()) > MAX_VALUE_BYTES:
        raise InvalidInput(f"{prefix}value", f"must be at most {MAX_VALUE_BYTES} bytes of JSON")
    _check_beyond(prefix, spec)
    _check_rollover(prefix, spec)


def _check_beyond(prefix: str, spec: EntitlementSpec) -> None:
    """What lets usage run on needs a limit that would stop it."""
    if not 0 <= spec.grace_days <= MAX_GRACE_DAYS:
        raise InvalidInput(f"{prefix}graceDays", f"must be from 0 to {MAX_GRACE_DAYS}")
    for field, given in (("overageUpTo", spec.overage_up_to is not None), ("graceDays", spec.grace_days > 0)):
        if given and (spec.limit is None or spec.enforcement is not Enforcement.HARD):
            raise InvalidInput(f"{prefix}{field}", "must be absent: only a HARD limit stops anything")
    if spec.overage_up_to is not None:
        not_negative(f"{prefix}overageUpTo", spec.overage_up_to)


def _check_rollover(prefix: str, spec: EntitlementSpec) -> None:
    not_negative(f"{prefix}rolloverMin", spec.rollover_min)
    if spec.rollover_max is None:
        if spec.rollover_min:
            raise InvalidInput(f"{prefix}rolloverMin", "must be absent without rolloverMax")
        return
    if not_negative(f"{prefix}rolloverMax", spec.rollover_max) < spec.rollover_min:
        raise InvalidInput(f"{prefix}rolloverMin", "must be at most rolloverMax")
    if spec.limit is None:
        raise InvalidInput(f"{prefix}rolloverMax", "must be absent: without a limit nothing is left over")
    if spec.reset is ResetPeriod.NEVER:
        raise InvalidInput(f"{prefix}rolloverMax", "must be absent: NEVER has no next period")


def check_key(field: str, key: str) -> None:
    """Raise InvalidInput for `field` unless `key` is a name that people and URLs can carry."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(field, "must be 1 to 128 letters, digits and . _ : -, beginning with a letter or digit")


def check_trial_days(field: str, days: int) -> None:
    """Raise InvalidInput for `field` unless a trial may last so many days."""
    if not 0 <= days <= MAX_TRIAL_DAYS:
        raise InvalidInput(field, f"must be from 0 to {MAX_TRIAL_DAYS}")


def _check_name(field: str, name: str | None) -> None:
    if name is not None and not 1 <= len(name) <= MAX_NAME_CHARS:
        raise InvalidInput(field, f"must be 1 to {MAX_NAME_CHARS} characters")


def _check_unique(path: str, keys: Iterable[str]) -> None:
    for key, times in Counter(keys).items():
        if times > 1:
            raise InvalidInput(f"{path}.{key}", "must be named once")
