"""Statements in the words of both databases, for those that go to the driver as they are."""

import itertools
import re
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["ANY_OF", "Sql", "keeper", "on_postgres", "with_nul", "without_nul"]

ANY_OF = "ANY (ARRAY(SELECT json_array_elements_text(?)))"
"""For PostgreSQL: what a column must equal one of, a JSON array of texts. One walk of an index for each of them."""

_PLACE = re.compile(r"\?")


def on_postgres(conn: AsyncConnection) -> bool:
    """Whether the connection is to PostgreSQL."""
    return conn.dialect.name == "postgresql"


def keeper(conn: AsyncConnection) -> Callable[[str], str]:
    """What makes of any text of an event one that the database can hold: PostgreSQL's have no NUL."""
    return without_nul if on_postgres(conn) else str


def without_nul(text: str) -> str:
    """Another text for each, without NUL; nearly all stay as they are.

    >>> without_nul("a\\0b"), with_nul(without_nul("a\\0b")) == "a\\0b"
    ('a\\x1a0b', True)
    """
    return text.replace("\x1a", "\x1a1").replace("\0", "\x1a0")


def with_nul(text: str) -> str:
    """The text that `without_nul` was given."""
    return text.replace("\x1a0", "\0").replace("\x1a1", "\x1a")


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
