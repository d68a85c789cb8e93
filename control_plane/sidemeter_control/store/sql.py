"""Statements in the words of both databases, for those that go to the driver as they are."""

import itertools
import re

from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["ANY_OF", "Sql", "on_postgres"]

ANY_OF = "ANY (ARRAY(SELECT json_array_elements_text(?)))"
"""For PostgreSQL: what a column must equal one of, a JSON array of texts. One walk of an index for each of them."""

_PLACE = re.compile(r"\?")


def on_postgres(conn: AsyncConnection) -> bool:
    """Whether the connection is to PostgreSQL."""
    return conn.dialect.name == "postgresql"


class Sql:
    """A statement: as SQLite takes it, and `postgres` where that needs other words. Places of parameters are `?` in both.

    >>> statement = Sql("SELECT max(?, ?)", postgres="SELECT greatest(?, ?)")
    >>> statement.sqlite, statement.postgres
    ('SELECT max(?, ?)', 'SELECT greatest($1, $2)')
    """

    __slots__ = ("postgres", "sqlite")

    def __init__(self, sqlite: str, *, postgres: str | None = None) -> None:
        places = itertools.count(1)
        self.sqlite = sqlite
        self.postgres = _PLACE.sub(lambda _: f"${next(places)}", sqlite if postgres is None else postgres)

    def of(self, conn: AsyncConnection) -> str:
        """The statement for the database of that connection."""
        return self.postgres if on_postgres(conn) else self.sqlite
