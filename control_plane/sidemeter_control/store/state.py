"""The database's own state: its generation, and the version of everything that is configured."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import state

__all__ = ["State", "config_changed", "get"]


@dataclass(frozen=True, slots=True)
class State:
    """`generation` names this copy of the database; `config_version` rises with every change of a definition."""

    generation: str
    config_version: int


async def get(conn: AsyncConnection) -> State:
    """The state as this transaction sees it."""
    row = (await conn.execute(select(state.c.generation, state.c.config_version))).one()
    return State(row.generation, row.config_version)


async def config_changed(conn: AsyncConnection) -> None:
    """Say that a definition (meter, feature, plan, customer, subscription) changes in this transaction."""
    await conn.execute(update(state).values(config_version=state.c.config_version + 1))
