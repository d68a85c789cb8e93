"""What others would be taken for the same work, measured in the same run: their figure stands beside ours, also where they win.

A library or a server that is not on this machine is left out, with what would bring it.
"""

import asyncio
import importlib
import socket
import time
from collections.abc import Callable
from shutil import which
from typing import Any

import msgpack
from fakes import eventually
from processes import spawned, without_settings

from .harness import Bench, Benchmark, Figure, NotHere, latency, rate, timed
from .traffic import CUSTOMER, EVENT_TYPE, data

__all__ = ["PEERS"]

CALLS = 100_000
GROUP = 500  # as many as the agent's benchmark records before it lets go of the event loop
KEY = {"customer": CUSTOMER, "model": "model-1"}
NEVER_REACHED = 10**12


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise NotHere(f"pip install {package}") from exc


def _each(name: str, call: Callable[[], object], seconds: float) -> tuple[Figure, int]:
    """Time in the call, as for our own, and how many there were."""
    samples: list[float] = []
    with timed() as elapsed:
        while len(samples) < CALLS and elapsed() < seconds:
            for _ in range(GROUP):
                began = time.perf_counter()
                call()
                samples.append(time.perf_counter() - began)
    return latency(name, samples, "µs"), len(samples)


async def opentelemetry_add(bench: Bench) -> list[Figure]:
    """A count that is lost with its process."""
    metrics = _module("opentelemetry.sdk.metrics", "'sidemeter[otel]'")
    reader = _module("opentelemetry.sdk.metrics.export", "'sidemeter[otel]'").InMemoryMetricReader()
    provider = metrics.MeterProvider(metric_readers=[reader])
    counter = provider.get_meter("bench").create_counter("calls")
    figure, calls = _each("OpenTelemetry SDK, Counter.add", lambda: counter.add(1, KEY), bench.seconds)
    found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value
    bench.prove("calls counted", found=found, expected=calls)
    provider.shutdown()
    return [figure]


def _body(n: int) -> bytes:
    return bytes(msgpack.packb([f"5f0e8f9a2b7c4d10-{n:010d}", "bench", EVENT_TYPE, CUSTOMER, 0, data(n)]))


async def persist_queue(bench: Bench) -> list[Figure]:
    """Each put is a commit of its own: it has no other way to be durable before it returns."""
    module = _module("persistqueue", "persist-queue")
    queue = module.SQLiteAckQueue(str(bench.directory / "queue"), auto_commit=True)
    stored = 0
    with timed() as elapsed:
        while elapsed() < bench.seconds:
            queue.put(_body(stored))
            stored += 1
    bench.prove("events in the queue", found=queue.size, expected=stored)
    queue.close()
    return [rate("persist-queue (SQLite, ack), one put a commit", stored, elapsed())]


async def litequeue(bench: Bench) -> list[Figure]:
    """Many puts a transaction, each transaction synced, as our buffer does it."""
    module = _module("litequeue", "litequeue")
    queue = module.LiteQueue(str(bench.directory / "queue.db"))
    queue.conn.execute("PRAGMA synchronous=FULL")
    stored = 0
    with timed() as elapsed:
        while elapsed() < bench.seconds:
            with queue.transaction():
                for _ in range(GROUP):
                    queue.put(_body(stored).hex())
                    stored += 1
    bench.prove("events in the queue", found=queue.qsize(), expected=stored)
    queue.close()
    return [rate(f"litequeue, {GROUP} a FULL transaction", stored, elapsed())]


async def limits_memory(bench: Bench) -> list[Figure]:
    """A counter in the process's own memory, which no other process shares."""
    module = _module("limits", "limits")
    storage = module.storage.MemoryStorage()
    limiter = module.strategies.FixedWindowRateLimiter(storage)
    item = module.RateLimitItemPerYear(NEVER_REACHED)
    figure, calls = _each("limits (memory), hit", lambda: limiter.hit(item, CUSTOMER, "tokens"), bench.seconds)
    left = limiter.get_window_stats(item, CUSTOMER, "tokens").remaining
    bench.prove("calls counted", found=NEVER_REACHED - left, expected=calls)
    return [figure]


async def redis_counter(bench: Bench) -> list[Figure]:
    """A counter that processes share, over a Unix socket on this machine: the least that asking it takes."""
    program = which("redis-server") or which("valkey-server")
    if program is None:
        raise NotHere("apt-get install redis-server")
    path = bench.directory / "redis.sock"
    options = [
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(bench.directory),
    ]
    server = spawned([program, *options], without_settings(), bench.directory / "redis.log")
    try:
        await eventually(path.exists)
        return await asyncio.to_thread(_counted_by_redis, bench, str(path))
    finally:
        server.kill()
        server.wait()


def _counted_by_redis(bench: Bench, path: str) -> list[Figure]:
    """In its own protocol, without the time that a client library takes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lane:
        lane.connect(path)

        def add() -> bytes:
            lane.sendall(b"*3\r\n$6\r\nINCRBY\r\n$6\r\ntokens\r\n$1\r\n1\r\n")
            return lane.recv(64)

        figure, calls = _each("Redis counter, INCRBY over a Unix socket", add, bench.seconds)
        bench.prove("calls counted", found=add(), expected=f":{calls + 1}\r\n".encode())
    return [figure]


PEERS: dict[str, Benchmark] = {
    "limits-memory": limits_memory,
    "litequeue": litequeue,
    "opentelemetry": opentelemetry_add,
    "persist-queue": persist_queue,
    "redis": redis_counter,
}
