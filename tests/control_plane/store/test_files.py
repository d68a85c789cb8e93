"""The database as a file: a copy of one instant, a check that misses no byte, another in its place, cut short anywhere."""

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from planes import open_database

from sidemeter_control.errors import DatabaseUnfit, StoreUnavailable
from sidemeter_control.metering.events import Event
from sidemeter_control.store import files
from sidemeter_control.store.database import Database
from sidemeter_control.store.events import add


def unheard(_step: str, _done: int, _total: int) -> None:
    """Nobody watches."""


async def _filled(directory: Path, events: int = 50) -> None:
    async with open_database(directory) as database, database.write() as conn:
        await add(conn, [Event(f"e{n}", "s", "call", "acme", n, f'{{"n":{n}}}') for n in range(events)], 7)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A database that nobody has open."""
    asyncio.run(_filled(tmp_path))
    return tmp_path / "control.db"


@pytest.fixture
def backup(closed: Path) -> Path:
    target = closed.with_name("backup")
    files.copy(closed, target, unheard)
    return target


async def opened(path: Path) -> None:
    """Open the database and close it."""
    database = await Database.open(f"sqlite:///{path}")
    await database.close()


def count(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (found,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    return int(found)


def test_a_copy_says_what_it_holds_and_is_one_file_for_the_owner_alone(backup: Path) -> None:
    contents = files.check(backup, unheard)
    assert (contents.events, contents.received_at_us, contents.size) == (50, 7, backup.stat().st_size)
    assert contents.generation.startswith("gen_")
    assert oct(backup.stat().st_mode & 0o777) == "0o600"
    assert [each.name for each in backup.parent.glob("backup*")] == ["backup"]


def test_a_copy_holds_one_instant_while_others_write(tmp_path: Path) -> None:
    """Pairs are written in one transaction each: a copy with half a pair holds no instant at all."""
    path = tmp_path / "pairs.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE pairs (number INTEGER, half INTEGER, filler BLOB)")
    stop = threading.Event()
    written = [0]

    def write() -> None:
        while not stop.is_set():
            number = written[0]
            writer.execute("BEGIN")
            writer.executemany("INSERT INTO pairs VALUES (?, ?, zeroblob(20000))", [(number, 0), (number, 1)])
            writer.execute("COMMIT")
            written[0] = number + 1

    thread = threading.Thread(target=write)
    thread.start()
    moments: list[int] = []
    try:
        for round_ in range(2):
            while written[0] < 150 * (round_ + 1):
                time.sleep(0.001)
            target = tmp_path / f"copy{round_}"
            files.copy(path, target, lambda *_: moments.append(written[0]))
            with sqlite3.connect(target) as read:
                assert read.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                found = read.execute("SELECT count(DISTINCT number), count(*) FROM pairs").fetchone()
            read.close()
            assert found[1] == 2 * found[0] > 0
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert len(set(moments)) > 3  # writing did go on meanwhile


def test_no_byte_of_a_backup_can_change_unnoticed(backup: Path) -> None:
    whole = bytearray(backup.read_bytes())
    places = [*range(100), *random.Random(4).sample(range(100, len(whole)), 100), len(whole) - 1]
    for place in places:
        flipped = whole.copy()
        flipped[place] ^= 1 << place % 8
        backup.write_bytes(flipped)
        with pytest.raises(DatabaseUnfit, match=str(backup)):
            files.check(backup, unheard)
    backup.write_bytes(whole)
    files.check(backup, unheard)


@pytest.mark.parametrize("part", [0, 1, 99, 100, 4096, 0.5, -1])
def test_a_part_of_a_backup_is_refused(backup: Path, part: float) -> None:
    whole = backup.read_bytes()
    backup.write_bytes(whole[: int(len(whole) * part) if isinstance(part, float) else part])
    with pytest.raises(DatabaseUnfit, match=str(backup)):
        files.check(backup, unheard)


def nothing_there(path: Path) -> None:
    path.unlink()


def a_text(path: Path) -> None:
    path.write_text("this is no database" * 1000)


def a_foreign_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.close()


def of_a_newer_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def with_a_page_of_zeros(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(bytes(4096))


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 8192 * 4096)


UNFIT = {
    a_text: "is no database",
    a_foreign_database: "is a database of something else",
    of_a_newer_version: "was made by a newer version, with schema 9999",
    with_a_page_of_zeros: "is damaged",
    cut_in_half: "is damaged",
}


@pytest.mark.parametrize("spoil", UNFIT)
def test_what_is_no_sound_database_of_ours_is_neither_opened_nor_restored(
    closed: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(closed)
    before = closed.read_bytes()
    with pytest.raises(DatabaseUnfit, match=f"{closed}: {UNFIT[spoil]}.*sidemeter-control restore FILE"):
        asyncio.run(opened(closed))
    assert closed.read_bytes() == before
    with pytest.raises(DatabaseUnfit, match=f"{closed}: {UNFIT[spoil]}"):
        files.check(closed, unheard)
    with pytest.raises(DatabaseUnfit, match="there is no such file"):
        files.check(closed.with_name("none"), unheard)


def test_a_database_copied_by_hand_is_taken_but_not_without_its_log(closed: Path) -> None:
    assert files.check(closed, unheard).events == 50
    closed.with_name("control.db-wal").write_bytes(b"log")
    with pytest.raises(DatabaseUnfit, match=r"control\.db-wal beside it holds the rest"):
        files.check(closed, unheard)


def test_a_backup_takes_the_place_of_a_database_which_is_moved_aside_with_its_log(closed: Path, backup: Path) -> None:
    crashed = with_a_log(closed)
    aside = files.put_in_place(backup, closed, "gen_new", "t", unheard)
    assert aside == Path(f"{closed}.aside-t")
    contents = files.check(closed, unheard)
    assert (contents.events, contents.generation) == (50, "gen_new")
    assert crashed(aside) == 51
    again = files.put_in_place(backup, closed, "gen_newer", "t", unheard)
    assert again == Path(f"{closed}.aside-t-2")


def with_a_log(path: Path) -> Callable[[Path], int]:
    """Leave the database as a crash does, its last event only in the log; what counts the events of such a pair."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO events VALUES (99, 8, 'late', 's', 'call', 'acme', 1, NULL)")
    kept = {companion: Path(f"{path}{companion}").read_bytes() for companion in ("", "-wal", "-shm")}
    connection.close()
    for companion, content in kept.items():
        Path(f"{path}{companion}").write_bytes(content)
    return count


@pytest.mark.parametrize("moved", range(5))
def test_a_restore_cut_short_at_any_name_is_ended_by_the_next_start(closed: Path, backup: Path, moved: int) -> None:
    counted = with_a_log(closed)
    aside = Path(f"{closed}.aside-t")
    backup.rename(f"{closed}.restored-t")
    for companion in ["", "-wal", "-shm"][:moved]:
        Path(f"{closed}{companion}").rename(f"{aside}{companion}")
    if moved == 4:
        Path(f"{closed}.restored-t").rename(closed)
    asyncio.run(opened(closed))
    assert (count(closed), counted(aside)) == (50, 51)
    assert not list(closed.parent.glob("*.restored-*"))


def test_a_restore_into_an_empty_directory_moves_nothing_aside(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    path = tmp_path / "new" / "control.db"
    assert files.put_in_place(backup, path, "gen_new", "t", unheard) is None
    assert [each.name for each in path.parent.iterdir()] == ["control.db"]


def test_what_a_crash_left_of_copies_is_cleared_away_and_nothing_else(closed: Path) -> None:
    kept = ["control.db", "control.db.lock", "control.db.copied", "other.db.copy-1", "control.db.aside-t"]
    for name in [*kept[2:], "control.db.copy-1", "control.db.restoring"]:
        closed.with_name(name).write_text("x")
    files.finish(closed)
    assert sorted(each.name for each in closed.parent.iterdir()) == sorted(kept)


def test_a_copy_that_ends_early_leaves_no_file(closed: Path) -> None:
    def stop(_step: str, done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.copy(closed, closed.with_name("copy"), stop)
    assert not closed.with_name("copy").exists()
    with pytest.raises(StoreUnavailable, match="the copy failed"):
        files.copy(closed, closed.parent / "no" / "such" / "copy", unheard)
