"""Salvage: whatever SQLite wrote is read from the bytes alone, and nothing that does not prove itself."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidemeter.batches import checksum
from sidemeter.losses import Loss
from sidemeter.salvage import MAX_PAYLOAD_BYTES, PAGE_BYTES, SEARCHED_PAGES, Content, Found, Numbers, read

TABLES = """
CREATE TABLE events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE caller_ids (seq INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (source, id)) STRICT;
CREATE TABLE refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE losses (id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
"""
Rows = dict[int, bytes]


def content(data: bytes) -> Content:
    return Content(len(data), lambda at, length: data[at : at + length])


def salvaged(main: bytes, wal: bytes = b"") -> Found:
    found = Found([], [], [])
    for page in read(content(main), content(wal)):
        found.events.extend(page.events)
        found.refused.extend(page.refused)
        found.losses.extend(page.losses)
    return found


def database(path: Path, *groups: Rows) -> tuple[bytes, bytes]:
    """The bytes of a database and its log, after a commit of each group; the first one is in the file."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.executescript(TABLES)
        for number, rows in enumerate(groups):
            conn.executemany(
                "INSERT INTO events VALUES (?, ?, ?)", [(seq, body, checksum(seq, body)) for seq, body in rows.items()]
            )
            conn.executemany("INSERT INTO caller_ids VALUES (?, 'chat', ?)", [(seq, f"id-{seq}") for seq in rows])
            conn.commit()
            if number == 0:
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()


def some_rows(first: int, count: int, longest: int = 100) -> Rows:
    rng = random.Random(first)
    return {seq: rng.randbytes(rng.randint(1, longest)) for seq in range(first, first + count)}


@settings(max_examples=40, deadline=None)
@given(
    rows=st.dictionaries(st.integers(1, 1 << 50), st.sampled_from([1, 50, 4061, 4062, 5000, 70_000]), max_size=30),
    logged=st.dictionaries(st.integers(1 << 51, 1 << 52), st.sampled_from([1, 489, 4050, 9000]), max_size=9),
)
def test_every_row_is_read_however_long(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, int], logged: dict[int, int]
) -> None:
    groups = [{seq: random.Random(seq).randbytes(size) for seq, size in each.items()} for each in (rows, logged)]
    found = salvaged(*database(tmp_path_factory.mktemp("salvage") / "db", *groups))
    assert dict(found.events) == groups[0] | groups[1]


def test_what_was_set_aside_and_what_was_declared_is_read(tmp_path: Path) -> None:
    loss = msgspec.msgpack.encode(Loss("a", 1, None, None, "gone", 7))
    database(tmp_path / "db", {})
    with closing(sqlite3.connect(tmp_path / "db")) as conn:
        conn.execute("INSERT INTO refused VALUES (7, x'90', 'odd: ☃', ?)", (checksum(7, b"\x90"),))
        conn.execute("INSERT INTO refused VALUES (8, x'91', 'damaged', 1)")
        conn.execute("INSERT INTO losses VALUES ('a', ?, ?)", (loss, checksum(0, loss)))
        conn.commit()
    found = salvaged((tmp_path / "db").read_bytes())
    assert found.refused == [(7, b"\x90", "odd: ☃")]
    assert found.losses == [Loss("a", 1, None, None, "gone", 7)]


def test_a_transaction_that_was_not_committed_is_not_read(tmp_path: Path) -> None:
    committed = some_rows(1, 500)
    with closing(sqlite3.connect(tmp_path / "db")) as conn:
        database(tmp_path / "db", committed)
        conn.execute("PRAGMA cache_size = 1")  # spills into the log before the commit
        conn.executemany(
            "INSERT INTO events VALUES (?, ?, ?)", [(seq, b"x", checksum(seq, b"x")) for seq in range(9000, 12000)]
        )
        wal = (tmp_path / "db-wal").read_bytes()
        assert len(wal) > 4 * PAGE_BYTES
        assert dict(salvaged((tmp_path / "db").read_bytes(), wal).events) == committed
        conn.rollback()


def broken(data: bytes) -> Iterator[tuple[str, bytes, range]]:
    """The log with one thing wrong, and the frames that this may cost."""
    frame = 24 + PAGE_BYTES
    last = (len(data) - 32) // frame - 1
    yield "its header", bytes(32) + data[32:], range(0)
    yield "the salt of its header", data[:17] + bytes([data[17] ^ 1]) + data[18:], range(0)
    yield "a checksum in the middle", data[: 32 + 3 * frame + 16] + bytes(8) + data[32 + 3 * frame + 24 :], range(0)
    yield "a page in the middle", data[: 32 + 3 * frame + 24] + bytes(PAGE_BYTES) + data[32 + 4 * frame :], range(3, 4)
    yield "its end", data[: 32 + last * frame], range(last, last + 1)


def test_a_log_that_sqlite_would_drop_is_read_all_the_same(tmp_path: Path) -> None:
    groups = [some_rows(100 * number + 1, 60) for number in range(6)]
    main, wal = database(tmp_path / "db", *groups)
    every = dict(salvaged(main, wal).events)
    for what, damaged, cost in broken(wal):
        found = dict(salvaged(main, damaged).events)
        assert every.items() >= found.items(), what
        if not cost:
            assert found == every, what
        else:
            assert len(found) > len(every) - 130, what


@pytest.mark.parametrize("where", [0, 3, 4, 5, 6, 8, 9, 20])
def test_a_page_whose_list_of_rows_is_wrong_is_searched(tmp_path: Path, where: int) -> None:
    rows = some_rows(1, 300)
    main, _ = database(tmp_path / "db", rows)
    leaf = next(
        at
        for at in range(PAGE_BYTES, len(main), PAGE_BYTES)
        if main[at] == 13 and b"id-" not in main[at : at + PAGE_BYTES]
    )
    for bit in range(8):
        damaged = bytearray(main)
        damaged[leaf + where] ^= 1 << bit
        assert dict(salvaged(bytes(damaged)).events) == rows, f"bit {bit} of byte {where}"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_wrong_bit_never_makes_a_row_and_costs_one_page_at_most(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    rows = some_rows(1, 200) | some_rows(1000, 3, 20_000)
    main, _ = database(tmp_path_factory.mktemp("salvage") / "db", rows)
    bit = data.draw(st.integers(0, len(main) * 8 - 1))
    damaged = bytearray(main)
    damaged[bit // 8] ^= 1 << bit % 8
    found = dict(salvaged(bytes(damaged)).events)
    assert rows.items() >= found.items()
    assert len(found) >= len(rows) - 1


@given(noise=st.binary(max_size=3 * PAGE_BYTES))
def test_noise_is_no_row(noise: bytes) -> None:
    found = salvaged(noise, noise)
    assert (found.events, found.refused, found.losses) == ([], [], [])


@pytest.mark.parametrize(("noisy", "is_found"), [(2, True), (3, True), (4, False)])
def test_noise_is_searched_only_so_long(tmp_path: Path, noisy: int, is_found: bool) -> None:
    assert SEARCHED_PAGES == 1024
    rows = some_rows(1, 300)
    main, _ = database(tmp_path / "db", rows)
    at = main.index(rows[1]) // PAGE_BYTES * PAGE_BYTES
    damaged = bytes([7]) + main[at + 1 : at + PAGE_BYTES]  # only a search finds the rows of it
    rng = random.Random(5)
    noise = b"".join(bytes([7]) + rng.randbytes(PAGE_BYTES - 1) for _ in range(noisy))
    pages = read(content(noise + damaged), content(b""), searched_pages=4)
    assert (1 in {seq for page in pages for seq, _ in page.events}) is is_found


def test_bytes_that_cannot_be_read_cost_what_they_held(tmp_path: Path) -> None:
    rows = some_rows(1, 400)
    main, _ = database(tmp_path / "db", rows)
    bad = main.index(rows[200]) // PAGE_BYTES

    def reading(at: int, length: int) -> bytes:
        return b"" if at // PAGE_BYTES == bad else main[at : at + length]

    found = {seq for page in read(Content(len(main), reading), content(b"")) for seq, _ in page.events}
    assert 200 not in found
    assert len(found) > 250


def test_the_longest_event_fits() -> None:
    assert MAX_PAYLOAD_BYTES > 2 * 6 * 64 * 1024


@given(numbers=st.sets(st.integers(1, 20_000), max_size=200), low=st.integers(1, 20_000), span=st.integers(0, 9000))
def test_numbers_are_a_set(numbers: set[int], low: int, span: int) -> None:
    kept = Numbers()
    assert all(kept.add(number) for number in numbers)
    assert not any(kept.add(number) for number in numbers)
    high = low + span
    inside = {number for number in numbers if low <= number <= high}
    assert kept.count(low, high) == len(inside)
    absent = sorted(set(range(low, high + 1)) - inside)
    assert kept.absent(low, high) == ((absent[0], absent[-1]) if absent else None)
    other = Numbers()
    for number in sorted(numbers)[::2]:
        other.add(number)
    assert kept.without(other).count(1, 20_000) == len(numbers) - len(sorted(numbers)[::2])


def test_numbers_without_a_gap_have_none_absent() -> None:
    kept = Numbers()
    for number in range(1, 20_001):
        kept.add(number)
    assert kept.absent(1, 20_000) is None
    assert kept.absent(1, 20_001) == (20_001, 20_001)
