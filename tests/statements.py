"""Every statement of the store, in the words of PostgreSQL, without a server: each function of it is called with arguments
that are made up from its types, on a connection that notes what it is asked, and by which line."""

import ast
import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import sqlglot
from sqlalchemy import Executable, IteratorResult, Row
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import UpdateBase

from sidemeter_control import store
from sidemeter_control.store.driving import _Postgres
from sidemeter_control.store.tables import ExactDecimal

__all__ = ["Place", "Recorder", "functions", "modules", "places"]

Place: typing.TypeAlias = tuple[str, int]
"""A module's name, and the first line of what asks its connection there."""

_ASKED: Final = {"execute", "exec_driver_sql", "scalar", "stream"}


def modules() -> Iterator[ModuleType]:
    """Those of the store."""
    for each in pkgutil.iter_modules(store.__path__):
        yield importlib.import_module(f"{store.__name__}.{each.name}")


def functions() -> Iterator[Callable[..., Any]]:
    """Those of the store that are given an open transaction; those that are public, because they call the others.

    One that answers whatever kind of thing it is given is called by those that have it.
    """
    for module in modules():
        for name, found in vars(module).items():
            is_own = inspect.isfunction(found) and found.__module__ == module.__name__ and not name.startswith("_")
            if not is_own:
                continue
            hints = typing.get_type_hints(found)
            if hints.get("conn") is AsyncConnection and not any(map(_is_open, hints.values())):
                yield found


def _is_open(hint: Any) -> bool:
    return any(isinstance(each, typing.TypeVar) for each in typing.get_args(hint))


def places(module: ModuleType) -> Iterator[tuple[Place, str]]:
    """Where functions of a module ask the connection they are given, and what is written there."""
    assert module.__file__ is not None
    for each in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if (
            isinstance(each, ast.Call)
            and isinstance(each.func, ast.Attribute)
            and each.func.attr in _ASKED
            and isinstance(each.func.value, ast.Name)
            and each.func.value.id == "conn"
        ):
            yield (module.__name__, each.lineno), ast.unparse(each)


class _Answer(IteratorResult[Any]):
    """So many rows, and that as many were changed."""

    def __init__(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        super().__init__(SimpleResultMetaData(names), iter(rows))
        self.rowcount = len(rows)


class Recorder:
    """In the place of a connection. Every statement is answered by `rows` rows, of plausible values."""

    def __init__(self, rows: int, hear: Callable[[str, Sequence[Any]], object]) -> None:
        self.dialect = _Postgres()
        self.sync_connection = None
        self.seen: set[Place] = set()
        self._rows = rows
        self._hear = hear

    async def execute(self, statement: Executable, parameters: Any = None) -> _Answer:
        """See AsyncConnection."""
        self._note()
        return self._asked(statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """See AsyncConnection."""
        self._note()
        return self._asked(statement, parameters).scalar()

    @asynccontextmanager
    async def stream(self, statement: Executable) -> AsyncIterator["_Stream"]:
        """See AsyncConnection."""
        self._note(2)
        yield _Stream(self._asked(statement, None))

    async def exec_driver_sql(self, statement: str, parameters: Any = ()) -> _Answer:
        """See AsyncConnection."""
        self._note()
        self._hear(statement, parameters if isinstance(parameters, tuple) else ())
        parsed = sqlglot.parse_one(statement, dialect="postgres")
        columns = len(parsed.selects) if isinstance(parsed, sqlglot.exp.Query) else 1
        return _Answer([f"c{place}" for place in range(columns)], [(1,) * columns] * self._rows)

    def _note(self, above: int = 1) -> None:
        frame = sys._getframe(above + 1)
        while "sidemeter_control" not in frame.f_code.co_filename and frame.f_back is not None:
            frame = frame.f_back
        self.seen.add((frame.f_globals["__name__"], frame.f_lineno))

    def _asked(self, statement: Any, parameters: Any) -> _Answer:
        some: Mapping[str, Any] = (parameters[0] if isinstance(parameters, list) else parameters) or {}
        keys = list(some) if isinstance(statement, UpdateBase) and some else None
        compiled = statement.compile(
            dialect=self.dialect, column_keys=keys, compile_kwargs={"render_postcompile": True}
        )
        values = compiled.params | some
        self._hear(str(compiled), [values[name] for name in compiled.positiontup or ()])
        columns = [] if isinstance(statement, UpdateBase) else list(statement.selected_columns)
        names = [getattr(each, "name", None) or f"c{place}" for place, each in enumerate(columns)]
        return _Answer(names, [tuple(_value(each.type, place) for place, each in enumerate(columns, 1))] * self._rows)


class _Stream:
    def __init__(self, rows: _Answer) -> None:
        self._rows = rows

    async def partitions(self, size: int) -> AsyncIterator[Sequence[Row[Any]]]:
        """See AsyncResult."""
        for some in self._rows.partitions(size):
            yield some


def _value(of: Any, place: int) -> Any:
    """Something that a column of that type, at that place of a row, may hold."""
    try:
        made = of.python_type
    except (NotImplementedError, SQLAlchemyError):
        return None
    return "1" if made is str and not isinstance(of, ExactDecimal) else made(place)
