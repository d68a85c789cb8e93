"""The rule of shards, of every table and every statement: what is asked for or written together is on one of them."""

import typing
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from shards import Judge, undeclared, wrong_keys
from sqlalchemy import Column, ForeignKey, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.ext.asyncio import AsyncConnection
from statements import Recorder, functions, modules, places

from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.pricing.charges.lines import Model
from sidemeter_control.pricing.closed import ClosedPeriod
from sidemeter_control.pricing.credits.grants import CreditUnit, Denomination
from sidemeter_control.pricing.credits.instants import State
from sidemeter_control.pricing.periods import Period
from sidemeter_control.store import closed_periods, events, outcomes, overrides, rollups
from sidemeter_control.store import credits as credits_
from sidemeter_control.store.sql import Sql
from sidemeter_control.store.tables import metadata
from sidemeter_control.store.tables.spread import SUBJECTS, at_home, by, everywhere

# What charges are is nothing to the store.
st.register_type_strategy(Model, st.none())

STOOD = credits_.Snapshot("terms", Decimal(1), State(at_us=1))
CLOSED = ClosedPeriod("sub", "acme", Period(0, 1), 2, 3, Decimal(1), (), {})
# What made-up arguments do not lead to: rows that have to be of what was asked for.
METER = replace(new_meter("calls", "call", Aggregation.COUNT, now_us=0), key=cast("str", 1))  # as the recorder answers
CALLS: list[Callable[[AsyncConnection], Coroutine[Any, Any, object]]] = [
    lambda conn: closed_periods.add(conn, CLOSED),
    lambda conn: closed_periods.set_billed(conn, CLOSED, {}),
    lambda conn: outcomes.renew_rules(conn, METER, 9),
    lambda conn: overrides.remove(conn, "acme", "seats", 1_000),
    lambda conn: credits_.keep_snapshot(conn, "acme", Denomination(CreditUnit.MONEY), STOOD),
]
# Modules that ask of the database itself, or copy one table as it is.
OTHERS = {f"sidemeter_control.store.{name}" for name in ("postgres", "sqlite", "target", "contents")}
COPIED = {"conn.exec_driver_sql(_COPY, rows)"}  # into one table, and only once many are there
ONLY_SQLITE = {
    "conn.exec_driver_sql(_ADD, rows)",
    "conn.exec_driver_sql(_DETACH, [(mark, seq) for seq, mark in moved])",
    "conn.execute(select(events.c.seq - first).where(events.c.seq >= first).order_by(events.c.seq))",
    "conn.exec_driver_sql(f\"SELECT {', '.join([asked] * len(intervals))}\", values)",
    "conn.exec_driver_sql(wanted.format(_OF_ALL), asked)",
    "conn.exec_driver_sql(wanted.format(_OF_SOME), (_json(theirs), *asked))",
}


def drive(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run it to its end, on a connection that never lets it wait."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def whole(answer: Any) -> None:
    if hasattr(answer, "__aiter__"):
        async for _ in answer:
            """A page of rows."""
    else:
        await answer


def call_with_anything(function: Callable[..., Any], recorders: list[Recorder]) -> None:
    kinds = {
        name: st.from_type(of)
        for name, of in typing.get_type_hints(function).items()
        if name not in {"conn", "return", "customers"}
    }

    @settings(
        max_examples=3,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.fixed_dictionaries(kinds))
    def call(arguments: dict[str, Any]) -> None:
        for recorder in recorders:
            with suppress(Exception):  # what it makes of nonsense does not matter, what it asks for does
                whole(function(recorder, **arguments)).send(None)

    call()


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.of(metadata)


def test_every_table_says_where_its_rows_are_and_keeps_keys_that_hold_there() -> None:
    assert undeclared(metadata) == []
    assert {table.name: wrong for table in metadata.sorted_tables if (wrong := wrong_keys(table))} == {}


def test_every_statement_that_a_function_of_the_store_makes_reads_and_writes_within_a_subject(judge: Judge) -> None:
    recorders = [Recorder(rows, judge.hear) for rows in (0, 1)]
    for function in functions():
        call_with_anything(function, recorders)
    for call in CALLS:
        drive(call(cast("AsyncConnection", recorders[1])))
    heard = set.union(*(each.seen for each in recorders))
    there = dict(place for module in modules() if module.__name__ not in OTHERS for place in places(module))
    assert len(there) > 200
    assert {text for place, text in there.items() if place not in heard} == ONLY_SQLITE | COPIED
    assert judge.refused == {}


def test_every_statement_that_is_written_as_text_reads_and_writes_within_a_subject(judge: Judge) -> None:
    texts = [value.postgres for module in modules() for value in vars(module).values() if isinstance(value, Sql)]
    assert len(texts) > 30
    for wanted in ("_READ", "_READ_VALUES", "_JOIN_PG", "_JOIN_VALUES", "_JOIN_HOURS_PG"):
        asked = (1, False, "all"), (8, False, "one"), (2, True, "some")
        texts += [rollups._statement_pg(getattr(rollups, wanted), *of) for of in asked]
    for text in [*texts, events._ADD_ALL]:
        judge.hear(text)
    assert judge.refused == {}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM events AS e JOIN rollups AS r ON e.id = r.dimensions",
        "SELECT * FROM events AS e JOIN rollups AS r ON e.subject = r.subject OR e.seq = 1",
        "SELECT * FROM events AS e LEFT JOIN rollups AS r ON e.subject <> r.subject",
        "SELECT * FROM events AS e, rollups AS r WHERE e.subject = $1 AND r.subject = $2",
        "SELECT * FROM events AS e JOIN batches AS b ON e.subject = b.agent_id AND e.seq = b.events",
        "SELECT * FROM events AS e JOIN agents AS a ON a.agent_id = e.source",
        "SELECT * FROM events AS e WHERE EXISTS (SELECT 1 FROM corrections AS c WHERE c.event_seq = e.seq)",
        "SELECT * FROM events AS e WHERE e.id NOT IN (SELECT id FROM outcome_mentions)",
        "SELECT (SELECT count(*) FROM events AS e WHERE e.seq > l.first_seq) FROM late_days AS l",
        "WITH a AS (SELECT seq FROM events) SELECT * FROM a JOIN corrections AS c ON c.event_seq = a.seq",
        "SELECT * FROM (SELECT source AS subject FROM events) AS a JOIN corrections AS c USING (subject)",
        "SELECT * FROM (SELECT seq FROM events UNION ALL SELECT 1) AS a JOIN corrections AS c ON c.event_seq = a.seq",
        "DELETE FROM events WHERE seq IN (SELECT event_seq FROM corrections)",
        "UPDATE events SET data = c.data FROM corrections AS c WHERE c.event_seq = events.seq",
        "INSERT INTO late_days (subject, day_us, first_seq) SELECT source, 1, seq FROM events",
        "INSERT INTO late_days (day_us, first_seq) VALUES (1, 2)",
        "INSERT INTO events (subject, source, id) VALUES ($1, $2, $3) ON CONFLICT (source, id) DO NOTHING",
        "UPDATE events SET subject = $1 WHERE subject = $2",
    ],
)
def test_a_statement_that_needs_two_shards_is_refused(judge: Judge, statement: str) -> None:
    assert Judge.of(metadata).hear(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM events AS e JOIN rollups AS r ON e.subject = r.subject AND e.id = r.dimensions",
        "SELECT * FROM events AS e, rollups AS r WHERE e.subject = $1 AND r.subject = $1",
        "SELECT * FROM budgets AS b JOIN meters AS m ON m.key = b.meter_key",
        "SELECT * FROM agents AS a JOIN agent_epochs AS e ON e.agent_id = a.agent_id",
        "SELECT * FROM events WHERE subject = ANY (ARRAY(SELECT json_array_elements_text($1)))",
        "SELECT * FROM events AS e WHERE EXISTS (SELECT 1 FROM corrections AS c WHERE c.subject = e.subject)",
        "WITH a AS (SELECT seq, subject AS s FROM events) SELECT * FROM a JOIN corrections AS c ON c.subject = a.s",
        "DELETE FROM alerts WHERE customer_key = $1 AND seq IN (SELECT seq FROM alerts WHERE customer_key = $1 LIMIT 1)",
        "INSERT INTO late_days (subject, day_us, first_seq) SELECT subject, 1, min(seq) FROM events GROUP BY 1",
    ],
)
def test_a_statement_within_a_subject_is_not(statement: str) -> None:
    assert Judge.of(metadata).hear(statement) == []


def test_a_table_that_does_not_say_where_its_rows_are_is_refused() -> None:
    made = MetaData()
    Table("silent", made, Column("subject", Text, primary_key=True))
    Table("elsewhere", made, Column("key", Text, primary_key=True), info=by("subject", "a reason"))
    Table("without_reason", made, Column("customer_key", Text, primary_key=True), info=at_home(""))
    Table("spread", made, Column("subject", Text, primary_key=True), info=by("subject", "a reason"))
    assert [each.split()[0] for each in undeclared(made)] == ["elsewhere", "silent", "without_reason"]


def test_keys_across_shards_are_refused() -> None:
    made = MetaData()

    def table(name: str, *columns: Any, info: Any) -> list[str]:
        return wrong_keys(Table(name, made, *columns, info=info))

    def column(name: str, *keys: Any) -> Column[str]:
        return Column(name, Text, *keys)

    subject = Column("subject", Text, primary_key=True)
    assert table("bare", column("subject"), info=by("subject", "x")) == ["bare has no primary key"]
    assert table("usage", subject, column("id"), info=by("subject", "x")) == []
    assert table("home", Column("id", Text, primary_key=True), info=at_home("x")) == []
    assert table("all", Column("id", Text, primary_key=True), info=everywhere("x")) == []

    def naming(name: str, target: str, info: Any) -> list[str]:
        return table(name, Column("subject", Text, primary_key=True), column("named", ForeignKey(target)), info=info)

    spread = by("subject", "x")
    assert naming("a", "all.id", spread) == naming("b", "all.id", everywhere("x")) == []
    assert naming("c", "home.id", spread) != []
    assert naming("d", "usage.subject", everywhere("x")) != []
    assert naming("e", "usage.subject", at_home("x")) != []
    assert naming("f", "all.id", at_home("x")) != []
    assert naming("g", "usage.id", by("subject", "x", group="others")) != []
    assert naming("h", "usage.id", by("subject", "x", group=SUBJECTS)) == []


def test_a_unique_key_without_the_column_is_one_that_is_led_by_it_there() -> None:
    made = MetaData()
    columns = Column("subject", Text, primary_key=True), Column("id", Text), UniqueConstraint("id", name="uq_id")
    assert wrong_keys(Table("usage", made, *columns, info=by("subject", "x"))) == []
