"""A PostgreSQL server that keeps what it commits, and the fastest way to count events once on it with nothing of ours."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg
from postgres import Server, running

from .harness import Bench, Figure, rate, timed
from .traffic import EVENT_TYPE, data, tokens

__all__ = ["BATCH_EVENTS", "SUBJECTS", "durable_server", "postgres_copy"]

_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "wal_level": "replica", "autovacuum": "on"}
"""All else is as it comes: every commit is on the disk, with the log of whole pages, before it is answered."""

BATCH_EVENTS, SUBJECTS = 5_000, 100
HOUR_US = 3_600_000_000

_TABLES = """
CREATE TABLE events (id text, source text, type text, subject text, time_us bigint, data text, UNIQUE (source, id));
CREATE TABLE rollups (
    subject text, meter text, hour bigint, model text, events bigint, sum numeric,
    PRIMARY KEY (subject, meter, hour, model)
);
CREATE TEMP TABLE staged (LIKE events);
ALTER TABLE staged ADD input bigint, ADD output bigint, ADD model text
"""
_COLUMNS = ["id", "source", "type", "subject", "time_us", "data", "input", "output", "model"]
_COUNT = """
WITH new AS (
    INSERT INTO events SELECT id, source, type, subject, time_us, data FROM staged ON CONFLICT DO NOTHING RETURNING source, id
), counted AS (SELECT staged.* FROM staged JOIN new USING (source, id))
INSERT INTO rollups
SELECT subject, 'calls', time_us / 3600000000, '', count(*), NULL FROM counted GROUP BY 1, 3
UNION ALL
SELECT subject, 'input', time_us / 3600000000, '', count(*), sum(input) FROM counted GROUP BY 1, 3
UNION ALL
SELECT subject, 'output', time_us / 3600000000, model, count(*), sum(output) FROM counted GROUP BY 1, 3, 4
ON CONFLICT (subject, meter, hour, model)
DO UPDATE SET events = rollups.events + excluded.events, sum = rollups.sum + excluded.sum
"""
_TOTALS = "SELECT meter, sum(events)::bigint, sum(sum)::bigint FROM rollups GROUP BY 1 ORDER BY 1"


@contextmanager
def durable_server() -> Iterator[Server]:
    """On the disk that SQLite's files are on otherwise."""
    with running(Path(tempfile.gettempdir()), **_SETTINGS) as server:
        yield server


async def postgres_copy(bench: Bench) -> list[Figure]:
    """COPY to a staging table, insert what is new, add it to the rollups of three meters by the hour, commit.

    The values that meters read are columns of their own already: of what a control plane does, only the database's part.
    """
    samples: list[float] = []
    with durable_server() as server:
        conn = await asyncpg.connect(server.url("postgres"))
        try:
            await conn.execute(_TABLES)
            for batch in count():
                rows = _rows(batch * BATCH_EVENTS)
                with timed() as took:
                    await _counted(conn, rows)
                samples.append(took())
                if sum(samples) >= bench.seconds:
                    break
            events = BATCH_EVENTS * len(samples)
            await _counted(conn, _rows(0))  # once more: nothing of it is new
            stored = await conn.fetchval("SELECT count(*) FROM events")
            totals = [tuple(row) for row in await conn.fetch(_TOTALS)]
        finally:
            await conn.close()
    bench.prove("events stored", found=stored, expected=events)
    summed = [("calls", events, None), *((kind, events, tokens(kind, events)) for kind in ("input", "output"))]
    bench.prove("totals", found=totals, expected=summed)
    return [rate("PostgreSQL: COPY, insert on conflict, rollup upsert, 5,000 a transaction", events, sum(samples))]


async def _counted(conn: asyncpg.Connection, rows: list[tuple[object, ...]]) -> None:
    async with conn.transaction():
        await conn.execute("TRUNCATE staged")
        await conn.copy_records_to_table("staged", records=rows, columns=_COLUMNS)
        await conn.execute(_COUNT)


def _rows(first: int) -> list[tuple[object, ...]]:
    now_us, rows = time.time_ns() // 1000, []
    for n in range(first, first + BATCH_EVENTS):
        said = data(n)
        event = (f"5f0e8f9a2b7c4d10-{n:010d}", "bench", EVENT_TYPE, f"customer-{n % SUBJECTS}", now_us + n, str(said))
        rows.append((*event, said["input_tokens"], said["output_tokens"], said["model"]))
    return rows
