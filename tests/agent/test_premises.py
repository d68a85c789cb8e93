"""What an agent stands on: each way in which it may be unfit, and what is said then."""

from pathlib import Path

import pytest

from sidemeter import host
from sidemeter.premises import Finding, directory, memory
from sidemeter.settings import Settings

HERE = Path(__file__).resolve().parent


def of(path: Path, **settings: object) -> dict[str, Finding]:
    given = Settings(service="chat", data_dir=path, **settings)  # type: ignore[arg-type]
    return {each.check: each for each in [*directory(given), *memory(given)]}


def test_a_directory_that_is_to_be_made_is_well_where_it_can_be(tmp_path: Path) -> None:
    found = of(tmp_path / "a" / "b")
    assert (found["data directory"].status, found["leftovers"].status) == ("ok", "ok")
    assert "will make it" in found["data directory"].found
    assert not (tmp_path / "a").exists()


def test_a_file_in_its_place_fails(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert of(tmp_path / "x")["data directory"].status == "fail"


def test_what_others_may_read_and_what_is_left_over_are_warned_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "damaged" / "1").mkdir(parents=True)
    found = of(tmp_path)
    assert (found["permissions"].status, found["leftovers"].status) == ("warn", "warn")
    assert found["permissions"].advice == f"chmod 700 {tmp_path}"


def test_less_room_than_the_settings_allow_is_warned_of(tmp_path: Path) -> None:
    assert of(tmp_path, max_buffer_bytes=1 << 46)["disk space"].status == "warn"
    assert of(tmp_path, max_buffer_bytes=1 << 18, keep_sent_bytes=0)["disk space"].status == "ok"


@pytest.mark.skipif(host.file_system(HERE) in host.IN_MEMORY, reason="these tests are in memory")
def test_a_disk_is_no_place_for_leases() -> None:
    assert of(Path("/nowhere"), cell_dir=HERE)["memory for leases"].status == "fail"


def test_a_place_for_leases_that_is_not_there_is_warned_of() -> None:
    assert of(Path("/nowhere"), cell_dir="/nowhere")["memory for leases"].status == "warn"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm")
def test_memory_is_no_place_for_events() -> None:
    found = of(Path("/dev/shm"))
    assert (found["file system"].status, found["memory for leases"].status) == ("warn", "ok")
