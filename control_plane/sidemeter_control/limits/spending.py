"""What is spent of budgets, from the usage and the cost as they are counted now.

Of MONEY it is the customer's live cost of the budget's period, exact and before credits: fees, minimums and what came
late to closed periods are in it, as on the bill. Credits pay what is owed; they do not make it less. With a slice it is
what the usage of the slice costs by itself (`pricing/attribution.py`). Of a METER it is exactly what the meter counts in
the period, of the slice if there is one.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.budgets import Budget, BudgetAnswer
from sidemeter_control.limits.entitlements import reset_period
from sidemeter_control.limits.units import Slice
from sidemeter_control.metering import usage
from sidemeter_control.metering.breakdown import rows_of_slices
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.windows import Interval
from sidemeter_control.pricing.attribution import attributed
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.cost import Cost, cost, current_period
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval as Every
from sidemeter_control.pricing.periods import Period, Recurrence
from sidemeter_control.pricing.plans import ResetPeriod
from sidemeter_control.pricing.price_caps import PriceCaps, price_caps, taken
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import budgets, meters, state
from sidemeter_control.store.remembered import Remembered

__all__ = ["Enforced", "budgets_of", "counted", "enforced", "spending"]

# Some hundred bytes for each budget.
MAX_CUSTOMERS_REMEMBERED = 5_000


@dataclass(frozen=True, slots=True)
class Enforced:
    """A budget that agents enforce. `meter` and no `caps`, or of money `caps` and no meter.

    `taken` of its amount cannot be spent any more: of a meter what is spent; of money also what prices may jump by, all
    if its usage cannot be capped now.
    """

    answer: BudgetAnswer
    meter: Meter | None
    caps: PriceCaps | None
    taken: Decimal


Metered = tuple[Budget, Meter | None]
"""A budget and the meter that it caps; None: it is in money."""

_Of = tuple[ResetPeriod, Slice]
"""Which cost a budget in money is of: of which period, and of all or of a slice."""

_known: Remembered[str, Sequence[Metered]] = Remembered(MAX_CUSTOMERS_REMEMBERED)


async def budgets_of(conn: AsyncConnection, keys: Collection[str]) -> Mapping[str, Sequence[Metered]]:
    """The budgets of those customers, by key; read anew only when the configuration has changed."""
    known = _known.at(await state.get(conn))
    unknown = [key for key in keys if key not in known]
    if unknown:
        found = await budgets.of_customers(conn, unknown)
        named = {each.meter_key for own in found.values() for each in own if each.meter_key is not None}
        caps = await meters.get(conn, sorted(named)) if named else {}
        known |= {
            key: tuple((each, caps[each.meter_key] if each.meter_key else None) for each in found.get(key, ()))
            for key in unknown
        }
    return {key: known[key] for key in keys}


async def spending(
    conn: AsyncConnection, customer: Customer, now_us: int, at_us: int | None = None
) -> Sequence[BudgetAnswer]:
    """What is spent of each budget of a customer in the period of an instant, by default now; by key."""
    own = (await budgets_of(conn, [customer.key]))[customer.key]
    return (await _answers(conn, customer, own, now_us, now_us if at_us is None else at_us))[0] if own else ()


async def enforced(
    conn: AsyncConnection, customers: Collection[Customer], now_us: int
) -> Mapping[str, Sequence[Enforced]]:
    """What is spent of the budgets that agents enforce, by customer key: the HARD ones."""
    own = await budgets_of(conn, [each.key for each in customers])
    found: dict[str, Sequence[Enforced]] = {}
    for customer in customers:
        hard = [each for each in own[customer.key] if each[0].is_enforced]
        found[customer.key] = await _enforced(conn, customer, hard, now_us) if hard else ()
    return found


async def _enforced(
    conn: AsyncConnection, customer: Customer, hard: Sequence[Metered], now_us: int
) -> Sequence[Enforced]:
    answers, costs = await _answers(conn, customer, hard, now_us, now_us)
    subscriptions = (await subscribed(conn, [customer]))[customer.key] if costs else ()
    together = {(each.reset, each.dimensions): costs[each.reset, each.slice] for each, meter in hard if meter is None}
    capped = {
        (reset, dimensions): price_caps(subscriptions, Period(owed.from_us, owed.to_us), dimensions)
        for (reset, dimensions), owed in together.items()
    }
    found = []
    for answer, (budget, meter) in zip(answers, hard, strict=True):
        if meter is not None:
            found.append(Enforced(answer, meter, None, answer.spent))
            continue
        owed, caps = costs[budget.reset, budget.slice], capped[budget.reset, budget.dimensions]
        found.append(Enforced(answer, None, caps, taken(caps, budget.amount, owed.total, owed.lines)))
    return found


async def counted(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], period: Period, sliced: Slice = ()
) -> Decimal:
    """What the meter counts of those subjects together in the period, of the slice; an empty one is everything."""
    if not sliced:
        found = await usage.quantity(conn, meter, subjects, period.start_us, period.end_us)
        return found.value or Decimal(0)
    by_values = await _by_values(conn, meter, subjects, period, [sliced])
    return by_values.get(tuple(value for _, value in sliced)) or Decimal(0)


async def _answers(
    conn: AsyncConnection, customer: Customer, own: Sequence[Metered], now_us: int, at_us: int
) -> tuple[list[BudgetAnswer], Mapping[_Of, Cost]]:
    """What is spent of each, and the costs that those in money are of."""
    subscriptions = (await subscribed(conn, [customer]))[customer.key]
    periods = {each.key: _period(each.reset, subscriptions, customer, at_us) for each, _ in own}
    quantities = await _counted(conn, customer, own, periods)
    in_money = [each for each, meter in own if meter is None]
    costs = await _costs(conn, customer, subscriptions, in_money, periods, now_us=at_us) if in_money else {}
    answers = []
    for budget, meter in own:
        if meter is not None:
            period, spent = periods[budget.key], quantities[budget.key]
            answers.append(BudgetAnswer(budget, period, spent, now_us, meter.unit))
            continue
        owed = costs[budget.reset, budget.slice]
        period = Period(owed.from_us, owed.to_us)
        answers.append(BudgetAnswer(budget, period, owed.total.amount, now_us, owed.total.currency))
    return answers, costs


async def _costs(
    conn: AsyncConnection,
    customer: Customer,
    own: Sequence[Subscribed],
    in_money: Sequence[Budget],
    periods: Mapping[str, Period],
    *,
    now_us: int,
) -> Mapping[_Of, Cost]:
    """Of a billing period, the very cost that the customer is shown: what lies before a change of plan is in it."""
    found: dict[_Of, Cost] = {}
    together: defaultdict[tuple[ResetPeriod, tuple[str, ...]], list[Budget]] = defaultdict(list)
    for each in in_money:
        together[each.reset, each.dimensions].append(each)
    for (reset, dimensions), some in together.items():
        whole = current_period(own, customer, now_us) if reset is ResetPeriod.BILLING_PERIOD else periods[some[0].key]
        if dimensions:
            wanted = {each.values for each in some}
            by_values = await attributed(conn, customer, own, whole, dimensions, wanted, now_us)
            found |= {(reset, each.slice): by_values[each.values] for each in some}
        else:
            found[reset, ()] = await cost(conn, customer, now_us, whole.start_us, whole.end_us)
    return found


def _period(reset: ResetPeriod, own: Sequence[Subscribed], customer: Customer, at_us: int) -> Period:
    active = next((each for each in own if each.subscription.is_active_at(at_us)), None)
    calendar = Recurrence.on_calendar(Every.MONTH, customer.time_zone)
    billing = calendar.period_at(at_us) if active is None else active.period_at(at_us)
    return reset_period(reset, billing, customer.time_zone, at_us)


async def _counted(
    conn: AsyncConnection, customer: Customer, own: Sequence[Metered], periods: Mapping[str, Period]
) -> Mapping[str, Decimal]:
    """What the meters count for each budget, by its key: one question for all that slice one meter by the same dimensions."""
    together: defaultdict[tuple[Meter, Period, tuple[str, ...]], list[Budget]] = defaultdict(list)
    for budget, meter in own:
        if meter is not None:
            together[meter, periods[budget.key], budget.dimensions].append(budget)
    found: dict[str, Decimal] = {}
    for (meter, period, dimensions), some in together.items():
        if dimensions:
            by_values = await _by_values(conn, meter, customer.subjects, period, [each.slice for each in some])
            found |= {each.key: by_values.get(each.values) or Decimal(0) for each in some}
        else:
            found |= dict.fromkeys((each.key for each in some), await counted(conn, meter, customer.subjects, period))
    return found


async def _by_values(
    conn: AsyncConnection, meter: Meter, subjects: Sequence[str], period: Period, slices: Sequence[Slice]
) -> Mapping[tuple[str | None, ...], Decimal | None]:
    """The same of several slices by the same dimensions, by their values."""
    keys, wanted = [key for key, _ in slices[0]], {tuple(value for _, value in each) for each in slices}
    interval = Interval(period.start_us, period.end_us)
    found = await rows_of_slices(conn, meter, subjects, interval, keys, wanted)
    return {values: rows[0].value for values, rows in found.items()}
