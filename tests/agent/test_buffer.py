"""The buffer, and the database under it, on a real disk: durable or refused, never in between."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from disks import doubtful
from fakes import ManualClock, eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidemeter.batches import Batch, Row, seal
from sidemeter.buffer import HELD_BYTES, HELD_S, Buffer
from sidemeter.database import PAGE_BYTES, WAL_PAGES
from sidemeter.errors import DirectoryInUse, StorageRefused
from sidemeter.events import Event, encode
from sidemeter.limits import Limit
from sidemeter.losses import Loss


def row(seq: int, name: str | None = None, source: str = "chat") -> Row:
    return seq, encode(Event(name or f"e{seq}", source, "call", "acme", 5, '{"tokens":1}'))


async def sealed(buffer: Buffer, epoch: int = 1, events: int = 100) -> Batch:
    previous, _ = await buffer.last_batch()
    rows = await buffer.rows(buffer.sealed_seq, 1 << 62, events)
    batch = seal(rows, previous, epoch, max_events=events, max_bytes=1 << 20)
    await buffer.seal(batch)
    return batch


async def stored(buffer: Buffer) -> list[int]:
    return [seq for seq, _ in await buffer.rows(0, 1 << 62, 10_000)]


@pytest.fixture
async def buffer(tmp_path: Path) -> AsyncIterator[Buffer]:
    opened = await Buffer.open(tmp_path / "data", ManualClock())
    yield opened
    await opened.close()


async def test_rows_are_there_after_a_restart(tmp_path: Path) -> None:
    first = await Buffer.open(tmp_path, ManualClock())
    await first.append([row(1), row(2)], [])
    await first.close()
    second = await Buffer.open(tmp_path, ManualClock())
    assert await stored(second) == [1, 2]
    assert (second.next_seq, second.waiting_events, second.oldest_us) == (3, 2, 5)
    await second.close()


async def test_every_commit_waits_for_the_disk(buffer: Buffer, tmp_path: Path) -> None:
    assert await buffer._database._conn.execute_fetchall("PRAGMA synchronous") == [(2,)]
    assert await buffer._database._conn.execute_fetchall("PRAGMA journal_mode") == [("wal",)]


async def test_the_directory_is_made_for_its_owner_alone(buffer: Buffer, tmp_path: Path) -> None:
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_second_agent_on_the_directory_is_refused(buffer: Buffer, tmp_path: Path) -> None:
    with pytest.raises(DirectoryInUse, match=str(tmp_path / "data")):
        await Buffer.open(tmp_path / "data", ManualClock())


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageRefused):
        await Buffer.open(tmp_path / "file" / "data", ManualClock())


async def test_a_file_of_a_newer_form_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "buffer.sqlite3") as conn:
        conn.execute("PRAGMA user_version = 99")
    conn.close()
    with pytest.raises(StorageRefused, match="form 99"):
        await Buffer.open(tmp_path, ManualClock())


async def test_a_callers_id_is_taken_once_also_within_one_group(buffer: Buffer) -> None:
    ids = [(1, "chat", "a"), (2, "chat", "a"), (3, "other", "a")]
    assert await buffer.append([row(1, "a"), row(2, "a"), row(3, "a", "other")], ids) == {2}
    assert await buffer.append([row(4, "a"), row(5)], [(4, "chat", "a")]) == {4}
    assert await stored(buffer) == [1, 3, 5]
    assert buffer.waiting_events == 3
    assert await buffer.holds("other", "a")
    assert not await buffer.holds("other", "b")


async def test_a_callers_id_is_known_until_its_row_is_purged(buffer: Buffer) -> None:
    await buffer.append([row(1, "a")], [(1, "chat", "a")])
    await buffer.settle(await sealed(buffer))
    assert await buffer.append([row(2, "a")], [(2, "chat", "a")]) == {2}
    await buffer.append([row(3)], [])
    await buffer.settle(await sealed(buffer))
    assert await buffer.purge(keep_s=0, keep_bytes=0)
    assert await buffer.append([row(4)], [(4, "chat", "a")]) == set()


async def test_a_full_disk_refuses_the_group_and_the_next_one_goes_in(buffer: Buffer) -> None:
    await buffer._database._conn.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageRefused, match="full"):
        await buffer.append([(seq, bytes(4000)) for seq in range(1, 100)], [(1, "chat", "a")])
    await buffer._database._conn.execute("PRAGMA max_page_count = 100000")
    await buffer.tend()
    assert await stored(buffer) == []
    assert await buffer.append([row(1)], [(1, "chat", "a")]) == set()
    assert buffer.waiting_events == 1


async def test_a_read_only_file_refuses_and_recovers_without_a_restart(buffer: Buffer) -> None:
    await buffer._database._conn.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageRefused, match="READONLY"):
        await buffer.append([row(1)], [])
    await buffer._database._conn.execute("PRAGMA query_only = 0")
    await buffer.append([row(1)], [])
    assert await stored(buffer) == [1]


async def test_a_cancelled_caller_leaves_no_transaction_open(buffer: Buffer) -> None:
    task = asyncio.create_task(buffer.append([row(1)], []))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await buffer.append([row(2)], [])
    assert not buffer._database._conn.in_transaction
    assert await stored(buffer) == [1, 2]
    assert buffer.waiting_events == 2


@pytest.mark.parametrize(("fault", "kept"), [("before", []), ("after", [1, 2])])
async def test_a_commit_that_fails_is_looked_up(tmp_path: Path, fault: str, kept: list[int]) -> None:
    faults: list[str] = []
    buffer = await Buffer.open(tmp_path, ManualClock(), doubtful(faults))
    faults.append(fault)
    append = buffer.append([row(1), row(2, "a")], [(2, "chat", "a")])
    if kept:
        assert await append == set()
    else:
        with pytest.raises(StorageRefused):
            await append
    assert await stored(buffer) == kept
    assert buffer.waiting_events == len(kept)
    assert await buffer.append([row(3, "a")], [(3, "chat", "a")]) == ({3} if kept else set())
    await buffer.close()


async def test_nobody_is_answered_until_the_outcome_of_a_commit_is_known(tmp_path: Path) -> None:
    clock, faults, opens = ManualClock(), [], [True, False, False, True]

    def connect(path: Path) -> aiosqlite.Connection:
        found = path if opens.pop(0) else tmp_path / "missing" / "file"
        return doubtful(faults)(found)

    buffer = await Buffer.open(tmp_path, clock, connect)
    faults.append("after")
    append = asyncio.create_task(buffer.append([row(1)], []))

    def move() -> bool:
        assert not opens or not append.done()
        clock.advance(0.2)
        return append.done()

    await eventually(move)
    assert await append == set()
    assert (opens, buffer.waiting_events) == ([], 1)
    await buffer.close()


async def test_a_batch_is_kept_as_it_was_sealed(buffer: Buffer) -> None:
    await buffer.append([row(1), row(2), row(3)], [])
    batch = await sealed(buffer, events=2)
    assert await buffer.last_batch() == (batch, True)
    assert (buffer.waiting_events, buffer.unsent_events, buffer.sealed_seq) == (1, 3, 2)
    await buffer.settle(batch)
    assert await buffer.last_batch() == (batch, False)
    assert (buffer.waiting_events, buffer.unsent_events) == (1, 1)


@pytest.mark.parametrize(("everything", "waiting"), [(False, 2), (True, 3)])
async def test_starting_over_lets_go_of_the_epoch_and_of_its_batches(
    buffer: Buffer, everything: bool, waiting: int
) -> None:
    await buffer.identity("agent", "hello-1", "boot")
    await buffer.set_epoch(1, "g1")
    await buffer.append([row(1), row(2), row(3)], [])
    await buffer.settle(await sealed(buffer, events=1))
    await sealed(buffer, events=1)
    assert await buffer.start_over("hello-2", everything=everything) == ("agent", "hello-2", None, 1, None, None, 2)
    assert buffer.waiting_events == buffer.unsent_events == waiting


async def test_earlier_batches_are_sent_again_only_while_they_are_kept(buffer: Buffer) -> None:
    await buffer.append([row(1), row(2), row(3)], [])
    for _ in range(3):
        await buffer.settle(await sealed(buffer, events=1))
    assert await buffer.resend_from(1, 2)
    assert buffer.unsent_events == 2
    assert await buffer.purge(keep_s=0, keep_bytes=0)
    assert not await buffer.resend_from(1, 1)


async def test_a_refused_event_is_kept_aside_with_its_reason(buffer: Buffer) -> None:
    await buffer.append([row(1), row(2)], [])
    await buffer.set_aside(await sealed(buffer, events=1), "poison")
    assert await stored(buffer) == [2]
    assert buffer.refused_events == 1
    kept = await buffer._database._conn.execute_fetchall("SELECT seq, body, reason FROM refused")
    assert kept == [(1, row(1)[1], "poison")]


async def test_settled_rows_go_by_age_of_running_time_or_by_size_oldest_first(tmp_path: Path) -> None:
    clock = ManualClock()
    buffer = await Buffer.open(tmp_path, clock)
    await buffer.append([row(1), row(2), row(3)], [])
    for _ in range(2):
        await buffer.settle(await sealed(buffer, events=1))
        clock.advance(10)
    clock.set_wall(0)
    assert not await buffer.purge(keep_s=30, keep_bytes=1 << 20)
    assert await buffer.purge(keep_s=15, keep_bytes=1 << 20)
    assert not await buffer.purge(keep_s=15, keep_bytes=1 << 20)
    assert await stored(buffer) == [2, 3]
    await buffer.close()


@pytest.mark.parametrize(("counted_seq", "goes"), [(0, False), (1, True), (9, True)])
async def test_rows_that_a_known_total_does_not_hold_yet_outlast_the_keep_rule(
    buffer: Buffer, counted_seq: int, goes: bool
) -> None:
    await buffer.append([row(1), row(2)], [])
    for _ in range(2):
        await buffer.settle(await sealed(buffer, events=1))
    limit = Limit("acme/tokens", "acme", "tokens", "METERED", "HARD", 1)
    await buffer.keep_limits({}, [(limit, 7, counted_seq)])
    assert await buffer.purge(keep_s=0, keep_bytes=0) is goes


async def test_a_total_that_never_comes_holds_rows_only_so_long(tmp_path: Path) -> None:
    clock = ManualClock()
    buffer = await Buffer.open(tmp_path, clock)
    await buffer.append([row(1), row(2)], [])
    for _ in range(2):
        await buffer.settle(await sealed(buffer, events=1))
    await buffer.keep_limits({}, [(Limit("gone/tokens", "gone", "tokens", "METERED", "HARD", 1), 7, 0)])
    clock.advance(HELD_S)
    assert not await buffer.purge(keep_s=1, keep_bytes=1 << 20)
    clock.advance(2)
    assert await buffer.purge(keep_s=1, keep_bytes=1 << 20)
    await buffer.close()


async def test_a_total_that_never_comes_holds_only_so_many_bytes(buffer: Buffer) -> None:
    await buffer.append([row(1), row(2)], [])
    for _ in range(2):
        await buffer.settle(await sealed(buffer, events=1))
    await buffer.keep_limits({}, [(Limit("gone/tokens", "gone", "tokens", "METERED", "HARD", 1), 7, 0)])
    buffer.settled_bytes = HELD_BYTES + 11
    assert not await buffer.purge(keep_s=1000, keep_bytes=11)
    assert await buffer.purge(keep_s=1000, keep_bytes=10)


async def test_the_write_ahead_log_stays_within_its_bound(buffer: Buffer, tmp_path: Path) -> None:
    log, largest = tmp_path / "data" / "buffer.sqlite3-wal", 0
    large = encode(Event("1", "chat", "call", "acme", 5, "x" * 100_000))
    for number in range(30):
        await buffer.append([(10 * number + n, large) for n in range(10)], [])
        largest = max(largest, log.stat().st_size)
    assert 0.9 * WAL_PAGES * PAGE_BYTES < largest < 1.2 * WAL_PAGES * PAGE_BYTES


async def test_a_loss_is_kept_until_the_control_plane_has_stored_it(tmp_path: Path) -> None:
    first = await Buffer.open(tmp_path, ManualClock())
    whole, open_ended = Loss("a", 1, 3, 3, "gone", 7), Loss("b", 9, None, None, "gone", 8)
    for loss in (whole, open_ended, whole):
        await first.declare(loss)
    assert (first.lost_events, first.open_losses) == (3, 2)
    await first.close()
    second = await Buffer.open(tmp_path, ManualClock())
    assert (await second.losses(), second.open_losses) == ([whole, open_ended], 2)
    await second.declared(["a", "unknown"])
    assert (await second.losses(), second.open_losses) == ([open_ended], 1)
    await second.close()


async def test_limits_are_kept(buffer: Buffer) -> None:
    limit = Limit("acme/tokens", "acme", "tokens", "METERED", "HARD", 1)
    await buffer.keep_limits({"acme": ["acme/tokens"], "zoo": []}, [(limit, 7, 3)])
    assert await buffer.kept_limits() == ({"acme": ("acme/tokens",), "zoo": ()}, [(limit, 7, 3)])


async def test_counted_rows_are_those_of_counted_batches_and_of_settled_earlier_epochs(buffer: Buffer) -> None:
    await buffer.append([row(seq) for seq in range(1, 6)], [])
    await buffer.settle(await sealed(buffer, epoch=1, events=2))
    await sealed(buffer, epoch=2, events=1)
    await sealed(buffer, epoch=2, events=2)
    assert [await buffer.counted_seq(2, batch_no) for batch_no in (0, 1, 2)] == [2, 3, 5]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(["append", "seal", "settle", "unseal", "over", "all over", "purge"]), max_size=25)
)
async def test_the_figures_always_equal_what_a_fresh_look_finds(tmp_path_factory: Any, steps: list[str]) -> None:
    directory = tmp_path_factory.mktemp("buffer")
    buffer = await Buffer.open(directory, ManualClock())
    seq = 0
    for step in steps:
        batch, unsettled = await buffer.last_batch()
        match step:
            case "append":
                seq += 2
                await buffer.append([row(seq, "same"), row(seq + 1)], [(seq, "chat", "same")])
            case "seal" if not unsettled and buffer.waiting_events:
                await sealed(buffer, events=3)
            case "settle" if batch and unsettled:
                await buffer.settle(batch)
            case "unseal" if batch and unsettled:
                await buffer.unseal(batch)
            case "over" | "all over":
                await buffer.identity("agent", "hello", "boot")
                await buffer.start_over("again", everything=step == "all over")
            case "purge":
                await buffer.purge(keep_s=0, keep_bytes=0)
    figures = (
        "sealed_seq",
        "waiting_events",
        "waiting_bytes",
        "unsent_events",
        "unsent_bytes",
        "settled_bytes",
        "oldest_us",
    )
    known = {name: getattr(buffer, name) for name in figures}
    await buffer.close()
    fresh = await Buffer.open(directory, ManualClock())
    assert {name: getattr(fresh, name) for name in figures} == known
    await fresh.close()
