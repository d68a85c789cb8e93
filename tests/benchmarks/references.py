"""What the figures are compared with: the same kind of work, done with nothing of ours, in the same run."""

import asyncio
import re
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import strawberry
from processes import Program
from prometheus_client import CollectorRegistry, Counter
from strawberry.asgi import GraphQL
from strawberry.extensions import ParserCache, ValidationCache

from .harness import Bench, Benchmark, Figure, latency, rate, resident_mb, timed
from .load import Load, load, post
from .postgres_copy import postgres_copy

__all__ = ["REFERENCES", "graphql_field", "raw_asgi"]

CALLS = 100_000
CONNECTIONS = 64
STARTS = 5
SERVING = re.compile(r"running on (?:unix socket (\S+)|http://127\.0\.0\.1:(\d+))")
DATA = '{"model":"small","input_tokens":812,"output_tokens":90}'
NAMES = ("chat", "llm.completion", "customer-17", 1_700_000_000_000_000)

Row = tuple[object, ...]
Message = MutableMapping[str, Any]


async def sqlite_blobs(bench: Bench) -> list[Figure]:
    """What the agent's buffer writes, without the rest of the agent."""
    body = msgpack.packb(["5f0e8f9a2b7c4d10-0000000001", *NAMES, DATA])
    samples = _transactions(bench, "seq INTEGER PRIMARY KEY, body BLOB", "(NULL, ?)", 1_000, lambda _: (body,))
    return [rate("SQLite, rows of one blob, 1,000 a FULL transaction", 1_000 * len(samples), sum(samples))]


async def sqlite_keys(bench: Bench) -> list[Figure]:
    """What the control plane's events need at the least: the id of each is looked for before it is inserted."""

    def row(n: int) -> Row:
        return (f"5f0e8f9a2b7c4d10-{n:010d}", *NAMES, DATA)

    columns = "id TEXT, source TEXT, type TEXT, subject TEXT, time INTEGER, data TEXT, UNIQUE (source, id)"
    samples = _transactions(bench, columns, "(?, ?, ?, ?, ?, ?)", 5_000, row)
    return [rate("SQLite, rows with a unique text key, 5,000 a FULL transaction", 5_000 * len(samples), sum(samples))]


async def sqlite_commit(bench: Bench) -> list[Figure]:
    samples = _transactions(bench, "seq INTEGER PRIMARY KEY, body BLOB", "(NULL, ?)", 1, lambda _: (b"event",))
    return [latency("SQLite, one FULL commit", samples, "ms")]


def _transactions(bench: Bench, columns: str, values: str, size: int, row: Callable[[int], Row]) -> list[float]:
    """Seconds of each transaction of `size` rows, without the time it takes to make the rows."""
    samples: list[float] = []
    with closing(sqlite3.connect(bench.directory / "reference.db", isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t ({columns})")
        with timed() as elapsed:
            while elapsed() < bench.seconds:
                done = size * len(samples)
                rows = [row(n) for n in range(done, done + size)]
                with timed() as took:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(f"INSERT INTO t VALUES {values}", rows)
                    connection.execute("COMMIT")
                samples.append(took())
        stored = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    bench.prove("rows stored", found=stored, expected=size * len(samples))
    return samples


async def msgpack_pack(bench: Bench) -> list[Figure]:
    packer, packed = msgpack.Packer(), []
    event = ["5f0e8f9a2b7c4d10-0000000001", *NAMES, DATA]
    figure = _calls("msgpack, pack one event", lambda: packed.append(packer.pack(event)))
    bench.prove("events packed", found=(len(packed), msgpack.unpackb(packed[-1])), expected=(CALLS, event))
    return [figure]


async def prometheus_inc(bench: Bench) -> list[Figure]:
    """What a service pays for a count that is lost with its process."""
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", ["customer", "model"], registry=registry)
    figure = _calls("prometheus_client, labels().inc()", lambda: counter.labels("customer-17", "small").inc())
    counted = registry.get_sample_value("calls_total", {"customer": "customer-17", "model": "small"})
    bench.prove("calls counted", found=counted, expected=CALLS)
    return [figure]


def _calls(name: str, call: Callable[[], object]) -> Figure:
    samples = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        samples.append(time.perf_counter() - began)
    return latency(name, samples, "µs")


async def raw_asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Reads the body and answers "ok"."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@strawberry.type
class _Query:
    @strawberry.field
    def answer(self) -> str:
        return "ok"


graphql_field = GraphQL[None, None](strawberry.Schema(_Query, extensions=[ParserCache, ValidationCache]))


async def asgi_requests(bench: Bench) -> list[Figure]:
    door = f"--uds={bench.directory / 'asgi.sock'}"
    came = await _served(bench, "raw_asgi", door, post("/", DATA), expect=b"ok")
    return [rate("uvicorn, raw ASGI, Unix socket", came.answers, came.seconds, "requests/s")]


async def asgi_one(bench: Bench) -> list[Figure]:
    door = f"--uds={bench.directory / 'asgi.sock'}"
    came = await _served(bench, "raw_asgi", door, post("/", DATA), expect=b"ok", connections=1)
    return [latency("uvicorn, raw ASGI, Unix socket, one connection", came.samples_s, "µs")]


async def strawberry_requests(bench: Bench) -> list[Figure]:
    came = await _served(bench, "graphql_field", "--port=0", post("/", {"query": "{ answer }"}), expect=b'"ok"')
    return [rate("strawberry with its caches, one field", came.answers, came.seconds, "requests/s")]


async def _served(
    bench: Bench, app: str, door: str, request: bytes, *, expect: bytes, connections: int = CONNECTIONS
) -> Load:
    command = ["-m", "uvicorn", f"{__package__}.references:{app}", door, "--lifespan=off", "--no-access-log"]
    with Program(command, bench.directory / "uvicorn.log") as server:
        server.spawn()
        path, port = (await server.says(SERVING)).groups()
        address = Path(path) if path else ("127.0.0.1", int(port))
        came = await load(address, request, expect=expect, connections=connections, seconds=bench.seconds)
    bench.prove("answers", found=came.answers > 0, expected=True)
    return came


async def python_start(bench: Bench) -> list[Figure]:
    samples = []
    for _ in range(STARTS):
        with timed() as took:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
            bench.prove("exit code", found=await process.wait(), expected=0)
        samples.append(took())
    return [latency("python -c pass", samples, "s")]


async def python_memory(bench: Bench) -> list[Figure]:
    """An interpreter that has imported nothing but asyncio, which every asynchronous service has."""
    code = "import asyncio; print('ready', flush=True); input()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    said, resident = await process.stdout.readline(), await resident_mb(process.pid)
    await process.communicate(b"\n")
    bench.prove("what it said", found=said, expected=b"ready\n")
    return [Figure(name="python with asyncio", value=resident, unit="MB")]


REFERENCES: dict[str, Benchmark] = {
    "asgi": asgi_requests,
    "asgi-one": asgi_one,
    "commit": sqlite_commit,
    "msgpack": msgpack_pack,
    "postgres-copy": postgres_copy,
    "prometheus": prometheus_inc,
    "python": python_start,
    "python-memory": python_memory,
    "sqlite-blobs": sqlite_blobs,
    "sqlite-keys": sqlite_keys,
    "strawberry": strawberry_requests,
}
