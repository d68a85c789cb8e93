"""The database's own state: its generation, and the version of everything that is configured."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import Transaction, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import state

__all__ = ["State", "config_changed", "get", "set_closed_until", "set_generation"]


@dataclass(frozen=True, slots=True)
class State:
    """`generation` names this copy of the database; `config_version` rises with every change of a definition.

    An event with a time before `closed_until_us` is late: what it belongs to was closed.
    """

    generation: str
    config_version: int
    closed_until_us: int = 0


_seen: WeakKeyDictionary[Transaction, State] = WeakKeyDictionary()


async def get(conn: AsyncConnection) -> State:
    """The state as this transaction sees it; asked for once, because whatever is remembered asks for it."""
    transaction = conn.sync_connection.get_transaction() if conn.sync_connection else None
    seen = None if transaction is None else _seen.get(transaction)
    if seen is None:
        found = await conn.exec_driver_sql("SELECT generation, config_version, closed_until_us FROM state")
        generation, config_version, closed_until_us = tuple(found.one())
        seen = State(generation, config_version, closed_until_us)
        if transaction is not None:
            _seen[transaction] = seen
    return seen


async def config_changed(conn: AsyncConnection) -> None:
    """Say that a definition (meter, feature, plan, customer, subscription) changes in this transaction."""
    await conn.execute(update(state).values(config_version=state.c.config_version + 1))
    _seen.clear()


async def set_generation(conn: AsyncConnection, generation: str) -> None:
    """Give this copy of the database a name of its own: it does not go on from where the last one of its name was."""
    await conn.execute(update(state).values(generation=generation))
    _seen.clear()


async def set_closed_until(conn: AsyncConnection, until_us: int) -> None:
    """Say that from now on what happens before that instant is late."""
    await conn.execute(update(state).values(closed_until_us=until_us))
    _seen.clear()
