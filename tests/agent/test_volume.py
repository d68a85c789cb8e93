"""The data directory apart from SQLite."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from sidemeter.errors import DirectoryInUse
from sidemeter.volume import Volume, is_full


async def test_the_directory_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "a" / "b")
    await volume.lock()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    volume.release()


async def test_one_volume_has_the_directory_until_it_lets_go(tmp_path: Path) -> None:
    first, second = Volume(tmp_path), Volume(tmp_path)
    await first.lock()
    with pytest.raises(DirectoryInUse, match=f"{tmp_path}: one agent, one directory"):
        await second.lock()
    first.release()
    await second.lock()
    second.release()


async def test_a_directory_that_the_system_refuses_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        await Volume(tmp_path / "file" / "data").lock()
    with pytest.raises(FileNotFoundError):
        await Volume(tmp_path / "gone").sync()


def test_free_bytes_are_those_of_the_disk_that_the_directory_is_on(tmp_path: Path) -> None:
    assert Volume(tmp_path).free_bytes() > 0


async def test_the_ballast_owns_its_room_until_it_is_dropped_and_is_found_again(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    volume.ballast_bytes = 1 << 20
    await volume.take_ballast()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1 << 20
    again = Volume(tmp_path)
    again.ballast_bytes = 1 << 20
    await again.take_ballast()
    assert (volume.has_ballast, again.has_ballast) == (True, True)
    await again.drop_ballast()
    await again.drop_ballast()
    assert (again.has_ballast, (tmp_path / "ballast").exists()) == (False, False)


@pytest.mark.parametrize("found", [b"", bytes(4096)], ids=["empty", "short"])
async def test_a_ballast_that_lost_its_room_is_allocated_anew(tmp_path: Path, found: bytes) -> None:
    (tmp_path / "ballast").write_bytes(found)
    volume = Volume(tmp_path)
    volume.ballast_bytes = 1 << 20
    await volume.take_ballast()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1 << 20


class Nearly(Volume):
    """A real directory, on a disk with as much room as the test says."""

    free = 0

    def free_bytes(self) -> int:
        return self.free


@pytest.mark.parametrize(("free", "taken"), [((4 << 20) - 1, False), (4 << 20, True)])
async def test_the_ballast_is_taken_only_with_a_third_more_than_that_free(
    tmp_path: Path, free: int, taken: bool
) -> None:
    volume = Nearly(tmp_path)
    volume.ballast_bytes, volume.free = 3 << 20, free
    with contextlib.nullcontext() if taken else pytest.raises(OSError, match="3 MiB are free, 4 MiB are needed"):
        await volume.take_ballast()
    assert volume.has_ballast is taken


async def test_a_probe_says_what_the_system_says_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert await Volume(tmp_path).probe() is None
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- in an async test
    assert isinstance(await Volume(tmp_path / "gone").probe(), FileNotFoundError)


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False)])
def test_a_disk_is_full_when_it_or_the_quota_has_no_room(number: int, full: bool) -> None:
    assert is_full(OSError(number, "")) is full
