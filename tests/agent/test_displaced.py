"""The data directory is taken away, or another put in its place, under a running agent: what is acknowledged is there."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import disks
import pytest
from fakes import ManualClock

from sidemeter.batches import Row, seal
from sidemeter.buffer import Buffer
from sidemeter.errors import StorageRefused
from sidemeter.events import Event, encode
from sidemeter.volume import Volume

DATABASE, LOG = "buffer.sqlite3", "buffer.sqlite3-wal"


def row(seq: int, name: str = "e") -> Row:
    return seq, encode(Event(f"{name}{seq}", "chat", "call", "acme", 5, '{"tokens":1}'))


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Buffer]:
    buffer = await Buffer.open(directory, ManualClock())
    try:
        yield buffer
    finally:
        await buffer.close()


async def record(buffer: Buffer, *seqs: int) -> None:
    await buffer.append([row(seq) for seq in seqs], [(seq, "chat", f"e{seq}") for seq in seqs])


async def stored(buffer: Buffer) -> list[int]:
    return [seq for seq, _ in await buffer.rows(0, 1 << 62, 1000)]


def removed(data: Path) -> None:
    shutil.rmtree(data)


def removed_with_its_parents(data: Path) -> None:
    shutil.rmtree(data.parent)


def renamed(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))


def emptied(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def replaced_by_a_copy(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))
    shutil.copytree(data.with_name("elsewhere"), data)


def without(*names: str) -> Callable[[Path], None]:
    def remove(data: Path) -> None:
        for name in names:
            (data / name).unlink()

    remove.__name__ = f"without {' and '.join(names)}"
    return remove


def with_another(name: str) -> Callable[[Path], None]:
    def replace(data: Path) -> None:
        content = (data / name).read_bytes()
        (data / name).unlink()
        (data / name).write_bytes(content)

    replace.__name__ = f"with another {name}"
    return replace


FAULTS = [removed, removed_with_its_parents, renamed, emptied, replaced_by_a_copy]
FAULTS += [without(DATABASE), without(LOG), without(DATABASE, LOG), without("lock"), without("mark")]
FAULTS += [with_another(name) for name in (DATABASE, LOG, "lock", "mark")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_what_is_acknowledged_after_the_fault_is_in_the_directory_with_all_before(
    tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    data, left = tmp_path / "parent" / "data", tmp_path / "left"
    async with opened(data) as buffer:
        await buffer.identity("agent", "hello", "boot")
        await record(buffer, *range(1, 6))
        fault(data)
        await record(buffer, 6)
        shutil.copytree(data, left)  # what a kill at this moment leaves
        await record(buffer, 7)
        assert (await stored(buffer), buffer.waiting_events) == ([1, 2, 3, 4, 5, 6, 7], 7)
        assert (await buffer.identity("other", "other", "boot")).agent_id == "agent"
        await buffer.tend()
        assert (buffer.disk_refusing, (data / "ballast").exists()) == (False, True)
        with pytest.raises(Exception, match="one agent, one directory"):
            await Buffer.open(data, ManualClock())
    for directory, last in ((left, 6), (data, 7)):
        async with opened(directory) as again:
            assert await stored(again) == [*range(1, last + 1)]
            assert (again.lost_events, again.open_losses) == (0, 0)
            assert await again.append([row(9)], [(9, "chat", "e5")]) == {9}  # the ids of callers are there too


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_it_is_noticed_also_when_nothing_is_recorded(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    data, left = tmp_path / "parent" / "data", tmp_path / "left"
    async with opened(data) as buffer:
        await record(buffer, 1, 2, 3)
        fault(data)
        await buffer.tend()
        shutil.copytree(data, left)
    async with opened(left) as again:
        assert await stored(again) == [1, 2, 3]


async def test_what_is_found_in_the_place_of_the_directory_is_kept_to_be_read_back(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    async with opened(other) as buffer:
        await buffer.append([row(1, "other"), row(2, "other")], [])
    async with opened(data) as buffer:
        await record(buffer, 1)
        shutil.rmtree(data)
        other.rename(data)
        await record(buffer, 2)
        assert (await stored(buffer), buffer.salvaging) == ([1, 2], True)
        damage = await buffer.damage()
        assert (damage.facts.committed, damage.exact, damage.same_file) == (2, True, True)
        assert (data / "damaged" / "1" / DATABASE).exists()


async def test_a_damaged_database_that_was_taken_away_before_it_was_read_back_is_not_forgotten(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with opened(data) as buffer:
        await record(buffer, 1)
        with pytest.raises(StorageRefused):
            await buffer.give_up("for the test")
        before = await buffer.damage()
        shutil.rmtree(data)
        await record(buffer, 2)
        assert await buffer.damage() == before
        await buffer.salvaged(before)
        assert not buffer.salvaging


async def test_while_nothing_can_be_written_there_recording_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with opened(data) as buffer:
        await record(buffer, 1, 2)
        data.rename(tmp_path / "elsewhere")
        data.touch()
        for _ in range(2):
            with pytest.raises(StorageRefused, match=r"taken away.*File exists|Not a directory"):
                await record(buffer, 3)
        assert (await stored(buffer), buffer.waiting_events, buffer.disk_refusing) == ([1, 2], 2, True)
        batch = seal(await buffer.rows(0, 9, 1), None, 1, max_events=1, max_bytes=1 << 20)
        await buffer.seal(batch)
        await buffer.settle(batch)
        await buffer.tend()
        assert buffer.disk_refusing
        data.unlink()
        await buffer.tend()
        await record(buffer, 3)
        assert (buffer.unsent_events, buffer.disk_refusing) == (2, False)
    async with opened(data) as again:
        assert (await stored(again), again.unsent_events) == ([1, 2, 3], 2)


async def test_while_another_agent_has_the_place_recording_is_refused_and_the_rest_stays_reachable(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    async with opened(data) as buffer:
        await record(buffer, 1, 2)
        data.rename(tmp_path / "elsewhere")
        async with opened(data) as other:
            await other.append([row(1, "other")], [])
            with pytest.raises(StorageRefused, match="another agent uses the data directory"):
                await record(buffer, 3)
            await buffer.tend()
            assert await stored(buffer) == [1, 2]
            await other.append([row(2, "other")], [])
        await buffer.tend()
        await record(buffer, 3)
        assert (await stored(buffer), buffer.salvaging) == ([1, 2, 3], True)


async def test_without_its_lock_an_agent_leaves_the_file_to_the_one_that_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await record(buffer, 1)
        (tmp_path / "lock").unlink()
        other = Volume(tmp_path)
        await other.lock()  # its first step; the next is to open the file, which is not to be had before it is left
        await buffer.tend()
        async with aiosqlite.connect(tmp_path / DATABASE) as conn:
            assert [seq for (seq,) in await conn.execute_fetchall("SELECT seq FROM events")] == [1]
        for refused in (record(buffer, 2), stored(buffer)):
            with pytest.raises(StorageRefused, match="another agent uses the data directory"):
                await refused
        other.release()
        await buffer.tend()
        await record(buffer, 3)
        assert await stored(buffer) == [1, 3]


async def test_a_file_that_another_has_open_is_refused_until_it_is_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await record(buffer, 1)
        (tmp_path / "lock").unlink()
        with pytest.raises(StorageRefused, match="database is locked"):
            await Buffer.open(tmp_path, ManualClock(), lambda path: aiosqlite.connect(path, timeout=0))
        await buffer.tend()
        await record(buffer, 2)
        assert await stored(buffer) == [1, 2]


async def test_a_disk_too_full_for_the_copy_refuses_and_takes_it_later(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with disks.tmpfs(tmp_path / "disk", 32 << 20) as disk:
        async with opened(data) as buffer:
            large = encode(Event("large", "chat", "call", "acme", 5, "x" * 60_000))
            for seq in range(1, 101):
                await buffer.append([(seq, large)], [])
            disks.fill(disk / "filler", 1 << 20)
            data.rename(tmp_path / "elsewhere")
            data.symlink_to(disk, target_is_directory=True)
            with pytest.raises(StorageRefused, match="taken away"):
                await record(buffer, 101)
            assert len(await stored(buffer)) == 100
            (disk / "filler").unlink()
            await buffer.tend()
            await record(buffer, 101)
        async with opened(disk) as again:
            assert len(await stored(again)) == 101
