"""Recording: when a caller is answered, with what, and what a failing disk does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import ManualClock, eventually

from sidemeter.batches import seal
from sidemeter.buffer import Buffer
from sidemeter.errors import AgentStopped, BufferFull, StorageRefused
from sidemeter.events import Event, Receipt, decode
from sidemeter.line import MAX_WAITING_BYTES
from sidemeter.record import Recorder
from sidemeter.settings import Settings


class Tally:
    """Remembers which rows count."""

    def __init__(self) -> None:
        self.rows: dict[int, Event] = {}

    def recorded(self, seq: int, event: Event, *, paid: bool = False) -> None:
        self.rows[seq] = event

    def undone(self, seq: int, event: Event, *, certain: bool = True) -> None:
        assert self.rows.pop(seq) == event


class Bench:
    """A recorder on a real buffer, with a tally; commits happen when the test says so."""

    def __init__(self, buffer: Buffer, clock: ManualClock, **changes: Any) -> None:
        self.clock, self.buffer, self.tally, self.stored = clock, buffer, Tally(), 0
        settings = Settings(service="chat", **changes)
        self.recorder = Recorder(buffer, self.tally, settings, self.clock, self._stored)

    def _stored(self) -> None:
        self.stored += 1

    async def ids(self) -> list[str | None]:
        return [decode(body).id for _, body in await self.buffer.rows(0, 1 << 62, 10_000)]


@asynccontextmanager
async def bench(directory: Path, **changes: Any) -> AsyncIterator[Bench]:
    clock = ManualClock()
    buffer = await Buffer.open(directory, clock)
    try:
        yield Bench(buffer, clock, **changes)
    finally:
        await buffer.close()


def event(event_id: str | None = None, **changes: Any) -> Event:
    return Event.of("call", "acme", {"tokens": 1}, id=event_id, **changes)


async def test_a_caller_is_answered_after_the_commit_and_not_before(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        call = asyncio.create_task(b.recorder.record(event("a")))
        await asyncio.sleep(0)
        assert (call.done(), b.recorder.pending) == (False, 1)
        await b.recorder.commit_once()
        receipt = await call
        assert (receipt.id, receipt.source, receipt.duplicate, receipt.durability) == ("a", "chat", False, "disk")
        assert (await b.ids(), b.recorder.pending, b.stored) == (["a"], 0, 1)


async def test_what_the_caller_left_out_is_filled_in(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        minted = b.recorder.record_nowait(event())
        await b.recorder.commit_once()
        (filled,) = b.tally.rows.values()
        assert (filled.id, filled.source, filled.time_us) == (minted, "chat", b.clock.now_us())


async def test_one_commit_takes_all_that_gathered(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        calls = [asyncio.create_task(b.recorder.record(event(str(n)))) for n in range(50)]
        await asyncio.sleep(0)
        await b.recorder.commit_once()
        assert all([not (await call).duplicate for call in calls])
        assert (b.recorder.commits, b.recorder.recorded) == (1, 50)


async def test_a_group_holds_no_more_than_its_bound_but_an_array_stays_whole(tmp_path: Path) -> None:
    async with bench(tmp_path, group_max_events=10) as b:
        for _ in range(25):
            b.recorder.record_nowait(event())
        array = asyncio.create_task(b.recorder.record_many([event() for _ in range(30)]))  # noqa: RUF006 -- awaited below
        await asyncio.sleep(0)
        sizes = []
        while b.recorder.pending:
            before = b.recorder.recorded
            await b.recorder.commit_once()
            sizes.append(b.recorder.recorded - before)
        assert sizes == [10, 10, 35]
        receipts = await array
        assert len(receipts) == 30


async def test_a_repeat_is_a_duplicate_and_counts_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        array = asyncio.create_task(
            b.recorder.record_many([event("a"), event("b"), event("a"), event("a", source="x")])
        )
        await asyncio.sleep(0)
        await b.recorder.commit_once()
        assert [receipt.duplicate for receipt in await array] == [False, False, True, False]
        again = asyncio.create_task(b.recorder.record(event("b")))
        await asyncio.sleep(0)
        await b.recorder.commit_once()
        assert (await again).duplicate
        assert (len(b.tally.rows), b.recorder.duplicates, await b.ids()) == (3, 2, ["a", "b", "a"])


async def test_a_duplicate_is_known_only_after_its_first_copy_is_durable(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = asyncio.create_task(b.recorder.record(event("a")))
        await asyncio.sleep(0)
        asked = asyncio.create_task(b.recorder.holds("chat", "a"))
        await asyncio.sleep(0)
        assert not asked.done()
        await b.recorder.commit_once()
        assert await asked
        assert not await b.recorder.holds("chat", "b")
        await first


async def test_a_refusing_disk_tells_who_waits_and_keeps_what_nobody_waits_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.buffer._database._conn.execute("PRAGMA query_only = 1")
        kept = b.recorder.record_nowait(event())
        call = asyncio.create_task(b.recorder.record(event("a")))
        await asyncio.sleep(0)
        await b.recorder.commit_once()
        with pytest.raises(StorageRefused):
            await call
        assert (b.recorder.pending, [each.id for each in b.tally.rows.values()]) == (1, [kept])
        await b.buffer._database._conn.execute("PRAGMA query_only = 0")
        retry = asyncio.create_task(b.recorder.record(event("a")))
        await asyncio.sleep(0)
        await b.recorder.commit_once()
        assert not (await retry).duplicate
        assert await b.ids() == [kept, "a"]


async def test_too_many_pending_events_are_refused(tmp_path: Path) -> None:
    async with bench(tmp_path, max_pending_events=3, max_array_events=3) as b:
        for _ in range(2):
            b.recorder.record_nowait(event())
        with pytest.raises(BufferFull, match="max_pending_events"):
            await b.recorder.record_many([event(), event()])
        b.recorder.record_nowait(event())
        with pytest.raises(BufferFull):
            b.recorder.record_nowait(event())
        await b.recorder.commit_once()
        b.recorder.record_nowait(event())
        assert (b.recorder.pending, b.recorder.refused) == (1, 3)


async def test_a_full_buffer_refuses_the_caller(tmp_path: Path) -> None:
    async with bench(tmp_path, max_buffer_bytes=256 * 1024) as b:
        big = Event.of("call", "acme", {"text": "x" * 60_000})
        for _ in range(5):
            b.recorder.record_nowait(big)
        with pytest.raises(BufferFull, match="max_buffer_bytes"):
            b.recorder.record_nowait(big)
        await b.recorder.commit_once()
        with pytest.raises(BufferFull, match="max_buffer_bytes"):
            b.recorder.record_nowait(big)


async def test_a_stopped_recorder_takes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.recorder.stopped = True
        with pytest.raises(AgentStopped):
            b.recorder.record_nowait(event())


async def test_a_cancelled_caller_changes_nothing_for_the_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        calls = [asyncio.create_task(b.recorder.record(event(str(n)))) for n in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await b.recorder.commit_once()
        assert [(await calls[n]).id for n in (0, 2)] == ["0", "2"]
        assert b.recorder.pending == 0


async def test_what_nobody_waits_for_gathers_for_a_window_only_under_load(tmp_path: Path) -> None:
    async with bench(tmp_path, group_window_s=0.5) as b:
        b.clock.advance(1)
        b.recorder.record_nowait(event())
        await b.recorder.commit_once()
        b.recorder.record_nowait(event())
        commit = asyncio.create_task(b.recorder.commit_once())
        for _ in range(10):
            await asyncio.sleep(0)
        b.recorder.record_nowait(event())
        assert b.recorder.commits == 1
        b.clock.advance(0.5)
        await commit
        assert (b.recorder.commits, b.recorder.recorded) == (2, 3)


async def test_flushing_ends_the_window(tmp_path: Path) -> None:
    async with bench(tmp_path, group_window_s=0.5) as b:
        b.recorder.record_nowait(event())
        await b.recorder.commit_once()
        b.recorder.record_nowait(event())
        commit = asyncio.create_task(b.recorder.commit_once())
        await b.recorder.flush()
        await commit
        assert b.recorder.pending == 0


async def test_who_flushes_what_a_stop_leaves_behind_is_told_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.recorder.record_nowait(event())
        flushing = asyncio.create_task(b.recorder.flush())
        await asyncio.sleep(0)
        await b.recorder.give_up(AgentStopped("stopped"))
        with pytest.raises(AgentStopped, match="stopped"):
            await flushing
        assert b.recorder.pending == 1


async def test_a_caller_whose_commit_is_under_way_at_the_stop_is_told_what_becomes_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        under_way = asyncio.create_task(b.recorder.record(event("a")))
        await asyncio.sleep(0)
        hanging = b.buffer._database._turn
        await hanging.acquire()
        loop = asyncio.create_task(b.recorder.commit_once())
        await eventually(lambda: hanging._waiters)
        too_late = asyncio.create_task(b.recorder.record(event("b")))
        stop = asyncio.create_task(b.recorder.give_up(AgentStopped("stopped")))
        await asyncio.sleep(0)
        assert not stop.done()
        assert not under_way.done()
        hanging.release()
        await stop
        loop.cancel()
        assert not (await under_way).duplicate
        with pytest.raises(AgentStopped):
            await too_late
        assert (await b.ids(), b.recorder.pending) == (["a"], 0)


async def started(b: Bench, *sizes: int) -> list[asyncio.Task[list[Receipt]]]:
    """Callers with so many events each, that came one after the other."""
    tasks = []
    for size in sizes:
        tasks.append(asyncio.create_task(b.recorder.record_many([event() for _ in range(size)])))
        await asyncio.sleep(0)
    return tasks


def waiting(directory: Path, **changes: Any) -> Any:
    defaults = {"when_full": "wait", "max_pending_events": 4, "max_array_events": 4, "group_window_s": 0}
    return bench(directory, **(defaults | changes))


async def test_who_waits_for_room_gets_it_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    async with waiting(tmp_path, max_pending_events=6) as b:
        callers = await started(b, 5, 3, 1, 1)
        assert (b.recorder.pending, b.recorder.line.events) == (5, 5)  # a small one would fit, and is not first
        answered: list[int] = []
        for n, caller in enumerate(callers):
            caller.add_done_callback(lambda _, n=n: answered.append(n))
        await commit_all(b)
        assert [len(await each) for each in callers] == [5, 3, 1, 1]
        await asyncio.sleep(0)
        assert (answered, b.recorder.recorded, b.recorder.refused) == ([0, 1, 2, 3], 10, 0)


async def commit_all(b: Bench) -> None:
    """Commit until nothing is pending and nobody waits for room."""
    while b.recorder.pending or b.recorder.line.events:
        if b.recorder.pending:
            await b.recorder.commit_once()
        await asyncio.sleep(0)


async def test_who_waits_for_room_too_long_is_refused_as_if_it_had_not_waited(tmp_path: Path) -> None:
    async with waiting(tmp_path, full_wait_s=30) as b:
        expiry = asyncio.create_task(forever(b.recorder.line.expire_once))
        first, early = await started(b, 4, 1)
        b.clock.advance(29.9)
        (late,) = await started(b, 1)
        b.clock.advance(0.2)
        with pytest.raises(BufferFull, match="4 events wait for the disk"):
            await early
        assert (late.done(), b.recorder.refused, b.recorder.line.events) == (False, 1, 1)
        await b.recorder.commit_once()
        await first
        await eventually(lambda: b.recorder.pending)
        await b.recorder.commit_once()
        await late
        expiry.cancel()


async def forever(once: Callable[[], Awaitable[None]]) -> None:
    while True:
        await once()


async def test_no_more_wait_for_room_than_max_pending_events(tmp_path: Path) -> None:
    async with waiting(tmp_path) as b:
        callers = await started(b, 4, 3, 1)
        for size in (1, 4):
            with pytest.raises(BufferFull):
                await b.recorder.record_many([event() for _ in range(size)])
        assert (b.recorder.line.events, b.recorder.refused) == (4, 5)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        assert b.recorder.line.events == 0


async def test_what_waits_for_room_takes_no_more_memory_than_its_bound(tmp_path: Path) -> None:
    async with waiting(tmp_path, max_pending_events=5000, max_array_events=5000) as b:
        await started(b, 5000)
        large = Event.of("call", "acme", {"text": "x" * 60_000})
        fits = MAX_WAITING_BYTES // len(large.data or "")
        call = asyncio.create_task(b.recorder.record_many([large] * fits))
        await asyncio.sleep(0)
        with pytest.raises(BufferFull):
            await b.recorder.record(large)
        assert b.recorder.line.events == fits
        call.cancel()


async def test_what_does_not_wait_is_refused_also_when_others_wait_for_the_room_there_is(tmp_path: Path) -> None:
    async with waiting(tmp_path) as b:
        await started(b, 3, 2)
        with pytest.raises(BufferFull, match="2 events wait for room"):
            b.recorder.record_nowait(event())
        await commit_all(b)
        b.recorder.record_nowait(event())
        assert b.recorder.pending == 1


async def test_more_than_could_ever_fit_does_not_wait(tmp_path: Path) -> None:
    async with waiting(tmp_path) as b:
        with pytest.raises(BufferFull, match="max_pending_events"):
            await b.recorder.record_many([event() for _ in range(5)])


async def test_a_caller_that_leaves_the_line_lets_the_next_one_in(tmp_path: Path) -> None:
    async with waiting(tmp_path) as b:
        _, impatient, patient = await started(b, 3, 2, 1)
        impatient.cancel()
        await eventually(lambda: b.recorder.pending == 4)
        await commit_all(b)
        assert len(await patient) == 1


async def test_who_waits_for_room_waits_until_the_buffer_has_sent_enough(tmp_path: Path) -> None:
    async with waiting(tmp_path, max_buffer_bytes=256 * 1024, max_pending_events=100) as b:
        large = Event.of("call", "acme", {"text": "x" * 60_000})
        for _ in range(5):
            b.recorder.record_nowait(large)
        while b.recorder.pending:
            await b.recorder.commit_once()
        (call,) = await started(b, 1)
        b.recorder.line.move()
        await asyncio.sleep(0)  # who has a turn takes it in this step
        assert (b.recorder.line.events, b.recorder.pending) == (1, 0)
        rows = await b.buffer.rows(0, 1 << 62, 100)
        batch = seal(rows, None, 1, max_events=5, max_bytes=1 << 20)
        await b.buffer.seal(batch)
        await b.buffer.settle(batch)
        b.recorder.line.move()
        await eventually(lambda: b.recorder.pending)
        await b.recorder.commit_once()
        assert len(await call) == 1


async def test_who_waits_for_room_is_told_when_the_agent_stops(tmp_path: Path) -> None:
    async with waiting(tmp_path) as b:
        _, call = await started(b, 4, 1)
        b.recorder.stop()
        with pytest.raises(AgentStopped):
            await call
        assert b.recorder.refused == 1


async def test_when_a_stop_is_near_nobody_waits_for_room_and_what_fits_is_still_taken(tmp_path: Path) -> None:
    async with waiting(tmp_path) as b:
        first, call = await started(b, 3, 2)
        b.recorder.line.close(AgentStopped("soon"))
        with pytest.raises(AgentStopped):
            await call
        with pytest.raises(AgentStopped):
            await b.recorder.record_many([event(), event()])
        last = asyncio.create_task(b.recorder.record(event()))
        await asyncio.sleep(0)
        await commit_all(b)
        assert [len(await first), (await last).duplicate] == [3, False]
