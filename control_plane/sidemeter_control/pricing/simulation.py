"""Simulation: what customers' stored usage would have cost under a draft plan, beside what it costs. Stores nothing."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput, NotFound
from sidemeter_control.pricing.catalogue import read_draft, subscribed
from sidemeter_control.pricing.cost import cost_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.drafts import MAX_SIMULATED, Draft, Simulation, SimulationRow
from sidemeter_control.pricing.periods import Period, check_interval
from sidemeter_control.pricing.plans import PlanSpec
from sidemeter_control.pricing.register import registered
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import meters, plans, subscriptions

__all__ = ["Ask", "simulate"]

T = TypeVar("T")

_Who: TypeAlias = tuple[Customer, Sequence[Subscribed]]


class Ask(Protocol):
    """Asks one snapshot of the database, as `Snapshot.ask` does."""

    async def __call__(self, question: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """What the question answers."""
        ...


async def simulate(
    ask: Ask, spec: PlanSpec, asked: Period, customer_keys: Sequence[str] | None, now_us: int
) -> Simulation:
    """Price the usage of `asked` under the draft: of those customers, or of all on a plan of its key in that time.

    The draft is refused as `publish_plan` would refuse it. NotFound names a customer that does not exist; InvalidInput a
    customer who cannot be on the draft, or says that there are more than 5,000 customers, or that nobody is meant since
    no plan of the key was ever published. An answer without rows: nobody was on it in that time.
    """
    check_interval(asked)
    if customer_keys is not None and len(customer_keys) > MAX_SIMULATED:
        raise InvalidInput("customers", f"must be at most {MAX_SIMULATED}")
    draft = await ask(lambda conn: _read(conn, spec, now_us))
    found = await ask(lambda conn: _meant(conn, spec.key, asked, customer_keys))
    rows = []
    for who in found:
        rows.append(await _row(ask, draft, who, asked, now_us))
        await asyncio.sleep(0)  # a question that is quick never lets go of the loop
    return Simulation.of(rows, draft.plan.currency)


async def _row(ask: Ask, draft: Draft, who: _Who, asked: Period, now_us: int) -> SimulationRow:
    customer, own = who
    drafted = draft.in_place(customer, own, asked)
    current = await ask(lambda conn: cost_of(conn, customer, own, asked, now_us))
    simulated = await ask(lambda conn: cost_of(conn, customer, drafted, asked, now_us))
    return SimulationRow.of(customer.key, current.total.amount, simulated.total.amount, draft.plan.currency)


async def _read(conn: AsyncConnection, spec: PlanSpec, now_us: int) -> Draft:
    newest = (await plans.newest_versions(conn, [spec.key])).get(spec.key, 0)
    plan = await read_draft(conn, spec, newest + 1, now_us)
    priced = {charge.spec.meter for charge in plan.charges}
    return Draft(plan, await meters.get(conn, sorted(key for key in priced if key is not None)))


async def _meant(conn: AsyncConnection, plan_key: str, asked: Period, keys: Sequence[str] | None) -> list[_Who]:
    """The customers that the call is about, each once, with what they are subscribed to."""
    if keys is None:
        keys = await _subscribers(conn, plan_key, asked)
    found = await registered(conn, keys)
    for key in keys:
        if key not in found:
            raise NotFound("customer", key)
    own = await subscribed(conn, found.values())
    return [(customer, own[key]) for key, customer in found.items()]


async def _subscribers(conn: AsyncConnection, plan_key: str, asked: Period) -> list[str]:
    if not await plans.newest_versions(conn, [plan_key]):
        raise InvalidInput("customers", f"must be given: no plan {plan_key!r} was ever published, so nobody is on it")
    keys = await subscriptions.subscribers(conn, plan_key, asked.start_us, asked.end_us, MAX_SIMULATED + 1)
    if len(keys) > MAX_SIMULATED:
        raise InvalidInput("customers", f"must be given: more than {MAX_SIMULATED} are on plan {plan_key!r}")
    return keys
