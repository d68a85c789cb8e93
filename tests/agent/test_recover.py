"""Bringing back what a damaged database holds: interrupted anywhere, it is gone on with, and nothing comes twice."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent.damage import Made, RestingClock, body, copied, fill, recovered
from agent.whole_agent import settings
from disks import doubtful
from fakes import eventually

from sidemeter import damaged
from sidemeter.buffer import Buffer
from sidemeter.clock import SystemClock
from sidemeter.damaged import Damage
from sidemeter.errors import StorageRefused
from sidemeter.kept import MAX_TOLD
from sidemeter.limits import Limits
from sidemeter.losses import Loss
from sidemeter.mark import Facts, Mark
from sidemeter.record import Recorder
from sidemeter.recover import Salvager

ROWS = 40


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """What a kill left, and then the first page of the database went."""
    directory = tmp_path_factory.mktemp("left")

    async def leave() -> Made:
        buffer = await Buffer.open(directory / "live", RestingClock())
        made = await fill(buffer, ROWS)
        copied(directory / "live", directory / "left")
        await buffer.close()
        return made

    made = asyncio.run(leave())
    with (directory / "left" / "buffer.sqlite3").open("r+b") as file:
        file.write(bytes(100))
    return directory / "left", made


def facts_of(directory: Path) -> Facts:
    mark = Mark.open(directory / "mark")
    mark.close()
    assert mark.facts
    return mark.facts


def damage_of(directory: Path) -> Damage:
    return Damage(facts_of(directory), "its first bytes are not those of a buffer", 7, exact=True, same_file=True)


def noted(directory: Path) -> None:
    """Killed when what is known was written down, before anything was moved."""
    damaged.move_aside(directory, damage_of(directory))
    aside = directory / "damaged" / "1"
    for name in ("buffer.sqlite3", "buffer.sqlite3-wal"):
        (aside / name).replace(directory / name)
    damaged._write(aside / "salvage", replace_moved(damaged.pending(directory)[0], moved=False))


def log_moved(directory: Path) -> None:
    noted(directory)
    (directory / "buffer.sqlite3-wal").replace(directory / "damaged" / "1" / "buffer.sqlite3-wal")


def both_moved(directory: Path) -> None:
    damaged.move_aside(directory, damage_of(directory))
    aside = directory / "damaged" / "1"
    damaged._write(aside / "salvage", replace_moved(damaged.pending(directory)[0], moved=False))


def moved(directory: Path) -> None:
    damaged.move_aside(directory, damage_of(directory))


def begun_anew(directory: Path) -> None:
    """Killed when the new database was made, before the mark spoke of it."""
    kept = (directory / "mark").read_bytes()

    async def begin() -> None:
        buffer = await Buffer.open(directory, SystemClock())
        await buffer.close()

    asyncio.run(begin())
    (directory / "mark").write_bytes(kept)


def replace_moved(damage: Damage, *, moved: bool) -> Damage:
    return Damage(damage.facts, damage.reason, 7, exact=True, same_file=True, number=damage.number, moved=moved)


@pytest.mark.parametrize("killed", [noted, log_moved, both_moved, moved, begun_anew])
def test_a_kill_while_the_files_are_moved_changes_nothing(
    left: tuple[Path, Made], tmp_path: Path, killed: Callable[[Path], None]
) -> None:
    directory = copied(left[0], tmp_path / "data")
    killed(directory)
    made = replace(left[1], acknowledged=dict(left[1].acknowledged))
    outcome = asyncio.run(recovered(directory, made))
    outcome.check(made)
    assert [each.id for each in outcome.losses] == ["earlier"], "every row can be read"
    assert [each.name for each in (directory / "damaged").iterdir()] == ["1"]


class Rig:
    """A buffer with what feeds it, and a salvager that can be stopped between two of its steps."""

    def __init__(self, buffer: Buffer, directory: Path) -> None:
        clock = RestingClock()
        self.buffer = buffer
        self.recorder = Recorder(buffer, Limits(allow_unknown=False), settings(directory), clock, lambda: None)
        self.salvager = Salvager(buffer, clock, self.requeue)
        self.requeued: list[bytes] = []
        self.most = 1 << 20
        self.fails: Iterator[bool] = iter(())

    async def requeue(self, bodies: list[bytes]) -> None:
        if len(self.requeued) >= self.most:
            await asyncio.get_running_loop().create_future()
        if next(self.fails, False):
            raise StorageRefused("full")
        commit = asyncio.create_task(self.recorder.commit_once())
        await self.recorder.requeue(bodies)
        await commit
        self.requeued += bodies

    async def stored(self) -> list[bytes]:
        return [each for _, each in await self.buffer.rows(0, 1 << 62, 1 << 20)]


async def test_what_was_brought_back_before_a_kill_does_not_come_twice(left: tuple[Path, Made], tmp_path: Path) -> None:
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    rig = Rig(buffer, directory)
    rig.most = 4
    loop = asyncio.create_task(rig.salvager.salvage_once())
    await eventually(lambda: len(rig.requeued) >= 4)
    loop.cancel()
    await asyncio.wait([loop])
    before = await rig.stored()
    assert before
    await buffer.close()
    buffer = await Buffer.open(directory, RestingClock())
    assert buffer.salvaging
    rig = Rig(buffer, directory)
    await rig.salvager.salvage_once()
    after = await rig.stored()
    assert len(after) == len(set(after))
    assert set(after) >= set(before)
    assert {
        left[1].acknowledged[each] for each in left[1].acknowledged.keys() - left[1].counted - left[1].refused
    } <= set(after)
    assert not buffer.salvaging
    await buffer.close()


async def test_what_was_counted_and_is_kept_comes_back_too(left: tuple[Path, Made], tmp_path: Path) -> None:
    """A damaged buffer cannot say what an older control plane may ask for: all of it is sent once more."""
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    await Rig(buffer, directory).salvager.salvage_once()
    assert {left[1].acknowledged[each] for each in left[1].counted} <= {
        each for _, each in await buffer.rows(0, 1 << 62, 1 << 20)
    }
    await buffer.close()


async def test_kept_rows_that_cannot_be_read_back_are_declared_once_the_control_plane_lost_them_too(
    left: tuple[Path, Made], tmp_path: Path
) -> None:
    directory = copied(left[0], tmp_path / "data")
    (directory / "buffer.sqlite3").unlink()
    (directory / "buffer.sqlite3-wal").unlink()
    buffer = await Buffer.open(directory, RestingClock())
    await Rig(buffer, directory).salvager.salvage_once()
    gone, refused, earlier = await buffer.losses()
    counted = len(left[1].counted)
    done_with = counted + len(left[1].refused)
    assert (gone.events, gone.first_seq, earlier.events) == (ROWS + 4 - done_with, counted + 1, None)
    assert refused.events == len(left[1].refused), "their bytes were all that there was of them"
    await buffer.declared([gone.id, refused.id, earlier.id])
    assert (await buffer.losses(), buffer.open_losses) == ([], 0)
    await buffer.identity("agent", "hello", "boot")
    before = buffer.lost_events
    await buffer.start_over("hello-2", everything=True)
    assert buffer.open_losses == 4
    (kept,) = [each for each in await buffer.losses() if each.id not in {gone.id, refused.id, earlier.id}]
    assert (kept.events, kept.first_seq, kept.last_seq) == (counted, 1, counted)
    assert buffer.lost_events == before + counted
    await buffer.close()


async def test_kept_rows_that_vanish_without_a_trace_are_declared_when_they_are_needed(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path, RestingClock())
    made = await fill(buffer, ROWS)
    await buffer._database.transact(lambda conn: conn.execute("DELETE FROM events WHERE seq IN (2, 3)"))
    await buffer.declared(["earlier"])
    await buffer.start_over("hello-2", everything=True)
    kept = [each for each in await buffer.losses() if each.id != "earlier"]
    assert [(each.events, each.first_seq, each.last_seq) for each in kept] == [(2, 1, len(made.counted))]
    assert buffer.unsent_events == len(made.acknowledged) - len(made.refused) - 2
    await buffer.close()


@pytest.mark.parametrize(("copy", "open_losses"), [("g1", 0), ("g2", 1)])
async def test_what_was_counted_is_a_loss_only_in_another_copy_of_the_database(
    tmp_path: Path, copy: str, open_losses: int
) -> None:
    buffer = await Buffer.open(tmp_path, RestingClock())
    await buffer.identity("agent", "hello", "boot")
    await buffer.set_epoch(1, "g1")
    await buffer.declare(Loss("f-kept", 1, 9, 9, "gone", 1, "g1"))
    assert (buffer.open_losses, buffer.lost_events) == (0, 0)
    await buffer.set_epoch(1, copy)
    assert buffer.open_losses == len(await buffer.losses()) == open_losses
    await buffer.declare(Loss("other-kept", 1, 9, 9, "gone", 1, "g1"))
    assert buffer.open_losses == len(await buffer.losses()) == 2 * open_losses
    await buffer.close()


async def test_a_buffer_that_is_begun_anew_knows_what_was_counted_last(left: tuple[Path, Made], tmp_path: Path) -> None:
    directory = copied(left[0], tmp_path / "data")
    for _ in range(2):
        buffer = await Buffer.open(directory, RestingClock())
        counted = await buffer.counted()
        assert counted
        assert (counted.epoch, counted.batch_no, counted.generation) == (1, 2, "g1")
        await buffer.close()
    buffer = await Buffer.open(directory, RestingClock())
    await buffer.start_over("hello-2", everything=True)
    assert await buffer.counted() is None
    await buffer.close()


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_so_many_losses_are_kept_for_a_restored_control_plane(tmp_path: Path, more: int) -> None:
    buffer = await Buffer.open(tmp_path, RestingClock())
    await buffer.identity("agent", "hello", "boot")
    losses = [Loss(str(number), number, number, 1, "gone", 1) for number in range(MAX_TOLD + more)]
    await buffer.keep([], losses)
    await buffer.declared([each.id for each in losses])
    await buffer.start_over("hello-2", everything=True)
    assert await buffer.losses() == losses[max(more, 0) :]
    await buffer.close()


async def test_a_disk_that_refuses_delays_what_comes_back(left: tuple[Path, Made], tmp_path: Path) -> None:
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    rig = Rig(buffer, directory)
    rig.fails = iter([True, False, True, True])
    await rig.salvager.salvage_once()
    stored = set(await rig.stored())
    refused = {left[1].acknowledged[each] for each in left[1].refused}  # may come back, to be refused once more
    assert stored | refused == set(left[1].acknowledged.values())
    assert len(rig.requeued) == len(stored) == rig.salvager.salvaged_events
    await buffer.close()


async def test_callers_ids_go_on_being_known(left: tuple[Path, Made], tmp_path: Path) -> None:
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    await Rig(buffer, directory).salvager.salvage_once()
    last = ROWS + 4
    assert await buffer.append([(1000, body(last))], [(1000, "chat", f"e{last}")]) == {1000}
    await buffer.close()


async def test_a_loss_that_was_not_declared_yet_outlives_the_database_it_was_kept_in(
    left: tuple[Path, Made], tmp_path: Path
) -> None:
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    assert not await buffer.losses()
    await Rig(buffer, directory).salvager.salvage_once()
    assert await buffer.losses() == [Loss("earlier", 1, 2, 2, "gone", 1)]
    assert buffer.open_losses == 1
    await buffer.close()


class NextBoot(RestingClock):
    """The machine after a power cut."""

    def boot_id(self) -> str:
        return "the next run"


@pytest.mark.parametrize("clock", [RestingClock(), NextBoot()], ids=["restarted", "power cut"])
async def test_a_loss_that_is_gone_before_it_was_declared_is_noticed_and_one_that_was_declared_is_not_missed(
    tmp_path: Path, clock: RestingClock
) -> None:
    buffer = await Buffer.open(tmp_path / "live", RestingClock())
    for each in ("one", "two"):
        await buffer.declare(Loss(each, 1, 2, 2, "gone", 1))
    await buffer.declared(["one"])
    left = copied(tmp_path / "live", tmp_path / "left")  # as a kill leaves it
    await buffer.close()
    buffer = await Buffer.open(left, clock)
    assert (buffer.rebuilds, [loss.id for loss in await buffer.losses()]) == (0, ["two"])
    await buffer._database.transact(lambda conn: conn.execute("DELETE FROM losses"))
    after = copied(left, tmp_path / "after")
    await buffer.close()
    buffer = await Buffer.open(after, NextBoot())
    assert buffer.rebuilds == 1
    await Rig(buffer, after).salvager.salvage_once()
    assert "two" in [loss.id for loss in await buffer.losses()]
    await buffer.close()


async def test_declarations_that_are_gone_with_a_database_are_missed_by_a_control_plane_that_does_not_know_them(
    tmp_path: Path,
) -> None:
    buffer = await Buffer.open(tmp_path / "live", RestingClock())
    await fill(buffer, ROWS)
    await buffer.declared(["earlier"])
    left = copied(tmp_path / "live", tmp_path / "left")
    await buffer.close()
    for name in ("buffer.sqlite3", "buffer.sqlite3-wal"):
        (left / name).unlink()
    buffer = await Buffer.open(left, RestingClock())
    await Rig(buffer, left).salvager.salvage_once()
    await buffer.identity("agent", "hello", "boot")
    now = [each.id for each in await buffer.losses()]
    assert not [each for each in now if each.endswith("-losses")], "whoever has the events knows of the losses too"
    await buffer.start_over("hello-2", everything=True)
    (loss,) = [each for each in await buffer.losses() if each.id.endswith("-losses")]
    assert (loss.events, loss.reason) == (None, "declarations of earlier losses were damaged")
    await buffer.close()


@pytest.mark.parametrize(("table", "what"), [("refused", "events kept apart"), ("losses", "declarations of losses")])
async def test_what_is_gone_of_what_is_kept_beside_the_events_is_noticed(
    tmp_path: Path, table: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await Buffer.open(tmp_path / "live", RestingClock())
    await fill(buffer, ROWS)
    await buffer.declared(["earlier"])
    await buffer._database.transact(
        lambda conn: conn.execute(f"DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})")
    )
    left = copied(tmp_path / "live", tmp_path / "left")
    await buffer.close()
    buffer = await Buffer.open(left, RestingClock())
    assert (buffer.rebuilds, buffer.salvaging) == (1, True)
    assert f"1 {what} are gone from it" in caplog.text
    await buffer.close()


async def test_an_event_kept_apart_that_does_not_prove_itself_is_declared_once(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "live", RestingClock())
    made = await fill(buffer, ROWS)
    await buffer._database.transact(
        lambda conn: conn.execute("UPDATE refused SET crc = 0 WHERE seq = (SELECT min(seq) FROM refused)")
    )
    await buffer.close()
    buffer = await Buffer.open(tmp_path / "live", RestingClock())
    assert (buffer.rebuilds, buffer.lost_events) == (0, 1)
    await buffer.close()
    left = copied(tmp_path / "live", tmp_path / "left")
    for name in ("buffer.sqlite3", "buffer.sqlite3-wal"):
        (left / name).unlink(missing_ok=True)
    buffer = await Buffer.open(left, RestingClock())
    await Rig(buffer, left).salvager.salvage_once()
    refused = [each.events for each in await buffer.losses() if each.id.endswith("-refused")]
    assert refused == ([len(made.refused) - 1] if len(made.refused) > 1 else [])
    await buffer.close()


async def test_a_loss_stays_until_the_mark_on_disk_says_one_less(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path, RestingClock())
    await buffer.declare(Loss("one", 1, 2, 2, "gone", 1))
    mark = buffer._watch._mark
    assert mark is not None
    writable, mark._descriptor = mark._descriptor, os.open(tmp_path / "mark", os.O_RDONLY)
    with pytest.raises(StorageRefused, match="the mark cannot be synced"):
        await buffer.declared(["one"])
    assert [loss.id for loss in await buffer.losses()] == ["one"]
    os.close(mark._descriptor)
    mark._descriptor = writable
    await buffer.declared(["one"])
    assert await buffer.losses() == []
    await buffer.close()


async def test_a_declaration_that_the_disk_may_have_taken_in_doubt_is_not_taken_for_damage(tmp_path: Path) -> None:
    faults: list[str] = []
    buffer = await Buffer.open(tmp_path, RestingClock(), doubtful(faults))
    await buffer.declare(Loss("one", 1, 2, 2, "gone", 1))
    faults.append("after")
    with pytest.raises(StorageRefused):
        await buffer.declared(["one"])
    assert (buffer.rebuilds, await buffer.losses()) == (0, [])
    await buffer.close()


async def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    for number in range(1, 4):
        buffer = await Buffer.open(directory, RestingClock())
        if number > 1:
            await Rig(buffer, directory).salvager.salvage_once()
        await buffer.append([(buffer.next_seq, body(number))], [])
        await buffer.close()
        (directory / "buffer.sqlite3").write_bytes(b"noise")
    buffer = await Buffer.open(directory, RestingClock())
    await Rig(buffer, directory).salvager.salvage_once()
    assert [each.name for each in (directory / "damaged").iterdir()] == ["3"]
    assert sum(each.events or 0 for each in await buffer.losses()) >= 1
    await buffer.close()


async def test_two_databases_damaged_one_after_the_other_are_both_read_back(
    left: tuple[Path, Made], tmp_path: Path
) -> None:
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    await buffer.append([(buffer.next_seq, body(900))], [])
    await buffer.close()
    with (directory / "buffer.sqlite3").open("r+b") as file:
        file.write(bytes(100))
    made = replace(left[1], acknowledged=left[1].acknowledged | {"e900": body(900)})
    outcome = await recovered(directory, made)
    outcome.check(made)
    assert outcome.rebuilds == 1
    assert [each.id for each in outcome.losses] == ["earlier"]


async def test_what_was_known_of_a_damaged_database_can_be_damaged_too(left: tuple[Path, Made], tmp_path: Path) -> None:
    directory = copied(left[0], tmp_path / "data")
    buffer = await Buffer.open(directory, RestingClock())
    await buffer.close()
    (directory / "damaged" / "1" / "salvage").write_bytes(b"noise")
    made = replace(left[1], acknowledged=dict(left[1].acknowledged))
    outcome = await recovered(directory, made)
    outcome.check(made)
    assert (None, None) in [(each.last_seq, each.events) for each in outcome.losses]


@pytest.mark.no_cover  # noise of many pages is searched byte by byte
async def test_a_file_that_is_overwritten_under_a_running_agent_is_begun_anew(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    buffer = await Buffer.open(directory, RestingClock())
    rows = [(seq, body(seq, 2000)) for seq in range(1, 400)]
    await buffer.append(rows, [])
    conn = buffer._database._conn
    assert conn
    await conn.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    await conn.execute("PRAGMA shrink_memory")
    file = directory / "buffer.sqlite3"
    with file.open("r+b") as opened:
        for page in range(5, 40):
            opened.seek(page * 4096)
            opened.write(bytes([page]) * 4096)
    while not buffer.rebuilds:
        try:
            if len(await buffer.waiting_rows(1000)) < 399:
                pytest.fail("rows are missing, and nobody noticed")
        except StorageRefused:
            assert buffer.rebuilds
    await buffer.append([(1000, body(1000))], [])
    await buffer.close()
    made = Made({f"e{seq}": each for seq, each in rows} | {"e1000": body(1000)})
    outcome = await recovered(directory, made)
    outcome.check(made)
    assert 300 < len(outcome.sent) < 400
    shutil.rmtree(directory)
