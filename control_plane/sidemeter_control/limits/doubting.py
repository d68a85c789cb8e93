"""Doubting: a part of a limit that an agent had and that nobody has said anything of for a while is worth an alert.

Who starts anew tells within seconds what its last process did with what it had; so it is waited for, on a clock that
nobody can set, before anybody is told.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.limits.alerts import Alert, Finding, in_doubt
from sidemeter_control.limits.raising import raise_all
from sidemeter_control.limits.shared import Shared, shared_limits
from sidemeter_control.limits.units import CREDITS, PoolId, budget_key, from_units, is_budget, limit_id
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.register import registered
from sidemeter_control.pricing.sentences import SENTENCES
from sidemeter_control.store import alerts, features, leases
from sidemeter_control.store.database import Database

__all__ = ["MAX_DOUBTED", "Doubting"]

DOUBTED_AFTER_S: Final = 60
"""So long nobody says what became of it."""

MAX_DOUBTED: Final = 1_000
"""Limits and periods that are looked at in one turn."""

Doubt = tuple[Shared, int, int]
"""A limit as it stands, the scale of its pool, and the units that are in doubt."""


class Doubting:
    """Looks for what is in doubt, and remembers since when."""

    def __init__(self, database: Database, clock: Clock, *, at_once: int = MAX_DOUBTED) -> None:
        self._database, self._clock, self._at_once = database, clock, at_once
        self._since_ms: dict[PoolId, int] = {}

    async def once(self) -> list[Alert]:
        """Raise what is in doubt for long enough, each once in a period; answers the alerts that are new."""
        async with self._database.read() as conn:
            found = await leases.in_doubt(conn, self._clock.now_us(), self._at_once)
        now_ms = self._clock.monotonic_ms()
        self._since_ms = {id_: self._since_ms.get(id_, now_ms) for id_, *_ in found}
        long = [each for each in found if now_ms - self._since_ms[each[0]] >= DOUBTED_AFTER_S * 1_000]
        if not long:
            return []
        async with self._database.snapshot() as snapshot:
            new = await snapshot.ask(lambda conn: _unraised(conn, long, self._clock.now_us()))
        return await raise_all(self._database, self._clock, new)


async def _unraised(
    conn: AsyncConnection, doubted: Sequence[tuple[PoolId, int, int]], now_us: int
) -> list[tuple[Customer, list[Finding]]]:
    """What was not raised yet, by customer. A limit that there is no more, or of another period by now, is nobody's concern."""
    limits = await shared_limits(conn, {limit_id(customer, name) for (customer, name, _), *_ in doubted}, now_us)
    now = {each.id: each for each in limits.values()}
    by_customer: dict[str, list[Doubt]] = {}
    for id_, scale, units in doubted:
        if id_ in now:
            by_customer.setdefault(id_[0], []).append((now[id_], scale, units))
    names = await _names(conn, {shared.id[1] for own in by_customer.values() for shared, *_ in own})
    found = []
    for key, customer in (await registered(conn, sorted(by_customer))).items():
        new = await alerts.unraised(conn, key, [_finding(customer, each, names) for each in by_customer[key]])
        if new:
            found.append((customer, new))
    return found


async def _names(conn: AsyncConnection, keys: set[str]) -> Mapping[str, str]:
    """What customers call these features and budgets."""
    named = await features.get(conn, sorted(key for key in keys if not is_budget(key) and key != CREDITS))
    names = {key: budget_key(key) for key in keys if is_budget(key)}
    return names | {key: each.name or key for key, each in named.items()}


def _finding(customer: Customer, doubt: Doubt, names: Mapping[str, str]) -> Finding:
    shared, scale, units = doubt
    name = shared.id[1]
    what = f"budget:{budget_key(name)}" if is_budget(name) else f"quota:{name}"
    if name == CREDITS:
        what, names = "credits:money", {name: SENTENCES[customer.language].credits}
    of = from_units(units, scale), shared.ceiling
    measured_in = (customer.currency, None) if shared.meter is None else (None, shared.meter.unit)
    return in_doubt(what, names[name], shared.window.start_us, of, measured_in)
