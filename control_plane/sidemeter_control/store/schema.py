"""The schema's versions: which there are, and the way to the newest."""

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

__all__ = ["UNFINISHED", "newest", "revisions", "upgrade"]

UNFINISHED: Final = "unfinished move"
"""In the place of a version, while a database is being moved there: no program of any version starts on it."""

_STEP = "bringing the schema to this version"
_SORTED_OTHERWISE = """
SELECT c.relname, string_agg(format('ALTER COLUMN %I TYPE text COLLATE "C"', a.attname), ', ')
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND a.atttypid = 'text'::regtype AND a.attcollation <> '"C"'::regcollation
GROUP BY c.relname ORDER BY c.relname
"""
_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, report: Callable[[str, int, int], None] | None = None) -> None:
    """Bring the schema to the newest version, inside the transaction that is open; `report` is told of each step."""
    config = _config()
    config.attributes["connection"] = connection
    if report is not None:
        config.attributes["applied"] = _told(connection, config, report)
    command.upgrade(config, "head")
    if connection.dialect.name == "postgresql":
        _sort_by_bytes(connection)


def _told(connection: Connection, config: Config, report: Callable[[str, int, int], None]) -> Callable[..., None]:
    """What alembic calls after each step."""
    heads = MigrationContext.configure(connection).get_current_heads()
    steps = sum(1 for _ in ScriptDirectory.from_config(config).iterate_revisions("head", heads or "base"))
    done = itertools.count(1)
    report(_STEP, 0, steps)

    def applied(**_: object) -> None:
        report(_STEP, next(done), steps)

    return applied


def _sort_by_bytes(connection: Connection) -> None:
    """Let every text sort as SQLite and Python sort it, whatever the language of the database is."""
    for table, changes in connection.execute(text(_SORTED_OTHERWISE)).all():
        connection.execute(text(f'ALTER TABLE "{table}" {changes}'))


@cache
def revisions() -> frozenset[str]:
    """Every version of the schema that this program knows."""
    return frozenset(each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions())


@cache
def newest() -> str:
    """The version that `upgrade` brings a schema to."""
    (head,) = ScriptDirectory.from_config(_config()).get_heads()
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
