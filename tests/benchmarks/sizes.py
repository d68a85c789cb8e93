"""`python -m tests.benchmarks.sizes`: what a million events take of a file, of PostgreSQL, and of tables with the keys of shards."""

import argparse
import asyncio
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from citus import Spread
from fakes import ManualClock
from planes import NOW_US, open_database
from postgres import Server, in_use, running

from sidemeter_control.metering.batches import NO_DIGEST, Batch
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.ingest import Hello, Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.store.database import Database

from .traffic import EVENT_TYPE, data

BATCH_EVENTS = 5_000
HOURS = 24
_HOUR_US = 3_600_000_000
_PG = (
    "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class WHERE relkind = 'r' AND relname = ANY ($1)"
)
_FILE = """
SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FILTER (WHERE coalesce(m.type, 'table') = 'table'),
    coalesce(sum(s.pgsize) FILTER (WHERE m.type = 'index'), 0)
FROM dbstat AS s LEFT JOIN sqlite_schema AS m ON m.name = s.name GROUP BY 1
"""
TABLES = ["events", "rollups", "batches"]


async def _fill(database: Database, events: int, subjects: int) -> None:
    """Batches of an agent, over a day, counted by three meters."""
    ingest = Ingest(database, ManualClock(NOW_US))
    by_model = [Dimension("model", "model")]
    for meter in (
        new_meter("calls", EVENT_TYPE, Aggregation.COUNT, now_us=0),
        new_meter("input-tokens", EVENT_TYPE, Aggregation.SUM, value_property="input_tokens", now_us=0),
        new_meter(
            "output-tokens", EVENT_TYPE, Aggregation.SUM, value_property="output_tokens", dimensions=by_model, now_us=0
        ),
    ):
        await create_meter(database, meter)
    await ingest.hello(Hello("agent-7f3a", "h1", "boot", "chat", "1"))
    digest = NO_DIGEST
    for number, rows in enumerate(_batches(events, subjects), 1):
        body = msgspec.msgpack.encode(rows)
        prev, digest = digest, hashlib.sha256(digest + body).digest()
        done = await ingest.batch(Batch("agent-7f3a", 1, number, prev, digest, body))
        assert done.recorded is not None
        assert done.recorded.accepted == len(rows)


def _batches(events: int, subjects: int) -> Iterator[list[list[object]]]:
    """With ids as agents mint them."""
    for first in range(0, events, BATCH_EVENTS):
        yield [
            [
                f"{0xB0A7_5EED_F00D_CAFE:016x}-{n}",
                "chat",
                EVENT_TYPE,
                f"customer-{n % subjects:07}",
                NOW_US - HOURS * _HOUR_US + n * HOURS * _HOUR_US // events,
                json.dumps(data(n), separators=(",", ":")),
            ]
            for n in range(first, min(first + BATCH_EVENTS, events))
        ]


async def _measure(events: int, subjects: int) -> Mapping[str, tuple[int, int]]:
    with tempfile.TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            await _fill(database, events, subjects)
            async with database.read() as conn:
                if conn.dialect.name == "sqlite":
                    found = await conn.exec_driver_sql(_FILE)
                else:
                    found = await conn.exec_driver_sql(_PG, (TABLES,))
                return {name: (int(rows), int(indexes)) for name, rows, indexes in found if name in TABLES}


def _all(events: int, subjects: int) -> Iterator[tuple[str, Mapping[str, tuple[int, int]]]]:
    yield "SQLite", asyncio.run(_measure(events, subjects))
    with running(shared_buffers="256MB", max_wal_size="4GB") as server:
        kinds: list[tuple[str, Server]] = [("PostgreSQL", server), ("with the keys of shards", Spread(server))]
        for name, each in kinds:
            with in_use(each):
                yield name, asyncio.run(_measure(events, subjects))


def main() -> None:
    """One line for each kind and table, in bytes per event."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sizes", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--subjects", type=int, default=100)
    asked = parser.parse_args()
    for kind, tables in _all(asked.events, asked.subjects):
        for name, (rows, indexes) in sorted(tables.items()):
            print(f"{kind:<24} {name:<10} {rows / asked.events:9.1f} {indexes / asked.events:9.1f} bytes per event")


if __name__ == "__main__":
    main()
