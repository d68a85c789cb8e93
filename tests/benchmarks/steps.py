"""Where the time of one event goes, step by step: the real parts of both programs, one after the other, in one process.

Each step is measured in whole batches and told for one event: the median of all batches, and the least, which is what it takes
where nothing else is going on.
"""

import gzip
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import msgspec
from processes import ADMIN_KEY, Program, control_plane

from sidemeter.batches import Row, encode_events, seal
from sidemeter.buffer import Buffer
from sidemeter.clock import SystemClock as AgentClock
from sidemeter.events import Event, encode, mint
from sidemeter.uplink import BatchMessage as Sealed
from sidemeter.uplink import encode as on_the_wire
from sidemeter_control.api.agent_messages import BatchMessage, BatchReply
from sidemeter_control.clock import SystemClock
from sidemeter_control.metering.batches import Batch, digest
from sidemeter_control.metering.counting import Readers, count, readers, with_days
from sidemeter_control.metering.events import read_array
from sidemeter_control.metering.ingest import Hello, Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.store import agents, events, meters, rollups, state
from sidemeter_control.store.database import Database

from .control_plane import COST
from .harness import Bench, Figure, latency, timed
from .load import UNBOUNDED, load, post
from .references import SERVING
from .traffic import CUSTOMER, EVENT_TYPE, data, sell
from .wire import BATCH_EVENTS, GZIP_LEVEL

__all__ = ["steps"]

GROUP_EVENTS = 1_000
SUBJECTS = 100
MOST_BATCHES = 200
AGENT_ID = "0123456789abcdef0123456789abcdef"
NOTHING = "{ __typename }"
STEPS = {
    "validate": "`Event.of`: its rules, and its data as JSON",
    "append": "an id, the wire form, a place in the group",
    "group commit": "1,000 rows in one FULL transaction",
    "seal": "rows read, chained by their digest, the batch kept",
    "encode": "the message, packed and zipped",
    "send": "to a server on this machine that does nothing, and back",
    "decode": "unzipped, unpacked, its digest compared",
    "read": "each event by its rules, its data parsed",
    "dedupe and insert": "by the unique key",
    "count": "read by three meters, folded by hour and day",
    "rollup": "added to what is stored",
    "commit": "the cursor, the report, COMMIT",
    "answer": "encoded, and the batch settled in the buffer",
}


@dataclass
class Watch:
    """How long each step of each batch took."""

    took_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STEPS})

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        with timed() as took:
            yield
        self.took_s[name].append(took())

    def per_event_us(self, name: str, of: Callable[[list[float]], float] = median) -> float:
        return of(self.took_s[name]) / BATCH_EVENTS * 1e6


async def steps(bench: Bench) -> list[Figure]:
    """The way of an event, on SQLite; then what an answer takes."""
    watch, done = Watch(), 0
    async with _opened(bench.directory) as (buffer, database, counting), _idle_server(bench.directory) as door:
        previous, mint_id = None, mint("5f0e8f9a2b7c4d10")
        with timed() as elapsed:
            while done < MOST_BATCHES and elapsed() < bench.seconds:
                rows = await _recorded(watch, buffer, mint_id, done)
                with watch.step("seal"):
                    found = await buffer.waiting_rows(len(rows))
                    previous = seal(found, previous, 1, max_events=BATCH_EVENTS, max_bytes=1 << 20)
                    await buffer.seal(previous)
                with watch.step("encode"):
                    packed = encode_events([body for _, body in found])
                    message = Sealed.of(AGENT_ID, previous, packed, backlog=0, oldest_pending_us=None)
                    body = gzip.compress(on_the_wire(message), GZIP_LEVEL, mtime=0)
                with watch.step("send"):
                    (await door.post("/", content=body)).raise_for_status()
                answer = await _counted(watch, database, counting, body)
                with watch.step("answer"):
                    msgspec.msgpack.encode(answer)
                    await buffer.settle(previous)
                done += 1
        async with database.read() as conn:
            bench.prove("events stored", found=await events.last_seq(conn), expected=done * BATCH_EVENTS)
        bench.prove("events that wait", found=(buffer.waiting_events, buffer.rebuilds), expected=(0, 0))
    figures = [Figure(name=f"step: {name}", value=watch.per_event_us(name), unit="µs") for name in STEPS]
    whole = sum(each.value for each in figures)
    figures.append(Figure(name="step: all of them", value=whole, unit="µs"))
    figures += await _answers(bench)
    bench.told += _told(watch, done, figures[len(STEPS) + 1 :])
    return figures


def _told(watch: Watch, batches: int, answers: list[Figure]) -> list[str]:
    """A table in Markdown, as it stands in CONTRIBUTING.md."""
    rows = [(name, watch.per_event_us(name), watch.per_event_us(name, min), what) for name, what in STEPS.items()]
    whole = ("all of them", sum(each[1] for each in rows), sum(each[2] for each in rows), f"of {batches} batches")
    lines = [f"| {name} | {usual:.1f} | {least:.1f} | {what} |" for name, usual, least, what in [*rows, whole]]
    return ["| step | median, µs | least, µs | |", "|---|---:|---:|---|", *lines, *map(_answer_told, answers)]


def _answer_told(answer: Figure) -> str:
    assert answer.percentiles is not None
    return f"| {answer.name} | {answer.value:,.0f} | | of {answer.percentiles.samples:,} answers, one after the other |"


async def _recorded(watch: Watch, buffer: Buffer, mint_id: Callable[[], str], batch: int) -> list[Row]:
    numbers = range(batch * BATCH_EVENTS, (batch + 1) * BATCH_EVENTS)
    usage = [(f"customer-{n % SUBJECTS}", data(n)) for n in numbers]
    with watch.step("validate"):
        made = [Event.of(EVENT_TYPE, subject, said) for subject, said in usage]
    with watch.step("append"):
        now_us = time.time_ns() // 1000
        bodies = [encode(Event(mint_id(), "bench", each.type, each.subject, now_us, each.data)) for each in made]
        rows = list(enumerate(bodies, batch * BATCH_EVENTS + 1))
    with watch.step("group commit"):
        for first in range(0, len(rows), GROUP_EVENTS):
            await buffer.append(rows[first : first + GROUP_EVENTS], [])
    return rows


async def _counted(watch: Watch, database: Database, counting: Readers, body: bytes) -> BatchReply:
    now_us = time.time_ns() // 1000
    with watch.step("decode"):
        message = msgspec.msgpack.decode(gzip.decompress(body), type=BatchMessage)
        raw = bytes(message.events)
        assert digest(message.prev_digest, raw) == message.digest
    with watch.step("read"):
        arrived = read_array(raw)
    async with database.write() as conn:
        with watch.step("dedupe and insert"):
            new = await events.add(conn, arrived.events, now_us)
        with watch.step("count"):
            counted = count(counting, arrived.events, arrived.data)
            added = with_days(counted.hours)
        with watch.step("rollup"):
            await rollups.add(conn, added)
        began = time.perf_counter()
        batch = Batch(AGENT_ID, message.epoch, message.batch_no, message.prev_digest, message.digest, raw)
        await agents.advance(conn, batch, len(new), now_us)
        await agents.report(conn, AGENT_ID, backlog=0, oldest_pending_us=None, now_us=now_us)
    watch.took_s["commit"].append(time.perf_counter() - began)
    return BatchReply("OK", message.batch_no + 1, None, len(new), 0, 0, 0)


@asynccontextmanager
async def _opened(directory: Path) -> AsyncIterator[tuple[Buffer, Database, Readers]]:
    """An agent's buffer, a control plane's database with the three meters, and what reads events for them."""
    buffer = await Buffer.open(directory / "agent", AgentClock())
    database = await Database.open(f"sqlite:///{directory / 'control.db'}")
    try:
        await database.migrate()
        now_us = time.time_ns() // 1000
        async with database.write() as conn:
            for each in (
                new_meter("calls", EVENT_TYPE, Aggregation.COUNT, now_us=now_us),
                new_meter("input", EVENT_TYPE, Aggregation.SUM, value_property="input_tokens", now_us=now_us),
                new_meter(
                    "output",
                    EVENT_TYPE,
                    Aggregation.SUM,
                    value_property="output_tokens",
                    dimensions=(Dimension("model", "model"),),
                    now_us=now_us,
                ),
            ):
                await meters.add(conn, each)
            await state.config_changed(conn)
            counting = readers(await meters.counting(conn))
        await Ingest(database, SystemClock()).hello(Hello(AGENT_ID, "hello", "boot", "bench", "0"))
        yield buffer, database, counting
    finally:
        await database.close()
        await buffer.close()


@asynccontextmanager
async def _idle_server(directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    command = ["-m", "uvicorn", f"{__package__}.references:raw_asgi", "--port=0", "--lifespan=off", "--no-access-log"]
    with Program(command, directory / "uvicorn.log") as server:
        server.spawn()
        port = (await server.says(SERVING))[2]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield http


async def _answers(bench: Bench) -> list[Figure]:
    """One connection, one after the other: a question that needs nothing, and a live cost."""
    figures = []
    directory = bench.directory / "answers"
    directory.mkdir()
    async with control_plane(directory, **UNBOUNDED) as plane:
        await sell(plane)
        for name, query, expected in (
            ("GraphQL, nothing asked", NOTHING, b'"Query"'),
            ("GraphQL, live cost", COST, b"250"),
        ):
            asked = {"query": query, **({"variables": {"customer": CUSTOMER}} if query is COST else {})}
            request = post("/graphql", asked, {"Authorization": f"Bearer {ADMIN_KEY}"})
            came = await load(
                ("127.0.0.1", plane.port), request, expect=expected, connections=1, seconds=bench.seconds / 2
            )
            figures.append(latency(name, came.samples_s, "µs"))
    return figures
