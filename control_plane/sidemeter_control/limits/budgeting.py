"""Setting budgets and taking them away."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, Forbidden, InvalidInput, NotFound
from sidemeter_control.limits.budgets import MAX_BUDGETS, Budget, BudgetSpec, BudgetUnit, new_budget
from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.credits.balances import currency_of
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.price_caps import uncapped
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import audit, budgets, customers, meters, state
from sidemeter_control.store.database import Database

__all__ = ["remove_budget", "set_budget"]


async def set_budget(
    database: Database, clock: Clock, spec: BudgetSpec, *, by: str = audit.OPERATOR, by_customer: bool = False
) -> Budget:
    """Write the budget, new or in place of the customer's one of that key. `by_customer`: it is the customer who says so.

    NotFound names the customer or meter that does not exist, InvalidInput the field that is wrong; Conflict: the key is
    that of another customer's budget, or the customer has as many budgets as there may be. Forbidden: a customer would
    change what it did not set.
    """
    async with database.write() as conn:
        customer = (await customers.get(conn, [spec.customer])).get(spec.customer)
        if customer is None:
            raise NotFound("customer", spec.customer)
        own = (await subscribed(conn, [customer]))[customer.key]
        currency = currency_of(customer, own)
        meter = await _meter(conn, spec)
        priced = [each.meters[key] for each in own for charge in each.charges if (key := charge.spec.meter) is not None]
        budget = new_budget(spec, meter=meter, currency=currency, priced=priced, now_us=clock.now_us())
        budget = replace(budget, by_customer=by_customer)
        await _check_change(conn, budget)
        if budget.is_enforced and budget.meter_key is None:
            _check_prices(own, budget.dimensions, clock.now_us())
        before = await budgets.get(conn, spec.key)
        if by_customer:
            _check_own(before, customer.key)
        if before is not None and before.customer_key != customer.key:
            raise Conflict(f"there is a budget {spec.key!r} of another customer already")
        if before is None and await budgets.count(conn, customer.key) >= MAX_BUDGETS:
            raise Conflict(f"customer {customer.key!r} has {MAX_BUDGETS} budgets, and no more are allowed")
        await state.config_changed(conn, customer.key)
        await budgets.put(conn, budget, (await state.get(conn)).config_version)
        await _audited(conn, budget, before, by)
    return budget


async def remove_budget(
    database: Database, clock: Clock, key: str, *, by: str = audit.OPERATOR, by_customer: bool = False
) -> bool:
    """Cap nothing by it any more; False when there was none of that key. What it has raised stays.

    Forbidden: a customer (`by_customer`) would take away what it did not set.
    """
    async with database.write() as conn:
        before = await budgets.get(conn, key)
        if before is None:
            return False
        if by_customer:
            _check_own(before, before.customer_key)
        await budgets.remove(conn, key)
        await state.config_changed(conn)
        await audit.add(conn, clock.now_us(), by, "removeBudget", f"budget {key}", before=_said(before))
    return True


def _check_own(before: Budget | None, customer: str) -> None:
    """A customer lifts no cap of the operator's, and hears nothing of other customers'."""
    if before is not None and (before.customer_key != customer or not before.by_customer):
        raise Forbidden(f"the key {before.key!r} is taken: choose another")


async def _meter(conn: AsyncConnection, spec: BudgetSpec) -> Meter | None:
    if spec.meter is None or spec.unit is BudgetUnit.MONEY:
        return None
    found = (await meters.get(conn, [spec.meter])).get(spec.meter)
    if found is None:
        raise NotFound("meter", spec.meter)
    return found


async def _check_change(conn: AsyncConnection, budget: Budget) -> None:
    """What the meter is about to count must be something that the budget can cap, too."""
    if budget.meter_key is None:
        return
    change = (await meters.changes(conn, [budget.meter_key])).get(budget.meter_key)
    misfit = None if change is None else budget.misfit(change)
    if misfit is not None:
        raise InvalidInput("meter", f"must not be about to change so: the budget {misfit}")


def _check_prices(own: Sequence[Subscribed], dimensions: Sequence[str], now_us: int) -> None:
    """What the customer uses from now on must have a price that is known before it is used."""
    reason = uncapped(own, Period(now_us, EVER.end_us), dimensions)
    if reason is not None:
        raise InvalidInput("enforcement", f"must be SOFT: {reason}")


async def _audited(conn: AsyncConnection, budget: Budget, before: Budget | None, by: str) -> None:
    said = _said(budget) | {"before": None if before is None else _said(before)}
    await audit.add(conn, budget.set_at_us, by, "setBudget", f"budget {budget.key}", **said)


def _said(budget: Budget) -> dict[str, object]:
    return {
        "customer": budget.customer_key,
        "unit": budget.unit,
        "meter": budget.meter_key,
        "amount": budget.amount,
        "period": budget.reset,
        "slice": dict(budget.slice),
        "enforcement": budget.enforcement,
        "thresholds": budget.thresholds,
    }
