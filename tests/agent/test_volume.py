"""The data directory apart from SQLite."""

from pathlib import Path

import pytest

from sidemeter.errors import DirectoryInUse
from sidemeter.volume import Volume


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
