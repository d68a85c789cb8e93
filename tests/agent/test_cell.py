"""The cell: a kill between any two stores, or in one, neither frees nor forgets what was spent."""

import errno
import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidemeter.cell import MAX_RECORDS, Cell, FileMemory, OwnMemory, candidates, digest_of
from sidemeter.holder import Head
from sidemeter.leases import Counts, Key

HEAD = Head("hello-1", 1, "boot", sync_id="s1")
KEYS: list[Key] = [("acme/calls", 1), ("acme/tokens", 1), ("acme/calls", 2)]
WORD = 8


class Recorded(Cell):
    """Notes each store, as bytes at an offset."""

    stores: list[tuple[int, bytes]]

    def __init__(self, memory: OwnMemory) -> None:
        self.stores = []
        super().__init__(memory)

    def _store(self, offset: int, content: bytes) -> None:
        self.stores.append((offset, content))
        super()._store(offset, content)


def words(stores: list[tuple[int, bytes]], order: Callable[[int], list[int]]) -> Iterator[tuple[int, bytes]]:
    """The eight-byte stores that a copy is made of, in whatever order it makes them."""
    for offset, content in stores:
        for n in order(len(content) // WORD):
            yield offset + n * WORD, content[n * WORD : (n + 1) * WORD]


def read(content: bytes) -> Cell:
    memory = OwnMemory()
    memory.grow(len(content))
    memory.view[:] = content
    return Cell(memory)


def counts_of(cell: Cell) -> dict[Key, Counts]:
    names = {digest_of(key): key for key in KEYS}
    return {names[digest]: counts for digest, (_, counts) in cell.found.items()}


def test_every_store_is_of_whole_aligned_words() -> None:
    cell = Recorded(OwnMemory())
    cell.begin(HEAD)
    cell.write(cell.claim(KEYS[0]), *Counts(10, 0, 3, 1))
    cell.turn(Head("hello-1", 1, "boot", b"n" * 24, None, "s2"))
    assert all(offset % WORD == 0 and len(content) % WORD == 0 for offset, content in cell.stores)


ORDERS = {
    "upwards": lambda count: list(range(count)),
    "downwards": lambda count: list(range(count - 1, -1, -1)),
    "shuffled": lambda count: random.Random(count).sample(range(count), count),
}


@pytest.mark.parametrize("order", ORDERS)
def test_after_every_prefix_of_the_stores_what_is_read_is_the_old_or_the_new_and_never_forgets(order: str) -> None:
    cell = Recorded(OwnMemory())
    cell.begin(HEAD)
    places = [cell.claim(key) for key in KEYS]
    memory = bytearray(cell._memory.view)
    spent = dict.fromkeys(KEYS, Counts())
    steps = [(n % 3, Counts(100 + n, n // 4, 2 * n, n % 5, n // 6, n // 9)) for n in range(1, 30)]
    for which, counts in steps:
        cell.stores.clear()
        cell.write(places[which], *counts)
        key = KEYS[which]
        for offset, word in words(cell.stores, ORDERS[order]):
            memory[offset : offset + WORD] = word
            found = counts_of(read(bytes(memory)))
            assert found[key] in {spent[key], counts}
            assert {each: found[each] for each in KEYS if each != key} == {e: spent[e] for e in KEYS if e != key}
        spent[key] = counts
        assert counts_of(read(bytes(memory))) == spent


@pytest.mark.parametrize("order", ORDERS)
def test_a_new_holder_never_finds_the_counts_of_the_one_before_and_a_place_never_those_of_another(order: str) -> None:
    cell = Recorded(OwnMemory())
    cell.begin(HEAD)
    place = cell.claim(KEYS[0])
    cell.write(place, *Counts(10, 0, 7))
    memory = bytearray(cell._memory.view)
    cell.stores.clear()
    cell.release(place)
    again = cell.claim(KEYS[1])
    cell.write(again, *Counts(5))
    cell.begin(Head("hello-2", 2, "boot"))
    cell.write(cell.claim(KEYS[1]), *Counts(3, 0, 1))
    assert again == place
    for offset, word in words(cell.stores, ORDERS[order]):
        memory[offset : offset + WORD] = word
        found = read(bytes(memory))
        now = counts_of(found)
        assert found.head is not None
        if found.head.hello_id == "hello-1":
            assert now.get(KEYS[0], Counts(10, 0, 7)) == Counts(10, 0, 7)
            assert now.get(KEYS[1], Counts()) in {Counts(), Counts(5)}
        else:
            assert now.get(KEYS[1], Counts()) in {Counts(), Counts(3, 0, 1)}
            assert KEYS[0] not in now


def test_a_head_that_is_half_written_leaves_the_one_before() -> None:
    cell = Recorded(OwnMemory())
    cell.begin(HEAD)
    memory = bytearray(cell._memory.view)
    cell.stores.clear()
    later = Head("hello-1", 1, "boot", b"n" * 24, None, "s2")
    cell.turn(later)
    seen = []
    for offset, word in words(cell.stores, ORDERS["upwards"]):
        memory[offset : offset + WORD] = word
        seen.append(read(bytes(memory)).head)
    assert set(seen) == {HEAD, later}
    assert seen[-1] == later


def test_it_grows_with_everything_in_it_and_refuses_what_is_beyond_its_bound(tmp_path: Path) -> None:
    cell = Cell.open([tmp_path], "cell")
    cell.begin(HEAD)
    for n in range(MAX_RECORDS):
        cell.write(cell.claim(("limit", n)), *Counts(n, 0, n))
    with pytest.raises(OSError, match=f"{MAX_RECORDS} leases"):
        cell.claim(("limit", MAX_RECORDS))
    cell.close()
    again = Cell.open([tmp_path], "cell")
    assert again.found[digest_of(("limit", 7))] == (again.found[digest_of(("limit", 7))][0], Counts(7, 0, 7))
    assert len(again.found) == MAX_RECORDS
    again.release(again.found[digest_of(("limit", 7))][0])
    assert again.claim(("limit", MAX_RECORDS + 1)) >= 0
    again.close()


class Full(OwnMemory):
    """Memory of a system that has no more."""

    def grow(self, size: int) -> None:
        if size > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().grow(size)


def test_where_there_is_no_more_memory_one_more_lease_is_refused_and_the_others_stay() -> None:
    cell = Cell(Full())
    cell.begin(HEAD)
    places = []
    with pytest.raises(OSError, match="No space"):
        places.extend(cell.claim(("limit", n)) for n in itertools.count())
    cell.write(0, *Counts(9, 0, 9))
    assert len(read(bytes(cell._memory.view)).found) == len(cell._turns)


@given(bit=st.integers(0, 8 * (2048 + 4 * 192) - 1))
@settings(max_examples=60)
def test_a_wrong_bit_is_never_read_as_other_counts(bit: int) -> None:
    cell = Cell(OwnMemory())
    cell.begin(HEAD)
    for key in KEYS:
        place = cell.claim(key)
        cell.write(place, *Counts(5, 0, 1))
        cell.write(place, *Counts(5, 0, 2))
    content = bytearray(cell._memory.view)
    content[bit // 8] ^= 1 << bit % 8
    found = read(bytes(content))
    assert set(counts_of(found).values()) <= {Counts(5, 0, 1), Counts(5, 0, 2)}


def test_a_key_without_counts_is_damage() -> None:
    cell = Cell(OwnMemory())
    cell.begin(HEAD)
    place = cell.claim(KEYS[0])
    content = bytearray(cell._memory.view)
    for at in (64, 128):
        content[2048 + 192 * place + at] ^= 1
    found = read(bytes(content))
    assert (found.is_damaged, found.found) == (True, {})


def test_another_process_has_it_so_the_next_directory_does_and_then_none_survives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    one = Cell.open([first, second], "cell")
    two = Cell.open([first, second], "cell")
    three = Cell.open([first, second, tmp_path / "missing"], "cell")
    assert [each.survives for each in (one, two, three)] == [True, True, False]
    assert "stays in doubt" in caplog.text
    for each in (one, two, three):
        each.close()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "cell").symlink_to(tmp_path / "elsewhere")
    assert not Cell.open([tmp_path], "cell").survives
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_the_directories_are_those_in_memory() -> None:
    assert candidates([("XDG_RUNTIME_DIR", "/run/user/7")]) == [Path("/dev/shm"), Path("/run/user/7"), Path("/run")]
    assert candidates([]) == [Path("/dev/shm"), Path("/run")]


def spend_until_killed(path: Path, told: int) -> None:
    """Spend one unit after the other of each lease in turn, and tell of each only once it is in the cell."""
    cell = Cell(FileMemory.open(path))
    cell.begin(HEAD)
    places = [cell.claim(key) for key in KEYS]
    for n in itertools.count(1):
        cell.write(places[n % 3], 1 << 40, 0, n, n % 7, 0, 0)
        os.write(told, n.to_bytes(8, "big"))


@pytest.mark.parametrize("seed", range(5))
def test_a_real_process_that_is_killed_at_any_moment_leaves_all_that_it_told(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "cell"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        spend_until_killed(path, writing)
    os.close(writing)
    least = random.Random(seed).randrange(1, 3000)
    told = 0
    while told < least:
        told = int.from_bytes(os.read(reading, 8), "big")
    os.kill(pid, signal.SIGKILL)
    while rest := os.read(reading, 8):
        told = int.from_bytes(rest, "big")
    os.waitpid(pid, 0)
    os.close(reading)
    found = Cell(FileMemory.open(path))
    used = sorted(counts.used for counts in counts_of(found).values())
    assert found.head == HEAD
    assert used[-1] in {told, told + 1}
    assert all(counts.reserved == counts.used % 7 for counts in counts_of(found).values())
    assert used[0] >= told - 2
    found.close()
