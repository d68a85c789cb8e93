"""What the host says of a directory: both programs ask it the same."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

import sidemeter.host
import sidemeter_control.host


@pytest.fixture(params=[sidemeter.host, sidemeter_control.host], ids=["agent", "control plane"])
def host(request: pytest.FixtureRequest) -> Any:
    return request.param


MOUNTS = [
    "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "30 21 0:5 / /data rw - nfs4 store:/ rw",
    r"31 21 0:6 / /a\040b rw - tmpfs tmpfs rw",
    "32 21 0:7 / /data/local rw - xfs /dev/sdb rw",
]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/database", "ext4"),
        ("/data", "nfs4"),
        ("/data/x", "nfs4"),
        ("/data/local/y", "xfs"),
        ("/a b/c", "tmpfs"),
    ],
)
def test_the_innermost_mount_is_what_a_path_is_on(host: Any, path: str, kind: str) -> None:
    assert host.file_system(Path(path), MOUNTS) == kind


def test_a_system_that_tells_no_mounts_is_unknown(host: Any) -> None:
    assert host.file_system(Path("/x"), []) == "unknown"


def test_it_is_asked_of_this_system(host: Any, tmp_path: Path) -> None:
    assert host.file_system(Path("/proc")) == "proc"
    assert host.free_bytes(tmp_path) > 0


def test_a_sync_is_timed_and_leaves_nothing(host: Any, tmp_path: Path) -> None:
    assert host.sync_s(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_seen_and_not_touched(host: Any, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not host.is_locked(file)
    file.touch()
    assert not host.is_locked(file)
    held = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert host.is_locked(file)
    finally:
        os.close(held)
    assert not host.is_locked(file)


def test_others_may_look_in_or_not(host: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert not host.open_to_others(tmp_path)
    tmp_path.chmod(0o750)
    assert host.open_to_others(tmp_path)
