"""The database's own state: its generation, and the version of everything that is configured."""

from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Transaction, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store import changes
from sidemeter_control.store.tables import state

__all__ = [
    "MAX_BEHIND_S",
    "State",
    "closed_until",
    "config_changed",
    "generation_of_leases",
    "get",
    "holder_joined",
    "keep_leases_under",
    "leases_changed",
    "losses_stored",
    "set_generation",
]

MAX_BEHIND_S: Final = 60
"""So far may the clocks of control planes that share a database be apart."""


@dataclass(frozen=True, slots=True)
class State:
    """`generation` names this copy of the database; `config_version` rises with every change of a definition.

    What happens before `closed_until_us` is late, somewhere; `lease_version` rises with every transaction that stores
    something of leases or losses, and is 0 until the first; `holders` is how many `lease_holders` there are. `changed_at_us` is
    the latest instant at which anything was changed. None of them is a part of the configuration.
    """

    generation: str
    config_version: int
    closed_until_us: int = field(default=0, compare=False)
    lease_version: int = field(default=0, compare=False)
    holders: int = field(default=0, compare=False)
    changed_at_us: int = field(default=0, compare=False)

    def instant(self, now_us: int) -> int:
        """The instant by which this state is looked at: never one before the last change, which holds for whatever comes after
        it. `now_us` may be of before it: of a question that waited for its turn, or of a clock that is behind.

        A minute behind at most: a change by a clock that was wrong moves nobody else's periods.

        >>> State("g", 1, changed_at_us=5_000_000).instant(4_000_000), State("g", 1).instant(4_000_000)
        (5000000, 4000000)
        """
        return max(now_us, min(self.changed_at_us, now_us + MAX_BEHIND_S * 1_000_000))

    @property
    def version(self) -> int:
        """What agents are told: it rises whenever anything changes that they are to know."""
        return self.config_version + self.lease_version


_GET = "SELECT generation, config_version, closed_until_us, lease_version, holders, changed_at_us FROM state"

_seen: WeakKeyDictionary[Transaction, State] = WeakKeyDictionary()


async def get(conn: AsyncConnection) -> State:
    """The state as this transaction sees it; asked for once, because whatever is remembered asks for it."""
    transaction = conn.sync_connection.get_transaction() if conn.sync_connection else None
    seen = None if transaction is None else _seen.get(transaction)
    if seen is None:
        found = await conn.exec_driver_sql(_GET)
        seen = State(*tuple(found.one()))
        if transaction is not None:
            _seen[transaction] = seen
    return seen


async def config_changed(conn: AsyncConnection, *customers: str) -> None:
    """Say that a definition (meter, feature, plan, customer, subscription) changes in this transaction.

    `customers` are the keys of those it is about; without any it may be about everyone.
    """
    changes.note(conn, customers=customers, everyone=not customers)
    await conn.execute(update(state).values(config_version=state.c.config_version + 1))
    _is_another(conn)


async def closed_until(conn: AsyncConnection, until_us: int) -> None:
    """Say that a billing period that ends there is closed in this transaction."""
    await conn.execute(update(state).where(state.c.closed_until_us < until_us).values(closed_until_us=until_us))
    _is_another(conn)


async def set_generation(conn: AsyncConnection, generation: str) -> None:
    """Give this copy of the database a name of its own: it does not go on from where the last one of its name was."""
    await conn.execute(update(state).values(generation=generation))
    _is_another(conn)


async def leases_changed(conn: AsyncConnection) -> State:
    """Say that something of leases is stored in this transaction; answers the state as it is then."""
    await conn.execute(update(state).values(lease_version=state.c.lease_version + 1))
    _is_another(conn)
    return await get(conn)


async def losses_stored(conn: AsyncConnection) -> None:
    """Say that losses are stored in this transaction: agents notice a copy of the database that lacks them as older."""
    await conn.execute(update(state).values(lease_version=state.c.lease_version + 1))
    _is_another(conn)


async def holder_joined(conn: AsyncConnection) -> None:
    """Say that one more holder of leases is known from this transaction on."""
    await conn.execute(update(state).values(holders=state.c.holders + 1))
    _is_another(conn)


async def generation_of_leases(conn: AsyncConnection) -> str | None:
    """The generation in which leases were granted last; None: in none, as far as this database knows."""
    found: str | None = await conn.scalar(select(state.c.leases_generation))
    return found


async def keep_leases_under(conn: AsyncConnection, generation: str) -> None:
    """Say that leases are granted in that generation from here on: what another may have granted is seen to."""
    await conn.execute(update(state).values(leases_generation=generation))


def _is_another(conn: AsyncConnection) -> None:
    _seen.clear()
    changes.note(conn, state=True)
