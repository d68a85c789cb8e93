"""Spreading a database over the nodes of a Citus cluster, as its tables say of themselves (`tables.spread`).

No shard sees the rows of another, so a key can hold only among rows of one value of the spreading column. There, and only
there, every key of a table is led by that column; what the key was is then an index, by which rows are found as before.
Foreign keys lead to the same shard, or to a table that is on every node.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import Connection, Table, inspect, text

from sidemeter_control.errors import DatabaseUnfit
from sidemeter_control.store.tables import metadata
from sidemeter_control.store.tables.spread import spread_of

__all__ = ["NO_CITUS", "ForeignKey", "distribute", "led"]

NO_CITUS: Final = (
    "is on a server without the extension citus: install Citus on every node, name it in shared_preload_libraries,"
    " restart, run CREATE EXTENSION citus in this database, and then this once more"
)

_STEP: Final = "spreading tables over shards"
_HAS_CITUS = text(
    "SELECT count(*) FROM pg_proc WHERE proname IN ('create_distributed_table', 'create_reference_table')"
)
_SPREAD = text(
    "SELECT relname FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid"
    " WHERE relnamespace = current_schema()::regnamespace AND (partmethod = 'h' OR repmodel = 't')"
)
# Tables that point to each other are moved in one transaction.
_ONE_AFTER_ANOTHER = text("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
_BY = text("SELECT create_distributed_table(CAST(:name AS regclass), :by, colocate_with => :beside)")
_EVERYWHERE = text("SELECT create_reference_table(CAST(:name AS regclass))")


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """The columns of a table that name a row of another, by that one's columns."""

    name: str
    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]

    def spread(self) -> Self:
        """As it is between shards: led by what both tables are spread by."""
        own, other = (spread_of(metadata.tables[each]).by for each in (self.table, self.target))
        if own is None or other is None:
            return self
        return type(self)(self.name, self.table, led(own, self.columns), self.target, led(other, self.target_columns))


def led(by: str, columns: Sequence[str]) -> tuple[str, ...]:
    """A key's columns where the table is spread.

    >>> led("subject", ["source", "id"]), led("subject", ["subject", "day_us"])
    (('subject', 'source', 'id'), ('subject', 'day_us'))
    """
    return tuple(columns) if by in columns else (by, *columns)


def distribute(connection: Connection, name: str, report: Callable[[str, int, int], None]) -> int:
    """Spread every table that is not yet, inside the open transaction; answers how many those were. Nobody else may have
    the database open. DatabaseUnfit, which calls it `name`, where the server cannot."""
    if not connection.scalar(_HAS_CITUS):
        raise DatabaseUnfit(name, NO_CITUS)
    done = set(connection.scalars(_SPREAD))
    tables = [(each, spread_of(each)) for each in metadata.sorted_tables]
    # Those that others name come first.
    waiting = [(table, on) for table, on in tables if on.everywhere and table.name not in done]
    waiting += [(table, on) for table, on in tables if on.by and table.name not in done]
    if not waiting:
        return 0
    connection.execute(_ONE_AFTER_ANOTHER)
    between = [each for each in _foreign_keys(connection) if {each.table, each.target} & {t.name for t, _ in waiting}]
    for key in between:
        connection.execute(text(f"ALTER TABLE {key.table} DROP CONSTRAINT {key.name}"))
    for place, (table, on) in enumerate(waiting):
        report(_STEP, place, len(waiting))
        if on.by is None:
            connection.execute(_EVERYWHERE, {"name": table.name})
        else:
            _lead_keys(connection, table, on.by)
            beside = next((t.name for t, other in tables if other.group == on.group and t.name in done), "none")
            connection.execute(_BY, {"name": table.name, "by": on.by, "beside": beside})
        done.add(table.name)
    _add(connection, (each.spread() for each in between))
    report(_STEP, len(waiting), len(waiting))
    return len(waiting)


def _foreign_keys(connection: Connection) -> list[ForeignKey]:
    found = inspect(connection)
    return [
        ForeignKey(
            str(key["name"]),
            table.name,
            tuple(key["constrained_columns"]),
            key["referred_table"],
            tuple(key["referred_columns"]),
        )
        for table in metadata.sorted_tables
        for key in found.get_foreign_keys(table.name)
    ]


def _add(connection: Connection, keys: Iterable[ForeignKey]) -> None:
    for key in keys:
        connection.execute(
            text(
                f"ALTER TABLE {key.table} ADD CONSTRAINT {key.name} FOREIGN KEY {_listed(key.columns)}"
                f" REFERENCES {key.target} {_listed(key.target_columns)}"
            )
        )


def _lead_keys(connection: Connection, table: Table, by: str) -> None:
    found = inspect(connection)
    primary = found.get_pk_constraint(table.name)
    keys = [("PRIMARY KEY", primary["name"], primary["constrained_columns"])]
    keys += [("UNIQUE", each["name"], each["column_names"]) for each in found.get_unique_constraints(table.name)]
    for kind, name, columns in keys:
        if by in columns:
            continue
        wanted = led(by, columns)
        new = name if kind == "PRIMARY KEY" else "_".join(("uq", table.name, *wanted))
        connection.execute(text(f"ALTER TABLE {table.name} DROP CONSTRAINT {name}"))
        connection.execute(text(f"ALTER TABLE {table.name} ADD CONSTRAINT {new} {kind} {_listed(wanted)}"))
        index = "_".join(("ix", table.name, *columns))
        connection.execute(text(f"CREATE INDEX IF NOT EXISTS {index} ON {table.name} {_listed(columns)}"))


def _listed(columns: Sequence[str]) -> str:
    return f"({', '.join(columns)})"
