"""Loss declarations: what agents say is lost, kept for good, each once however often it is declared (P6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import loss_declarations

__all__ = ["OF_ONE_AGENT", "Known", "LossDeclaration", "StoredLossDeclaration", "add", "known", "of_agents", "page"]


OF_ONE_AGENT = 50
"""Declarations shown with their agent; a buffer is damaged once or never, and every one is in the list of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossDeclaration:
    """Rows of an agent's buffer that are gone: from `first_row` to `last_row`, `events` of them; None where unknown.

    `id` is the agent's own; `epoch` the one in which it was declared, `noticed_at_us` by the agent's clock.
    """

    agent_id: str
    id: str
    epoch: int
    first_row: int
    last_row: int | None
    events: int | None
    reason: str
    noticed_at_us: int
    received_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLossDeclaration(LossDeclaration):
    """A declaration with its number; later ones have higher numbers."""

    seq: int


class Known(NamedTuple):
    """How many declarations there are, and how many events those lost that say how many."""

    declarations: int
    events: int


_COLUMNS = [column.name for column in loss_declarations.c if column.name != "seq"]
_ADD = text(
    f"INSERT INTO loss_declarations ({', '.join(_COLUMNS)}) VALUES (:{', :'.join(_COLUMNS)}) ON CONFLICT DO NOTHING"  # noqa: S608 -- names of columns
)


async def add(conn: AsyncConnection, declared: Sequence[LossDeclaration]) -> None:
    """Keep them for good; one that is there already stays as it is."""
    if declared:
        await conn.execute(_ADD, [{name: getattr(each, name) for name in _COLUMNS} for each in declared])


async def page(conn: AsyncConnection, limit: int, *, before: int | None = None) -> list[StoredLossDeclaration]:
    """At most `limit` declarations, newest first; `before`: those with a lower number."""
    wanted = select(loss_declarations).order_by(loss_declarations.c.seq.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(loss_declarations.c.seq < before)
    return [StoredLossDeclaration(**row) for row in (await conn.execute(wanted)).mappings()]


async def of_agents(conn: AsyncConnection, agent_ids: Sequence[str]) -> dict[str, list[StoredLossDeclaration]]:
    """The newest declarations of each agent, at most `OF_ONE_AGENT`; an agent without one is absent."""
    rank = func.row_number().over(partition_by=loss_declarations.c.agent_id, order_by=loss_declarations.c.seq.desc())
    theirs = select(loss_declarations, rank.label("rank")).where(loss_declarations.c.agent_id.in_(agent_ids)).subquery()
    wanted = select(*[column for column in theirs.c if column.name != "rank"]).where(theirs.c.rank <= OF_ONE_AGENT)
    found: dict[str, list[StoredLossDeclaration]] = {}
    for row in (await conn.execute(wanted.order_by(theirs.c.seq.desc()))).mappings():
        found.setdefault(row["agent_id"], []).append(StoredLossDeclaration(**row))
    return found


async def known(conn: AsyncConnection) -> Known:
    """All declarations together."""
    counted = select(func.count(), func.coalesce(func.sum(loss_declarations.c.events), 0))
    declarations, events = (await conn.execute(counted.select_from(loss_declarations))).one()
    return Known(declarations, int(events))
