"""Where the rows of a table are on a Citus cluster: said of every table, beside it, in its `info`."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Table

__all__ = ["BATCHES", "SUBJECTS", "Spread", "at_home", "by", "everywhere", "spread_of"]

_INFO: Final = "spread"

SUBJECTS: Final = "subjects"
"""The group of tables whose rows of one subject, or of the customer of that key, are on one node."""
BATCHES: Final = "batches"
"""The group of what is told of agents: none of it is ever asked for together with a subject's."""


@dataclass(frozen=True, slots=True)
class Spread:
    """`by`: the column by which rows are put on shards, beside those of the same value in tables of the same `group`.

    `by` None: the table is whole, on every node (`everywhere`) or on the coordinator alone. `why`: for people.
    """

    why: str
    by: str | None = None
    group: str | None = None
    everywhere: bool = False


def by(column: str, why: str, *, group: str = SUBJECTS) -> dict[str, Spread]:
    """The `info` of a table that grows with usage or with customers: each row is on the shard of that column's value."""
    return {_INFO: Spread(why, by=column, group=group)}


def everywhere(why: str) -> dict[str, Spread]:
    """The `info` of a small table that rows of shards name, or are asked for with: all of it is on every node."""
    return {_INFO: Spread(why, everywhere=True)}


def at_home(why: str) -> dict[str, Spread]:
    """The `info` of a table that stays on the coordinator, and is never asked for together with one that does not."""
    return {_INFO: Spread(why)}


def spread_of(table: Table) -> Spread:
    """What is said of that table; KeyError where nothing is."""
    said: Spread = table.info[_INFO]
    return said
