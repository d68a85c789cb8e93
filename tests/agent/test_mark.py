"""The mark: the last that was written whole is what is read, whatever happens to the file."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.mark import Facts, Mark


def facts(number: int) -> Facts:
    return Facts("file", 2, "agent", last_seq=number, committed=number, settled=number // 2, boot_id="run")


def written(path: Path, count: int) -> None:
    mark = Mark.open(path)
    for number in range(1, count + 1):
        mark.write(facts(number))
    mark.close()


def read(path: Path) -> Facts | None:
    mark = Mark.open(path)
    mark.close()
    return mark.facts


def test_a_new_mark_says_nothing_and_has_its_full_size(tmp_path: Path) -> None:
    assert read(tmp_path / "mark") is None
    assert (tmp_path / "mark").stat().st_size == 4096


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_last_one_written_is_read(tmp_path: Path, count: int) -> None:
    written(tmp_path / "mark", count)
    assert read(tmp_path / "mark") == facts(count)


@given(bit=st.integers(0, 8 * 4096 - 1), count=st.integers(2, 5))
def test_one_wrong_bit_costs_one_step_back_at_most(
    tmp_path_factory: pytest.TempPathFactory, bit: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("mark") / "mark"
    written(path, count)
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert read(path) in {facts(count), facts(count - 1)}


@pytest.mark.parametrize("size", [0, 1, 100, 2047, 2048, 2100, 4095])
def test_a_mark_that_was_cut_is_made_whole_and_never_ahead(tmp_path: Path, size: int) -> None:
    written(tmp_path / "mark", 4)
    os.truncate(tmp_path / "mark", size)
    found = read(tmp_path / "mark")
    assert found in {None, facts(3), facts(4)}
    written(tmp_path / "mark", 1)
    assert read(tmp_path / "mark") == facts(1)


def test_what_is_no_file_makes_room(tmp_path: Path) -> None:
    (tmp_path / "mark").mkdir()
    written(tmp_path / "mark", 1)
    assert read(tmp_path / "mark") == facts(1)


def test_a_write_that_fails_stops_nobody_and_is_made_up_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = Mark.open(tmp_path / "mark")
    mark.write(facts(1))
    writable = mark._descriptor
    mark._descriptor = os.open(tmp_path / "mark", os.O_RDONLY)
    mark.write(facts(2))
    assert "cannot be written" in caplog.text
    with pytest.raises(OSError, match="Bad file descriptor"):
        mark.sync()  # it is not on disk as it should be
    os.close(mark._descriptor)
    mark._descriptor = writable
    mark.write(facts(2))
    mark.sync()
    mark.close()
    assert read(tmp_path / "mark") == facts(2)
