"""What the tests of a damaged buffer share: one with everything in it, a flip of one bit, and a look at what came of it."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.whole_agent import settings
from fakes import eventually

from sidemeter.batches import digest_of, encode_events, seal
from sidemeter.buffer import Buffer
from sidemeter.clock import SystemClock
from sidemeter.errors import StorageRefused
from sidemeter.events import Event, decode, encode
from sidemeter.limits import Limit, Limits
from sidemeter.losses import Loss
from sidemeter.record import Recorder
from sidemeter.recover import Salvager

FILES = ("buffer.sqlite3", "buffer.sqlite3-wal", "mark")


@dataclass
class Made:
    """What a buffer was left with: `acknowledged` bodies by event id, of which `counted` and `refused` are done with."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class RestingClock(SystemClock):
    """Sleeps for no time at all."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def body(number: int, size: int = 0) -> bytes:
    return encode(Event(f"e{number}", "chat", "call", "acme", number, '{"pad":"' + "x" * size + '"}'))


async def fill(buffer: Buffer, rows: int, long: int = 9000) -> Made:
    """Settled, refused, sealed and waiting rows, one in five of them long; limits, a loss, and ids of callers."""
    made = Made()

    async def append(first: int, last: int) -> None:
        rows = [(seq, body(seq, long if seq % 5 == 0 else 0)) for seq in range(first, last + 1)]
        await buffer.append(rows, [(seq, "chat", f"e{seq}") for seq, _ in rows if seq % 3 == 0])
        made.acknowledged |= {f"e{seq}": row for seq, row in rows}

    async def sealed(count: int) -> Any:
        previous, _ = await buffer.last_batch()
        batch = seal(await buffer.waiting_rows(count), previous, 1, max_events=count, max_bytes=1 << 20)
        await buffer.seal(batch)
        return batch

    await buffer.identity("agent", "hello", "boot")
    await buffer.set_epoch(1, "g1")
    await append(1, rows)
    for _ in range(2):
        batch = await sealed(rows // 5)
        await buffer.settle(batch)
        made.counted |= {f"e{seq}" for seq in range(batch.first_seq, batch.last_seq + 1)}
    batch = await sealed(1)
    await buffer.set_aside(batch, "poison")
    made.refused.add(f"e{batch.last_seq}")
    await buffer.keep_limits({"acme": ["acme/t"]}, [(Limit("acme/t", "acme", "t", "METERED", "HARD", 1), 7, 1)])
    await buffer.declare(Loss("earlier", 1, 2, 2, "gone", 1))
    await sealed(rows // 5)
    for seq in range(rows + 1, rows + 5):
        await append(seq, seq)
    return made


def copied(source: Path, target: Path) -> Path:
    """A copy of a buffer's files as they are, also while it is open: what a kill leaves."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return target


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@dataclass
class Outcome:
    """What came of a buffer that was opened again: bodies of events `sent` and `refused`, by id, and losses."""

    sent: dict[str, list[bytes]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    rebuilds: int = 0

    def check(self, made: Made) -> None:
        """All that was acknowledged was sent as it was, or is inside of a declared loss; and nothing else was sent."""
        for event_id, bodies in self.sent.items():
            assert set(bodies) == {made.acknowledged[event_id]}, f"{event_id} was sent otherwise than acknowledged"
        lost = made.acknowledged.keys() - self.sent.keys() - made.counted - self.refused
        numbers = {int(event_id[1:]) for event_id in lost - made.refused}
        declared = [each for each in self.losses if each.id != "earlier"]
        for number in numbers:
            inside = [each for each in declared if each.first_seq <= number <= (each.last_seq or number)]
            assert inside, f"row {number} is gone, and no loss of {declared} holds it"
        counts = [each.events for each in declared]
        assert None in counts or len(numbers) <= sum(counts), f"{len(numbers)} rows are gone, declared {declared}"
        assert not lost & made.refused or declared, f"{lost & made.refused} were set aside, and are gone"


async def recovered(directory: Path, made: Made) -> Outcome:
    """Open the buffer, record a fresh event, send all there is, as often as it takes, and look at what is left."""
    outcome = Outcome()
    clock = RestingClock()
    buffer = await Buffer.open(directory, clock)
    limits = Limits(allow_unknown=False)
    recorder = Recorder(buffer, limits, settings(directory), clock, lambda: None)
    salvager = Salvager(buffer, clock, recorder.requeue)
    loops = [asyncio.create_task(forever(once)) for once in (recorder.commit_once, salvager.salvage_once)]
    try:
        await eventually(lambda: named(buffer))
        fresh = await recorder.record(Event("fresh", "chat", "call", "acme", 1))
        assert not fresh.duplicate
        made.acknowledged["fresh"] = encode(Event("fresh", "chat", "call", "acme", 1))
        await eventually(lambda: forwarded(buffer, outcome), within_s=100)
        outcome.losses = await buffer.losses()
        kept = await buffer._database.transact(
            lambda conn: conn.execute_fetchall("SELECT body FROM refused WHERE reason = 'poison'")
        )
        for (each,) in kept:
            with suppress(Exception):
                outcome.refused.add(decode(each).id)
        outcome.rebuilds = buffer.rebuilds
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
        await buffer.close()
    assert "fresh" in outcome.sent
    return outcome


async def named(buffer: Buffer) -> bool:
    with suppress(StorageRefused):
        await buffer.identity("other", "hello-2", "boot")
        await buffer.set_epoch(2, "g1")
        return True
    return False


async def forever(once: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(StorageRefused):
            await once()
        await asyncio.sleep(0)


async def forwarded(buffer: Buffer, outcome: Outcome) -> bool:
    """Do what the forwarder does, once; whether all is sent."""
    with suppress(StorageRefused):
        batch, unsettled = await buffer.last_batch()
        if batch is None or not unsettled:
            rows = await buffer.waiting_rows(50)
            if rows:
                batch = seal(rows, batch, 2, max_events=50, max_bytes=1 << 20)
                await buffer.seal(batch)
        else:
            rows = await buffer.sealed_rows(batch) or []
            if rows and digest_of(batch.prev_digest, encode_events([each for _, each in rows])) != batch.digest:
                await buffer.give_up("a batch does not match its rows")
        if rows:
            for _, each in rows:
                outcome.sent.setdefault(decode(each).id or "", []).append(each)
            await buffer.settle(batch)
        return not buffer.unsent_events and not buffer.salvaging
    return False
