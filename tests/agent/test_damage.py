"""A buffer that is damaged: what can be read comes back, the rest is declared, and nobody has to do anything."""

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.damage import FILES, Made, RestingClock, body, copied, fill, flip, recovered
from agent.whole_agent import counted, ids, settings
from fakes import ManualClock, eventually

from sidemeter import Agent
from sidemeter.batches import checksum
from sidemeter.buffer import Buffer
from sidemeter.errors import StorageRefused
from sidemeter.events import Event, encode
from sidemeter.limits import Limit
from sidemeter.mark import Mark
from sidemeter.meters import Meter

ROWS = 40
CASES = 12
"""Flips of one bit for each file and way to stop. The fault rig sweeps more of them."""


Left = dict[str, tuple[Path, Made]]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Buffers with everything in them: killed with all of it in the log, killed with it in both files, and closed."""
    return asyncio.run(leave(tmp_path_factory.mktemp("left")))


async def leave(directory: Path) -> Left:
    ways = {}
    for way in ("killed", "moved", "closed"):
        buffer = await Buffer.open(directory / way / "live", RestingClock())
        made = await fill(buffer, ROWS)
        if way == "closed":
            await buffer.close()
        elif way == "moved":
            assert buffer._database._conn
            await buffer._database._conn.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        ways[way] = copied(directory / way / "live", directory / way / "left"), made
        if way != "closed":
            await buffer.close()
    return ways


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["killed", "moved", "closed"])
async def test_a_flipped_bit_loses_no_event_in_silence(left: Left, tmp_path: Path, way: str, name: str) -> None:
    source, before = left[way]
    if not (source / name).exists():
        assert (way, name) == ("closed", "buffer.sqlite3-wal")
        return
    rng = random.Random(f"{way} {name}")
    for case in range(CASES):
        directory = copied(source, tmp_path / str(case))
        flip(directory / name, rng.randrange((directory / name).stat().st_size * 8))
        made = replace(before, acknowledged=dict(before.acknowledged))
        (await recovered(directory, made)).check(made)


async def test_a_sound_buffer_is_not_begun_anew(left: Left, tmp_path: Path) -> None:
    for way, (source, before) in left.items():
        made = replace(before, acknowledged=dict(before.acknowledged))
        outcome = await recovered(copied(source, tmp_path / way), made)
        outcome.check(made)
        assert (outcome.rebuilds, [each.id for each in outcome.losses]) == (0, ["earlier"])
        assert outcome.refused == made.refused


def gone(directory: Path) -> None:
    (directory / "buffer.sqlite3").unlink()


def empty(directory: Path) -> None:
    os.truncate(directory / "buffer.sqlite3", 0)


def half(directory: Path) -> None:
    os.truncate(directory / "buffer.sqlite3", (directory / "buffer.sqlite3").stat().st_size // 2)


def noise(directory: Path) -> None:
    (directory / "buffer.sqlite3").write_bytes(random.Random(1).randbytes(40_000))


def foreign(directory: Path) -> None:
    (directory / "buffer.sqlite3").unlink()
    with closing(sqlite3.connect(directory / "buffer.sqlite3")) as conn:
        conn.execute("CREATE TABLE somebody (elses INTEGER)")


def a_directory(directory: Path) -> None:
    (directory / "buffer.sqlite3").unlink()
    (directory / "buffer.sqlite3").mkdir()


def without_log(directory: Path) -> None:
    (directory / "buffer.sqlite3-wal").unlink()


def cut_log(directory: Path) -> None:
    os.truncate(directory / "buffer.sqlite3-wal", (directory / "buffer.sqlite3-wal").stat().st_size // 2)


def without_mark(directory: Path) -> None:
    (directory / "mark").unlink()


def noise_for_a_mark(directory: Path) -> None:
    (directory / "mark").write_bytes(random.Random(1).randbytes(100))


@pytest.mark.parametrize(
    "damage",
    [gone, empty, half, noise, foreign, a_directory, without_log, cut_log, without_mark, noise_for_a_mark],
)
async def test_a_file_that_is_not_what_it_was_is_declared_as_far_as_it_cannot_be_read(
    left: Left, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    for way, (source, before) in left.items():
        directory = copied(source, tmp_path / way)
        if "log" in damage.__name__ and not (directory / "buffer.sqlite3-wal").exists():
            continue
        damage(directory)
        made = replace(before, acknowledged=dict(before.acknowledged))
        (await recovered(directory, made)).check(made)


async def test_an_older_copy_of_the_file_is_noticed(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    await buffer.append([(1, body(1))], [])
    await buffer.close()
    shutil.copyfile(tmp_path / "data" / "buffer.sqlite3", tmp_path / "older")
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    await buffer.append([(2, body(2)), (3, body(3))], [])
    await buffer.close()
    shutil.copyfile(tmp_path / "older", tmp_path / "data" / "buffer.sqlite3")
    made = Made({f"e{seq}": body(seq) for seq in (1, 2, 3)})
    outcome = await recovered(tmp_path / "data", made)
    outcome.check(made)
    ((first, last, events),) = [(each.first_seq, each.last_seq, each.events) for each in outcome.losses]
    assert (first, last, events) == (2, 3, 2)


async def test_a_file_that_is_lost_with_nothing_left_to_send_is_no_loss(tmp_path: Path) -> None:
    made = Made()
    directory = tmp_path / "data"
    assert not (await recovered(directory, made)).losses
    gone(directory)
    outcome = await recovered(directory, Made())
    assert not outcome.losses


async def test_after_a_power_cut_a_damaged_file_is_declared_with_an_open_end(left: Left, tmp_path: Path) -> None:
    class AnotherRun(RestingClock):
        def boot_id(self) -> str:
            return "another run of the machine"

    source, made = left["killed"]
    directory = copied(source, tmp_path / "data")
    without_log(directory)
    buffer = await Buffer.open(directory, AnotherRun())
    damage = await buffer.damage()
    assert (damage.exact, buffer.next_seq) == (False, ROWS + 5)
    await buffer.close()
    made = replace(made, acknowledged=dict(made.acknowledged))
    outcome = await recovered(directory, made)
    outcome.check(made)
    assert (None, None) in [(each.last_seq, each.events) for each in outcome.losses]


async def test_a_database_that_holds_more_than_the_mark_is_sound(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    await buffer.append([(1, body(1))], [])
    shutil.copyfile(tmp_path / "data" / "mark", tmp_path / "behind")
    await buffer.append([(2, body(2))], [])
    await buffer.close()
    shutil.copyfile(tmp_path / "behind", tmp_path / "data" / "mark")
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    assert (buffer.rebuilds, buffer.unsent_events, buffer.next_seq) == (0, 2, 3)
    await buffer.close()


async def test_a_row_that_does_not_match_is_kept_apart_and_declared_alone(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    buffer = await Buffer.open(directory, RestingClock())
    rows = [(seq, body(seq)) for seq in range(1, 6)]
    await buffer.append(rows, [(3, "chat", "e3")])
    await buffer._database.transact(lambda conn: conn.execute("UPDATE events SET body = x'90' WHERE seq = 3"))
    assert await buffer.waiting_rows(10) == [each for each in rows if each[0] != 3]
    ((first, last, events),) = [(each.first_seq, each.last_seq, each.events) for each in await buffer.losses()]
    assert (first, last, events, buffer.lost_events) == (3, 3, 1, 1)
    kept = await buffer._database.transact(lambda conn: conn.execute_fetchall("SELECT seq, body FROM refused"))
    assert list(kept) == [(3, b"\x90")]
    assert await buffer.append([(6, body(3))], [(6, "chat", "e3")]) == set(), "a lost event can be recorded again"
    await buffer.close()
    buffer = await Buffer.open(directory, RestingClock())
    assert (buffer.rebuilds, buffer.unsent_events, buffer.open_losses) == (0, 5, 1)
    await buffer.close()


async def test_an_event_kept_apart_that_does_not_match_any_more_is_declared_once(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    buffer = await Buffer.open(directory, RestingClock())
    await fill(buffer, ROWS)
    await buffer._database.transact(lambda conn: conn.execute("UPDATE refused SET body = x'90'"))
    await buffer.close()
    for lost in (1, 0):
        buffer = await Buffer.open(directory, RestingClock())
        assert (buffer.rebuilds, buffer.lost_events, buffer.open_losses) == (0, lost, 2)
        assert {(each.first_seq, each.events) for each in await buffer.losses()} == {(1, 2), (17, 1)}
        await buffer.close()


async def test_rows_that_vanish_while_the_agent_runs_are_declared_when_they_are_missed(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    await buffer.append([(seq, body(seq, 300)) for seq in range(1, 11)], [])
    await buffer._database.transact(lambda conn: conn.execute("DELETE FROM events WHERE seq > 4"))
    with pytest.raises(StorageRefused, match="10 rows wait in it, and 4 are found"):
        await buffer.waiting_rows(100)
    assert (buffer.rebuilds, buffer.unsent_events, buffer.salvaging) == (1, 0, True)
    await buffer.append([(11, body(11))], [])
    await buffer.close()
    made = Made({f"e{seq}": body(seq, 300) for seq in range(1, 11)} | {"e11": body(11)})
    (await recovered(tmp_path / "data", made)).check(made)


async def test_an_id_whose_row_is_not_its_event_is_no_duplicate(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    await buffer.append([(1, body(1))], [(1, "chat", "e1")])
    await buffer._database.transact(lambda conn: conn.execute("UPDATE caller_ids SET id = 'e2'"))
    assert not await buffer.holds("chat", "e2")
    assert await buffer.append([(2, body(2)), (3, body(2))], [(2, "chat", "e2"), (3, "chat", "e2")]) == {3}
    await buffer.close()


async def test_limits_that_do_not_match_are_forgotten(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    limits = [(Limit(f"{subject}/t", subject, "t", "METERED", "HARD", 1), 7, 1) for subject in ("acme", "zoo")]
    await buffer.keep_limits({"acme": ["acme/t"], "zoo": ["zoo/t"]}, limits)
    await buffer._database.transact(lambda conn: conn.execute("UPDATE limits SET counted_seq = 9 WHERE id = 'zoo/t'"))
    assert await buffer.kept_limits() == ({"acme": ("acme/t",)}, limits[:1])
    await buffer.close()


async def test_a_newer_form_is_refused_also_by_its_mark(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path, RestingClock())
    await buffer.close()
    mark = Mark.open(tmp_path / "mark")
    assert mark.facts
    mark.write(type(mark.facts)(mark.facts.file_id, mark.facts.form + 1))
    mark.close()
    with pytest.raises(StorageRefused, match="form 5; this agent reads form 4"):
        await Buffer.open(tmp_path, RestingClock())
    assert not (tmp_path / "damaged").exists()


FORM_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE caller_ids (seq INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (source, id)) STRICT;
CREATE TABLE batches (
    last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, epoch INTEGER NOT NULL, batch_no INTEGER NOT NULL,
    events INTEGER NOT NULL, size INTEGER NOT NULL, prev_digest BLOB NOT NULL, digest BLOB NOT NULL, settled_at_s REAL,
    UNIQUE (epoch, batch_no)) STRICT;
CREATE INDEX unsettled ON batches (last_seq) WHERE settled_at_s IS NULL;
CREATE TABLE refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE limits (
    id TEXT PRIMARY KEY, body BLOB NOT NULL, as_of_us INTEGER NOT NULL, counted_seq INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX counted ON limits (counted_seq);
CREATE TABLE subjects (subject TEXT PRIMARY KEY, limit_ids BLOB NOT NULL) WITHOUT ROWID, STRICT;
PRAGMA user_version = 1;
"""


async def test_a_buffer_of_form_1_is_read_on(tmp_path: Path) -> None:
    rows = [(seq, body(seq)) for seq in range(1, 8)]
    with closing(sqlite3.connect(tmp_path / "buffer.sqlite3")) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.executescript(FORM_1)
        conn.executemany("INSERT INTO events VALUES (?, ?)", rows)
        conn.executemany("INSERT INTO meta VALUES (?, ?)", [("agent_id", "a1"), ("hello_id", "h1"), ("epoch", 4)])
        conn.executemany("INSERT INTO meta VALUES (?, ?)", [("lifetime_s", 12.5)])
        conn.execute("INSERT INTO caller_ids VALUES (7, 'chat', 'e7')")
        conn.execute("INSERT INTO batches VALUES (3, 1, 4, 1, 3, 90, x'00', x'01', 7.0)")
        conn.execute("INSERT INTO batches VALUES (5, 4, 4, 2, 2, 60, x'01', x'02', NULL)")
        conn.execute("INSERT INTO refused VALUES (9, x'90', 'poison')")
        conn.commit()
    buffer = await Buffer.open(tmp_path, ManualClock())
    assert (buffer.unsent_events, buffer.waiting_events, buffer.refused_events, buffer.next_seq) == (4, 2, 1, 10)
    assert buffer.lifetime_s == 12.5
    assert await buffer.rows(0, 100, 100) == rows
    batch, unsettled = await buffer.last_batch()
    assert batch
    assert (batch.batch_no, batch.digest, unsettled) == (2, b"\2", True)
    assert await buffer.append([(10, body(7))], [(10, "chat", "e7")]) == {10}
    assert (await buffer.identity("other", "h2", "boot")).agent_id == "a1"
    await buffer.close()
    buffer = await Buffer.open(tmp_path, ManualClock())
    assert (buffer.rebuilds, buffer.unsent_events) == (0, 4)
    stored = await buffer._database.transact(lambda conn: conn.execute_fetchall("SELECT seq, crc FROM events"))
    assert list(stored) == [(seq, checksum(seq, each)) for seq, each in rows]
    await buffer.close()


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("noted", [True, False], ids=["whole", "cut short before its mark"])
async def test_a_buffer_of_an_older_form_is_read_on_as_the_same_file(tmp_path: Path, noted: bool, form: int) -> None:
    clock = ManualClock()
    buffer = await Buffer.open(tmp_path, clock)
    await buffer.append([(1, body(1))], [])
    file_id = buffer.file_id
    await buffer.close()
    with closing(sqlite3.connect(tmp_path / "buffer.sqlite3")) as conn:
        if noted:
            tables = {2: ("leases", "holds", "told"), 3: ("told",)}[form]
            conn.executescript("".join(f"DROP TABLE {table};" for table in tables) + f"PRAGMA user_version = {form}")
    mark = Mark.open(tmp_path / "mark")
    assert mark.facts
    mark.write(msgspec.structs.replace(mark.facts, form=form))
    mark.close()
    buffer = await Buffer.open(tmp_path, clock)
    assert (buffer.rebuilds, buffer.file_id, buffer.unsent_events) == (0, file_id, 1)
    assert (await buffer.lease_names(), await buffer.losses()) == ([], [])
    await buffer.close()


async def test_a_whole_agent_brings_back_what_a_damaged_file_holds_and_tells_what_it_does_not(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "50")
    async with Agent(settings(tmp_path / "live")) as agent:
        for number in range(200):
            await agent.record("call", "acme", {"tokens": 1}, id=str(number))
        directory = copied(tmp_path / "live", tmp_path / "left")
    os.truncate(directory / "buffer.sqlite3-wal", (directory / "buffer.sqlite3-wal").stat().st_size // 2)
    async with Agent(settings(directory, double)) as agent:
        assert agent.status().rebuilds == 1
        await agent.record("call", "acme", {"tokens": 1}, id="fresh")
        await eventually(lambda: agent.status().lost_events and not agent.status().backlog_events)
        status = agent.status()
        await counted(double, 201 - status.lost_events)
        assert status.salvaged_events == 200 - status.lost_events
        assert "fresh" in ids(double)
        assert await agent.learn("acme", 5)
        assert agent.check("acme", "tokens").reason == "limit_reached"
        await eventually(lambda: not agent.status().open_losses)
    declared = [loss for message in double.messages("hello") for loss in message.get("losses", ())]
    assert [loss["events"] for loss in declared] == [status.lost_events]
    assert not {str(number) for number in range(200 - status.lost_events)} - ids(double)


def held_up(agent: Agent) -> ManualClock:
    """A clock for which every event that is read back waits a second."""
    assert agent._parts
    salvager, requeue, held = agent._parts.salvager, agent._parts.salvager._requeue, ManualClock()

    async def later(bodies: object) -> None:
        await held.sleep(1)
        await requeue(bodies)  # type: ignore[arg-type]

    salvager._requeue = later
    return held


async def test_no_limit_is_learned_while_own_usage_is_not_all_back(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "100")
    buffer = await Buffer.open(tmp_path / "data", RestingClock())
    await buffer.append([(1, encode(Event("1", "chat", "call", "acme", 5, '{"tokens":99}')))], [])
    await buffer.close()
    without_head = tmp_path / "data" / "buffer.sqlite3"
    with without_head.open("r+b") as file:
        file.write(b"not SQLite")

    async with Agent(settings(tmp_path / "data", double)) as agent:
        held = held_up(agent)
        assert not await agent.learn("acme", 1)
        held.advance(1)
        await eventually(lambda: agent._parts and not agent._parts.buffer.salvaging)
        assert await agent.learn("acme", 5)
        assert not agent.check("acme", "tokens", 2).allowed


@asynccontextmanager
async def started_on_half_damaged_rows(directory: Path, double: ControlPlaneDouble) -> AsyncIterator[Agent]:
    """An agent whose rows turn out to be damaged when it counts them for a limit: 15 of 30."""
    rows = [(seq, encode(Event(str(seq), "chat", "call", "acme", 5, '{"tokens":1}'))) for seq in range(1, 31)]
    meter = Meter("call", "SUM", "tokens")
    buffer = await Buffer.open(directory, RestingClock())
    await buffer.append(rows, [])
    limit = Limit("acme/t", "acme", "t", "METERED", "HARD", 1, limit=Decimal(9), used=Decimal(0), meter=meter)
    await buffer.keep_limits({"acme": ["acme/t"]}, [(limit, 7, 0)])
    await buffer._database.transact(lambda conn: conn.execute("UPDATE events SET crc = crc + 1 WHERE seq > 15"))
    await buffer.close()
    async with Agent(settings(directory, double)) as agent:
        assert agent.status().rebuilds == 1
        yield agent


async def test_an_agent_starts_also_on_rows_that_turn_out_to_be_damaged_only_then(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with started_on_half_damaged_rows(tmp_path / "data", double) as agent:
        await counted(double, 15)
        await eventually(lambda: agent.status().lost_events == 15)


async def test_what_is_read_back_late_is_sent_as_soon_as_it_is_there(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with started_on_half_damaged_rows(tmp_path / "data", double) as agent:
        held = held_up(agent)
        await eventually(lambda: agent.status().epoch and held._sleepers)
        await eventually(lambda: len(double.messages("sync")) > 1)
        held.advance(1)
        await counted(double, 15)
