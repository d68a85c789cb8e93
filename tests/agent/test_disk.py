"""A disk that is small, or full to the last byte: recording is refused, everything else goes on, no restart is needed."""

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing
from pathlib import Path

import aiosqlite
import disks
import pytest
from fakes import ManualClock, eventually

from sidemeter.batches import Row, seal
from sidemeter.buffer import Buffer
from sidemeter.clock import SystemClock
from sidemeter.errors import AgentStopped, InDoubt, StorageRefused
from sidemeter.events import Event, Receipt, decode, encode
from sidemeter.limits import Limit, Limits
from sidemeter.record import Recorder
from sidemeter.settings import Settings
from sidemeter.volume import Volume

MIB = 1 << 20
FILE_SYSTEMS = [disks.tmpfs, disks.ext4]


def rows(first_seq: int, count: int, size: int) -> list[Row]:
    return [
        (seq, encode(Event(f"e{seq}", "chat", "call", "acme", 5, "x" * size)))
        for seq in range(first_seq, first_seq + count)
    ]


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Buffer]:
    buffer = await Buffer.open(directory, ManualClock())
    try:
        yield buffer
    finally:
        await buffer.close()


async def record(buffer: Buffer, count: int, size: int = 2000) -> None:
    await buffer.append(rows(buffer.next_seq, count, size), [])
    buffer.next_seq += count


async def record_until_refused(buffer: Buffer, count: int = 100, size: int = 2000) -> str:
    """Record such groups until the disk takes no more, also not when it was looked at again; what is said then."""
    said = ""
    while not buffer.disk_refusing:
        try:
            while True:
                await record(buffer, count, size)
        except StorageRefused as exc:
            said = str(exc)
        if "at once" in said:
            count = 1
        await buffer.tend()
    return said


async def forward_everything(buffer: Buffer) -> int:
    """What the forwarder does with the buffer, with a control plane that counts everything; how many events."""
    events = 0
    while buffer.unsent_events:
        previous, _ = await buffer.last_batch()
        taken = await buffer.rows(buffer.sealed_seq, 1 << 62, 5000)
        batch = seal(taken, previous, 1, max_events=5000, max_bytes=MIB)
        await buffer.seal(batch)
        await buffer.settle(batch)
        await buffer.keep_limits(
            {"acme": ["tokens"]}, [(Limit("acme/tokens", "acme", "tokens", "METERED", "HARD", 1), 7, batch.last_seq)]
        )
        while await buffer.purge(keep_s=0, keep_bytes=0):
            pass
        events += batch.events
    return events


@pytest.fixture(params=FILE_SYSTEMS, ids=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    make: Callable[[Path, int], AbstractContextManager[Path]] = request.param
    with make(tmp_path / "disk", 64 * MIB) as mounted:
        yield mounted


async def test_recording_uses_the_disk_up_to_the_ballast_and_then_says_that_it_is_full(disk: Path) -> None:
    async with opened(disk / "data") as buffer:
        free_bytes = buffer._volume.free_bytes()
        assert "No space left on device" in await record_until_refused(buffer)
        assert buffer.unsent_bytes > 0.6 * free_bytes  # the log of the last of it had its room as well
        assert (buffer.disk_refusing, buffer.ballast_bytes) == (True, 0)
        with pytest.raises(StorageRefused, match=r"is full: .* MiB are free, .* MiB are needed"):
            await record(buffer, 1, 10)


async def test_a_full_disk_forwards_everything_and_records_again_into_the_room_of_what_went(disk: Path) -> None:
    async with opened(disk / "data") as buffer:
        disks.fill(disk / "filler", 20 * MIB)
        await record_until_refused(buffer)
        recorded = buffer.unsent_events
        disks.fill(disk / "more", buffer._volume.ballast_bytes // 2)
        assert await forward_everything(buffer) == recorded
        assert buffer.disk_refusing
        await record(buffer, 100)
        assert await forward_everything(buffer) == 100


async def test_recording_goes_on_without_a_restart_once_there_is_room(disk: Path) -> None:
    async with opened(disk / "data") as buffer:
        disks.fill(disk / "filler", MIB)
        await record_until_refused(buffer)
        before = buffer.unsent_events
        (disk / "filler").unlink()
        await buffer.tend()
        assert (buffer.disk_refusing, buffer.ballast_bytes) == (False, buffer._volume.ballast_bytes)
        await record(buffer, 1000)
        assert buffer.unsent_events == before + 1000


@pytest.mark.parametrize("disk_mib", [10, 40, 120])
@pytest.mark.parametrize(("count", "size"), [(50, 10), (1000, 200), (1, 60_000), (8, 60_000), (50, 60_000)])
async def test_whatever_is_recorded_last_the_ballast_is_enough_to_forward_it(
    tmp_path: Path, disk_mib: int, count: int, size: int
) -> None:
    with disks.tmpfs(tmp_path / "disk", disk_mib * MIB) as disk:
        async with opened(disk / "data") as buffer:
            disks.fill(disk / "filler", 4 * MIB)
            await record_until_refused(buffer, count, size)
            recorded = buffer.unsent_events
            disks.fill(disk / "more", buffer._volume.ballast_bytes * 3 // 4)
            assert await forward_everything(buffer) == recorded


async def test_a_group_larger_than_what_is_left_is_refused_and_a_smaller_one_is_not(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", 40 * MIB) as disk:
        async with opened(disk / "data") as buffer:
            disks.fill(disk / "filler", 5 * MIB)
            with pytest.raises(StorageRefused, match="too full for 2 MiB at once"):
                await record(buffer, 40, 60_000)
            assert not buffer.disk_refusing
            await record(buffer, 20, 60_000)


async def test_a_disk_without_the_room_for_any_ballast_is_refused_at_the_start(tmp_path: Path) -> None:
    refused = pytest.raises(StorageRefused, match=r"has 7.0 MiB; an agent needs one of 8 MiB")
    with disks.tmpfs(tmp_path / "disk", 7 * MIB) as disk, refused:
        await Buffer.open(disk / "data", ManualClock())


@pytest.mark.parametrize(("disk_mib", "ballast_mib"), [(8, 2), (40, 10), (200, 24)])
async def test_the_ballast_takes_a_quarter_of_a_small_disk(tmp_path: Path, disk_mib: int, ballast_mib: int) -> None:
    with disks.tmpfs(tmp_path / "disk", disk_mib * MIB) as disk:
        async with opened(disk / "data") as buffer:
            assert (buffer.ballast_bytes, buffer.disk_refusing) == (ballast_mib * MIB, False)
            assert (disk / "data" / "ballast").stat().st_blocks * 512 == ballast_mib * MIB


async def test_an_agent_that_starts_on_a_full_disk_forwards_what_it_has(disk: Path) -> None:
    async with opened(disk / "data") as buffer:
        await record(buffer, 1000)
    disks.fill(disk / "filler")
    async with opened(disk / "data") as buffer:
        assert await forward_everything(buffer) == 1000
    disks.fill(disk / "filler", MIB)
    async with opened(disk / "data") as buffer:
        assert (buffer.disk_refusing, buffer.ballast_bytes) == (True, 0)
        with pytest.raises(StorageRefused, match="is full"):
            await record(buffer, 1000)
        (disk / "filler").unlink()
        await buffer.tend()
        await record(buffer, 1000)


class Broken(Volume):
    """A real directory to which the system says `number` while it is set, and SQLite what its connection then makes of it."""

    number: int | None = None
    sqlite_name = "SQLITE_IOERR_WRITE"

    async def probe(self) -> OSError | None:
        return OSError(self.number, os.strerror(self.number)) if self.number else await super().probe()

    async def take_ballast(self) -> None:
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        await super().take_ballast()

    def connect(self, path: Path) -> aiosqlite.Connection:
        volume = self

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                if volume.number and self.in_transaction:
                    exc = sqlite3.OperationalError("disk I/O error")
                    exc.sqlite_errorname = volume.sqlite_name
                    raise exc
                super().commit()

        return aiosqlite.connect(path, factory=Connection)


@pytest.mark.parametrize(
    ("number", "says", "drops"),
    [
        (errno.EDQUOT, "quota exceeded", True),
        (errno.ENOSPC, "No space left", True),
        (errno.EROFS, "Read-only file system", False),
        (errno.EIO, "Input/output error", False),
    ],
)
async def test_a_write_that_the_system_refuses_is_told_by_its_reason_and_taken_up_again(
    tmp_path: Path, number: int, says: str, drops: bool
) -> None:
    volume = Broken(tmp_path)
    buffer = await Buffer.open(tmp_path, ManualClock(), volume.connect, volume)
    volume.number = number
    with pytest.raises(StorageRefused, match=says):
        await record(buffer, 1)
    assert (buffer.ballast_bytes == 0) is buffer.disk_refusing is drops
    assert [seq for seq, _ in await buffer.rows(0, 9, 9)] == []
    volume.number = None
    await buffer.tend()
    assert (buffer.ballast_bytes > 0, buffer.disk_refusing) == (True, False)
    await record(buffer, 1)
    assert buffer.unsent_events == 1
    await buffer.close()


async def test_what_a_failed_sync_left_in_doubt_is_in_the_file_before_it_is_told(tmp_path: Path) -> None:
    faults: list[str] = []
    buffer = await Buffer.open(tmp_path, ManualClock(), disks.doubtful(faults))
    faults.append("after")
    await record(buffer, 3)
    assert (tmp_path / "buffer.sqlite3-wal").stat().st_size == 0
    with closing(sqlite3.connect(shutil.copyfile(tmp_path / "buffer.sqlite3", tmp_path / "alone"))) as conn:
        assert conn.execute("SELECT count(*) FROM events").fetchone() == (3,)
    await buffer.close()


class Unopened(Volume):
    """A directory whose file, once `broken`, fails at the sync of a commit, and then does not open."""

    broken = False

    def connect(self, path: Path) -> aiosqlite.Connection:
        if self.broken:
            path = path / "nothing opens here"
        volume = self

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                super().commit()
                if volume.broken and self.total_changes:
                    raise sqlite3.OperationalError("disk I/O error")

        return aiosqlite.connect(path, factory=Connection)


@asynccontextmanager
async def in_doubt(directory: Path) -> AsyncIterator[tuple[Unopened, Recorder, Buffer, asyncio.Task[list[Receipt]]]]:
    """A recorder whose last commit failed on a file that does not open; it waits for what becomes of it."""
    volume, clock = Unopened(directory), SystemClock()
    buffer = await Buffer.open(directory, clock, volume.connect, volume)
    recorder = Recorder(buffer, Limits(allow_unknown=False), Settings(service="chat"), clock, lambda: None)
    commits = asyncio.create_task(_for_ever(recorder.commit_once))
    await recorder.record(Event("first", "chat", "call", "acme"))
    volume.broken = True
    waits = asyncio.create_task(recorder.record_many([Event("in doubt", "chat", "call", "acme")]))
    await eventually(lambda: recorder._committing.rows)
    behind = asyncio.create_task(recorder.record_many([Event("behind", "chat", "call", "acme")]))
    with pytest.raises(StorageRefused, match="does not say"):
        await behind
    assert not waits.done()
    yield volume, recorder, buffer, waits
    commits.cancel()
    await asyncio.wait([commits])
    await buffer.close()


async def _for_ever(once: Callable[[], Awaitable[None]]) -> None:
    while True:
        await once()


async def test_while_a_commit_is_in_doubt_only_its_own_callers_wait(tmp_path: Path) -> None:
    async with in_doubt(tmp_path) as (volume, recorder, buffer, waits):
        with pytest.raises(StorageRefused, match="does not say what it holds: unable to open"):
            await recorder.record(Event("later", "chat", "call", "acme"))
        later = recorder.record_nowait(Event("nobody waits", "chat", "call", "acme"))
        volume.broken = False
        assert [receipt.duplicate for receipt in await waits] == [False]
        assert buffer.doubt is None
        await recorder.record(Event("again", "chat", "call", "acme"))
        rows = [decode(body).id for _, body in await buffer.rows(0, 99, 99)]
        assert rows == ["first", "in doubt", later, "again"]


async def test_a_stop_does_not_wait_for_a_commit_in_doubt_and_says_that_it_is(tmp_path: Path) -> None:
    async with in_doubt(tmp_path) as (_, recorder, buffer, waits):
        buffer.look_no_more()
        await recorder.give_up(AgentStopped("stopped"))
        with pytest.raises(InDoubt, match="is not known: unable to open"):
            await waits
        assert recorder.pending == 0


async def test_who_waits_for_a_disk_that_hangs_is_told_at_a_stop_and_what_comes_later_is_kept(tmp_path: Path) -> None:
    answers, calls = threading.Event(), threading.Event()

    class Hanging(sqlite3.Connection):
        def commit(self) -> None:
            calls.set()
            assert answers.wait(30)
            super().commit()

    answers.set()
    clock = SystemClock()
    buffer = await Buffer.open(tmp_path, clock, lambda path: aiosqlite.connect(path, factory=Hanging))
    recorder = Recorder(buffer, Limits(allow_unknown=False), Settings(service="chat"), clock, lambda: None)
    commits = asyncio.create_task(_for_ever(recorder.commit_once))
    calls.clear()
    answers.clear()
    given = asyncio.create_task(recorder.record(Event("given", "chat", "call", "acme")))
    await eventually(calls.is_set)
    behind = asyncio.create_task(recorder.record(Event("behind", "chat", "call", "acme")))
    await eventually(lambda: recorder.pending == 2)
    recorder.abandon()
    with pytest.raises(InDoubt, match="its disk did not answer"):
        await given
    with pytest.raises(AgentStopped):
        await behind
    commits.cancel()
    await asyncio.wait([commits])
    answers.set()
    assert [decode(body).id for _, body in await buffer.rows(0, 9, 9)] == ["given"]
    await buffer.close()
