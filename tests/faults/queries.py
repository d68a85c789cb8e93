"""GraphQL requests made to take a control plane's time or memory: each is refused before any of it runs, or is small after all.

`python -m tests.faults.queries` sends each to a new control plane, `--runs` times, and prints how long its answers took, and
for how long the control plane was at work for it, which is the same on a busy machine.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from graphql import get_introspection_query
from processes import ControlPlane, control_plane
from rich.console import Console
from rich.table import Table

from sidemeter_control.api.bounds import MAX_BODY_BYTES, MAX_QUERY_CHARS, MAX_REPEATS, MAX_SPREADS, MAX_VALUES

__all__ = ["Query", "Said", "queries", "send"]

SLACK_BYTES: Final = 40
TYPENAME: Final = "{ __typename }"
INGEST: Final = "mutation($e: [EventInput!]!) { ingest(events: $e) { accepted } }"
USAGE: Final = (
    'query($g: [String!], $f: DateTime = "2026-01-01T00:00:00Z")'
    ' { usage(meter: "m", from: $f, to: "2026-02-01T00:00:00Z", groupBy: $g) { value } }'
)
PREVIEW: Final = 'query($c: ChargeInput!) { previewPrice(charge: $c, currency: "EUR", usage: []) { total { amount } } }'
PAGES: Final = (
    "customers(first: 200) { edges { node { cost { lines { explain(first: 200) { edges { node { id } } } } } } } }"
)


@dataclass(frozen=True, slots=True)
class Query:
    """What to send. `runs`: it is small after all, and executed; of all others nothing may run."""

    name: str
    body: bytes
    runs: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What came back. `ran`: some of it was executed, so that there is data or an error with a path; `code`: of its error."""

    status: int
    size: int
    ran: bool
    code: str


async def send(http: httpx.AsyncClient, url: str, query: Query) -> Said:
    """Ask it; the answer has to be one of GraphQL, or a problem."""
    answer = await http.post(url, content=query.body, headers={"Content-Type": "application/json"})
    body = answer.json()
    if answer.status_code != 200:
        return Said(answer.status_code, len(answer.content), ran=False, code=body["code"])
    errors = body.get("errors", [])
    ran = body["data"] is not None or any("path" in each for each in errors)
    return Said(200, len(answer.content), ran, errors[0]["extensions"]["code"] if errors else "")


def queries() -> Iterator[Query]:
    """Every request of the corpus, none larger than a body may be, but for the last."""
    yield from _shapes()
    yield from _fragments()
    yield from _texts()
    yield from _values()
    yield from _requests()


def _asked(name: str, text: str, *, runs: bool = False, **more: Any) -> Query:
    return Query(name, json.dumps({"query": text} | more).encode(), runs)


def _filled(before: str, each: str, after: str, size: int = MAX_BODY_BYTES) -> str:
    """As many of the same between two texts as there is room for."""
    return before + each * ((size - len(before) - len(after) - SLACK_BYTES) // len(each)) + after


def _each(of: str, count: int) -> str:
    """A text so many times, `@` a number in it and `&` the next."""
    return " ".join(of.replace("@", str(n)).replace("&", str(n + 1)) for n in range(count))


def _shapes() -> Iterator[Query]:
    """Deep, wide, and of what every schema has."""
    for levels in (13, 190, 30_000):
        yield _asked(f"{levels} levels deep", "{ meters " * levels + "{ key }" + "}" * levels)
    yield _asked("levels that never end", _filled("", "{a", ""))
    yield _asked("lists in lists for an argument", "{ meter(key: " + "[" * 900 + "]" * 900 + ") { key } }")
    yield _asked("objects in objects for an argument", "{ meter(key: " + "{a:" * 490 + "1" + "}" * 490 + ") { key } }")
    yield _asked("a type of lists of lists", "query($a: " + "[" * 900 + "Int" + "]" * 900 + ") { __typename }")
    yield _asked("inline fragments 600 deep", "{" + "...{" * 600 + "__typename" + "}" * 600 + "}")
    yield _asked("31 aliases", "{" + _each("a@: meters { key }", 31) + "}")
    yield _asked("as many aliases as tokens", "{" + _each("a@:__typename", 660) + "}")
    yield _asked("a body full of aliases", _filled("{", "a:__typename ", "}"))
    yield _asked("a field as often as tokens", "{" + " meters{key}" * 490 + "}")
    yield _asked("a field as often as it may be", "{" + " meters{groupBy{key}}" * (MAX_REPEATS + 1) + "}", runs=True)
    yield _asked("fields that conflict", "{" + ' meter(key:"a"){key} meter(key:"b"){key}' * 110 + "}")
    yield _asked("conflicts in conflicts", "{" + "meters{groupBy{key}} meters{groupBy{key:property}}" * 110 + "}")
    wide = " meters { groupBy { key" + " property" * (MAX_REPEATS // 2) + " } }"
    yield _asked("as many conflicts as may be", "{" + wide + " meters { groupBy { property: key } }" * 9 + "}")
    yield _asked("__typename as often as tokens", "{" + " __typename" * 1_900 + "}")
    yield _asked("a body full of __typename", _filled("{", " __typename", "}"))
    yield _asked("introspection, as tools ask for it", get_introspection_query(), runs=True)
    three = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }"
    yield _asked("fields of fields of fields", three)
    two = "{ __schema { types { fields { type { fields { name } } } } } }"
    yield _asked("fields of fields of every type", two, runs=True)
    yield _asked("500 levels of types", "{ __schema { types { " + "ofType { " * 490 + "name" + " }" * 490 + " } } }")
    yield _asked("the schema 30 times", "{" + _each("s@:__schema{types{name fields{name}}}", 30) + "}")
    yield _asked("fields 300 times", "{ __schema { types { " + _each("f@: fields { name }", 300) + " } } }")
    yield _asked("pages of pages", f"{{ {PAGES} }}")
    variable = PAGES.replace("(first: 200)", "(first: $n)")
    yield _asked("pages by a variable", f"query($n: Int) {{ {variable} }}", variables={"n": 200})
    yield _asked("a page of all", "{ customers(first: 2147483647) { edges { node { key } } } }", runs=True)
    forecasts = "{ customers(first: 200) { edges { node { forecast { customer { key } } } } } }"
    yield _asked("every customer's forecast", forecasts)


def _fragments() -> Iterator[Query]:
    """What is written once and meant many times."""
    yield _asked("a fragment of itself", "{ meters { ...a } } fragment a on Meter { ...a }")
    circle = _each("fragment f@ on Meter { ...f& }", 45)
    yield _asked("a circle of fragments", "{ meters { ...f0 } } " + circle + " fragment f45 on Meter { ...f0 }")
    yield _asked(
        "a circle of as many as tokens", "{ meters { ...f0 } } " + _each("fragment f@ on Meter { ...f& }", 240)
    )
    every = _each("fragment f@ on Meter { " + " ".join(f"...f{m}" for m in range(24)) + " }", 24)
    yield _asked("fragments that all spread all", "{ meters { ...f0 } } " + every)
    last = " fragment f20 on Meter { a: name }"
    doubling = _each("fragment f@ on Meter { ...f& ...f& }", 20)
    yield _asked("fragments that double 20 times", "{ meters { ...f0 } } " + doubling + last)
    doubling = _each("fragment f@ on Meter { ...f& ...f& }", 150).replace("f150", "f20")
    yield _asked("fragments that double 150 times", "{ meters { ...f0 } } " + doubling + last)
    yield _asked("a body full of spreads", _filled("{ meters {", "...a ", "} } fragment a on Meter { key }"))
    pairs = _each("fragment f@ on Meter { x: groupBy { key } }", 110)
    yield _asked("fragments to compare in pairs", "{ meters {" + _each("...f@", 110) + "} } " + pairs)
    spread = _each("...f@", MAX_SPREADS - 5)
    one = _each("fragment f@ on Meter { groupBy { key property } unit name key }", MAX_SPREADS - 5)
    yield _asked("as many spreads as may be", "{ meters {" + spread + "} } " + one, runs=True)
    yield _asked("fragments nobody spreads", "{ __typename } " + _each("fragment f@ on Meter { key }", 240))


def _texts() -> Iterator[Query]:
    """Long tokens, and what is no text."""
    long = MAX_QUERY_CHARS
    for name, before, each, after in (
        ("a name", "{ ", "a", " }"),
        ("a string", '{ meter(key: "', "x", '") { key } }'),
        ("a block string", '{ meter(key: """', "\n x", '""") { key } }'),
        ("a string never closed", '{ meter(key: "', "x", ""),
        ("escapes", '{ meter(key: "', "\\u0061", '") { key } }'),
        ("a comment", "#", "x", "\n{ __typename }"),
        ("commas", "{ __typename", ",", "}"),
        ("line ends", "{ __typename", "\n", "}"),
        ("an integer", "{ customers(first: ", "9", ") { edges { cursor } } }"),
        ("a fraction", "{ customers(first: 0.", "9", ") { edges { cursor } } }"),
        ("an exponent", "{ customers(first: 1e", "9", ") { edges { cursor } } }"),
        ("a number in JSON", "mutation { ingest(events: [{data: {a: ", "9", "}}]) { accepted } }"),
        ("a default value", "query($a: JSON = ", "9", ") { __typename }"),
    ):
        runs = name in {"a string", "a block string", "escapes", "a comment", "commas", "line ends"}
        yield _asked(f"{name}, without end", _filled(before, each, after, MAX_BODY_BYTES // 2))
        yield _asked(f"{name}, as long as may be", _filled(before, each, after, long), runs=runs)
    yield _asked("half a character, escaped", '{ meter(key: "\\uD800") { key } }')
    yield _asked("characters beyond the plane", '{ meter(key: "' + "\U0001f4a3" * 50_000 + '") { key } }', runs=True)
    yield _asked("text from right to left", '{ meter(key: "\u202e\u2066\u0000abc") { key } }', runs=True)
    yield _asked("letters from elsewhere", "{ m\u0435ters { key } }")
    yield _asked("marks of an order of bytes", "\ufeff{ __typename }" + "\ufeff" * 60_000, runs=True)
    yield Query("half a character, in JSON", b'{"query": "{ \\ud800 }"}')
    yield Query("bytes that are no text", b'{"query": "{ \xff\xfe }"}')
    yield _asked("a directive as often as tokens", "{ __typename " + "@include(if: true) " * 280 + "}")
    yield _asked("unknown directives", "{ __typename " + "@a " * 990 + "}")
    yield _asked("directives on a query", "query " + "@skip(if: true) " * 280 + TYPENAME)


def _values() -> Iterator[Query]:
    """Little text, and much to put in."""
    deep = b"[" * 500_000 + b"]" * 500_000
    yield Query("values in values without end", b'{"query": "{ __typename }", "variables": {"a": ' + deep + b"}}")
    lists = json.loads("[" * 500 + "]" * 500)
    yield _asked("lists in lists for events", INGEST, variables={"e": lists})
    yield _asked("nulls for events", INGEST, variables={"e": [None] * 100_000})
    yield _asked("as many nulls as may be", INGEST, variables={"e": [None] * (MAX_VALUES - 1)})
    yield _asked("as many empty events as may be", INGEST, variables={"e": [{}] * (MAX_VALUES - 1)})
    yield _asked("unknown fields", INGEST, variables={"e": [{f"f{n}": 0 for n in range(60_000)}]})
    yield _asked("as many unknown fields as may be", INGEST, variables={"e": [{f"f{n}": 0 for n in range(1_000)}] * 12})
    yield _asked("variables nobody named", TYPENAME, variables={f"v{n}": n for n in range(50_000)})
    yield _asked("as many variables as tokens", f"query({_each('$v@: Int', 480)}) {TYPENAME}")
    yield _asked("a variable 480 times", f"query({'$a: Int ' * 480}) {TYPENAME}")
    yield _asked("groups", USAGE, variables={"g": ["model"] * 80_000})
    yield _asked("as many groups as may be", USAGE, runs=True, variables={"g": ["model"] * (MAX_VALUES - 1)})
    digits = b"9" * 400_000
    first = b'{"query": "query($n: Int) { customers(first: $n) { edges { cursor } } }", "variables": {"n": '
    yield Query("a number of 400,000 digits", first + digits + b"}}")
    yield Query("a number of 4,000 digits", first + digits[:4_000] + b"}}")
    yield Query("a fraction of 400,000 digits", first + b"0." + digits + b"}}")
    yield Query("an exponent of nine digits", first + b"1e999999999}}")
    charge = {"key": "a", "name": "a", "model": "FLAT", "amount": "9" * 900_000}
    yield _asked("a decimal of 900,000 digits", PREVIEW, variables={"c": charge})
    yield _asked("a decimal with an exponent", PREVIEW, variables={"c": charge | {"amount": "1e999999999"}})
    yield _asked("a date of 900,000 digits", USAGE, variables={"f": "2" * 900_000})


def _requests() -> Iterator[Query]:
    """What is more than one request, or none."""
    yield Query("a batch of requests", json.dumps([{"query": TYPENAME}] * 1_000).encode())
    yield Query("a batch in a batch", b"[" * 1_000 + json.dumps({"query": TYPENAME}).encode() + b"]" * 1_000)
    yield _asked("280 operations, none named", _each("query q@ { __typename }", 280))
    yield _asked("280 operations, one named", _each("query q@ { __typename }", 280), operationName="q7")
    yield _asked("operations of one name", "query a { __typename } " * 280, operationName="a")
    yield _asked("an operation's name without end", TYPENAME, operationName="x" * 900_000)
    yield _asked("220 mutations in one", "mutation {" + _each('a@: removeBudget(key: "x")', 220) + "}")
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": "a" * 900_000}}
    yield _asked("a hash without end", TYPENAME, extensions=extensions)
    yield _asked("a definition of types", "type Query { a: Int } " * 280)
    yield _asked("no query at all", "")
    yield Query("a key twice", b'{"query": "{ nope }", "query": "{ __typename }"}', runs=True)
    yield Query("a body of nothing", b" " * MAX_BODY_BYTES)
    yield Query("one byte too many", b'{"query": "{ __typename }"}'.ljust(MAX_BODY_BYTES + 1))


@dataclass(slots=True)
class _Row:
    said: Said
    took_ms: list[float]
    worked_ms: list[float]


def _worked_ms(plane: ControlPlane) -> float:
    """For how long the process has been at work, all its threads together."""
    assert plane.process
    threads = Path(f"/proc/{plane.process.pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e6


async def _measured(runs: int) -> dict[str, _Row]:
    """Every query once to each of so many new control planes, so that none is remembered."""
    rows: dict[str, _Row] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="queries-") as directory:
            async with control_plane(Path(directory)) as plane:
                for each in queries():
                    worked, began = _worked_ms(plane), time.perf_counter()
                    said = await send(plane.http, f"{plane.url}/graphql", each)
                    row = rows.setdefault(each.name, _Row(said, [], []))
                    row.took_ms.append((time.perf_counter() - began) * 1e3)
                    row.worked_ms.append(_worked_ms(plane) - worked)
    return rows


def main() -> int:
    """Measure, print, the slowest first."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.queries", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    rows = asyncio.run(_measured(parser.parse_args().runs))
    table = Table("query", "answer", "bytes", "ms, best", "ms, worst", "at work, ms, best", "at work, ms, worst")
    for name, row in sorted(rows.items(), key=lambda each: -min(each[1].worked_ms)):
        figures = [f"{of(each):.1f}" for each in (row.took_ms, row.worked_ms) for of in (min, max)]
        table.add_row(name, f"{row.said.status} {row.said.code or 'data'}", f"{row.said.size:,}", *figures)
    Console(width=150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
