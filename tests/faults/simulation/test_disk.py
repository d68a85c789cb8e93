"""The disk of the simulation: what is there after an end, and how calls fail."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from .disk import BUFFER, Connection, Disk, Weather
from .process import Process
from .world import World

SCHEMA = "CREATE TABLE events (seq INTEGER PRIMARY KEY, body BLOB); CREATE TABLE refused (seq INTEGER, body BLOB);"
INSERT = "INSERT INTO events (body) VALUES (?)"


def body(tag: str) -> bytes:
    return f'{{"tag":"{tag}","n":1}}'.encode()


class Bench:
    """One disk, and processes on it one after the other."""

    def __init__(self, directory: Path, seed: int = 1, **weather: float) -> None:
        self.world = World(seed)
        directory.mkdir()
        self.disk = Disk(self.world, directory, Weather(**weather))

    def run(self, work: Callable[[Connection, Process], Awaitable[None]]) -> Process:
        """Let a process work with a connection; whatever happens, it is gone afterwards."""
        process = Process(self.world, "p")
        process.ends.append(self.disk.cut)
        process.buried.append(lambda: self.disk.end(process))

        async def main() -> None:
            conn = await self.disk.connect_for(process)(self.disk.path / BUFFER)
            await conn.execute("PRAGMA journal_mode = WAL")
            await work(conn, process)
            process.kill()

        process.begin(main())
        self.world.run(100.0)
        assert not process.alive
        return process

    def found(self) -> list[str]:
        with sqlite3.connect(self.disk.path / BUFFER) as conn:
            return [body.decode()[8:].partition('"')[0] for (body,) in conn.execute("SELECT body FROM events")]


async def committed(conn: Connection, process: Process) -> None:
    await conn.executescript(SCHEMA)
    await conn.execute(INSERT, (body("a"),))
    await conn.commit()


async def more(conn: Connection, process: Process) -> None:
    await conn.execute(INSERT, (body("b"),))
    await conn.commit()


def test_what_was_committed_is_there_after_a_kill_and_what_was_not_is_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "d")

    async def half_done(conn: Connection, process: Process) -> None:
        await conn.execute(INSERT, (body("b"),))

    bench.run(committed)
    bench.run(half_done)
    assert (bench.found(), bench.disk.held) == (["a"], {"a"})


def test_a_kill_at_a_commit_leaves_all_of_it_or_nothing_and_every_way_occurs(tmp_path: Path) -> None:
    ways = set()
    for seed in range(12):
        bench = Bench(tmp_path / f"d{seed}", seed)
        bench.run(committed)
        bench.disk.weather.killed_at_commit = 1.0
        bench.run(more)
        way = next(kind for kind in bench.world.faults if kind.startswith("killed ") and kind != "killed at commit")
        ways.add(way)
        there = bench.found()
        assert there == (["a", "b"] if way == "killed after a commit" else ["a"])
        assert bench.disk.held == set(there)
    assert ways == {"killed before a commit", "killed torn a commit", "killed after a commit"}


@pytest.mark.parametrize(
    ("weather", "there"),
    [("commit_fails_and_is_there", ["a", "b"]), ("commit_fails_and_is_not_there", ["a"])],
)
def test_a_commit_that_fails_is_there_or_not(tmp_path: Path, weather: str, there: list[str]) -> None:
    bench = Bench(tmp_path / "d")
    bench.run(committed)
    setattr(bench.disk.weather, weather, 1.0)

    async def fails(conn: Connection, process: Process) -> None:
        await conn.execute(INSERT, (body("b"),))
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            await conn.commit()

    bench.run(fails)
    assert (bench.found(), sorted(bench.disk.held)) == (there, there)


@pytest.mark.parametrize(("trouble", "name"), [("read_only", "SQLITE_READONLY"), ("failing", "SQLITE_IOERR")])
def test_a_disk_in_trouble_says_so_as_sqlite_does(tmp_path: Path, trouble: str, name: str) -> None:
    bench = Bench(tmp_path / "d")
    bench.run(committed)

    async def refused(conn: Connection, process: Process) -> None:
        setattr(bench.disk, trouble, True)
        with pytest.raises(sqlite3.OperationalError) as told:
            await conn.execute(INSERT, (body("b"),))
        assert told.value.sqlite_errorname == name
        bench.disk.heal()
        await more(conn, process)

    bench.run(refused)
    assert bench.found() == ["a", "b"]


@pytest.mark.parametrize("seed", range(8))
def test_damage_changes_one_file_and_says_how(tmp_path: Path, seed: int) -> None:
    bench = Bench(tmp_path / "d", seed)
    assert bench.disk.damage() is None
    bench.run(committed)
    before = bench.disk.image().files
    told = bench.disk.damage()
    after = bench.disk.image().files
    assert told
    assert [name for name in before if after[name] != before[name]] == [told.split()[-1]]


def test_files_put_back_keep_their_inode_and_what_is_no_longer_held_is_told(tmp_path: Path) -> None:
    bench, gone = Bench(tmp_path / "d"), []
    bench.disk.gone = lambda disk, tags: gone.extend(tags)
    bench.run(committed)
    image, inode = bench.disk.image(), (bench.disk.path / BUFFER).stat().st_ino
    bench.run(more)
    bench.disk.put(image)
    assert (bench.found(), gone, (bench.disk.path / BUFFER).stat().st_ino) == (["a"], ["b"], inode)
