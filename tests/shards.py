"""The rule of shards, held against any statement: what is read or changed together is of one subject, and so on one node.

Each source of rows is spread by a column, everywhere, at home on the coordinator, or no table at all. Those that are spread
must be tied to each other by equality of the columns that they are spread by, also through derived tables and subqueries.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import sqlglot
from sqlalchemy import ForeignKeyConstraint, Index, MetaData, Table, UniqueConstraint
from sqlglot import exp

from sidemeter_control.store.shards import led
from sidemeter_control.store.tables.spread import Spread, spread_of

__all__ = ["Judge", "undeclared", "wrong_keys"]

OWNED: Final = {"subject", "customer_key"}
"""Columns of tables that grow with usage or customers."""

_Node: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows that a query reads: `by`, under these names, the value that says which shard they are on; None: on none of them.

    `group`: of the tables that are on shards together.
    """

    node: _Node
    by: frozenset[str] | None = None
    home: str | None = None
    group: str | None = None


@dataclass(slots=True)
class _Ties:
    """What is equal to what."""

    parents: dict[_Node, _Node] = field(default_factory=dict)

    def root(self, node: _Node) -> _Node:
        while (parent := self.parents.get(node, node)) != node:
            node = parent
        return node

    def tie(self, one: _Node, other: _Node) -> None:
        self.parents[self.root(one)] = self.root(other)


class Judge:
    """Says of statements why they are none for shards; `spread` says of tables where they are, and others are no tables."""

    def __init__(self, spread: Mapping[str, Spread]) -> None:
        self._spread = spread
        self._known: dict[str, list[str]] = {}
        self.refused: dict[str, list[str]] = {}

    @classmethod
    def of(cls, metadata: MetaData) -> "Judge":
        """By what the tables say of themselves."""
        said = {table.name: spread_of(table) for table in metadata.sorted_tables}
        return cls({name: each for name, each in said.items() if not each.everywhere})

    def hear(self, statement: str, parameters: Sequence[Any] = (), dialect: str = "postgres") -> list[str]:
        """Why the statement is none for shards; each is looked at once, and remembered in `refused` if so."""
        if statement not in self._known:
            found = self._known[statement] = _Statement(self._spread, parameters).judged(
                sqlglot.parse_one(statement, dialect=dialect)
            )
            if found:
                self.refused[statement] = found
        return self._known[statement]


class _Statement:
    def __init__(self, spread: Mapping[str, Spread], parameters: Sequence[Any]) -> None:
        self._spread = spread
        self._parameters = parameters
        self._ties = _Ties()
        self._numbers = itertools.count()
        self._found: list[str] = []

    def judged(self, statement: exp.Expression) -> list[str]:
        if isinstance(statement, exp.Insert):
            self._insert(statement)
        elif isinstance(statement, exp.Update | exp.Delete):
            self._query(statement, {}, {})
            self._unmoved(statement.this.name, statement.expressions if isinstance(statement, exp.Update) else ())
        elif isinstance(statement, exp.Query):
            self._derived(statement, {}, {})
        return self._found

    def _insert(self, statement: exp.Insert) -> None:
        into = statement.this
        columns = [each.name for each in into.expressions] if isinstance(into, exp.Schema) else []
        name = into.find(exp.Table).name
        by = self._by(name)
        read = statement.expression
        source = self._derived(read, {}, {}) if isinstance(read, exp.Query) else None
        if by is None:
            return
        if by not in columns:
            self._found.append(f"{name} is given no {by}")
        elif source is not None and source.by is not None:
            given = read.selects[columns.index(by)].alias_or_name
            if given not in source.by:
                self._found.append(f"{name} is filled from other shards than its own")
        conflict = statement.args.get("conflict")
        if conflict is not None:
            self._unmoved(name, conflict.expressions)
            keys = [each.name for each in conflict.args.get("conflict_keys") or ()]
            if keys and by not in keys:
                self._found.append(f"{name} cannot have a key without {by}")

    def _by(self, name: str) -> str | None:
        return self._spread[name].by if name in self._spread else None

    def _unmoved(self, name: str, changes: Sequence[exp.Expression]) -> None:
        by = self._by(name)
        if by is not None and by in {each.this.name for each in changes if isinstance(each, exp.EQ)}:
            self._found.append(f"{name} cannot be moved to another shard: {by} is set")

    def _derived(self, query: exp.Expression, known: dict[str, _Source], outer: dict[str, _Source]) -> _Source:
        """What a subquery, or a whole one, gives to whom reads it."""
        if isinstance(query, exp.Subquery):
            return self._derived(query.this, known, outer)
        known = dict(known)
        for each in query.ctes if isinstance(query, exp.Query) else ():
            known[each.alias] = self._derived(each.this, known, outer)
        if isinstance(query, exp.SetOperation):
            sides = [self._derived(side, known, outer) for side in (query.left, query.right)]
            carried = [side.by for side in sides if side.by is not None]
            both = frozenset.intersection(*carried) if len(carried) == len(sides) else frozenset[str]()
            return self._made(both if carried else None, sides)
        return self._query(query, known, outer)

    def _made(self, by: frozenset[str] | None, of: Sequence[_Source]) -> _Source:
        """Rows that are made of others."""
        home = next((each.home for each in of if each.home), None)
        group = next((each.group for each in of if each.group), None)
        return _Source(("derived", next(self._numbers)), by, home, group)

    def _query(self, query: exp.Expression, known: dict[str, _Source], outer: dict[str, _Source]) -> _Source:
        sources: dict[str, _Source] = {}
        conditions = []
        for source, on, using in _sources(query):
            name = source.alias_or_name
            sources[name] = self._source(source, known, outer)
            conditions += list(_conjuncts(on))
            for column in using:
                self._tie_all([each for each in sources.values() if each.by and column in each.by])
        where = query.args.get("where")
        conditions += list(_conjuncts(where and where.this))
        for each in conditions:
            self._tie(each, sources, outer)
        inner = [self._derived(each, known, outer | sources) for each in _nested(query)]
        self._judge([*sources.values(), *inner], query)
        made = self._made(self._given(query, sources), list(sources.values()))
        # Its rows are where those are that it reads.
        node = next((each.node for each in (*sources.values(), *inner) if each.by is not None), made.node)
        return replace(made, node=node)

    def _source(self, source: exp.Expression, known: dict[str, _Source], outer: dict[str, _Source]) -> _Source:
        if isinstance(source, exp.Subquery):
            return self._derived(source, known, outer)
        if not isinstance(source, exp.Table) or not isinstance(source.this, exp.Identifier):
            return self._made(None, ())
        if source.name in known:
            return self._made(known[source.name].by, [known[source.name]])
        if source.name not in self._spread:
            return self._made(None, ())
        on = self._spread[source.name]
        node = ("table", next(self._numbers))
        return _Source(node, home=source.name) if on.by is None else _Source(node, frozenset({on.by}), group=on.group)

    def _tie_all(self, sources: Sequence[_Source]) -> None:
        for one, other in itertools.pairwise(sources):
            self._ties.tie(one.node, other.node)

    def _tie(self, condition: exp.Expression, sources: dict[str, _Source], outer: dict[str, _Source]) -> None:
        if not isinstance(condition, exp.EQ):
            return
        nodes = [self._node(side, sources, outer) for side in (condition.left, condition.right)]
        if None not in nodes:
            self._ties.tie(*nodes)  # type: ignore[arg-type]

    def _node(self, side: exp.Expression, sources: dict[str, _Source], outer: dict[str, _Source]) -> _Node | None:
        """What that side of an equality stands for: rows of a shard, a value, or nothing that says where rows are."""
        while isinstance(side, exp.Cast | exp.Paren):
            side = side.this
        if isinstance(side, exp.Column):
            visible = outer | sources
            source = visible.get(side.table) if side.table else next(iter(sources.values()), None)
            return source.node if source is not None and source.by and side.name in source.by else None
        if isinstance(side, exp.Parameter | exp.Literal):
            text = side.sql("postgres")
            number = text.removeprefix("$")
            known = isinstance(side, exp.Parameter) and number.isdigit() and int(number) <= len(self._parameters)
            return ("value", self._parameters[int(number) - 1] if known else text)
        return None

    def _judge(self, read: Sequence[_Source], query: exp.Expression) -> None:
        spread = [each for each in read if each.by is not None]
        if len({(self._ties.root(each.node), each.group) for each in spread}) > 1:
            self._found.append(f"joined across shards: {query.sql('postgres')}")
        if spread and (home := next((each.home for each in read if each.home), None)):
            self._found.append(f"{home} is on the coordinator alone: {query.sql('postgres')}")

    def _given(self, query: exp.Expression, sources: dict[str, _Source]) -> frozenset[str] | None:
        """Under which names a query gives what its rows are spread by; None: they are not."""
        if not any(each.by is not None for each in sources.values()):
            return None
        carried = set()
        for column in query.selects if isinstance(query, exp.Select) else ():
            if isinstance(column, exp.Star):
                carried |= {name for each in sources.values() for name in each.by or ()}
            of = column.this if isinstance(column, exp.Alias) else column
            if isinstance(of, exp.Column) and self._node(of, sources, {}) is not None:
                carried.add(column.alias_or_name)
        return frozenset(carried)


def _sources(query: exp.Expression) -> Iterator[tuple[exp.Expression, exp.Expression | None, Sequence[str]]]:
    """Each source of a query, with the condition that it is joined on, and the columns that are equal by its being joined."""
    if isinstance(query, exp.Update | exp.Delete):
        yield query.this, None, ()
    start = query.args.get("from_") or query.args.get("from")
    if start is not None:
        yield start.this, None, ()
        yield from ((join.this, join.args.get("on"), _using(join)) for join in start.this.args.get("joins") or ())
    for join in query.args.get("joins") or ():
        yield join.this, join.args.get("on"), _using(join)


def _using(join: exp.Expression) -> Sequence[str]:
    return [each.name for each in join.args.get("using") or ()]


def _conjuncts(condition: exp.Expression | None) -> Iterator[exp.Expression]:
    """What all has to hold: not what is one of several alternatives."""
    if isinstance(condition, exp.Paren):
        yield from _conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from _conjuncts(condition.left)
        yield from _conjuncts(condition.right)
    elif condition is not None:
        yield condition


def _nested(query: exp.Expression) -> Iterator[exp.Expression]:
    """The queries in conditions and columns, those in them left out; sources are seen to elsewhere."""
    beside = {id(source) for source, _, _ in _sources(query)}
    waiting = [
        each
        for name, value in query.args.items()
        if name not in {"with", "with_", "this"} or isinstance(query, exp.Update)
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, exp.Expression)
    ]
    while waiting:
        each = waiting.pop()
        if id(each) in beside:
            continue
        if isinstance(each, exp.Query) and not isinstance(each, exp.Table):
            yield each
        else:
            waiting += list(each.iter_expressions())


def wrong_keys(table: Table) -> list[str]:
    """Which keys of a table cannot hold where it is spread, led as they are there."""
    on = spread_of(table)
    uniques = [(each.name, [c.name for c in each.columns]) for each in _unique(table)]
    found = [f"{name} is not led by {on.by}" for name, columns in uniques if on.by and on.by not in led(on.by, columns)]
    if on.by and not table.primary_key.columns:
        found.append(f"{table.name} has no primary key")
    for key in table.constraints:
        if isinstance(key, ForeignKeyConstraint):
            found += _wrong_foreign_key(table, key)
    return found


def _unique(table: Table) -> list[UniqueConstraint | Index]:
    return [each for each in (*table.constraints, *table.indexes) if isinstance(each, UniqueConstraint)] + [
        each for each in table.indexes if each.unique
    ]


def _wrong_foreign_key(table: Table, key: ForeignKeyConstraint) -> list[str]:
    own, other = spread_of(table), spread_of(key.referred_table)
    if other.everywhere and (own.by or own.everywhere):
        return []
    if own.by is None and other.by is None and own.everywhere == other.everywhere:
        return []
    if own.by and other.by and own.group == other.group:
        pairs = {(each.parent.name, each.column.name) for each in key.elements}
        names = {column for column, _ in pairs}
        if own.by not in names or (own.by, other.by) in pairs:
            return []
    return [f"{key.name} leads to another node"]


def undeclared(metadata: MetaData) -> list[str]:
    """Which tables say nothing of where they are, or have a column that they are not spread by and no reason for it."""
    found = []
    for table in metadata.sorted_tables:
        try:
            on = spread_of(table)
        except KeyError:
            found.append(f"{table.name} does not say where its rows are")
            continue
        owned = OWNED & {column.name for column in table.c}
        if (owned and on.by is None and not on.why) or (on.by is not None and on.by not in table.c):
            found.append(f"{table.name} is not spread by {', '.join(sorted(owned)) or on.by}")
    return found
