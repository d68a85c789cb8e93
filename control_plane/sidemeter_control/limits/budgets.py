"""Budgets: a cap on money or on a meter's quantity per period, for a customer or a slice of one. Pure rules, no I/O.

A slice is what a meter counts with certain dimensions: a team, a key, a model. A hierarchy (customer, team, key) is one
budget for each level; what is used counts toward all of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.units import LEASED, Slice, budget_name, limit_id
from sidemeter_control.metering.meters import Meter, property_text
from sidemeter_control.money import exact
from sidemeter_control.pricing.charges.parameters import positive
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.plans import Enforcement, ResetPeriod, check_key

__all__ = [
    "DEFAULT_THRESHOLDS",
    "MAX_BUDGETS",
    "MAX_SLICE_CHARS",
    "MAX_THRESHOLDS",
    "MAX_THRESHOLD_PERCENT",
    "Budget",
    "BudgetAnswer",
    "BudgetSpec",
    "BudgetUnit",
    "new_budget",
]

DEFAULT_THRESHOLDS = (50, 75, 90, 100)
"""In percent of the amount."""

MAX_BUDGETS = 200
"""Of one customer: each look at them counts all."""

MAX_THRESHOLDS = 20
MAX_THRESHOLD_PERCENT = 1_000
MAX_SLICE_CHARS = 256


class BudgetUnit(Enum):
    """What a budget's amount counts: the customer's currency, or what a meter counts."""

    MONEY = "MONEY"
    METER = "METER"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """A budget to be set, as somebody wrote it. `slice`: dimensions of the meter, each with the value that counts."""

    key: str
    customer: str
    amount: Decimal
    unit: BudgetUnit = BudgetUnit.MONEY
    meter: str | None = None
    period: ResetPeriod = ResetPeriod.MONTH
    slice: Mapping[str, object] | None = None
    enforcement: Enforcement = Enforcement.SOFT
    thresholds: Sequence[int] = DEFAULT_THRESHOLDS


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget that is set. `slice` and `thresholds` are in order; `meter_key` None: it is in MONEY.

    `by_customer`: the customer set it over a portal link, and may change it there.
    """

    key: str
    customer_key: str
    amount: Decimal
    meter_key: str | None
    reset: ResetPeriod
    slice: Slice
    enforcement: Enforcement
    thresholds: tuple[int, ...]
    set_at_us: int
    by_customer: bool = False

    @property
    def unit(self) -> BudgetUnit:
        """What its amount counts."""
        return BudgetUnit.MONEY if self.meter_key is None else BudgetUnit.METER

    @property
    def is_enforced(self) -> bool:
        """Whether it is a limit that agents stop usage at."""
        return self.enforcement is Enforcement.HARD

    @property
    def limit_name(self) -> str:
        """What that limit has in the place of a feature's key."""
        return budget_name(self.key, self.meter_key, self.slice)

    @property
    def limit_id(self) -> str:
        """What agents call it."""
        return limit_id(self.customer_key, self.limit_name)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions of its slice."""
        return tuple(key for key, _ in self.slice)

    @property
    def values(self) -> tuple[str, ...]:
        """What each of them has to be."""
        return tuple(value for _, value in self.slice)

    def misfit(self, meter: Meter) -> str | None:
        """Why what the meter counts cannot be capped by this budget; None: it can."""
        known = {each.key for each in meter.dimensions}
        missing = [key for key in self.dimensions if key not in known]
        if missing:
            return f"needs its dimension {missing[0]!r}"
        if self.enforcement is Enforcement.HARD and meter.aggregation not in LEASED:
            return "is HARD, which only what COUNT and SUM count can be"
        return None


@dataclass(frozen=True, slots=True)
class BudgetAnswer:
    """What is spent of a budget in the period of an instant, of everything counted by `as_of_us`.

    `measured_in` is the currency, or the unit of the meter if it has one.
    """

    budget: Budget
    period: Period
    spent: Decimal
    as_of_us: int
    measured_in: str | None = None

    @property
    @exact
    def remaining(self) -> Decimal:
        """What is left; never less than nothing."""
        return max(self.budget.amount - self.spent, Decimal(0))

    @property
    def period_start_us(self) -> int | None:
        """When the period began; None where nothing ever resets."""
        return None if self.period == EVER else self.period.start_us

    @property
    def resets_at_us(self) -> int | None:
        """When the next one begins; None where nothing ever resets."""
        return None if self.period == EVER else self.period.end_us


def new_budget(
    spec: BudgetSpec, *, meter: Meter | None, currency: str | None, priced: Collection[Meter] = (), now_us: int
) -> Budget:
    """The budget that `spec` describes, else InvalidInput naming the field.

    `meter` is the one that it names, if it names one; `currency` what the customer pays in, if that is known, and `priced`
    the meters that its plans price.

    >>> new_budget(BudgetSpec(key="team-a", customer="acme", amount=Decimal(0)), meter=None, currency="EUR", now_us=0)
    Traceback (most recent call last):
    sidemeter_control.errors.InvalidInput: amount: must be more than zero
    """
    check_key("key", spec.key)
    positive("amount", spec.amount)
    if spec.unit is BudgetUnit.MONEY:
        _check_money(spec, currency)
    else:
        _check_meter(spec, meter)
    return Budget(
        key=spec.key,
        customer_key=spec.customer,
        amount=spec.amount,
        meter_key=spec.meter,
        reset=spec.period,
        slice=_slice(spec.slice or {}, priced if meter is None else [meter]),
        enforcement=spec.enforcement,
        thresholds=_thresholds(spec.thresholds),
        set_at_us=now_us,
    )


def _check_money(spec: BudgetSpec, currency: str | None) -> None:
    if currency is None:
        raise InvalidInput("unit", "must not be MONEY: the customer has no currency yet")
    if spec.meter is not None:
        raise InvalidInput("meter", "must be absent: the unit is MONEY")
    if spec.period is ResetPeriod.NEVER:
        raise InvalidInput("period", "must not be NEVER: money is owed for billing periods")


def _check_meter(spec: BudgetSpec, meter: Meter | None) -> None:
    if spec.meter is None or meter is None:
        raise InvalidInput("meter", "must be given: the unit is METER")
    if meter.archived_at_us is not None:
        raise InvalidInput("meter", "must not be archived: it counts nothing any more")
    if spec.enforcement is Enforcement.HARD and meter.aggregation not in LEASED:
        raise InvalidInput(
            "enforcement", f"must be SOFT: agents stop what COUNT and SUM count, not {meter.aggregation.value}"
        )


def _slice(wanted: Mapping[str, object], meters: Collection[Meter]) -> Slice:
    split = [{each.key for each in meter.dimensions} for meter in meters]
    known = next((keys for keys in split if keys.issuperset(wanted)), max(split, key=len, default=set()))
    chosen: list[tuple[str, str]] = []
    for key, value in sorted(wanted.items()):
        if key not in known:
            raise InvalidInput(f"slice.{key}", "must be a dimension of the meter, or in money of one that is priced")
        text = property_text(value)
        if text is None or len(text) > MAX_SLICE_CHARS:
            raise InvalidInput(f"slice.{key}", f"must be a text of at most {MAX_SLICE_CHARS} characters, or a number")
        chosen.append((key, text))
    return tuple(chosen)


def _thresholds(wanted: Sequence[int]) -> tuple[int, ...]:
    if len(wanted) > MAX_THRESHOLDS:
        raise InvalidInput("thresholds", f"must be at most {MAX_THRESHOLDS}")
    for index, percent in enumerate(wanted):
        if not 1 <= percent <= MAX_THRESHOLD_PERCENT:
            raise InvalidInput(f"thresholds[{index}]", f"must be from 1 to {MAX_THRESHOLD_PERCENT} percent")
    return tuple(sorted(set(wanted)))
